//! Ranges of the NFIT: what is wrong with one is named, and costs no other.

use std::string::ToString;
use std::vec::Vec;

use hotmem::addr::{PhysAddr, PhysRange};

use super::super::firmware::{self, RSDP, Random, fix, put};
use super::writer::{VOLATILE, part, range, range_of};
use crate::nvdimm::{Bounds, MOST_PARTS, MOST_REGIONS, Nfit, Part, Region, RegionError, Regions};
use crate::{TableError, Tables};

const GIB: u64 = 1 << 30;

fn memory(base: u64, length: u64) -> PhysRange {
    PhysRange::new(PhysAddr::new(base), length).unwrap()
}

/// Reads structures on a machine with a gigabyte of RAM and 40 bits of addresses.
fn read(structures: &[Vec<u8>]) -> Regions {
    let mut regions = Regions::new().unwrap();
    let ram = [memory(0, GIB)];
    let bounds = Bounds { ram: &ram, other: &[], limit: PhysAddr::new(1 << 40) };
    regions.read(Nfit::of_method(&structures.concat()), bounds);
    regions
}

/// The numbers of the sound regions.
fn sound(regions: &Regions) -> Vec<u16> {
    regions.sound().map(|region| region.index).collect()
}

/// Reads what is wrong beside a sound range before and behind it.
fn beside(wrong: &[Vec<u8>]) -> (Vec<u16>, Vec<RegionError>) {
    let good = [range(1, 4 * GIB, GIB), range(9, 16 * GIB, GIB)];
    let regions = read(&[&good[..1], wrong, &good[1..]].concat());
    (sound(&regions), regions.refused().to_vec())
}

#[test]
fn a_range_has_its_place_its_node_and_its_parts() {
    let mut plain = range(2, 4 * GIB, GIB);
    put(&mut plain, 6, 2, 1);
    let regions = read(&[
        range(3, 8 * GIB, 2 * GIB),
        part(3, 0x11, GIB),
        plain,
        part(3, 0x12, GIB),
        part(0, 0x13, GIB),
        part(7, 0x14, GIB),
    ]);
    let found: Vec<_> = regions.sound().collect();
    assert_eq!(
        found,
        [
            Region { index: 3, range: memory(8 * GIB, 2 * GIB), domain: Some(1) },
            Region { index: 2, range: memory(4 * GIB, GIB), domain: None },
        ]
    );
    let parts: Vec<_> = regions.parts(3).collect();
    assert_eq!(parts, [0x11, 0x12].map(|handle| Part { handle, base: 0, length: GIB }));
    assert_eq!(regions.parts(2).count(), 0);
    assert_eq!(regions.refused(), []);
}

#[test]
fn a_range_that_cannot_be_is_refused_by_name_and_costs_no_other() {
    let high = memory((1 << 40) - GIB, 2 * GIB);
    for (wrong, error) in [
        (range(2, 8 * GIB, 0), RegionError::Empty(2)),
        (range(0, 8 * GIB, GIB), RegionError::NoNumber),
        (
            range(2, u64::MAX - GIB, 2 * GIB),
            RegionError::Wraps { index: 2, base: u64::MAX - GIB, length: 2 * GIB },
        ),
        (range(2, high.start().get(), 2 * GIB), RegionError::Beyond(2, high)),
        (range(2, GIB / 2, GIB), RegionError::Ram(2, memory(GIB / 2, GIB / 2))),
    ] {
        assert_eq!(beside(&[wrong]), ([1, 9].into(), [error].into()), "{error}");
        assert!(!error.to_string().is_empty());
    }
    // The last address that can be.
    assert_eq!(beside(&[range(2, (1 << 40) - GIB, GIB)]), ([1, 2, 9].into(), Vec::new()));
}

#[test]
fn of_ranges_that_contradict_each_other_none_is_used() {
    let twice = [range(2, 8 * GIB, GIB), range(2, 10 * GIB, GIB)];
    assert_eq!(beside(&twice), ([1, 9].into(), [RegionError::Repeated(2); 2].into()));
    let over = [range(2, 8 * GIB, GIB), range(3, 8 * GIB + GIB / 2, GIB)];
    let errors = [RegionError::Overlap(2, 3), RegionError::Overlap(3, 2)];
    assert_eq!(beside(&over), ([1, 9].into(), errors.into()));
    // A range of another kind contradicts, too; it is not persistent memory itself, so nothing is said of it.
    let over = [range(2, 8 * GIB, GIB), range_of(VOLATILE, 3, 8 * GIB, GIB)];
    assert_eq!(beside(&over), ([1, 9].into(), [RegionError::Overlap(2, 3)].into()));
    assert_eq!(beside(&[range_of(VOLATILE, 3, 0, 0)]), ([1, 9].into(), Vec::new()));
}

#[test]
fn memory_of_an_nvdimm_that_two_ranges_have_is_of_neither() {
    let at = |base, mut part: Vec<u8>| {
        put(&mut part, 32, 8, base);
        part
    };
    let two = |base, second| {
        [range(2, 8 * GIB, GIB), part(2, 0x20, GIB), range(3, 10 * GIB, GIB), at(base, second)]
    };
    let errors = [RegionError::Shared(2, 3, 0x20), RegionError::Shared(3, 2, 0x20)];
    let wrong = two(GIB - 1, part(3, 0x20, GIB));
    assert_eq!(beside(&wrong), ([1, 9].into(), errors.into()));
    // Bits of a handle that do not count.
    let wrong = two(0, part(3, 0xf000_0020, 1));
    assert_eq!(beside(&wrong).0, [1, 9]);
    // The memory behind, and that of another NVDIMM.
    let sound = [two(GIB, part(3, 0x20, GIB)), two(0, part(3, 0x21, GIB))];
    sound.iter().for_each(|sound| assert_eq!(beside(sound), ([1, 2, 3, 9].into(), Vec::new())));
    // Another kind of range may be another way to the same memory.
    let [first, own, _, other] = two(0, part(3, 0x20, GIB));
    let sound = [first, own, range_of(VOLATILE, 3, 10 * GIB, GIB), other];
    assert_eq!(beside(&sound), ([1, 2, 9].into(), Vec::new()));
    // A range that has it twice is made of something else, too.
    let wrong = [range(2, 8 * GIB, 2 * GIB), part(2, 0x20, GIB), part(2, 0x20, GIB)];
    assert_eq!(beside(&wrong), ([1, 9].into(), [RegionError::Shared(2, 2, 0x20)].into()));
}

#[test]
fn addresses_of_another_use_are_not_persistent_memory() {
    let mut regions = Regions::new().unwrap();
    let bounds = Bounds {
        ram: &[],
        other: &[memory(GIB, GIB / 2), memory(9 * GIB, GIB)],
        limit: PhysAddr::new(1 << 40),
    };
    let table = [range(2, 8 * GIB, GIB), range(3, 10 * GIB - 1, 2), range(4, GIB + GIB / 2, GIB)];
    regions.read(Nfit::of_method(&table.concat()), bounds);
    assert_eq!(sound(&regions), [2, 4]);
    assert_eq!(regions.refused(), [RegionError::Other(3, memory(10 * GIB - 1, 1))]);
}

#[test]
fn an_nvdimm_that_could_not_be_mapped_costs_its_range() {
    let mut failed = part(2, 0x21, GIB);
    put(&mut failed, 44, 2, 1 << 6);
    let wrong = [range(2, 8 * GIB, GIB), part(2, 0x20, GIB), failed];
    assert_eq!(beside(&wrong), ([1, 9].into(), [RegionError::NotMapped(2, 0x21)].into()));
}

#[test]
fn a_structure_that_does_not_fit_costs_itself_and_what_follows() {
    let mut short = range(2, 8 * GIB, GIB);
    put(&mut short, 2, 2, 40);
    short.truncate(40);
    let error = RegionError::Short { offset: 56, kind: 0, length: 40 };
    assert_eq!(beside(&[short]), ([1, 9].into(), [error].into()));
    for length in [0, 1, 3, 113, 0xffff] {
        let mut wrong = range(2, 8 * GIB, GIB);
        put(&mut wrong, 2, 2, length);
        let error = RegionError::Length { offset: 56, length: length as u16 };
        assert_eq!(beside(&[wrong]), ([1].into(), [error].into()));
    }
    // Kinds that are not used may have any length.
    let unknown = [7, 0, 8, 0, 1, 2, 3, 4].to_vec();
    assert_eq!(beside(&[unknown]), ([1, 9].into(), Vec::new()));
}

#[test]
fn more_than_there_is_room_for_is_refused_and_the_rest_is_used() {
    let many = |count: usize| -> Vec<_> {
        (0..count as u64).map(|n| range(n as u16 + 1, (n + 4) * GIB, GIB)).collect()
    };
    let regions = read(&many(MOST_REGIONS + 1));
    assert_eq!(regions.sound().count(), MOST_REGIONS);
    assert_eq!(regions.refused(), [RegionError::TooManyRegions]);

    let mut structures = many(2);
    structures.extend((0..MOST_PARTS as u32).map(|handle| part(1, handle, GIB)));
    structures.push(part(2, 0xfff, GIB));
    let regions = read(&structures);
    assert_eq!(sound(&regions), [1]);
    assert!(regions.refused().contains(&RegionError::TooManyParts(2)));
}

#[test]
fn the_table_is_found_and_one_that_does_not_add_up_is_not() {
    let mut body = [0; 4].to_vec();
    body.extend(range(1, 4 * GIB, GIB));
    let mut nfit = firmware::table(b"NFIT", 1, &body);
    for sound in [true, false] {
        nfit[60] ^= u8::from(!sound);
        let memory = firmware::memory(2, &[nfit.clone()]);
        let tables = Tables::new(&memory, RSDP).unwrap();
        match Nfit::find(&tables) {
            Ok(Some(found)) => {
                let mut regions = Regions::new().unwrap();
                regions.read(found, Bounds { ram: &[], other: &[], limit: PhysAddr::new(1 << 40) });
                assert_eq!(regions.sound().count(), usize::from(sound));
            }
            found => assert!(!sound && matches!(found, Err(TableError::Checksum { .. }))),
        }
    }
    fix(&mut nfit, 9);
    let memory = firmware::memory(2, &[]);
    assert!(Nfit::find(&Tables::new(&memory, RSDP).unwrap()).unwrap().is_none());
}

#[test]
fn no_bytes_break_the_reader_and_what_is_sound_is_apart() {
    let good = [
        range(1, 4 * GIB, GIB),
        part(1, 1, GIB),
        range(2, 8 * GIB, GIB),
        range_of(VOLATILE, 3, 6 * GIB, GIB),
        part(2, 2, GIB),
    ]
    .concat();
    let mut random = Random(7);
    for _ in 0..20_000 {
        let mut bytes = good.clone();
        for _ in 0..=random.below(4) {
            let at = random.below(bytes.len());
            bytes[at] = random.below(256) as u8;
        }
        bytes.truncate(random.below(bytes.len() + 1));
        let regions = read(&[bytes]);
        let found: Vec<_> = regions.sound().map(|region| region.range).collect();
        for (at, range) in found.iter().enumerate() {
            assert!(range.start().get() >= GIB && range.end().get() <= 1 << 40);
            assert!(found[..at].iter().all(|other| !other.overlaps(*range)));
        }
    }
}
