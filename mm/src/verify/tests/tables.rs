//! Laws 5 and 6, broken in the page tables.

use core::cell::Cell;

use super::*;
use crate::paging::{OutOfFrames, TableFrames};

// Law 5.

#[test]
fn a_memmap_leaf_over_four_blocks_is_named() {
    let bench = added(MIB, Placement::PerRange);
    let len = 4 * MEMMAP * PAGE;
    unmap(&bench, memmap_at(0), len);
    map(&bench, memmap_at(0), PhysAddr::new(DIMM), len, Attr::WRITE);
    names(&bench, 5, "a leaf spans one memory block");
}

#[test]
fn a_boot_memmap_in_pages_that_were_freed_is_named() {
    let bench = added(MIB, Placement::Boot);
    let leaf = bench.mm.machine.mapper().translate(memmap_at(0)).unwrap();
    bench.mm.free_of(Pfn::new(leaf.phys.get() / PAGE), |_| true).unwrap();
    names(&bench, 5, "a boot memmap's pages are held");
}

#[test]
fn a_section_node_in_added_memory_is_named() {
    let bench = added(MIB, Placement::PerBlock);
    let frame = PhysAddr::new(DIMM + MIB - PAGE);
    bench.mm.sections.insert_node(&bench.mm.machine, 1024, frame);
    names(&bench, 5, "a section node lies in system memory");
}

/// Hands out page after page from this address on, whoever they belong to.
struct AnyFrames(Cell<u64>);

impl TableFrames for AnyFrames {
    fn take(&self, _bytes: u64) -> Result<PhysAddr, OutOfFrames> {
        Ok(PhysAddr::new(self.0.replace(self.0.get() + PAGE)))
    }

    fn give_back(&self, _frame: PhysAddr, _bytes: u64) {}
}

/// Maps a page elsewhere, by tables that lie from `at` on.
fn map_by_tables_at(bench: &Lab, at: u64) {
    let phys = boot_page(bench);
    let mapping = Mapping { virt: ELSEWHERE, phys, len: PAGE, attr: Attr::empty(), max_leaf: PAGE };
    bench.mm.machine.mapper().map(&mapping, &AnyFrames(Cell::new(at))).unwrap();
}

#[test]
fn a_table_in_added_memory_is_named() {
    let bench = added(MIB, Placement::PerBlock);
    map_by_tables_at(&bench, DIMM + MIB / 2);
    names(&bench, 5, "a table lies in system memory");
}

// Law 6.

#[test]
fn a_leaf_that_is_writable_and_executable_is_named() {
    let bench = added(MIB, Placement::PerBlock);
    map(&bench, ELSEWHERE, boot_page(&bench), PAGE, Attr::EXECUTE);
    bench.check();
    map(&bench, ELSEWHERE.add(PAGE), boot_page(&bench), PAGE, Attr::WRITE | Attr::EXECUTE);
    names(&bench, 6, "a leaf is not writable and executable");
}

#[test]
fn protected_memory_that_the_linear_map_can_write_is_named() {
    let bench = added(MIB, Placement::PerBlock);
    bench.mm.machine.protect(range(boot_page(&bench).get(), PAGE));
    names(&bench, 6, "protected memory has no writable mapping");
}

#[test]
fn a_linear_leaf_to_another_block_is_named() {
    let bench = added(MIB, Placement::PerBlock);
    let virt = Manager::linear_virt(range(DIMM, MIB)).start();
    unmap(&bench, virt, MIB);
    map(&bench, virt, PhysAddr::new(DIMM + MIB), MIB, Attr::WRITE);
    names(&bench, 6, "the linear map is linear");
}

#[test]
fn a_linear_translation_that_was_left_over_is_named() {
    let bench = added(MIB, Placement::PerBlock);
    let gone = range(DIMM + 4 * MIB, MIB);
    map(&bench, Manager::linear_virt(gone).start(), gone.start(), MIB, Attr::WRITE);
    names(&bench, 6, "a linear leaf's memory is there");
}

#[test]
fn a_memmap_translation_that_was_left_over_is_named() {
    let bench = added(MIB, Placement::PerBlock);
    map(&bench, memmap_at(8 * SECTION), boot_page(&bench), PAGE, Attr::WRITE);
    names(&bench, 6, "a memmap leaf describes what is there");
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
    bench.mm.machine.mapper().visit_tables(&mut |table| tables.push(table.frame));
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
fn a_table_that_the_linear_map_cannot_write_is_named() {
    let bench = added(MIB, Placement::PerBlock);
    let last = range(15 * MIB, MIB);
    map_by_tables_at(&bench, last.start().get());
    bench.check();
    let virt = Manager::linear_virt(last).start();
    unmap(&bench, virt, MIB);
    map(&bench, virt, last.start(), MIB, Attr::empty());
    names(&bench, 6, "the linear map can write a table");
}

#[test]
fn a_hole_in_the_linear_map_is_named() {
    let bench = added(MIB, Placement::PerBlock);
    let last = range(15 * MIB, MIB);
    let virt = Manager::linear_virt(last).start();
    unmap(&bench, virt, MIB);
    names(&bench, 6, "bytes of a block in the linear map");
}
