//! Tables that existed before an operation exist after it, even if the operation fails, and even if they are empty.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

use std::cell::RefCell;
use std::sync::Arc;

use hotmem::paging::{
    Attr, Gather, MapError, Mapper, Mapping, OutOfFrames, TableAt, TableFrame, TableFrames, Tables,
};
use hotmem::testing::{
    Bench, FakeEarly, FakeMachine, FakeRam, FakeTables, FaultPlan, Lmb, Setup, Shape, SoftMmu,
    Tiny, TinyPte, TinyShared, range,
};
use hotmem::{
    BlockSize, BootMemory, EarlyTables, Geometry, NodeId, PhysAddr, PhysRange, Piece, Placement,
    TakeList, VirtAddr, VirtRange,
};
use hotmem_tests::memory::{GIB, KIB, MIB, assert_same, fail_each_allocation};

const PAGE: u64 = 4 * KIB;

fn list(text: &str) -> Vec<Piece> {
    TakeList::parse(text).unwrap().pieces().to_vec()
}

/// All tables of a machine.
fn tables<S: Shape>(bench: &Bench<S>) -> Vec<TableAt> {
    let mut tables = Vec::new();
    bench.mm.tables().visit_tables(&mut |table| tables.push(table));
    tables
}

/// Fails each allocation of adding `dimm`, then adds and removes it; the tables that existed before must exist after
/// each.
fn fail_each<S: Shape>(bench: &Bench<S>, dimm: PhysRange) {
    let (before, first) = (bench.snapshot(), tables(bench));
    for placement in Placement::ALL {
        let add = || {
            let added = bench.mm.hot_add(dimm, NodeId::ZERO, placement);
            if added.is_err() {
                assert_eq!(tables(bench), first, "{placement}");
            }
            added
        };
        fail_each_allocation(bench, add, |_| _ = bench.remove(dimm));
        bench.online(dimm);
        bench.offline(dimm);
        bench.remove(dimm);
        assert_eq!(tables(bench), first, "{placement}");
    }
    assert_same(&before, &bench.snapshot());
}

#[test]
fn a_failed_add_and_a_removal_leave_the_empty_table_of_taken_memory() {
    // Blocks 16 to 19 are all that the table translates of 16 MiB to 32 MiB, until the DIMM is added.
    let bench = Bench::<Tiny>::new(&Setup {
        ram: vec![(0, 20 * MIB, 0)],
        block: MIB,
        window: (24 * MIB, 8 * MIB),
        kernelcore: Some(8 * MIB),
    });
    let before = bench.snapshot();
    for id in 16..20 {
        bench.mm.offline(hotmem::BlockId::new(id)).unwrap();
    }
    bench.mm.take(&list("0:16-19")).unwrap();
    bench.check();
    let dimm = range(24 * MIB, 4 * MIB);
    bench.plug(dimm);
    fail_each(&bench, dimm);
    // A neighbour in the same table that stays during the test.
    let neighbour = range(28 * MIB, 2 * MIB);
    bench.plug(neighbour);
    bench.add(neighbour, Placement::PerBlock);
    fail_each(&bench, dimm);
    bench.remove(neighbour);

    while bench.mm.take_pages(hotmem::Order::ZERO).is_ok() {}
    bench.mm.machine().plan().arm(1);
    assert_eq!(bench.mm.release(), Ok(4), "its table is there still");
    bench.mm.machine().plan().disarm();
    bench.check();
    let reserve = |facts: &[hotmem::Fact]| {
        facts.iter().find(|fact| matches!(fact, hotmem::Fact::Frames(..))).copied()
    };
    assert_eq!(reserve(&before), reserve(&bench.snapshot()));
}

/// The early allocator as a source of tables that are never freed.
struct Early<'e>(RefCell<&'e mut FakeEarly>);

impl TableFrames for Early<'_> {
    fn take(&self, bytes: u64) -> Result<TableFrame, OutOfFrames> {
        EarlyTables::new(&mut **self.0.borrow_mut()).take(bytes)
    }

    fn give_back(&self, frame: TableFrame) {
        panic!("{frame:?} was kept");
    }
}

/// A machine that starts with an empty table for leaves of `leaf` bytes at each address of `at`, as kernels create
/// them that share the upper levels of all address spaces.
fn with_empty_tables<S: Shape>(
    ram: u64,
    block: u64,
    window: PhysRange,
    (at, leaf): (&[u64], u64),
) -> Bench<S> {
    let ram = [range(0, ram)];
    let (machine, mut early) = FakeMachine::<S>::start(&ram, block);
    let frames = Early(RefCell::new(&mut early));
    for &at in at {
        let (virt, phys) = (S::LINEAR_BASE.add(at), PhysAddr::new(0));
        let mapping = Mapping { virt, phys, len: leaf, attr: Attr::WRITE, max_leaf: leaf };
        machine.tables().map(&mapping, &frames).unwrap();
        let mut gather = Gather::keeping_tables(machine.tables().tlb(), &frames);
        let unmapped = machine.tables().unmap(VirtRange::new(virt, leaf).unwrap(), &mut gather);
        gather.flush().unwrap();
        unmapped.unwrap();
    }
    let bench = Bench::over(machine);
    let block_size = BlockSize::new::<FakeMachine<S>>(block).unwrap();
    let memory = BootMemory {
        ram: &[(ram[0], NodeId::ZERO)],
        block_size,
        window: &[window],
        kernelcore: None,
    };
    bench.mm.start(&memory, &mut early).unwrap();
    bench.check();
    bench
}

#[test]
fn empty_tables_from_before_the_manager_stay_through_failed_adds_and_removals() {
    fn check<S: Shape>(ram: u64, block: u64, at: u64, reserve: bool) {
        let window = range(at, if reserve { 64 * block } else { 0 });
        // One at the start, one in the middle, none between, one past the end.
        let empty = [at, at + 3 * block, at + 40 * block];
        for leaf in [block, FakeMachine::<S>::PAGE_BYTES] {
            let bench = with_empty_tables::<S>(ram, block, window, (&empty, leaf));
            let dimm = range(at, 5 * block);
            bench.plug(dimm);
            fail_each(&bench, dimm);
        }
    }
    for reserve in [true, false] {
        check::<Tiny>(16 * MIB, MIB, 64 * MIB, reserve);
        check::<TinyShared>(16 * MIB, MIB, 64 * MIB, reserve);
        check::<Lmb>(256 * MIB, 256 * MIB, GIB, reserve);
    }
}

#[test]
fn boot_memory_that_a_loader_mapped_by_small_leaves_is_taken_and_released() {
    for leaf in [PAGE, 64 * KIB, MIB] {
        let ram = [range(0, 16 * MIB)];
        let (machine, mut early) = FakeMachine::<Tiny>::start(&ram, leaf);
        let bench = Bench::over(machine);
        let memory = BootMemory {
            ram: &[(ram[0], NodeId::ZERO)],
            block_size: BlockSize::new::<FakeMachine<Tiny>>(MIB).unwrap(),
            window: &[],
            kernelcore: Some(8 * MIB),
        };
        bench.mm.start(&memory, &mut early).unwrap();
        bench.check();
        let online = bench.snapshot();
        bench.mm.take_contig(NodeId::ZERO, 2 * MIB).unwrap();
        bench.check();
        assert_eq!(bench.mm.release(), Ok(2), "leaves of {leaf:#x} bytes");
        bench.check();
        assert_same(&online, &bench.snapshot());

        bench.mm.offline(hotmem::BlockId::new(12)).unwrap();
        let offline = bench.snapshot();
        bench.mm.take(&list("0:12")).unwrap();
        assert_eq!(bench.mm.release(), Ok(1), "leaves of {leaf:#x} bytes");
        bench.check();
        assert_same(&offline, &bench.snapshot());
    }
}

#[test]
fn a_map_that_fails_frees_the_tables_it_made_and_no_table_that_it_found() {
    let ram = FakeRam::new();
    ram.plug(range(0, 4 * MIB), None);
    let mmu = SoftMmu::<TinyPte>::new(ram, PhysAddr::new(0));
    let tables: Tables<TinyPte, _, _> = mmu.tables();
    let plan = Arc::new(FaultPlan::never());
    let frames = FakeTables::new(&mmu, range(MIB, 3 * MIB), &plan);
    let at = |offset: u64| VirtAddr::new(0x4000_0000 + offset);
    let map = |offset, len, max_leaf| {
        let (virt, phys) = (at(offset), PhysAddr::new(0));
        tables.map(&Mapping { virt, phys, len, attr: Attr::WRITE, max_leaf }, &frames)
    };
    // An empty table of the last level, as left by a gather that keeps tables.
    map(0, PAGE, PAGE).unwrap();
    let mut gather = Gather::keeping_tables(tables.tlb(), &frames);
    tables.unmap(VirtRange::new(at(0), PAGE).unwrap(), &mut gather).unwrap();
    gather.flush().unwrap();
    let used = frames.used();
    assert_eq!(used.len(), 3);

    // Above a level that has to be created: in the same table of each level in turn.
    for (offset, made) in [(64 * KIB, 1), (MIB, 2), (16 * MIB, 3)] {
        for failing in 1..=made {
            plan.arm(failing);
            let out = Err(MapError::OutOfFrames(OutOfFrames { bytes: 128 }));
            assert_eq!(map(offset, PAGE, PAGE), out, "{offset:#x}, allocation {failing}");
            assert!(plan.fired());
            assert_eq!(frames.used(), used, "{offset:#x}, allocation {failing}");
            mmu.assert_coherent();
        }
    }
    // An empty table prevents a large leaf; leaves of its own size are used.
    plan.disarm();
    assert_eq!(map(0, 128 * KIB, 64 * KIB), Ok(()));
    let leaf = |offset| tables.translate(at(offset)).map(|leaf| leaf.len);
    assert_eq!((leaf(0), leaf(60 * KIB), leaf(64 * KIB)), (Some(PAGE), Some(PAGE), Some(64 * KIB)));
    assert_eq!(frames.used(), used);
    // If it is not empty, the error names the first address that is mapped.
    let mut gather = Gather::new(tables.tlb(), &frames);
    tables.unmap(VirtRange::new(at(0), 60 * KIB).unwrap(), &mut gather).unwrap();
    gather.flush().unwrap();
    let taken = Err(MapError::AlreadyMapped { at: at(60 * KIB) });
    assert_eq!(map(0, 64 * KIB, 64 * KIB), taken);
    assert_eq!((leaf(0), leaf(60 * KIB)), (None, Some(PAGE)));
    assert_eq!(frames.used(), used);
}
