//! Invariants 4 and 5 broken: spans, nodes, ranges being emptied, and frames held by operations.

use super::*;
use crate::memmap::section::section_pfns;
use crate::paging::TableFrames;
use crate::testing::Lmb;
use crate::{OfflineOp, Stepped};

/// An offline of the DIMM's first block that has isolated its free pages.
fn going(bench: &Lab) -> OfflineOp<'_, FakeMachine<Tiny>> {
    let mut op = bench.mm.start_offline(bench.blocks(dimm())[0]).unwrap();
    while op.progress().phase == "isolating" {
        let Stepped::Going(more) = op.step(1).unwrap() else { panic!("done too soon") };
        op = more;
    }
    op
}

/// The first page of the memmap of section `number`, and the address where it is mapped.
fn memmap_of(bench: &Lab, number: u64) -> (VirtAddr, PhysAddr) {
    let virt = bench.mm.memmap_virt(section_pfns::<FakeMachine<Tiny>>(number)).start();
    let leaf = bench.mm.allocator().memmap.alone().mapper().translate(virt).unwrap();
    (virt, leaf.target(virt))
}

/// Backs the memmap at `virt` with other pages.
fn back(bench: &Lab, virt: VirtAddr, pages: &[PhysAddr]) {
    unmap(bench, virt, pages.len() as u64 * PAGE);
    for (nth, &page) in (0..).zip(pages) {
        map(bench, virt.add(nth * PAGE), page, PAGE, Attr::WRITE);
    }
}

#[test]
fn a_span_that_is_too_long_or_too_short_is_named() {
    let bench = online(MIB, Placement::PerBlock);
    let span = |change: &dyn Fn(&mut PfnRange)| {
        change(bench.mm.allocator().nodes.lock(NodeId::default(), ZoneKind::Movable).parts().1);
    };
    span(&|span| span.start = span.start.add(SECTION));
    // A block outside the span is missing from the zone.
    names(&bench, 4, "present pages of a zone");
    span(&|span| span.start = pfn(0));
    bench.check();

    bench.mm.offline(bench.blocks(dimm())[3]).unwrap();
    span(&|span| span.end = pfn(4 * SECTION));
    names(&bench, 4, "end of a zone's span");
    span(&|span| span.end = pfn(3 * SECTION));
    bench.mm.offline(bench.blocks(dimm())[0]).unwrap();
    span(&|span| span.start = pfn(0));
    names(&bench, 4, "first frame of a zone's span");
    span(&|span| span.start = pfn(SECTION));
    bench.check();

    for &id in &bench.blocks(dimm())[1..3] {
        bench.mm.offline(id).unwrap();
    }
    span(&|span| *span = PfnRange::new(pfn(0), 1));
    names(&bench, 4, "a zone without memory spans nothing");
}

#[test]
fn a_node_that_counts_its_blocks_wrong_is_named() {
    let bench = added(MIB, Placement::PerBlock);
    bench.mm.allocator().nodes.remove_blocks(NodeId::default(), 1);
    names(&bench, 4, "blocks of a node");
    bench.mm.allocator().nodes.add_blocks(NodeId::default(), 1);
    bench.check();
    bench.mm.allocator().nodes.add_blocks(NodeId::new(127).unwrap(), 1);
    names(&bench, 4, "blocks of a node");
}

#[test]
fn an_isolated_extent_outside_what_is_being_emptied_is_named() {
    let bench = online(MIB, Placement::PerBlock);
    let op = going(&bench);
    bench.check();
    let isolating = |range| {
        let mut zone = bench.mm.allocator().nodes.lock(NodeId::default(), ZoneKind::Movable);
        core::mem::replace(zone.parts().2, range)
    };
    let whole = isolating(PfnRange::new(pfn(MEMMAP), 4));
    names(&bench, 4, "an isolated extent is where a range is being emptied");
    isolating(whole);
    bench.check();
    op.cancel();
    bench.check();
}

#[test]
fn a_range_that_is_being_emptied_for_no_operation_is_named() {
    let what = "only a block that goes offline is being emptied";
    let bench = online(MIB, Placement::PerBlock);
    let isolating = |range| {
        let mut zone = bench.mm.allocator().nodes.lock(NodeId::default(), ZoneKind::Movable);
        *zone.parts().2 = range;
    };
    isolating(PfnRange::new(pfn(MEMMAP), 4));
    names(&bench, 4, what);
    isolating(PfnRange::EMPTY);

    // Of another block than the one that goes offline.
    let op = bench.mm.start_offline(bench.blocks(dimm())[0]).unwrap();
    bench.check();
    isolating(PfnRange::new(pfn(SECTION + MEMMAP), 4));
    names(&bench, 4, what);
    op.cancel();
    bench.check();
}

#[test]
fn a_page_that_the_operations_hold_and_did_not_count_is_named() {
    for owner in [Owner::Table, Owner::Memmap] {
        let bench = added(MIB, Placement::Boot);
        bench.mm.allocator().alloc_as(Order::ZERO, owner).unwrap();
        names(&bench, 4, "pages that the operations hold");
    }
}

#[test]
fn a_frame_that_two_boot_placed_memmaps_share_is_named() {
    let what = "each frame of a boot memmap is used once";
    let bench = added(MIB, Placement::Boot);
    // Not the first, where the record is.
    let (virt, _) = memmap_of(&bench, DIMM / MIB);
    let (_, other) = memmap_of(&bench, DIMM / MIB + 1);
    back(&bench, virt.add(PAGE), &[other]);
    names(&bench, 5, what);

    // One that is held for a memmap, and contains none.
    let bench = added(MIB, Placement::Boot);
    bench.alloc_as(Order::ZERO, Owner::Memmap).unwrap();
    names(&bench, 5, what);
}

#[test]
fn a_frame_that_two_boot_sections_share_is_named() {
    let bench = added(MIB, Placement::PerBlock);
    let (_, first) = memmap_of(&bench, 14);
    let (virt, own) = memmap_of(&bench, 15);
    let pages = |start: PhysAddr| [0, 1, 2, 3].map(|nth| start.add(nth * PAGE));
    back(&bench, virt, &pages(first));
    let violation =
        HeldFrames::of(bench.mm.allocator(), &crate::alloc::Waits::of(bench.mm.allocator()).look())
            .check()
            .unwrap_err();
    assert_eq!((violation.invariant, violation.of.get()), (5, 14));
    assert_eq!(violation.what, "boot sections have memmaps of their own");

    let mut mixed = pages(own);
    mixed[3] = first;
    back(&bench, virt, &mixed);
    let violation =
        HeldFrames::of(bench.mm.allocator(), &crate::alloc::Waits::of(bench.mm.allocator()).look())
            .check()
            .unwrap_err();
    assert_eq!((violation.invariant, violation.of.get()), (5, 15));
    assert_eq!(violation.what, "the memmap of a boot section is in one piece");
}

#[test]
fn a_table_that_no_shared_page_counts_is_named() {
    let ram = std::vec![(0, 512 << 20, 0)];
    let window = (4 << 30, 16 << 30);
    let setup = Setup { ram, block: 256 << 20, window, kernelcore: None };
    let bench = Bench::<Lmb>::new(&setup);
    bench.mm.verify_machine().unwrap();
    let _lost = bench.mm.allocator().table_frames().take(256).unwrap().into_raw();
    let found = bench.mm.verify_machine().unwrap_err();
    assert_eq!((found.invariant, found.what), (4, "tables and nodes in shared pages"));
}

#[test]
fn a_section_that_is_missing_from_an_added_block_is_named() {
    for placement in Placement::ALL {
        for missing in 0..2 {
            let bench = added(2 * MIB, placement);
            let number = DIMM / MIB + missing;
            bench.mm.allocator().memmap.sections().set_word(
                bench.mm.machine(),
                number,
                SectionWord::ABSENT,
            );
            match missing {
                // It has the memmap of the next one, too, or that begins with the block's own word.
                0 if placement.self_hosted() => {
                    names(&bench, 3, "a section's record is in memory");
                }
                0 => names(&bench, 1, "a record holds a block's word"),
                _ if placement == Placement::PerRange => {
                    names(&bench, 3, "a record continues the group before it");
                }
                _ => names(&bench, 3, "a whole block has one share"),
            }
        }
    }
}
