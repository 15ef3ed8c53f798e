//! The turn: one operation runs at a time. Below the allocator, since compaction and the quarantine of a
//! bad page are operations, too.

// UNSAFETY: vouches for the sections that the turn, operations and looks keep.
#![expect(unsafe_code)]

pub(crate) mod looks;

use self::looks::{Looks, PATIENCE, Passed};
use crate::machine::Machine;
use crate::memmap::Memmap;
use crate::memmap::block::BlockId;
use crate::memmap::seen::Seen;
use crate::memmap::whole::Whole;
use crate::wait;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use spin::{Mutex, MutexGuard};

/// The text of `Busy`. It also explains the refusal to a listener or an owner of pages that begins an operation.
pub(crate) const BUSY: &str = "another memory operation is running; \
    none begins inside a listener or an owner of pages that one calls";

/// The block that is going offline, also between the steps of its offline.
#[derive(Debug)]
pub(crate) struct Offlining {
    /// Its number plus one, or 0.
    block: AtomicU64,
    /// The number of offlines that have begun, which is also the number of the one under way. Changed by operations.
    count: AtomicU64,
    /// Whether the listeners were notified. Changed by operations.
    notified: AtomicBool,
}

impl Offlining {
    pub(crate) const fn none() -> Self {
        let (block, count) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { block, count, notified: AtomicBool::new(false) }
    }

    pub(crate) fn get(&self) -> Option<BlockId> {
        // Acquire: partner of the Releases below.
        self.block.load(Ordering::Acquire).checked_sub(1).map(BlockId::new)
    }

    /// Begins an offline; the caller has the turn. Returns its number.
    pub(crate) fn begin(&self, block: BlockId) -> u64 {
        self.notified.store(false, Ordering::Relaxed);
        let number = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        self.block.store(block.get() + 1, Ordering::Release);
        number
    }

    /// Whether the offline `number` is still under way. For the operation under way.
    pub(crate) fn goes_on(&self, number: u64) -> bool {
        self.get().is_some() && self.count.load(Ordering::Relaxed) == number
    }

    /// Records that the listeners were notified. For the operation under way.
    pub(crate) fn set_notified(&self) {
        self.notified.store(true, Ordering::Relaxed);
    }

    /// Whether the listeners were notified. For the operation under way.
    pub(crate) fn is_notified(&self) -> bool {
        self.notified.load(Ordering::Relaxed)
    }

    /// Ends the offline. For the operation under way.
    pub(crate) fn end(&self) {
        self.block.store(0, Ordering::Release);
    }
}

/// An operation under way: the only one, and without looks except while it calls code outside the manager.
#[must_use = "the operation is over when this is dropped"]
pub(crate) struct Operation<'m, M: Machine> {
    memmap: &'m Memmap<M>,
    looks: &'m Looks,
    _turn: MutexGuard<'m, ()>,
}

/// The turn of an operation that has not begun: no other begins. Looks may be under way.
pub(crate) struct Taken<'m, M: Machine> {
    memmap: &'m Memmap<M>,
    turn: MutexGuard<'m, ()>,
}

/// A look under way, during which no code outside the manager is called.
#[must_use = "operations are held off only while the look lives"]
pub(crate) struct Look<'m, M: Machine> {
    memmap: &'m Memmap<M>,
    _passed: Passed<'m>,
}

impl<M: Machine> Taken<'_, M> {
    /// The memmap, which no operation changes.
    pub(crate) const fn seen(&self) -> Seen<'_, M> {
        // SAFETY: the holder of the turn keeps every operation from running, and only operations unmap memory.
        unsafe { Seen::vouched(self.memmap) }
    }
}

impl<M: Machine> Look<'_, M> {
    /// The memmap and the page tables, which no operation changes.
    pub(crate) const fn seen(&self) -> Whole<'_, M> {
        // SAFETY: the gate is shut while an operation changes the section map, the memmap or the page tables, and a
        // look waits for that; when an operation calls out, none of these is half changed, and none is changed until
        // the look has ended.
        unsafe { Whole::vouched(self.memmap) }
    }
}

impl<M: Machine> Operation<'_, M> {
    /// The memmap and the page tables, which only this operation changes.
    pub(crate) const fn seen(&self) -> Whole<'_, M> {
        // SAFETY: only operations unmap memory and move memmaps, one at a time; this one hides a section before it
        // changes it.
        unsafe { Whole::vouched(self.memmap) }
    }

    /// Opens the gate to looks, until the end of the operation: it makes no more changes.
    pub(crate) fn settle(&self) {
        self.looks.open();
    }

    /// Whether looks are kept out. If not, a look from the last call of outside code is still under way, and the
    /// data that looks rely on must not be changed.
    pub(crate) fn alone(&self) -> bool {
        self.looks.is_alone()
    }
}

impl<M: Machine> Drop for Operation<'_, M> {
    fn drop(&mut self) {
        // Before the turn ends, so that the next operation finds the gate open.
        self.looks.open();
    }
}

/// The turn: serialises the operations, and separates them from looks.
#[derive(Debug)]
pub(crate) struct Turn {
    /// Operations try it; only a step of an offline waits for it.
    taken: Mutex<()>,
    /// An operation holds it while it changes the section map and the page tables; looks hold it to prevent that.
    pub(crate) looks: Looks,
    pub(crate) offlining: Offlining,
}

impl Turn {
    pub(crate) const fn new() -> Self {
        Self { taken: Mutex::new(()), looks: Looks::new(), offlining: Offlining::none() }
    }

    /// Takes the turn to run an operation, unless another is under way or a block is going offline. Does not wait.
    fn take(&self) -> Option<MutexGuard<'_, ()>> {
        self.taken.try_lock().filter(|_| self.offlining.get().is_none())
    }

    /// Whether an operation is under way, or a block is going offline.
    pub(crate) fn is_taken(&self) -> bool {
        self.taken.is_locked() || self.offlining.get().is_some()
    }
}

/// The turn of a manager, with its memmap, whose machine provides the waits.
pub(crate) struct Waits<'m, M: Machine> {
    memmap: &'m Memmap<M>,
    turn: &'m Turn,
}

impl<'m, M: Machine> Waits<'m, M> {
    /// The turn of the manager of `memmap`.
    ///
    /// # Safety
    ///
    /// No operation changes `memmap`, or its page tables, unless it has `turn`.
    pub(crate) const unsafe fn new(memmap: &'m Memmap<M>, turn: &'m Turn) -> Self {
        Self { memmap, turn }
    }

    /// Takes the turn to run an operation, unless another is under way or a block is going offline. Does not wait.
    pub(crate) fn take(&self) -> Option<Taken<'m, M>> {
        self.check_caller();
        let turn = self.memmap.machine().allows_operation().then(|| self.turn.take())??;
        Some(Taken { memmap: self.memmap, turn })
    }

    /// Begins an operation, unless another is under way. Waits for looks to end.
    pub(crate) fn operation(&self) -> Option<Operation<'m, M>> {
        self.begin(self.take()?).ok()
    }

    /// As [`operation`](Self::operation), also between the steps of an offline: for operations that neither empty a
    /// range nor call code outside the manager, since that code might step that offline.
    pub(crate) fn moment(&self) -> Option<Operation<'m, M>> {
        self.check_caller();
        let allowed = self.memmap.machine().allows_operation();
        let turn = allowed.then(|| self.turn.taken.try_lock())??;
        self.begin(Taken { memmap: self.memmap, turn }).ok()
    }

    /// Begins an operation; the caller has the turn, which is released if a look does not end.
    pub(crate) fn begin(&self, taken: Taken<'m, M>) -> Result<Operation<'m, M>, Taken<'m, M>> {
        if self.turn.looks.shut(PATIENCE, &self.memmap.relax()) {
            return Ok(self.operation_with(taken.turn));
        }
        log::error!("a look at memory does not end: its CPU stopped in it");
        Err(taken)
    }

    /// Continues the offline under way. The turn is free except for moments: every other operation is refused.
    ///
    /// If a look does not end, the offline continues beside it: nothing that it changes is unmapped or freed.
    pub(crate) fn resume(&self) -> Operation<'m, M> {
        self.check_caller();
        let relax = self.memmap.relax();
        // This wait ends with the moment of another CPU.
        let turn = wait::until_found(&relax, || self.turn.taken.try_lock());
        self.turn.looks.shut(PATIENCE, &relax);
        self.operation_with(turn)
    }

    fn operation_with(&self, turn: MutexGuard<'m, ()>) -> Operation<'m, M> {
        Operation { memmap: self.memmap, looks: &self.turn.looks, _turn: turn }
    }

    /// Begins a look. Waits while an operation makes changes.
    pub(crate) fn look(&self) -> Look<'m, M> {
        self.check_caller();
        let passed = self.turn.looks.enter(&self.memmap.relax());
        Look { memmap: self.memmap, _passed: passed }
    }

    /// See [`Looks::call`].
    pub(crate) fn call<R>(&self, outside: impl FnOnce() -> R) -> R {
        self.turn.looks.call(&self.memmap.relax(), outside)
    }

    /// Reports, in debug builds, that a handler begins an operation or a look: those wait for code that the handler
    /// may interrupt.
    fn check_caller(&self) {
        debug_assert!(
            !self.memmap.machine().in_handler(),
            "a handler begins a memory operation or a look: hotmem::machine says what it may call"
        );
    }
}
