//! Leaves that were written, and leaves that become tables and tables that become leaves.

use super::*;
use crate::FoldError;
use core::sync::atomic::Ordering;
use std::vec::Vec;

/// Sets or tests the mark of a leaf, as the MMU does.
fn mark(machine: &Machine, virt: u64) {
    let stop = machine.tables.walk(VirtAddr::new(virt));
    let slots = machine.tables.slots(stop.path[stop.level], stop.level);
    let index = TinyPte::LEVELS[stop.level].index(virt);
    slots[index].fetch_or(TinyPte::WRITTEN, Ordering::Relaxed);
}

/// What is marked in a range, by address and size; takes the marks back.
fn unmark(machine: &Machine, virt: u64, len: u64) -> Vec<(u64, u64)> {
    let mut found = Vec::new();
    let mut gather = machine.gather();
    let note = &mut |at: VirtRange| found.push((at.start().get(), at.len()));
    let unmarked = machine.tables.unmark(range(virt, len), &mut gather, note);
    gather.conclude(unmarked).unwrap();
    found
}

#[test]
fn a_leaf_is_marked_from_the_start_and_again_by_each_first_store() {
    let machine = Machine::new();
    machine.map(VIRT, 0, 3 * LARGE, PAGE).unwrap();
    machine.map(VIRT + HUGE, HUGE, 2 * HUGE, HUGE).unwrap();
    let all = unmark(&machine, VIRT, 3 * LARGE);
    assert_eq!(all.len() as u64, 3 * LARGE / PAGE);
    assert_eq!(
        unmark(&machine, VIRT + HUGE, 2 * HUGE),
        [(VIRT + HUGE, HUGE), (VIRT + 2 * HUGE, HUGE)]
    );
    assert_eq!(unmark(&machine, VIRT, 4 * HUGE), []);
    // The first and the last of a table, and those of another.
    let stored = [VIRT, VIRT + LARGE - PAGE, VIRT + LARGE, VIRT + 2 * HUGE];
    stored.iter().for_each(|&at| mark(&machine, at));
    assert_eq!(unmark(&machine, VIRT + PAGE, LARGE - 2 * PAGE), [], "neither end is asked for");
    let found = unmark(&machine, VIRT, 4 * HUGE);
    assert!(found.iter().map(|&(at, _)| at).eq(stored), "{found:x?}");
    assert_eq!(machine.leaves().len(), 50, "all are still mapped");
    machine.mmu.assert_coherent();
    machine.unmap(VIRT, 4 * HUGE).unwrap();
}

#[test]
fn an_unmapping_reports_each_leaf_that_was_written_and_keeps_the_tables() {
    let machine = Machine::new();
    machine.map(VIRT, 0, 2 * LARGE, PAGE).unwrap();
    unmark(&machine, VIRT, 2 * LARGE);
    let stored = [VIRT + PAGE, VIRT + LARGE + 3 * PAGE];
    stored.iter().for_each(|&at| mark(&machine, at));
    let used = machine.frames.used();
    let mut found = Vec::new();
    let mut gather = Gather::keeping_tables(machine.tables.tlb(), &machine.frames);
    let note = &mut |at: VirtRange| found.push(at.start().get());
    let unmapped = machine.tables.unmap_marked(range(VIRT, 2 * LARGE), &mut gather, note);
    gather.conclude(unmapped).unwrap();
    assert_eq!(found, stored);
    assert_eq!((machine.leaves(), machine.frames.used()), (Vec::new(), used));
    // Mapped again in the tables that stayed, without a frame.
    machine.plan.arm(1);
    machine.map(VIRT, HUGE, 2 * LARGE, LARGE).unwrap();
    machine.plan.disarm();
    assert_eq!(machine.leaves().len() as u64, 2 * LARGE / PAGE);
    machine.unmap(VIRT, 2 * LARGE).unwrap();
    assert_eq!(machine.frames.used(), []);
}

#[test]
fn a_range_that_cuts_a_leaf_keeps_its_marks() {
    let machine = Machine::new();
    machine.map(VIRT, 0, HUGE, HUGE).unwrap();
    for cut in [range(VIRT, PAGE), range(VIRT + HUGE - PAGE, 2 * PAGE)] {
        let mut gather = machine.gather();
        let refused = machine.tables.unmark(cut, &mut gather, &mut |_| panic!("a leaf is cut"));
        let expected = UnmapError::CutsLeaf { at: VirtAddr::new(VIRT), len: HUGE };
        assert_eq!(gather.conclude(refused), Err(expected));
    }
    assert_eq!(unmark(&machine, VIRT, HUGE), [(VIRT, HUGE)]);
    machine.unmap(VIRT, HUGE).unwrap();
}

#[test]
fn a_leaf_becomes_a_table_that_translates_the_same_and_a_leaf_again() {
    let machine = Machine::new();
    machine.map(VIRT, HUGE, 2 * HUGE, HUGE).unwrap();
    let (tables, leaves) = (machine.frames.used(), machine.leaves());
    let at = VirtAddr::new(VIRT + HUGE + 5 * PAGE);
    let phys = || machine.mmu.translate_through(at).get();
    machine.mmu.speculate();
    assert_eq!(phys(), 2 * HUGE + 5 * PAGE);
    machine.tables.unfold(at, &machine.frames).unwrap();
    machine.mmu.assert_coherent();
    assert_eq!((machine.leaves().len(), phys()), (17, 2 * HUGE + 5 * PAGE));
    machine.tables.fold(at, HUGE, &machine.frames).unwrap();
    machine.mmu.assert_coherent();
    assert_eq!((machine.frames.used(), machine.leaves()), (tables, leaves));
    assert_eq!(phys(), 2 * HUGE + 5 * PAGE);
    machine.unmap(VIRT, 2 * HUGE).unwrap();
}

#[test]
fn what_cannot_become_a_table_or_a_leaf_stays_as_it_is() {
    let machine = Machine::new();
    let at = VirtAddr::new(VIRT);
    let (fold, unfold) = (
        || machine.tables.fold(at, HUGE, &machine.frames),
        || machine.tables.unfold(at, &machine.frames),
    );
    assert_eq!((fold(), unfold()), (Err(FoldError::NoLeaf), Err(FoldError::NoLeaf)));
    machine.map(VIRT, 0, LARGE - PAGE, PAGE).unwrap();
    assert_eq!(fold(), Err(FoldError::NoLeaf), "one leaf is missing");
    assert_eq!(unfold(), Err(FoldError::NoLeaf), "pages are the smallest");
    machine.map(VIRT + LARGE - PAGE, HUGE, PAGE, PAGE).unwrap();
    assert_eq!(fold(), Err(FoldError::NoLeaf), "one leaf translates elsewhere");
    machine.unmap(VIRT, LARGE).unwrap();
    machine.map(VIRT, PAGE, LARGE, PAGE).unwrap();
    assert_eq!(fold(), Err(FoldError::NoLeaf), "the target is not aligned");
    machine.unmap(VIRT, LARGE).unwrap();
    machine.map(VIRT, 0, LARGE, PAGE).unwrap();
    let smaller = machine.tables.fold(at, LARGE - 1, &machine.frames);
    assert_eq!(smaller, Err(FoldError::NoLeaf), "the leaf would be larger than allowed");
    machine.tables.fold(at, LARGE, &machine.frames).unwrap();
    machine.unmap(VIRT, LARGE).unwrap();

    machine.map(VIRT, 0, LARGE, LARGE).unwrap();
    let (tables, leaves) = (machine.frames.used(), machine.leaves());
    machine.plan.arm(1);
    let none = OutOfFrames { bytes: TinyPte::LEVELS[3].table_bytes() };
    assert_eq!(unfold(), Err(FoldError::OutOfFrames(none)));
    machine.plan.disarm();
    assert_eq!((machine.frames.used(), machine.leaves()), (tables, leaves));
    machine.unmap(VIRT, LARGE).unwrap();
    assert_eq!(machine.frames.used(), []);
}

#[test]
fn a_leaf_or_a_table_whose_flush_fails_stays_in_use() {
    let machine = Machine::new();
    machine.mmu.start_cpus(3);
    machine.map(VIRT, 0, LARGE, LARGE).unwrap();
    let (at, failed) = (VirtAddr::new(VIRT), Err(FoldError::NotFlushed(NotFlushed { cpu: 1 })));
    let state = || (machine.frames.used(), machine.leaves());
    let fails = |change: &dyn Fn() -> Result<(), FoldError>| {
        let before = state();
        machine.mmu.speculate();
        machine.mmu.silence(Some(1));
        assert_eq!(change(), failed);
        machine.mmu.silence(None);
        assert_eq!(state(), before);
        assert_eq!(machine.mmu.translate_through(VirtAddr::new(VIRT + 5)).get(), 5);
    };
    fails(&|| machine.tables.unfold(at, &machine.frames));
    machine.tables.unfold(at, &machine.frames).unwrap();
    fails(&|| machine.tables.fold(at, HUGE, &machine.frames));
    machine.tables.fold(at, HUGE, &machine.frames).unwrap();
    machine.unmap(VIRT, LARGE).unwrap();
    assert_eq!(machine.frames.used(), []);
}
