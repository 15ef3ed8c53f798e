//! The fake machine starts like a real one, and its detectors work.

use super::{FakeMachine, Tiny};
use crate::addr::{Pfn, PhysAddr, PhysRange, VirtAddr};
use crate::machine::{Machine, PhysMem};
use crate::operations::boot::EarlyFrames;
use crate::paging::Mapper;
use crate::testing::{Bench, Setup};
use crate::{AddError, NodeId, Placement, PoisonError};

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
