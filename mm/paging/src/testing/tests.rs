//! The detectors work.

// UNSAFETY: reads memory on purpose that is freed, or was never written.
#![expect(unsafe_code)]

use super::std;
use super::std::sync::Arc;
use super::{FakeRam, FakeTables, FaultPlan, LockedMapper, SoftMmu, TinyPte};
use crate::addr::{PhysAddr, PhysRange, VirtAddr, VirtRange};
use crate::{Attr, Gather, Mapper, Mapping, Tables};

const PAGE: u64 = 4096;
const ROOT: PhysAddr = PhysAddr::new(0);
/// The address that the tests map.
const VIRT: VirtAddr = VirtAddr::new(0x4000_0000);
const TARGET: PhysAddr = PhysAddr::new(0x20_0000);

type Mmu = Arc<SoftMmu<TinyPte>>;

fn phys(start: u64, len: u64) -> PhysRange {
    PhysRange::new(PhysAddr::new(start), len).unwrap()
}

/// 4 MiB of RAM, tables from its second MiB, and one page mapped at [`VIRT`].
fn machine() -> (Mmu, Tables<TinyPte, Mmu, Mmu>, FakeTables<TinyPte>) {
    let ram = FakeRam::new();
    ram.plug(phys(0, 0x20_0000), None);
    ram.plug(phys(0x20_0000, 0x20_0000), Some(0xee));
    let mmu = SoftMmu::new(ram, ROOT);
    let frames = FakeTables::new(&mmu, phys(0x10_0000, 0x10_0000), &Arc::new(FaultPlan::never()));
    let tables = mmu.tables();
    tables.map(&page(Attr::WRITE), &frames).unwrap();
    (mmu, tables, frames)
}

fn page(attr: Attr) -> Mapping {
    Mapping { virt: VIRT, phys: TARGET, len: PAGE, attr, max_leaf: PAGE }
}

fn range() -> VirtRange {
    VirtRange::new(VIRT, PAGE).unwrap()
}

/// Unmaps the page without a flush that works.
fn unmap_without_flush(tables: &Tables<TinyPte, Mmu, Mmu>, frames: &FakeTables<TinyPte>) {
    let mut gather = Gather::new(tables.tlb(), frames);
    tables.unmap(range(), &mut gather).unwrap();
    core::mem::forget(gather);
}

#[test]
fn memory_is_reached_through_the_tables() {
    let (mmu, ..) = machine();
    assert_eq!(mmu.load(VIRT.add(8)), 0xeeee_eeee_eeee_eeee);
    mmu.store(VIRT.add(8), 7);
    assert_eq!(mmu.load(VIRT.add(8)), 7);
    assert_eq!(mmu.translate_through(VIRT.add(8)), TARGET.add(8));
}

#[test]
#[should_panic(expected = "page fault at 0x40001000")]
fn an_access_without_a_translation_faults() {
    machine().0.load(VIRT.add(PAGE));
}

#[test]
#[should_panic(expected = "store to read-only")]
fn a_store_needs_the_attribute() {
    let (mmu, tables, frames) = machine();
    let mut gather = Gather::new(tables.tlb(), &frames);
    tables.unmap(range(), &mut gather).unwrap();
    gather.flush().unwrap();
    tables.map(&page(Attr::empty()), &frames).unwrap();
    mmu.store(VIRT, 1);
}

#[test]
#[should_panic(expected = "bus error")]
fn missing_memory_is_a_bus_error() {
    machine().0.ram().pointer(PhysAddr::new(0x40_0000));
}

#[test]
#[should_panic(expected = "stale TLB entry used")]
fn a_stale_entry_is_caught_when_it_is_used() {
    let (mmu, tables, frames) = machine();
    mmu.load(VIRT);
    unmap_without_flush(&tables, &frames);
    mmu.load(VIRT);
}

#[test]
#[should_panic(expected = "stale TLB entry for")]
fn a_stale_entry_is_caught_by_a_check() {
    let (mmu, tables, frames) = machine();
    mmu.load(VIRT);
    unmap_without_flush(&tables, &frames);
    mmu.assert_coherent();
}

#[test]
#[should_panic(expected = "freed before flush")]
fn a_table_that_a_cpu_may_walk_is_not_freed() {
    let (mmu, tables, frames) = machine();
    mmu.speculate();
    mmu.skip_flushes(true);
    let mut gather = Gather::new(tables.tlb(), &frames);
    tables.unmap(range(), &mut gather).unwrap();
    gather.flush().unwrap();
}

#[test]
fn a_gather_that_is_dropped_flushes_and_fails_the_test() {
    let (mmu, tables, frames) = machine();
    mmu.speculate();
    let mut gather = Gather::new(tables.tlb(), &frames);
    tables.unmap(range(), &mut gather).unwrap();
    let dropped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(gather)));
    let why = dropped.unwrap_err().downcast::<std::string::String>().unwrap();
    assert_eq!(*why, "a gather was dropped before its flush");
    mmu.assert_coherent();
    assert_eq!(frames.used(), []);
}

#[test]
#[should_panic(expected = "is still mapped there by a TLB entry")]
fn memory_that_a_cpu_may_reach_is_not_unplugged() {
    let (mmu, tables, frames) = machine();
    mmu.speculate();
    unmap_without_flush(&tables, &frames);
    mmu.unplug(phys(0x20_0000, 0x20_0000));
}

#[test]
#[should_panic(expected = "stale pointer to the table")]
fn a_page_fault_leaves_a_pointer_to_the_table_behind() {
    let (mmu, tables, frames) = machine();
    let neighbour = VIRT.add(PAGE);
    let faults = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| mmu.load(neighbour)));
    assert!(faults.is_err());
    unmap_without_flush(&tables, &frames);
    mmu.assert_coherent();
}

#[test]
#[should_panic(expected = "the mapper is called from inside itself")]
fn a_mapper_that_is_called_from_inside_itself_is_caught() {
    let mapper = LockedMapper::new(machine().1);
    assert_eq!(mapper.translate(VIRT).map(|leaf| leaf.phys), Some(TARGET));
    mapper.visit(range(), &mut |leaf| assert_eq!(mapper.translate(leaf.virt), Some(leaf)));
}

#[test]
fn the_nth_allocation_fails_once() {
    let plan = FaultPlan::never();
    assert!((0..9).all(|_| plan.allows()) && !plan.fired());
    plan.arm(3);
    let allowed: std::vec::Vec<bool> = (0..5).map(|_| plan.allows()).collect();
    assert_eq!(allowed, [true, true, false, true, true]);
    assert!(plan.fired() && plan.seen() == 5);
    plan.arm(9);
    assert!(!plan.fired());
}

#[test]
#[ignore = "reads freed memory on purpose: for `cargo xtask ci address memcheck`"]
fn planted_use_of_memory_that_was_pulled() {
    let ram = FakeRam::new();
    ram.plug(phys(0, 0x20_0000), None);
    let byte = ram.pointer(PhysAddr::new(0x1234));
    ram.unplug(phys(0, 0x20_0000));
    // SAFETY: the memory is freed, which is the fault: a sanitizer ends the program here.
    let read = unsafe { byte.read_volatile() };
    std::println!("read {read} of memory that was freed");
}

#[test]
#[ignore = "depends on a value that was never written, on purpose: for `cargo xtask ci memcheck`"]
fn planted_use_of_memory_that_was_never_written() {
    let ram = FakeRam::flat(PhysAddr::new(0x20_0000));
    ram.plug(phys(0, 0x20_0000), None);
    let byte = ram.pointer(PhysAddr::new(0x1234));
    // SAFETY: the memory is the test's, and any byte is a number; it has no value, which is the fault: memcheck notices
    // the branch that depends on it.
    let read = unsafe { byte.read_volatile() };
    let what = if read == 0 { "zero" } else { "not zero" };
    std::println!("memory that was never written is {what}");
}
