//! The nodes of CPUs, and the distances of nodes.

use super::firmware::{self, RSDP, put};
use crate::{Madt, Signature, Slit, Srat, TableError, Tables};
use std::string::ToString;
use std::vec::Vec;

/// A SRAT's record of a local APIC.
fn apic(id: u8, domain: u32, flags: u8) -> Vec<u8> {
    let [low, high @ ..] = domain.to_le_bytes();
    let mut bytes = [0, 16, low, id, flags, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0].to_vec();
    bytes[9..12].copy_from_slice(&high);
    bytes
}

/// A SRAT's record of a local x2APIC.
fn x2apic(id: u32, domain: u32, flags: u32) -> Vec<u8> {
    let mut bytes = [0; 24].to_vec();
    (bytes[0], bytes[1]) = (2, 24);
    put(&mut bytes, 4, 4, domain.into());
    put(&mut bytes, 8, 4, id.into());
    put(&mut bytes, 12, 4, flags.into());
    bytes
}

/// A SRAT's record of a CPU with a GIC.
fn gicc(uid: u32, domain: u32, flags: u32) -> Vec<u8> {
    let mut bytes = [0; 18].to_vec();
    (bytes[0], bytes[1]) = (3, 18);
    put(&mut bytes, 2, 4, domain.into());
    put(&mut bytes, 6, 4, uid.into());
    put(&mut bytes, 10, 4, flags.into());
    bytes
}

/// A MADT's record of a CPU with a GIC.
fn gic_cpu(uid: u32, mpidr: u64) -> Vec<u8> {
    let mut bytes = [0; 80].to_vec();
    (bytes[0], bytes[1], bytes[12]) = (11, 80, 1);
    put(&mut bytes, 8, 4, uid.into());
    put(&mut bytes, 68, 8, mpidr);
    bytes
}

/// The domain of each CPU of a MADT with the records `cpus`, by a SRAT.
fn domains(cpus: &[Vec<u8>], revision: u8, near: &[Vec<u8>]) -> Vec<Option<u32>> {
    let cpus: Vec<&[u8]> = cpus.iter().map(Vec::as_slice).collect();
    let memory = firmware::memory(2, &[firmware::madt(&cpus), firmware::srat(revision, near)]);
    let tables = Tables::new(&memory, RSDP).unwrap();
    let (madt, srat) = (Madt::find(&tables).unwrap().unwrap(), Srat::find(&tables).unwrap());
    madt.processors().map(|cpu| srat.unwrap().domain_of(&cpu)).collect()
}

/// A MADT's record of a local APIC.
fn local(id: u8) -> Vec<u8> {
    [0, 8, id, id, 1, 0, 0, 0].to_vec()
}

/// A MADT's record of a local x2APIC.
fn local_x2(id: u8) -> Vec<u8> {
    [9, 16, 0, 0, id, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0].to_vec()
}

#[test]
fn a_cpu_has_the_domain_of_the_record_that_names_its_apic() {
    let cpus = [local(0), local(1), local_x2(2), local(3)];
    let near = [apic(1, 0x0102_0304, 1), x2apic(2, 7, 1), apic(0, 5, 1)];
    assert_eq!(domains(&cpus, 3, &near), [Some(5), Some(0x0102_0304), Some(7), None]);
    // In revision 1 the high bytes are reserved.
    assert_eq!(domains(&cpus[1..2], 1, &near), [Some(4)]);
    // Either kind of record may name a CPU, whichever the MADT has.
    assert_eq!(domains(&[local(2), local_x2(1)], 3, &near), [Some(7), Some(0x0102_0304)]);
}

#[test]
fn a_cpu_with_a_gic_is_named_by_its_uid_and_not_by_its_affinity() {
    let cpus = [gic_cpu(7, 0x1_0000_0000), gic_cpu(0x1_0000, 7)];
    let near = [gicc(7, 1, 1), gicc(0x1_0000, 2, 1), apic(7, 9, 1)];
    assert_eq!(domains(&cpus, 3, &near), [Some(1), Some(2)]);
    assert_eq!(domains(&[local(7)], 3, &near), [Some(9)]);
}

#[test]
fn records_that_are_disabled_or_too_short_name_no_cpu_and_of_two_the_first_counts() {
    let cut = |mut record: Vec<u8>, bytes: u8| {
        record.truncate(bytes.into());
        record[1] = bytes;
        record
    };
    let cpus = [local(1), local_x2(2), gic_cpu(3, 3), local(4)];
    let near = [
        apic(1, 8, 0),
        x2apic(2, 8, 2),
        gicc(3, 8, 0),
        cut(apic(1, 8, 1), 11),
        cut(x2apic(2, 8, 1), 15),
        cut(gicc(3, 8, 1), 13),
        apic(4, 6, 1),
        apic(4, 8, 1),
    ];
    assert_eq!(domains(&cpus, 3, &near), [None, None, None, Some(6)]);
}

/// A SLIT that claims `count` domains and has these distances.
fn slit(count: u64, distances: &[u8]) -> Vec<u8> {
    let body = [&count.to_le_bytes()[..], distances].concat();
    firmware::table(b"SLIT", 1, &body)
}

/// The distances between three domains by a SLIT, or what is wrong with it.
fn distances(table: Vec<u8>) -> Result<Vec<Option<u8>>, TableError> {
    let memory = firmware::memory(2, &[table]);
    let tables = Tables::new(&memory, RSDP).unwrap();
    let slit = Slit::find(&tables)?.unwrap();
    let pairs = (0..3).flat_map(|from| (0..3).map(move |to| (from, to)));
    Ok(pairs.map(|(from, to)| slit.distance(from, to)).collect())
}

#[test]
fn distances_are_read_by_their_direction() {
    let table = slit(2, &[10, 15, 255, 10]);
    let none = None;
    let known = [Some(10), Some(15), none, Some(255), Some(10), none, none, none, none];
    assert_eq!(distances(table).unwrap(), known);
    // What follows the rows is ignored.
    assert_eq!(distances(slit(1, &[10, 0, 0])).unwrap()[..2], [Some(10), None]);
    let memory = firmware::memory(2, &[slit(1, &[10])]);
    let slit = Slit::find(&Tables::new(&memory, RSDP).unwrap()).unwrap().unwrap();
    assert_eq!((slit.count(), slit.distance(0, u32::MAX)), (1, None));
    assert_eq!(slit.distance(u32::MAX, 0), None);
}

#[test]
fn a_table_of_distances_that_cannot_be_is_refused_by_its_value() {
    let wrong = |offset, value| {
        let error = TableError::Value { table: Signature(*b"SLIT"), offset, value };
        assert!(error.to_string().contains(&std::format!("{value:#x}")), "{error}");
        error
    };
    let found = |count, rows: &[u8]| distances(slit(count, rows)).unwrap_err();
    // No rows, or fewer than it claims, up to counts whose square has no room in a number.
    assert_eq!(found(0, &[]), wrong(36, 0));
    assert_eq!(found(1, &[]), wrong(36, 1));
    assert_eq!(found(2, &[10, 20, 20]), wrong(36, 2));
    for count in [1 << 32, 1 << 63, u64::MAX] {
        assert_eq!(found(count, &[10]), wrong(36, count));
    }
    // A domain that is not 10 from itself.
    for local in [0, 9, 11, 255] {
        assert_eq!(found(1, &[local]), wrong(44, local.into()));
        assert_eq!(found(2, &[10, 20, 20, local]), wrong(47, local.into()));
    }
    // Another one that is not farther.
    for remote in [0, 9, 10] {
        assert_eq!(found(2, &[10, remote, 20, 10]), wrong(45, remote.into()));
        assert_eq!(found(2, &[10, 20, remote, 10]), wrong(46, remote.into()));
    }
    // Not even the count.
    let short = distances(firmware::table(b"SLIT", 1, &[1, 0, 0, 0, 0, 0, 0])).unwrap_err();
    assert!(matches!(short, TableError::Length { length: 43, .. }), "{short}");
}
