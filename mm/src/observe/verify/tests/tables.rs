//! Invariants 5 and 6, broken in the page tables.

// UNSAFETY: vouches for the frames that it allocates.
#![expect(unsafe_code)]

use core::cell::Cell;

use super::*;
use crate::paging::{OutOfFrames, TableFrame, TableFrames};
use crate::testing::TinyShared;

// Invariant 5.

#[test]
fn a_memmap_leaf_over_four_blocks_is_named() {
    let bench = added(MIB, Placement::PerRange);
    let len = 4 * MEMMAP * PAGE;
    unmap(&bench, memmap_at(&bench, 0), len);
    map(&bench, memmap_at(&bench, 0), PhysAddr::new(DIMM), len, Attr::WRITE);
    names(&bench, 5, "a leaf spans one memory block");
}

#[test]
fn a_boot_memmap_in_pages_that_were_freed_is_named() {
    let bench = added(MIB, Placement::Boot);
    let leaf =
        bench.mm.allocator().memmap.alone().mapper().translate(memmap_at(&bench, 0)).unwrap();
    bench.mm.allocator().free_of(Pfn::new(leaf.phys.get() / PAGE), |_| true).unwrap();
    names(&bench, 5, "a boot memmap's pages are held");
}

#[test]
fn a_section_node_in_added_memory_is_named() {
    let bench = added(MIB, Placement::PerBlock);
    let frame = frame(PhysAddr::new(DIMM + MIB - PAGE), PAGE);
    bench.mm.allocator().memmap.sections().insert_node(bench.mm.machine(), 1024, frame);
    names(&bench, 5, "a section node lies in system memory");
}

/// Allocates page after page from this address on, whatever their use.
struct AnyFrames(Cell<u64>);

impl TableFrames for AnyFrames {
    fn take(&self, bytes: u64) -> Result<TableFrame, OutOfFrames> {
        Ok(frame(PhysAddr::new(self.0.replace(self.0.get() + PAGE)), bytes))
    }

    fn give_back(&self, frame: TableFrame) {
        let _unused = frame.into_raw();
    }
}

/// RAM as if it were free for a table.
fn frame(at: PhysAddr, bytes: u64) -> TableFrame {
    // SAFETY: it is fake RAM, which contains no Rust object.
    unsafe { TableFrame::new(at, bytes) }
}

/// Maps a page at `virt`, by tables that lie from `at` on.
fn map_by_tables_at(bench: &Lab, virt: VirtAddr, at: u64) {
    let phys = boot_page(bench);
    let mapping = Mapping { virt, phys, len: PAGE, attr: Attr::empty(), max_leaf: PAGE };
    bench.mm.allocator().memmap.alone().mapper().map(&mapping, &AnyFrames(Cell::new(at))).unwrap();
}

#[test]
fn a_table_in_added_memory_is_named() {
    let bench = added(MIB, Placement::PerBlock);
    map_by_tables_at(&bench, ELSEWHERE, DIMM + MIB / 2);
    names(&bench, 5, "a table lies in system memory");
}

#[test]
fn a_table_in_added_memory_is_named_however_many_come_before_it() {
    let bench = added(MIB, Placement::PerBlock);
    for nth in 0..100 {
        map(&bench, ELSEWHERE.add(nth * MIB), boot_page(&bench), PAGE, Attr::empty());
    }
    bench.check();
    map_by_tables_at(&bench, ELSEWHERE.add(100 * MIB), DIMM + MIB / 2);
    names(&bench, 5, "a table lies in system memory");
}

#[test]
fn an_empty_table_that_the_manager_made_is_named() {
    for clears in [true, false] {
        let bench = added(MIB, Placement::PerBlock);
        let (virt, phys) = (ELSEWHERE, boot_page(&bench));
        let mapping = Mapping { virt, phys, len: PAGE, attr: Attr::empty(), max_leaf: PAGE };
        bench.mm.allocator().map(bench.mm.allocator().memmap.alone(), &mapping).unwrap();
        bench.check();
        if clears {
            let mut gather =
                bench.mm.allocator().gather_keeping_tables(bench.mm.allocator().memmap.alone());
            bench
                .mm
                .allocator()
                .memmap
                .alone()
                .unmap(VirtRange::new(virt, PAGE).unwrap(), &mut gather)
                .unwrap();
            gather.flush().unwrap();
            names(&bench, 5, "a table maps something");
        } else {
            unmap(&bench, virt, PAGE);
            bench.check();
        }
    }
}

// Invariant 6.

#[test]
fn a_leaf_that_is_writable_and_executable_is_named() {
    let bench = added(MIB, Placement::PerBlock);
    map(&bench, ELSEWHERE, boot_page(&bench), PAGE, Attr::EXECUTE);
    bench.check();
    map(&bench, ELSEWHERE.add(PAGE), boot_page(&bench), PAGE, Attr::WRITE | Attr::EXECUTE);
    names(&bench, 6, "a leaf is not writable and executable");
}

#[test]
fn mappings_of_a_loader_are_named_by_verify_machine_alone() {
    // Writable and executable memory, and a second mapping of a table.
    let bench = added(MIB, Placement::PerBlock);
    for (phys, attr, what) in [
        (boot_page(&bench), Attr::WRITE | Attr::EXECUTE, "a leaf is not writable and executable"),
        (own_pages(&bench)[0], Attr::WRITE, "only the linear map writes a table"),
    ] {
        map(&bench, ELSEWHERE, phys, PAGE, attr);
        assert_eq!(bench.mm.verify(), Ok(()), "{what}");
        names(&bench, 6, what);
        unmap(&bench, ELSEWHERE, PAGE);
    }
}

#[test]
fn protected_memory_that_the_linear_map_can_write_is_named() {
    let bench = added(MIB, Placement::PerBlock);
    bench.mm.machine().protect(range(boot_page(&bench).get(), PAGE));
    names(&bench, 6, "protected memory has no writable mapping");
}

#[test]
fn a_linear_leaf_to_another_block_is_named() {
    let bench = added(MIB, Placement::PerBlock);
    let virt = bench.mm.linear_virt(range(DIMM, MIB)).start();
    unmap(&bench, virt, MIB);
    map(&bench, virt, PhysAddr::new(DIMM + MIB), MIB, Attr::WRITE);
    names(&bench, 6, "the linear map is linear");
}

#[test]
fn a_linear_translation_that_was_left_over_is_named() {
    let bench = added(MIB, Placement::PerBlock);
    let gone = range(DIMM + 4 * MIB, MIB);
    map(&bench, bench.mm.linear_virt(gone).start(), gone.start(), MIB, Attr::WRITE);
    names(&bench, 6, "a linear leaf's memory is present");
}

#[test]
fn a_memmap_translation_that_was_left_over_is_named() {
    let bench = added(MIB, Placement::PerBlock);
    map(&bench, memmap_at(&bench, 8 * SECTION), boot_page(&bench), PAGE, Attr::WRITE);
    names(&bench, 6, "a memmap leaf describes present memory");
}

#[test]
fn added_memory_that_is_mapped_elsewhere_is_named() {
    for attr in [Attr::empty(), Attr::WRITE, Attr::EXECUTE] {
        let bench = added(MIB, Placement::PerBlock);
        map(&bench, ELSEWHERE, PhysAddr::new(DIMM + MIB / 2), PAGE, attr);
        names(&bench, 6, "added memory is mapped in the linear map only");
    }
}

#[test]
fn a_second_writable_mapping_of_a_table_is_named_and_a_read_only_one_is_not() {
    let bench = added(MIB, Placement::PerBlock);
    let mut tables = std::vec::Vec::new();
    bench
        .mm
        .allocator()
        .memmap
        .alone()
        .mapper()
        .visit_tables(&mut |table| tables.push(table.frame));
    for frame in tables {
        let page = frame.align_down(PAGE);
        map(&bench, ELSEWHERE, page, PAGE, Attr::empty());
        bench.check();
        unmap(&bench, ELSEWHERE, PAGE);
        map(&bench, ELSEWHERE, page, PAGE, Attr::WRITE);
        names(&bench, 6, "only the linear map writes a table");
        unmap(&bench, ELSEWHERE, PAGE);
        bench.check();
    }
}

#[test]
fn a_second_writable_mapping_of_a_table_is_named_among_many_of_other_memory() {
    for table in [0, 31, 32, 33, 64, 79] {
        let bench = added(MIB, Placement::PerBlock);
        for nth in 0..80 {
            // Every other page: no two of them are a run.
            let page = [boot_page(&bench), boot_page(&bench)][0];
            let page = if nth == table { own_pages(&bench)[0] } else { page };
            map(&bench, ELSEWHERE.add(nth * PAGE), page, PAGE, Attr::WRITE);
        }
        names(&bench, 6, "only the linear map writes a table");
        unmap(&bench, ELSEWHERE.add(table * PAGE), PAGE);
        bench.check();
    }
}

#[test]
fn a_table_that_the_linear_map_cannot_write_is_named() {
    let bench = added(MIB, Placement::PerBlock);
    let last = range(15 * MIB, MIB);
    map_by_tables_at(&bench, ELSEWHERE, last.start().get());
    // The tables lie in memory that the allocator has.
    names(&bench, 5, "a table's page is held for it");
    bench.mm.machine().protect(last);
    let virt = bench.mm.linear_virt(last).start();
    unmap(&bench, virt, MIB);
    map(&bench, virt, last.start(), MIB, Attr::empty());
    names(&bench, 6, "the linear map can write a table");
}

#[test]
fn a_hole_in_the_linear_map_is_named() {
    let bench = added(MIB, Placement::PerBlock);
    let last = range(15 * MIB, MIB);
    let virt = bench.mm.linear_virt(last).start();
    unmap(&bench, virt, MIB);
    names(&bench, 6, "bytes of a block in the linear map");
}

/// The pages that contain the manager's own tables and nodes; `Tables::check` must name them.
fn own_pages(bench: &Lab) -> std::vec::Vec<PhysAddr> {
    let mut tables: std::vec::Vec<_> = bench.mm.allocator().memmap.sections().nodes().collect();
    bench
        .mm
        .allocator()
        .memmap
        .alone()
        .mapper()
        .visit_tables(&mut |table| tables.push(table.frame));
    tables.retain(|&frame| bench.mm.allocator().table_frames().owns(frame));
    tables.iter().map(|frame| frame.align_down(PAGE)).collect()
}

/// Pages of the allocator that contain tables, once the reserve is used up.
fn system_pages(bench: &Lab) -> std::vec::Vec<PhysAddr> {
    let mut at = ELSEWHERE;
    while bench.mm.allocator().frames.system_pages() < 2 {
        map(bench, at, PhysAddr::new(0), PAGE, Attr::empty());
        at = at.add(MIB);
    }
    bench.check();
    own_pages(bench)
        .into_iter()
        .filter(|&page| !bench.mm.allocator().frames.reserves(page))
        .collect()
}

/// Fails unless `verify` fails, and `Tables::check` names this page.
#[track_caller]
fn names_held(bench: &Lab, page: PhysAddr) {
    bench.mm.verify_machine().unwrap_err();
    let found =
        Tables::of(bench.mm.allocator(), &crate::alloc::Waits::of(bench.mm.allocator()).look())
            .check()
            .unwrap_err();
    assert_eq!((found.invariant, found.what), (5, "a table's page is held for it"));
    assert_eq!(PhysAddr::new(found.of.get()).align_down(PAGE), page);
    assert!(std::format!("{found}").contains(&std::format!("at {}", found.of)));
}

#[test]
fn a_live_table_on_the_reserves_list_is_named() {
    let count = own_pages(&added(MIB, Placement::PerBlock)).len();
    assert!(count > 2);
    for nth in 0..count {
        let bench = added(MIB, Placement::PerBlock);
        bench.mm.allocator().table_frames().return_frame(own_pages(&bench)[nth]);
        names(&bench, 5, "pages that hold tables and nodes");
    }
}

#[test]
fn a_live_table_on_the_free_list_is_named() {
    let bench = added(MIB, Placement::PerBlock);
    let page = system_pages(&bench)[0];
    bench.mm.allocator().table_frames().return_frame(page);
    names_held(&bench, page);
    // Nor may another owner have it.
    while bench.mm.take_pages(Order::ZERO).unwrap().get() * PAGE != page.get() {}
    names_held(&bench, page);
}

#[test]
fn a_table_from_before_the_manager_on_the_free_list_is_named() {
    let bench = added(MIB, Placement::PerBlock);
    let (head, _) = bench.mm.allocator().memmap.alone().extent_of(Pfn::new(0)).unwrap();
    bench.mm.allocator().free_of(head, |owner| owner == Owner::Boot).unwrap();
    // The root table is the first that the machine reserved.
    names_held(&bench, PhysAddr::new(0));
}

#[test]
fn a_page_for_tables_that_holds_none_is_named() {
    let what = "pages that hold tables and nodes";
    let bench = added(MIB, Placement::PerBlock);
    let lost = bench.mm.allocator().table_frames().take_frame().unwrap();
    names(&bench, 5, what);
    bench.mm.allocator().table_frames().return_frame(lost);
    bench.check();
    bench.alloc_as(Order::ZERO, Owner::Table).unwrap();
    names(&bench, 5, what);
}

#[test]
fn other_pages_for_tables_of_the_same_number_are_named() {
    let bench = added(MIB, Placement::PerBlock);
    let used = own_pages(&bench)[0];
    let other = bench.mm.allocator().table_frames().take_frame().unwrap();
    bench.mm.allocator().table_frames().return_frame(used);
    names(&bench, 5, "the pages held for tables and nodes are theirs");
    assert_ne!(used, other);
}

#[test]
fn a_table_whose_shared_page_does_not_count_it_is_named() {
    let bench = added(MIB, Placement::PerBlock);
    let mut piece = None;
    bench.mm.allocator().memmap.alone().mapper().visit_tables(&mut |table| {
        if table.bytes < PAGE && bench.mm.allocator().table_frames().owns(table.frame) {
            piece = Some(table);
        }
    });
    let table = piece.unwrap();
    bench.mm.allocator().table_frames().give_back(frame(table.frame, table.bytes));
    bench.mm.verify_machine().unwrap_err();
    assert!(bench.mm.allocator().table_frames().piece(table.frame, table.bytes).is_none());
}

#[test]
fn a_corrupt_list_of_the_reserve_is_named() {
    let what = "the reserve's list holds its frames, each once";
    let bench = added(MIB, Placement::PerBlock);
    bench.mm.allocator().table_frames().return_frame(boot_reserve(&bench));
    names(&bench, 4, what);
}

/// A frame of the reserve that was never allocated.
fn boot_reserve(bench: &Lab) -> PhysAddr {
    bench.mm.allocator().frames.handed_out().1.start()
}

#[test]
fn removed_memory_with_a_translation_is_named_wherever_it_is() {
    for attr in [Attr::empty(), Attr::WRITE, Attr::EXECUTE] {
        let bench = added(MIB, Placement::PerBlock);
        let gone = range(DIMM + MIB, MIB);
        bench.remove(gone);
        map(&bench, ELSEWHERE, gone.start(), PAGE, attr);
        names(&bench, 6, "absent memory has no translation");
        unmap(&bench, ELSEWHERE, PAGE);
        bench.check();
    }
}

#[test]
fn memory_that_left_others_of_its_block_and_has_a_translation_is_named() {
    let ram = [(0, 16 * MIB, 0)].into_iter().collect();
    let window = (DIMM, 64 * MIB);
    let bench = Lab::new(&Setup { ram, block: 4 * MIB, window, kernelcore: None });
    bench.plug(dimm());
    let gone = range(DIMM + MIB, 2 * MIB);
    for part in [range(DIMM, MIB), gone, range(DIMM + 3 * MIB, MIB)] {
        bench.add(part, Placement::Boot);
    }
    bench.remove(gone);
    for at in [gone.start(), gone.end().add(PAGE.wrapping_neg())] {
        map(&bench, ELSEWHERE, at, PAGE, Attr::empty());
        names(&bench, 6, "absent memory has no translation");
        unmap(&bench, ELSEWHERE, PAGE);
        bench.check();
    }
}

#[test]
fn writable_absent_memory_is_named_and_firmwares_tables_are_not() {
    let bench = added(MIB, Placement::PerBlock);
    let absent = PhysAddr::new(DIMM + 32 * MIB);
    for attr in [Attr::empty(), Attr::WRITE | Attr::DEVICE] {
        map(&bench, ELSEWHERE, absent, PAGE, attr);
        bench.check();
        unmap(&bench, ELSEWHERE, PAGE);
    }
    map(&bench, ELSEWHERE, absent, PAGE, Attr::WRITE);
    names(&bench, 6, "absent memory has no translation");
}

#[test]
fn taken_memory_with_a_translation_is_named_wherever_it_is() {
    let ram = [(0, 16 * MIB, 0)].into_iter().collect();
    let kernelcore = Some(8 * MIB);
    let bench = Lab::new(&Setup { ram, block: MIB, window: (DIMM, 64 * MIB), kernelcore });
    let taken = bench.mm.take_contig(NodeId::default(), MIB).unwrap();
    bench.check();
    for attr in [Attr::empty(), Attr::WRITE, Attr::WRITE | Attr::DEVICE] {
        map(&bench, ELSEWHERE, taken.start().add(MIB / 2), PAGE, attr);
        names(&bench, 6, "taken memory has no translation");
        unmap(&bench, ELSEWHERE, PAGE);
        bench.check();
    }
    map(&bench, bench.mm.linear_virt(taken).start(), taken.start(), MIB, Attr::WRITE);
    names(&bench, 6, "bytes of a block in the linear map");
}

#[test]
fn a_wrong_attribute_in_the_linear_map_is_named() {
    let (kind, access) =
        ("a linear leaf is ordinary memory", "a linear leaf is writable and not executable");
    let cases = [
        (Attr::empty(), access),
        (Attr::EXECUTE, access),
        (Attr::WRITE | Attr::USER, kind),
        (Attr::WRITE | Attr::DEVICE, kind),
        (Attr::EXECUTE | Attr::USER | Attr::DEVICE, kind),
    ];
    for (attr, what) in cases {
        let bench = online(MIB, Placement::PerBlock);
        let block = range(DIMM + MIB, MIB);
        let virt = bench.mm.linear_virt(block).start();
        unmap(&bench, virt, MIB);
        map(&bench, virt, block.start(), MIB, attr);
        names(&bench, 6, what);
    }
}

#[test]
fn a_leaf_that_begins_in_boot_memory_is_checked_to_its_end() {
    // A leaf of a mebibyte covers half boot memory, half memory that was added, removed, or never present.
    let ram = [(0, 12 * MIB + MIB / 2, 0)].into_iter().collect();
    let window = (12 * MIB + MIB / 2, 8 * MIB);
    let setup = Setup { ram, block: MIB / 2, window, kernelcore: Some(8 * MIB) };
    let bench = Bench::<TinyShared>::new(&setup);
    let dimm = range(window.0, MIB / 2);
    bench.plug(dimm);
    let elsewhere = |named: &str| {
        let (phys, attr) = (PhysAddr::new(12 * MIB), Attr::WRITE);
        let mapping = Mapping { virt: ELSEWHERE, phys, len: MIB, attr, max_leaf: MIB };
        bench
            .mm
            .allocator()
            .memmap
            .alone()
            .mapper()
            .map(&mapping, &bench.mm.allocator().spare_frames())
            .unwrap();
        let found = bench.mm.verify_machine().unwrap_err();
        assert_eq!((found.invariant, found.what), (6, named));
        let mut gather = bench.mm.allocator().gather(bench.mm.allocator().memmap.alone());
        bench
            .mm
            .allocator()
            .memmap
            .alone()
            .mapper()
            .unmap(VirtRange::new(ELSEWHERE, MIB).unwrap(), &mut gather)
            .unwrap();
        gather.flush().unwrap();
        bench.check();
    };
    elsewhere("absent memory has no translation");
    bench.add(dimm, Placement::Boot);
    elsewhere("added memory is mapped in the linear map only");
    bench.remove(dimm);
    elsewhere("absent memory has no translation");
}
