//! The arithmetic of layouts, for every geometry with up to 16 units of presence in a block and every range there, against
//! counts that are made one by one. A unit is the smallest memory that can be added, so a block has no finer structure.

extern crate std;

use super::*;
use crate::addr::{PhysAddr, VirtAddr};
use crate::geometry::GeometryError;
use crate::memmap::section::{parts_touched, record_pfns, section_pfns};
use crate::paging::PteFormat;
use crate::testing::{FakeMachine, GranulePte, OddPte, Shape, TinyPte};
use core::marker::PhantomData;
use std::collections::BTreeSet;
use std::vec::Vec;

/// Units of a block, at most.
const UNITS: u64 = 16;

/// A geometry with the pages of a format.
struct Small<F, const SECTION_SHIFT: u32>(PhantomData<F>);

impl<F: PteFormat + 'static, const SECTION_SHIFT: u32> Shape for Small<F, SECTION_SHIFT> {
    type Format = F;
    const SECTION_SHIFT: u32 = SECTION_SHIFT;
    const LINEAR_BASE: VirtAddr = VirtAddr::new(0);
    const VMEMMAP_BASE: VirtAddr = VirtAddr::new(1 << 40);
    const PHYS_LIMIT: PhysAddr = PhysAddr::new(1 << 38);
}

/// The sections of `pfns`, page by page.
fn sections<M: Machine>(pfns: PfnRange) -> BTreeSet<u64> {
    // A unit is whole sections, or a part of one.
    let step = M::SECTION_PAGES.min(M::UNIT_PAGES) as usize;
    pfns.iter().step_by(step).map(|pfn| pfn.get() / M::SECTION_PAGES).collect()
}

/// The groups of a range: all of it, or cut at each block.
fn expected(range: PfnRange, placement: Placement, block: u64, unit: u64) -> Vec<PfnRange> {
    let mut groups: Vec<PfnRange> = Vec::new();
    for start in range.iter().step_by(unit as usize) {
        let begins = placement == Placement::PerBlock && start.get().is_multiple_of(block);
        match groups.last_mut() {
            Some(last) if !begins => last.end = start.add(unit),
            _ => groups.push(PfnRange::new(start, unit)),
        }
    }
    groups
}

fn check_group<M: Machine>(group: Altmap) {
    let Altmap { described, memmap } = group;
    let bytes = described.pages() * size_of::<crate::memmap::page::Page>() as u64;
    assert_eq!(memmap.pages() * M::PAGE_BYTES, bytes, "descriptors, and nothing beside them");
    assert_eq!(memmap.start, described.start);
    assert!(memmap.pages() < described.pages());
    assert_eq!(Altmap::of_memmap::<M>(memmap), group);
    let sections = sections::<M>(described);
    assert_eq!(group.sections::<M>(), sections.len() as u64);
    // A record for each run of sections that share one, each in a descriptor of its own among those of the memmap.
    let mut places = BTreeSet::new();
    for &section in &sections {
        let place = group.record::<M>(section);
        let shared = record_pfns::<M>(section).start.get() / M::SECTION_PAGES;
        assert!(memmap.contains(place), "{place} of section {section} in {memmap:?}");
        assert_eq!(place, group.record::<M>(shared.max(*sections.first().unwrap())));
        places.insert(place);
    }
    let records: BTreeSet<_> =
        sections.iter().map(|&section| record_pfns::<M>(section).start).collect();
    assert_eq!(places.len(), records.len());
    assert!(places.into_iter().eq(group.records::<M>().iter()));
}

/// Each subsection of a range is one bit of one record.
fn check_parts<M: Machine>(range: PfnRange) {
    let mut parts = 0;
    for &section in &sections::<M>(range) {
        let first = record_pfns::<M>(section);
        let own = parts_touched::<M>(section, section_pfns::<M>(section));
        let bits = parts_touched::<M>(section, range) & own;
        for number in 0..64 {
            let part = PfnRange::new(first.start.add(number * M::PART_PAGES), M::PART_PAGES);
            let inside = part.intersection(range).is_some_and(|found| found.pages() != 0)
                && part.intersection(section_pfns::<M>(section)).is_some_and(|at| at.pages() != 0);
            assert_eq!(bits >> number & 1 != 0, inside, "{part:?} of section {section}, {range:?}");
        }
        parts += u64::from(bits.count_ones());
    }
    assert_eq!(parts * M::PART_PAGES, range.pages());
}

/// Returns how many blocks and ranges were checked.
fn check<F: PteFormat + 'static, const SECTION_SHIFT: u32>() -> (u64, u64) {
    check_machine::<FakeMachine<Small<F, SECTION_SHIFT>>>()
}

fn check_machine<M: Machine>() -> (u64, u64) {
    let (unit, mut blocks, mut ranges) = (M::UNIT_PAGES, 0, 0);
    for pages in (0..).map(|shift| 1 << shift).take_while(|pages| *pages <= UNITS * unit) {
        let size = match BlockSize::new::<M>(pages * M::PAGE_BYTES) {
            Ok(size) => size,
            Err(GeometryError::NotWholeSections { .. }) => {
                assert!(pages < M::SECTION_PAGES);
                continue;
            }
            Err(GeometryError::TooSmall { .. }) => {
                assert!(pages < M::RECORD_PAGES);
                continue;
            }
            Err(error) => panic!("{error}"),
        };
        assert_eq!(size.pages::<M>(), pages);
        blocks += 1;
        let units = 2 * pages / unit + 1;
        for (start, count) in
            (0..units).flat_map(|start| (1..=units - start).map(move |n| (start, n)))
        {
            let range = PfnRange::new(Pfn::new(start * unit), count * unit);
            check_parts::<M>(range);
            for placement in [Placement::PerRange, Placement::PerBlock] {
                let groups: Vec<_> = Altmap::all_of::<M>(range, placement, size).collect();
                let described = groups.iter().map(|group| group.described);
                assert!(described.eq(expected(range, placement, pages, unit)), "{groups:?}");
                groups.into_iter().for_each(check_group::<M>);
            }
            ranges += 1;
        }
    }
    (blocks, ranges)
}

#[test]
fn layouts_of_every_small_geometry_agree_with_counts_one_by_one() {
    let checked = [
        // Pages of 4 KiB, sections of 2 to 1024 pages, units of 64 pages.
        check::<TinyPte, 13>(),
        check::<TinyPte, 14>(),
        check::<TinyPte, 15>(),
        check::<TinyPte, 16>(),
        check::<TinyPte, 17>(),
        check::<TinyPte, 18>(),
        check::<TinyPte, 19>(),
        check::<TinyPte, 20>(),
        check::<TinyPte, 21>(),
        check::<TinyPte, 22>(),
        // Pages of 16 KiB, sections of 8 to 4096 pages, units of 256.
        check::<GranulePte, 17>(),
        check::<GranulePte, 19>(),
        check::<GranulePte, 21>(),
        check::<GranulePte, 23>(),
        check::<GranulePte, 24>(),
        check::<GranulePte, 25>(),
        check::<GranulePte, 26>(),
        // Pages of 64 KiB, sections of 32 to 16384 pages, units of 1024.
        check::<OddPte, 21>(),
        check::<OddPte, 23>(),
        check::<OddPte, 25>(),
        check::<OddPte, 27>(),
        check::<OddPte, 28>(),
        check::<OddPte, 29>(),
        check::<OddPte, 30>(),
    ];
    let sum = checked.into_iter().fold((0, 0), |(blocks, ranges), (more, others)| {
        assert!(more > 0 && others > 0);
        (blocks + more, ranges + others)
    });
    std::println!("{sum:?} blocks and ranges");
}
