//! The fake machine starts like a real one, and its detectors work.

extern crate std;

use super::{FakeMachine, Tiny};
use crate::addr::{Pfn, PhysAddr, PhysRange, VirtAddr, VirtRange};
use crate::geometry::Geometry;
use crate::machine::{Machine, PhysMem};
use crate::operations::boot::EarlyFrames;
use crate::paging::Mapper;
use crate::testing::{Bench, Setup};
use crate::{AddError, NodeId, Placement, PoisonError, ZoneKind};
use core::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::string::String;

const PAGE: u64 = 4096;

fn phys(start: u64, len: u64) -> PhysRange {
    PhysRange::new(PhysAddr::new(start), len).unwrap()
}

#[test]
fn a_fake_machine_starts_with_its_memory_mapped_and_full_of_garbage() {
    let ram = [phys(0, 0x40_0000), phys(0x80_0000, 0x20_0000)];
    let (machine, early) = FakeMachine::<Tiny>::start(&ram, 1 << 20);
    let last = machine.mmu().load(VirtAddr::new(0x9f_fff8));
    assert_eq!(last, u64::MAX);
    assert_eq!(machine.pointer(PhysAddr::new(0x80_0000)).align_offset(4096), 0);

    let mut free = 0;
    early.free_ranges(&mut |range| free += range.len());
    let mut tables = 0;
    machine.tables().visit_tables(&mut |_| tables += 1);
    assert_eq!(free + tables * PAGE, 0x60_0000);
}

#[test]
#[should_panic(expected = "page fault at 0x80000000")]
fn a_descriptor_without_a_memmap_faults() {
    let (machine, _) = FakeMachine::<Tiny>::start(&[phys(0, 0x40_0000)], 1 << 20);
    machine.descriptor(Pfn::new(0));
}

#[test]
#[should_panic(expected = "page fault at 0x800000")]
fn memory_that_is_not_in_the_linear_map_cannot_be_reached() {
    let (machine, _) = FakeMachine::<Tiny>::start(&[phys(0, 0x40_0000)], 1 << 20);
    machine.plug(phys(0x80_0000, 0x10_0000));
    machine.pointer(PhysAddr::new(0x80_0000));
}

#[test]
fn an_operation_that_the_machine_does_not_allow_is_refused_as_busy() {
    let ram = [(0, 0x100_0000, 0)].into();
    let window = (0x400_0000, 0x1000_0000);
    let bench = Bench::<Tiny>::new(&Setup { ram, block: 1 << 20, window, kernelcore: None });
    let dimm = phys(0x400_0000, 1 << 20);
    bench.plug(dimm);
    let before = bench.snapshot();
    let busy = bench.mm.machine().busy();
    busy.arm(1);
    let refused = bench.mm.hot_add(dimm, NodeId::default(), Placement::PerRange);
    assert_eq!(refused, Err(AddError::Busy));
    busy.arm(1);
    assert_eq!(bench.mm.poison(Pfn::new(0)), Err(PoisonError::Busy));
    assert_eq!(bench.snapshot(), before);
    bench.add(dimm, Placement::PerRange);
}

/// Four blocks that share a memmap.
fn with_a_dimm() -> (Bench<Tiny>, PhysRange) {
    let (ram, window) = ([(0, 0x100_0000, 0)].into(), (0x400_0000, 0x1000_0000));
    let bench = Bench::<Tiny>::new(&Setup { ram, block: 1 << 20, window, kernelcore: None });
    let dimm = phys(0x400_0000, 4 << 20);
    bench.plug(dimm);
    bench.add(dimm, Placement::PerRange);
    (bench, dimm)
}

/// Calls `call` with `lock` held; returns the message with which it failed.
fn fails_with<L>(lock: L, call: impl FnOnce()) -> Option<String> {
    let failed = catch_unwind(AssertUnwindSafe(call)).err();
    drop(lock);
    failed.and_then(|why: std::boxed::Box<dyn Any + Send>| {
        why.downcast::<String>().ok().map(|why| *why)
    })
}

#[test]
fn a_flush_or_a_wait_with_a_lock_held_that_other_cpus_wait_for_fails_the_test() {
    let (bench, dimm) = with_a_dimm();
    let allocator = bench.mm.allocator();
    let linear = bench.mm.linear_virt(dimm);
    let flush = || {
        let mut gather = allocator.gather_keeping_tables(allocator.memmap.alone());
        gather.cleared(linear);
        gather.flush().unwrap();
    };
    let wait = || allocator.machine().relax();
    flush();
    wait();
    let calls: [(&dyn Fn(), &str); 2] =
        [(&flush, "a flush with a lock held"), (&wait, "a wait with a lock held")];
    for (call, why) in calls {
        let zone = allocator.nodes.lock(NodeId::ZERO, ZoneKind::Normal);
        assert_eq!(fails_with(zone, call).as_deref(), Some(why));
        let cache = allocator.caches.lock(1).unwrap();
        assert_eq!(fails_with(cache, call).as_deref(), Some(why));
    }
}

#[test]
fn a_flush_of_anything_but_descriptors_with_look_ups_held_off_fails_the_test() {
    let (bench, dimm) = with_a_dimm();
    let allocator = bench.mm.allocator();
    let flush = |range: VirtRange| {
        let mut gather = allocator.gather_keeping_tables(allocator.memmap.alone());
        gather.cleared(range);
        gather.flush().unwrap();
    };
    let hold_off = || allocator.memmap.hold_off_readers(bench.blocks(dimm)[3]).unwrap();
    let memmap = allocator.memmap.windows().memmap_virt(FakeMachine::<Tiny>::pfns(dimm));
    assert_eq!(fails_with(hold_off(), || flush(memmap)), None);
    let why = fails_with(hold_off(), || flush(bench.mm.linear_virt(dimm)));
    assert_eq!(why.as_deref(), Some("a flush of other memory with look-ups held off"));
    // With a zone's lock on top of it.
    let zone = || allocator.nodes.lock(NodeId::ZERO, ZoneKind::Normal);
    let why = fails_with(hold_off(), || {
        let _zone = zone();
        flush(memmap);
    });
    assert_eq!(why.as_deref(), Some("a flush with a lock held"));
}
