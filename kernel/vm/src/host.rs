//! The guests, as the owners of their memory see them.

use crate::Shared;
use crate::ahead::Ahead;
use crate::console::Console;
use crate::id::{MAX_VCPUS, MAX_VMS, VcpuId, VmId};
use crate::life::Life;
use crate::platform::Platform;
use crate::space::Space;
use crate::switch::OwnVcpu;
use alloc::boxed::Box;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use hotmem::lock::lock_api::Mutex;
use hotmem::{Mm, Mover};

/// The place of a virtual CPU.
pub(crate) type VcpuPlace<M, P> = Mutex<<M as hotmem::Machine>::Lock, Option<Box<OwnVcpu<M, P>>>>;

/// In [`Slot::called`]: typed bytes wait for the guest.
pub(crate) const TYPED: u64 = 1 << 63;

/// The place of a guest. Locks are taken one at a time, except for `life` with the place of a virtual CPU locked.
#[derive(Debug)]
pub(crate) struct Slot<M: Shared, P: Platform> {
    /// Its memory.
    pub(crate) space: Mutex<M::Lock, Option<Space<M, P>>>,
    /// Its virtual CPUs, each while it does not run.
    pub(crate) vcpus: [VcpuPlace<M, P>; MAX_VCPUS],
    pub(crate) life: Mutex<M::Lock, Life>,
    pub(crate) console: Mutex<M::Lock, Console>,
    /// Virtual CPUs that were called and have not run since, a bit for each; and [`TYPED`].
    pub(crate) called: AtomicU64,
}

/// All guests of a kernel.
#[derive(Debug)]
pub(crate) struct Host<M: Shared, P: Platform> {
    pub(crate) mm: &'static Mm<M>,
    pub(crate) slots: [Slot<M, P>; MAX_VMS],
    /// What guests leave is cleared.
    scrub: AtomicBool,
    /// The extent that is copied ahead of its move, or cleared after it: one at a time, as the manager moves them.
    pub(crate) ahead: Mutex<M::Lock, Option<Ahead>>,
    /// The owner of tables, once it has registered.
    pub(crate) tables: Mutex<M::Lock, Option<&'static Mover>>,
    /// Begins and ends of batches of moves so far.
    batches: AtomicU64,
}

impl<M: Shared, P: Platform> Host<M, P> {
    pub(crate) fn new(mm: &'static Mm<M>) -> Self {
        let slot = |_| Slot {
            space: Mutex::new(None),
            vcpus: core::array::from_fn(|_| Mutex::new(None)),
            life: Mutex::new(Life::default()),
            console: Mutex::new(Console::default()),
            called: AtomicU64::new(0),
        };
        let (slots, scrub) = (core::array::from_fn(slot), AtomicBool::new(true));
        let (ahead, tables) = (Mutex::new(None), Mutex::new(None));
        Self { mm, slots, scrub, ahead, tables, batches: AtomicU64::new(0) }
    }

    /// The place of a virtual CPU.
    pub(crate) fn vcpu(&self, at: VcpuId) -> Option<&VcpuPlace<M, P>> {
        self.slots.get(at.vm.index())?.vcpus.get(at.number)
    }

    /// Whether memory is cleared before it is freed.
    pub(crate) fn scrubs(&self) -> bool {
        self.scrub.load(Ordering::Relaxed)
    }

    pub(crate) fn set_scrub(&self, scrub: bool) {
        self.scrub.store(scrub, Ordering::Relaxed);
    }

    /// A batch of moves begins, or ends.
    pub(crate) fn count_batch(&self) {
        self.batches.fetch_add(1, Ordering::Relaxed);
    }

    /// Calls `f`, which does a part of a move: a guest that stands still meanwhile is stopped by the move.
    pub(crate) fn in_a_batch<R>(&self, f: impl FnOnce() -> R) -> R {
        self.count_batch();
        let done = f();
        self.count_batch();
        done
    }

    /// Begins and ends of batches of moves so far: odd while a batch is under way.
    pub(crate) fn batches(&self) -> u64 {
        self.batches.load(Ordering::Relaxed)
    }

    /// Pages of the owner of guests' pages that no guest has: of the extent that is moved in parts, its target, or from the
    /// move on what it was.
    pub(crate) fn pages_between(&self) -> u64 {
        self.ahead.lock().as_ref().map_or(0, Ahead::pages::<M>)
    }

    /// Calls `f` with the memory of the guest with this number, if there is one.
    pub(crate) fn with_space<R>(
        &self,
        number: u16,
        f: impl FnOnce(&mut Space<M, P>) -> R,
    ) -> Option<R> {
        let slot = VmId::of_number(number).and_then(|id| self.slots.get(id.index()))?;
        slot.space.lock().as_mut().map(f)
    }
}
