//! A booted memory manager on a fake machine, with DIMMs to plug and everything checked.

use super::std::vec::Vec;
use super::{FakeEarly, FakeMachine, Shape, Stubborn, locks_held};
use crate::addr::{Order, Pfn, PhysAddr, PhysRange};
use crate::alloc::node::NodeId;
use crate::alloc::zone::ZoneKind;
use crate::geometry::BlockSize;
use crate::memmap::block::BlockId;
use crate::memmap::page::Owner;
use crate::memmap::placement::Placement;
use crate::observe::snapshot::Fact;
use crate::operations::boot::BootMemory;
use crate::{Added, Mm, Mover, OutOfMemory, Removed, Request};

/// The set-up of a bench. Sizes and addresses are bytes.
#[derive(Clone, Debug)]
pub struct Setup {
    /// RAM: start, bytes, node.
    pub ram: Vec<(u64, u64, u32)>,
    /// Bytes of a memory block.
    pub block: u64,
    /// The range where memory can be plugged: start and bytes.
    pub window: (u64, u64),
    /// Bytes of RAM that stay system memory; `None`: all.
    pub kernelcore: Option<u64>,
}

/// A memory manager on its fake machine.
#[derive(Debug)]
pub struct Bench<S: Shape> {
    /// The manager under test.
    pub mm: Mm<FakeMachine<S>>,
    /// The owner of extents from [`alloc_movable`](Self::alloc_movable), which refuses every migration.
    pub stubborn: Mover,
}

/// `len` bytes from `start`.
///
/// # Panics
///
/// If they run past the end of the address space.
pub fn range(start: u64, len: u64) -> PhysRange {
    match PhysRange::new(PhysAddr::new(start), len) {
        Some(range) => range,
        None => panic!("{len:#x} bytes at {start:#x} wrap around"),
    }
}

impl<S: Shape> Bench<S> {
    /// Boots.
    ///
    /// # Panics
    ///
    /// If the set-up cannot boot.
    pub fn new(setup: &Setup) -> Self {
        let ranges: Vec<_> = setup.ram.iter().map(|&(at, len, _)| range(at, len)).collect();
        let (machine, mut early) = FakeMachine::start(&ranges, setup.block);
        let bench = Self::over(machine);
        bench.boot(setup, &mut early);
        bench.check();
        bench
    }

    /// A manager on `machine` that has not booted yet.
    ///
    /// # Panics
    ///
    /// Never: the first owner of movable pages can always register.
    pub fn over(machine: FakeMachine<S>) -> Self {
        let mm = Mm::new(machine);
        mm.name_the_lock_of_operations();
        let stubborn = mm.register(&Stubborn).unwrap_or_else(|error| panic!("{error}"));
        Self { mm, stubborn }
    }

    fn boot(&self, setup: &Setup, early: &mut FakeEarly) {
        let block_size = BlockSize::new::<FakeMachine<S>>(setup.block);
        let block_size = block_size.unwrap_or_else(|error| panic!("{error}"));
        let node = |raw| NodeId::new(raw).unwrap_or_default();
        let ram: Vec<_> =
            setup.ram.iter().map(|&(at, len, raw)| (range(at, len), node(raw))).collect();
        let window = [range(setup.window.0, setup.window.1)];
        let memory =
            BootMemory { ram: &ram, block_size, window: &window, kernelcore: setup.kernelcore };
        self.mm.start(&memory, early).unwrap_or_else(|error| panic!("{error}"));
    }

    /// Allocates movable memory that is never migrated: the page's number stays valid.
    ///
    /// # Errors
    ///
    /// As [`Mm::alloc_movable`].
    pub fn alloc_movable(&self, order: Order) -> Result<Pfn, OutOfMemory> {
        self.mm.alloc_movable(order, &self.stubborn, 0)
    }

    /// As [`alloc_movable`](Self::alloc_movable), in a movable zone.
    pub fn alloc_movable_zone(&self, order: Order) -> Option<Pfn> {
        let request = Request::from(order).in_movable_zone();
        self.mm.alloc_movable(request, &self.stubborn, 0).ok()
    }

    /// Allocates as the manager does for itself, and counts the pages as operations do.
    ///
    /// # Errors
    ///
    /// As [`Mm::alloc`].
    pub fn alloc_as(&self, order: Order, owner: Owner) -> Result<Pfn, OutOfMemory> {
        let pfn = self.mm.allocator().alloc_as(order, owner)?;
        if matches!(owner, Owner::Table | Owner::Memmap) {
            self.mm.allocator().frames.count_system(order.pages());
        }
        Ok(pfn)
    }

    /// Plugs a DIMM full of garbage.
    pub fn plug(&self, dimm: PhysRange) {
        self.mm.machine().plug(dimm);
    }

    /// Unplugs a DIMM.
    ///
    /// # Panics
    ///
    /// If any page still translates to it.
    pub fn unplug(&self, dimm: PhysRange) {
        self.mm.machine().unplug(dimm);
    }

    /// Checks the invariants, that no cache has a stale translation, and that no lock is still locked.
    ///
    /// # Panics
    ///
    /// If one does not hold.
    #[track_caller]
    pub fn check(&self) {
        assert_eq!(locks_held(), 0, "a lock is left locked");
        self.mm.machine().mmu().assert_coherent();
        self.mm.verify_machine().unwrap_or_else(|violation| panic!("{violation}"));
        self.mm.machine().mmu().speculate();
    }

    /// All facts of invariant 7.
    pub fn snapshot(&self) -> Vec<Fact> {
        let mut facts = Vec::new();
        self.mm.snapshot(&mut |fact| facts.push(fact));
        facts
    }

    /// Adds a plugged DIMM on node 0.
    ///
    /// # Panics
    ///
    /// If that fails.
    #[track_caller]
    pub fn add(&self, dimm: PhysRange, placement: Placement) -> Added {
        let added = self.mm.hot_add(dimm, NodeId::default(), placement);
        self.check();
        added.unwrap_or_else(|error| panic!("add {dimm}: {error}"))
    }

    /// Brings every block of a range online, movable.
    ///
    /// # Panics
    ///
    /// If that fails.
    #[track_caller]
    pub fn online(&self, range: PhysRange) {
        for id in self.mm.blocks_in(range) {
            let online = self.mm.online(id, ZoneKind::Movable);
            online.unwrap_or_else(|error| panic!("online {id}: {error}"));
        }
        self.check();
    }

    /// Takes every block of a range offline.
    ///
    /// # Panics
    ///
    /// If that fails.
    #[track_caller]
    pub fn offline(&self, range: PhysRange) {
        for id in self.mm.blocks_in(range) {
            let offline = self.mm.offline(id);
            offline.unwrap_or_else(|error| panic!("offline {id}: {error}"));
        }
        self.check();
    }

    /// Removes a range whose blocks are offline.
    ///
    /// # Panics
    ///
    /// If that fails.
    #[track_caller]
    pub fn remove(&self, range: PhysRange) -> Removed {
        let removed = self.mm.remove(range);
        self.check();
        removed.unwrap_or_else(|error| panic!("remove {range}: {error}"))
    }

    /// The blocks of a range, ascending.
    pub fn blocks(&self, range: PhysRange) -> Vec<BlockId> {
        self.mm.blocks_in(range).collect()
    }
}
