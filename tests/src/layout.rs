//! The layout of a range on a machine: its memmaps, and the tables that map it.
#![expect(clippy::panic, reason = "a suite fails by a panic")]

use crate::memory::assert_same;
use hotmem::geometry::{DESCRIPTOR_BYTES, Geometry};
use hotmem::paging::Mapper;
use hotmem::testing::{Bench, FakeMachine, Shape};
use hotmem::{PhysRange, Placement};

/// Plugs, adds and removes `dimm`; returns the sections and pages of each memmap.
///
/// # Panics
///
/// If a page is wasted: each page of the range must be usable or a page of descriptors that the range needs.
pub fn groups_of<S: Shape>(
    bench: &Bench<S>,
    dimm: PhysRange,
    placement: Placement,
) -> Vec<(u64, u64)> {
    let before = bench.snapshot();
    bench.plug(dimm);
    assert_eq!(bench.add(dimm, placement).system_bytes, 0);
    bench.online(dimm);

    let page = FakeMachine::<S>::PAGE_BYTES;
    let blocks = bench.blocks(dimm);
    let blocks = blocks.into_iter().filter_map(|id| bench.mm.block(id));
    let counts: Vec<_> = blocks.map(|block| (block.counts, block.group)).collect();
    let memmap: u64 = counts.iter().map(|(counts, _)| counts.memmap).sum();
    let managed: u64 = counts.iter().map(|(counts, _)| counts.managed).sum();
    let descriptors = dimm.len() / page * DESCRIPTOR_BYTES;
    assert_eq!(memmap * page, descriptors, "descriptors, and nothing beside them");
    assert_eq!((managed + memmap) * page, dimm.len());

    let mut heads: Vec<_> = counts.iter().filter_map(|(_, group)| *group).collect();
    heads.dedup();
    let groups = heads.into_iter().filter_map(|head| bench.mm.group(head));
    let found = groups.map(|group| (group.sections, group.pfns.pages())).collect();

    bench.offline(dimm);
    bench.remove(dimm);
    assert_same(&before, &bench.snapshot());
    bench.unplug(dimm);
    found
}

/// The tables for the linear map and the memmap of one range, beyond those of a machine with nothing plugged: their
/// sizes, largest first.
///
/// # Panics
///
/// If a table that existed before is missing.
pub fn tables_of<S: Shape>(bench: &Bench<S>, dimm: PhysRange) -> Vec<u64> {
    let table_bytes = || {
        let mut found = Vec::new();
        bench.mm.tables().visit_tables(&mut |table| found.push(table.bytes));
        found
    };
    let before = table_bytes();
    bench.plug(dimm);
    bench.add(dimm, Placement::PerRange);
    let mut after = table_bytes();
    for bytes in before {
        match after.iter().position(|&other| other == bytes) {
            Some(known) => after.swap_remove(known),
            None => panic!("a table of {bytes} bytes is gone"),
        };
    }
    bench.remove(dimm);
    bench.unplug(dimm);
    after.sort_unstable();
    after.reverse();
    after
}
