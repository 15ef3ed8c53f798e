//! Boot memory that is taken out of the linear map, by name and by size, and released.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::panic::{AssertUnwindSafe, catch_unwind};

use hotmem::paging::Mapper;
use hotmem::testing::{Bench, FakeMachine, Holder, Setup, Tiny, TinyShared, range};
use hotmem::{
    BlockId, BlockSize, BlockState, BootMemory, Change, ContigError, Event, FreeError, Listen,
    Listener, NodeId, OfflineError, OnlineError, Order, Owner, PhysAddr, PhysRange, Piece,
    Placement, RemoveError, TakeError, TakeList, VirtAddr, ZoneKind,
};
use hotmem_tests::memory::{MIB, TINY_WINDOW, assert_same};

/// 24 MiB on two nodes, the lowest 8 system memory: blocks 8 to 15 on node 0, 16 to 23 on node 1.
fn bench() -> Bench<Tiny> {
    Bench::new(&Setup {
        ram: vec![(0, 16 * MIB, 0), (16 * MIB, 8 * MIB, 1)],
        block: MIB,
        window: (TINY_WINDOW, 64 * MIB),
        kernelcore: Some(8 * MIB),
    })
}

fn list(text: &str) -> Vec<Piece> {
    TakeList::parse(text).unwrap().pieces().to_vec()
}

fn id(raw: u64) -> BlockId {
    BlockId::new(raw)
}

fn offline(bench: &Bench<Tiny>, blocks: impl IntoIterator<Item = u64>) {
    for raw in blocks {
        bench.mm.offline(id(raw)).unwrap();
    }
    bench.check();
}

/// The address of block `raw` in the linear map.
fn linear(raw: u64) -> VirtAddr {
    VirtAddr::new(raw * MIB)
}

fn load_faults(bench: &Bench<Tiny>, at: VirtAddr) -> bool {
    catch_unwind(AssertUnwindSafe(|| bench.mm.machine().mmu().load(at))).is_err()
}

#[test]
fn at10_taken_memory_has_no_translation_and_a_load_of_it_faults() {
    let bench = bench();
    offline(&bench, 10..13);
    let mmu = bench.mm.machine().mmu();
    // Every CPU may have cached it.
    mmu.speculate();
    mmu.store(linear(11), 0xdead);
    assert_eq!(bench.mm.take(&list("0:10-12")), Ok(3));
    bench.check();
    for raw in 10..13 {
        for offset in [0, 4096, MIB - 4096] {
            let at = linear(raw).add(offset);
            assert_eq!(bench.mm.tables().translate(at), None);
            assert!(load_faults(&bench, at), "{at} can be read");
        }
        assert!(bench.mm.block(id(raw)).unwrap().taken);
    }
    assert!(!load_faults(&bench, linear(9)));
    assert!(!load_faults(&bench, linear(13)));
}

#[test]
fn taken_memory_is_cleared_and_cleaned_while_it_is_mapped_and_cleared_again_at_its_release() {
    let bench = bench();
    offline(&bench, [10, 11]);
    let before = bench.snapshot();
    bench.mm.machine().mmu().store(linear(10).add(4096), 0x5ec2e7);
    assert_eq!(bench.mm.take(&list("0:10-11")), Ok(2));
    // The fake machine checks that the range it cleans is mapped and clear.
    let cleaned = bench.mm.machine().take_cleaned();
    let starts: Vec<_> = cleaned.iter().map(|range| (range.start(), range.len())).collect();
    assert_eq!(starts, [(linear(10), MIB), (linear(11), MIB)]);

    // The taker writes there through its own mapping.
    bench.mm.machine().mmu().poke(PhysAddr::new(10 * MIB + 64), 0x7ace);
    assert_eq!(bench.mm.release(), Ok(2));
    assert_eq!(bench.mm.machine().mmu().load(linear(10).add(64)), 0);
    bench.check();
    assert_same(&before, &bench.snapshot());
}

#[test]
fn taking_keeps_the_tables_so_that_a_release_needs_no_memory() {
    let bench = bench();
    offline(&bench, 8..24);
    let before = bench.snapshot();
    bench.mm.take(&list("0:8-15,1:16-23")).unwrap();
    bench.check();
    while bench.mm.take_pages(Order::ZERO).is_ok() {}
    bench.mm.machine().plan().arm(1);
    assert_eq!(bench.mm.release(), Ok(16));
    bench.mm.machine().plan().disarm();
    bench.check();
    let tables = |facts: &[hotmem::Fact]| {
        facts.iter().filter(|fact| matches!(fact, hotmem::Fact::Tables(..))).copied().count()
    };
    assert_eq!(tables(&before), tables(&bench.snapshot()));
}

#[test]
fn a_block_that_turned_bad_while_it_was_taken_is_released_untouched() {
    let bench = bench();
    offline(&bench, [10]);
    bench.mm.take(&list("0:10")).unwrap();
    bench.mm.machine().mmu().poke(PhysAddr::new(10 * MIB + 64), 0x7ace);
    bench.mm.poison(hotmem::Pfn::new(10 * MIB / 4096)).unwrap();
    assert_eq!(bench.mm.release(), Ok(1));
    assert_eq!(bench.mm.machine().mmu().load(linear(10).add(64)), 0x7ace);
    assert_eq!(
        bench.mm.online(id(10), ZoneKind::Movable).unwrap_err(),
        OnlineError::Poisoned(id(10))
    );
    bench.check();
}

#[test]
fn of_two_threads_that_take_the_same_blocks_at_once_one_succeeds() {
    let bench = bench();
    offline(&bench, 8..16);
    for _ in 0..20 {
        // Different lists, so that a mixture would be visible.
        let lists = ["0:8-12", "0:11-15"];
        let taken = std::thread::scope(|scope| {
            let take = |text| {
                let mm = &bench.mm;
                scope.spawn(move || {
                    loop {
                        match mm.take(&list(text)) {
                            Err(TakeError::Busy) => std::thread::yield_now(),
                            result => break result,
                        }
                    }
                })
            };
            lists.map(take).map(|thread| thread.join().unwrap())
        });
        bench.check();
        let marked = (8..16).filter(|&raw| bench.mm.block(id(raw)).unwrap().taken);
        let marked: Vec<u64> = marked.collect();
        match taken {
            [Ok(5), Err(TakeError::AlreadyTaken(at))] => {
                assert_eq!((at, marked), (id(11), vec![8, 9, 10, 11, 12]));
            }
            [Err(TakeError::AlreadyTaken(at)), Ok(5)] => {
                assert_eq!((at, marked), (id(11), vec![11, 12, 13, 14, 15]));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(bench.mm.release(), Ok(5));
        bench.check();
    }
}

#[test]
fn a_list_is_taken_as_a_whole_or_not_at_all() {
    let bench = bench();
    offline(&bench, [8, 9, 10, 16, 17]);
    let dimm = range(TINY_WINDOW, 4 * MIB);
    bench.plug(dimm);
    bench.add(dimm, Placement::PerRange);
    let node = |raw| NodeId::new(raw).unwrap();
    let before = bench.snapshot();
    let refused = |text: &str| bench.mm.take(&list(text)).unwrap_err();
    assert_eq!(refused("0:8-9,0:11"), TakeError::NotOffline(id(11)));
    assert_eq!(refused("0:8-9,1:10"), TakeError::OtherNode(id(10), node(0)));
    let twice = [list("1:16-17"), list("1:17")].concat();
    assert_eq!(bench.mm.take(&twice), Err(TakeError::Twice(id(17))));
    assert_eq!(refused("0:8,0:30"), TakeError::NoSuchBlock(id(30)));
    assert_eq!(refused("0:0"), TakeError::NotOffline(id(0)));
    assert_eq!(refused("0:8,0:4611686018427387904"), TakeError::NoSuchBlock(id(1 << 62)));
    assert_same(&before, &bench.snapshot());

    let bad = hotmem::Pfn::new(16 * MIB / 4096 + 3);
    bench.mm.poison(bad).unwrap();
    assert_eq!(refused("1:16-17"), TakeError::Poisoned(id(16)));
    bench.mm.take(&list("0:8")).unwrap();
    let before = bench.snapshot();
    assert_eq!(refused("0:8-9"), TakeError::AlreadyTaken(id(8)));
    assert_same(&before, &bench.snapshot());
}

#[test]
fn at07_blocks_inside_a_device_range_are_not_taken_or_removed_alone() {
    let bench = bench();
    let dimm = range(TINY_WINDOW, 8 * MIB);
    bench.plug(dimm);
    bench.add(dimm, Placement::PerRange);
    let before = bench.snapshot();
    for raw in 64..72 {
        assert_eq!(
            bench.mm.take(&list(&format!("0:{raw}"))),
            Err(TakeError::NotBootMemory(id(raw)))
        );
        let removed = bench.mm.remove(range(raw * MIB, MIB));
        assert!(matches!(removed, Err(RemoveError::SplitsGroup { .. })), "{removed:?}");
        assert_same(&before, &bench.snapshot());
    }
}

#[test]
fn at08_memory_of_a_dimm_is_not_taken_whatever_its_placement() {
    let bench = bench();
    for placement in Placement::ALL {
        let dimm = range(TINY_WINDOW, 2 * MIB);
        bench.plug(dimm);
        bench.add(dimm, placement);
        assert_eq!(bench.mm.take(&list("0:64")), Err(TakeError::NotBootMemory(id(64))));
        bench.online(dimm);
        let contig = bench.mm.take_contig(NodeId::ZERO, 9 * MIB);
        assert!(matches!(contig, Err(ContigError::NoRun(_))), "{contig:?}");
        bench.offline(dimm);
        bench.remove(dimm);
        bench.unplug(dimm);
    }
}

/// Objects to bringing any taken block online, as the driver that took it does.
struct Guard(&'static Bench<Tiny>);

impl Listen for Guard {
    fn notify(&self, event: Event, change: &Change) -> Result<(), &'static str> {
        let taken = self.0.mm.block(change.block).is_some_and(|block| block.taken);
        if event == Event::GoingOnline && taken { Err("it is being traced") } else { Ok(()) }
    }
}

#[test]
fn at09_a_taken_block_does_not_come_online() {
    let bench: &'static Bench<Tiny> = Box::leak(Box::new(bench()));
    offline(bench, [10, 11]);
    bench.mm.take(&list("0:10")).unwrap();
    let before = bench.snapshot();
    // Without an objecting listener, the manager itself refuses.
    assert_eq!(bench.mm.online(id(10), ZoneKind::Movable).unwrap_err(), OnlineError::Taken(id(10)));
    let guard: &'static Guard = Box::leak(Box::new(Guard(bench)));
    let listener: &'static Listener = Box::leak(Box::new(Listener::new("memtrace", 0, guard)));
    assert_eq!(bench.mm.listen(listener), Ok(()));
    let Err(OnlineError::Vetoed(at, veto)) = bench.mm.online(id(10), ZoneKind::Movable) else {
        panic!("not vetoed");
    };
    assert_eq!((at, veto.by, veto.why), (id(10), "memtrace", "it is being traced"));
    assert_same(&before, &bench.snapshot());
    bench.mm.online(id(11), ZoneKind::Normal).unwrap();
    bench.mm.release().unwrap();
    bench.mm.online(id(10), ZoneKind::Movable).unwrap();
    bench.check();
}

#[test]
fn by_size_a_run_is_emptied_taken_and_released_to_the_allocator() {
    let bench = bench();
    let holder = Holder::register(&bench);
    let handles: Vec<_> =
        (0..40).map(|i| holder.take_in_zone(&bench, Order::new(i % 4).unwrap()).unwrap()).collect();
    let free = bench.mm.stats().pages.free;
    let taken = bench.mm.take_contig(NodeId::ZERO, 3 * MIB).unwrap();
    bench.check();
    holder.check(&bench);
    assert_eq!(taken.len(), 3 * MIB);
    assert_eq!(bench.mm.stats().pages.free, free - 3 * MIB / 4096);
    for at in bench.blocks(taken) {
        let block = bench.mm.block(at).unwrap();
        assert!(block.taken && block.boot && block.node == NodeId::ZERO);
        assert_eq!(block.state, BlockState::Online(ZoneKind::Movable));
        assert!(load_faults(&bench, linear(at.get())));
        let first = block.pfns.start;
        assert_eq!(bench.mm.free_pages(first), Err(FreeError::NotYours(first, Owner::Taken)));
        let offline = bench.mm.offline(at).unwrap_err();
        let OfflineError::InUse { first: Some((_, Owner::Taken)), .. } = offline else {
            panic!("{offline:?}");
        };
    }
    assert_eq!(bench.mm.release(), Ok(3));
    assert_eq!(bench.mm.stats().pages.free, free);
    bench.check();
    holder.check(&bench);
    for handle in handles {
        holder.release(&bench, handle);
    }
    bench.check();
}

#[test]
fn by_size_only_whole_blocks_of_one_zone_and_node_are_taken() {
    let bench = bench();
    let odd = |bytes| Err(ContigError::NotWholeBlocks { bytes, block: MIB });
    assert_eq!(bench.mm.take_contig(NodeId::ZERO, 0), odd(0));
    assert_eq!(bench.mm.take_contig(NodeId::ZERO, MIB + 4096), odd(MIB + 4096));
    let none = bench.mm.take_contig(NodeId::new(5).unwrap(), MIB);
    assert_eq!(none, Err(ContigError::NoRun(None)));
    let none = bench.mm.take_contig(NodeId::ZERO, 9 * MIB);
    assert_eq!(none, Err(ContigError::NoRun(None)));
    // A block of the other zone in the middle cuts the run.
    bench.mm.offline(id(12)).unwrap();
    bench.mm.online(id(12), ZoneKind::Normal).unwrap();
    assert_eq!(bench.mm.take_contig(NodeId::ZERO, 5 * MIB), Err(ContigError::NoRun(None)));
    let all: PhysRange = bench.mm.take_contig(NodeId::new(1).unwrap(), 8 * MIB).unwrap();
    assert_eq!(all, range(16 * MIB, 8 * MIB));
    bench.check();
}

#[test]
fn by_size_a_run_that_cannot_be_emptied_leaves_every_page_with_its_owner() {
    let bench = bench();
    // Every second page of node 1 is unmovable: no block of it can be emptied.
    let mut held = Vec::new();
    while let Some(pfn) = bench.alloc_movable_zone(Order::ZERO) {
        held.push(pfn);
    }
    for pfn in held.iter().filter(|pfn| pfn.get() % 2 == 0) {
        bench.mm.free_pages(*pfn).unwrap();
    }
    let before = bench.snapshot();
    let failed = bench.mm.take_contig(NodeId::new(1).unwrap(), 2 * MIB);
    assert!(matches!(failed, Err(ContigError::NoRun(Some(_)))), "{failed:?}");
    assert_same(&before, &bench.snapshot());
    bench.check();
}

/// 16 MiB mapped by leaves of 1 MiB, as a boot loader may, with memory blocks of half of that.
fn bench_with_larger_leaves() -> Bench<TinyShared> {
    let ram = [range(0, 16 * MIB)];
    let (machine, mut early) = FakeMachine::start(&ram, MIB);
    let bench = Bench::over(machine);
    let block_size = BlockSize::new::<FakeMachine<TinyShared>>(MIB / 2).unwrap();
    let ram = [(ram[0], NodeId::ZERO)];
    let memory = BootMemory { ram: &ram, block_size, window: &[], kernelcore: Some(8 * MIB) };
    bench.mm.start(&memory, &mut early).unwrap();
    bench
}

#[test]
fn memory_whose_leaf_is_larger_than_its_block_is_not_taken() {
    let bench = bench_with_larger_leaves();
    assert_eq!(bench.mm.verify(), Ok(()), "the manager accepts the loader's leaves");
    let leaf = VirtAddr::new(12 * MIB);
    bench.mm.offline(id(24)).unwrap();
    bench.mm.machine().mmu().poke(PhysAddr::new(12 * MIB), 0xdead);
    let before = bench.snapshot();

    let refused = TakeError::CutsLeaf { block: id(24), at: leaf, len: MIB };
    assert_eq!(bench.mm.take(&list("0:24")), Err(refused));
    assert_eq!(
        refused.to_string(),
        "block 24 is mapped by the leaf of 0x100000 bytes at 0xc00000, larger than it"
    );
    let refused = bench.mm.take_contig(NodeId::ZERO, MIB / 2);
    assert!(matches!(refused, Err(ContigError::CutsLeaf { len: MIB, .. })), "{refused:?}");

    assert_same(&before, &bench.snapshot());
    assert_eq!(bench.mm.machine().mmu().peek(PhysAddr::new(12 * MIB)), 0xdead);
    assert_eq!(bench.mm.release(), Ok(0));
}
