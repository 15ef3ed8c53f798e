//! From the root pointer to every table.

use std::string::ToString;
use std::vec;
use std::vec::Vec;

use hotmem::addr::PhysAddr;
use hotmem_aml::{Aml, Limits, Space};
use hotmem_aml_fakes::{Controller, Layout};

use super::firmware::{self, Memory, RSDP, fix, put};
use super::tables::{machine, piece};
use crate::{Fadt, Madt, Signature, TableError, Tables};

#[test]
fn both_kinds_of_root_lead_to_every_table() {
    for revision in [0, 2] {
        let memory = machine(revision);
        let tables = Tables::new(&memory, RSDP).unwrap();
        assert_eq!(tables.addresses().count(), 5);

        let fadt = Fadt::find(&tables).unwrap();
        let mut names = Vec::new();
        tables
            .each_definition_block(fadt.dsdt, |table| {
                let table = table.unwrap();
                names.push((table.signature().to_string(), table.revision()));
                Ok::<_, TableError>(())
            })
            .unwrap();
        assert_eq!(names, [("DSDT".to_string(), 1), ("SSDT".to_string(), 2)]);
    }
}

#[test]
fn a_broken_xsdt_leads_to_the_rsdt_if_there_is_one() {
    let mut memory = machine(2);
    let rsdt = firmware::table(b"RSDT", 1, &0x1FFE_0000u32.to_le_bytes());
    memory.pieces.push((0x3000_0000, rsdt));
    piece(&mut memory, b"XSDT")[20] ^= 1;
    let error = Tables::new(&memory, RSDP).unwrap_err();
    assert!(matches!(error, TableError::Checksum { .. }), "there is no RSDT: {error}");
    let rsdp = piece(&mut memory, b"RSD PTR ");
    put(rsdp, 16, 4, 0x3000_0000);
    fix(&mut rsdp[..20], 8);
    fix(rsdp, 32);
    let check = |memory: &Memory| {
        let tables = Tables::new(memory, RSDP).unwrap();
        assert_eq!(tables.addresses().collect::<Vec<_>>(), [PhysAddr::new(0x1FFE_0000)]);
        assert!(Madt::find(&tables).unwrap().is_some());
    };
    check(&memory);

    // The newer half of the RSDP may be broken, too: its sum, its length, or all of it missing.
    piece(&mut memory, b"XSDT")[20] ^= 1;
    piece(&mut memory, b"RSD PTR ")[33] ^= 1;
    check(&memory);
    let rsdp = piece(&mut memory, b"RSD PTR ");
    put(rsdp, 20, 4, 8);
    check(&memory);
    memory.pieces.iter_mut().find(|(at, _)| *at == RSDP.get()).unwrap().1.truncate(20);
    check(&memory);
}

#[test]
fn a_broken_definition_block_is_left_out_and_a_dsdt_that_does_not_add_up_is_used() {
    let signatures = |memory: &Memory| {
        let tables = Tables::new(memory, RSDP)?;
        let mut names = Vec::new();
        tables.each_definition_block(Fadt::find(&tables)?.dsdt, |table| {
            let named = table.map(|table| table.signature().to_string());
            names.push(named.unwrap_or_else(|error| error.to_string()));
            Ok::<_, TableError>(())
        })?;
        Ok::<_, TableError>(names)
    };
    let mut memory = machine(2);
    piece(&mut memory, b"SSDT")[37] ^= 1;
    let found = signatures(&memory).unwrap();
    assert_eq!(found.len(), 2);
    assert!(found[0] == "DSDT" && found[1].contains("has a bad checksum"), "{found:?}");
    piece(&mut memory, b"DSDT")[37] ^= 1;
    assert_eq!(signatures(&memory).unwrap(), found);
    // Its length is shorter than its header.
    piece(&mut memory, b"DSDT")[4] = 35;
    piece(&mut memory, b"SSDT")[37] ^= 1;
    let found = signatures(&memory).unwrap();
    assert!(found[0].contains("35") && found[1] == "SSDT", "{found:?}");
}

#[test]
fn a_broken_rsdp_is_refused() {
    // The first revision has the first checksum only.
    for (revision, offsets) in [(0, &[0, 7, 10, 16][..]), (2, &[0, 7, 15, 16, 25, 33])] {
        for &offset in offsets {
            let mut memory = machine(revision);
            piece(&mut memory, b"RSD PTR ")[offset] ^= 0x40;
            assert!(Tables::new(&memory, RSDP).is_err(), "revision {revision}, offset {offset}");
        }
    }
    for length in [0u64, 35, 4097, 0xFFFF_FFFF] {
        let mut memory = machine(2);
        let rsdp = piece(&mut memory, b"RSD PTR ");
        put(rsdp, 20, 4, length);
        fix(rsdp, 32);
        let error = Tables::new(&memory, RSDP).unwrap_err();
        let table = Signature(*b"RSD ");
        assert_eq!(error, TableError::Length { table, at: RSDP, length: length as u32 });
    }
    let nowhere = PhysAddr::new(u64::MAX - 4);
    assert_eq!(Tables::new(&machine(0), nowhere).unwrap_err(), TableError::Address(nowhere));
}

/// What the root of `machine` lists, after a change to its pointers.
fn listed(change: impl FnOnce(&mut Vec<u8>)) -> (usize, bool) {
    let mut memory = machine(2);
    let xsdt = piece(&mut memory, b"XSDT");
    change(xsdt);
    let length = xsdt.len() as u64;
    put(xsdt, 4, 4, length);
    fix(xsdt, 9);
    let tables = Tables::new(&memory, RSDP).unwrap();
    (tables.addresses().count(), Madt::find(&tables).unwrap().is_some())
}

#[test]
fn a_root_lists_its_whole_pointers_each_once_and_no_null() {
    assert_eq!(listed(|_| ()), (5, true));
    // Half of the last pointer, or of one more; a null pointer instead of that of the MADT.
    assert_eq!(listed(|xsdt| xsdt.truncate(xsdt.len() - 4)), (4, true));
    assert_eq!(listed(|xsdt| xsdt.extend([0x12, 0x34, 0x56])), (5, true));
    assert_eq!(listed(|xsdt| put(xsdt, 36, 8, 0)), (4, false));
    // The same tables twice; and so many that reading all would take for ever.
    assert_eq!(listed(|xsdt| xsdt.extend_from_within(36..)), (5, true));
    let many = |xsdt: &mut Vec<u8>| xsdt.extend((1..5000u64).flat_map(u64::to_le_bytes));
    assert_eq!(listed(many), (1024, true));
}

#[test]
fn a_broken_table_does_not_hide_a_sound_one_of_its_name() {
    let [first, second] = [3, 4].map(|id| firmware::madt(&[&firmware::io_apic(id, 0, 0)]));
    let found = |tables: &[Vec<u8>]| {
        let memory = firmware::memory(2, tables);
        let tables = Tables::new(&memory, RSDP).unwrap();
        let madt = Madt::find(&tables)?;
        Ok::<_, TableError>(madt.and_then(|madt| madt.io_apics().next()).map(|apic| apic.id))
    };
    assert_eq!(found(&[first.clone(), second.clone()]), Ok(Some(3)));
    let broken = |offset: usize| {
        let mut table = first.clone();
        table[offset] ^= 0x20;
        table
    };
    // Its sum, and its length.
    for offset in [20, 4] {
        assert_eq!(found(&[broken(offset), second.clone()]), Ok(Some(4)), "{offset}");
        assert_eq!(found(&[second.clone(), broken(offset)]), Ok(Some(4)), "{offset}");
        assert!(found(&[broken(offset)]).is_err());
    }
    // What the table holds, not only its frame: more records than any list has.
    let long = firmware::table(b"APIC", 3, &vec![0; 300 << 10]);
    assert_eq!(found(&[long, second]), Ok(Some(4)));
}

#[test]
fn every_definition_block_is_used_under_its_old_name_too() {
    let mut fadt = firmware::fadt(276);
    put(&mut fadt, 140, 8, 0x1000_0000);
    fix(&mut fadt, 9);
    let blocks = [b"SSDT", b"PSDT", b"SSDT"].map(|name| firmware::table(name, 2, b"terms"));
    let memory = firmware::memory(2, &[&[fadt][..], &blocks].concat());
    let tables = Tables::new(&memory, RSDP).unwrap();
    let mut names = Vec::new();
    let fadt = Fadt::find(&tables).unwrap();
    let all = tables.each_definition_block(fadt.dsdt, |table| {
        names.extend(table.map(|table| table.signature().to_string()));
        Ok::<_, TableError>(())
    });
    assert_eq!((all, names.join(" ")), (Ok(()), "SSDT PSDT SSDT".into()));
}

#[test]
fn tables_that_nothing_needs_and_pointers_into_nowhere_do_not_matter() {
    let madt = firmware::madt(&[&firmware::io_apic(3, 0, 0)]);
    // None of them adds up.
    let other = [b"HMAT", b"PPTT", b"SLIT", b"OEM0"].map(|name| [&name[..], &[0xFF; 60]].concat());
    let blocks: Vec<_> = (0..100u8)
        .map(|n| firmware::table(b"SSDT", 2, &[0x08, b'N', b'0', b'0' + n / 10, b'0' + n % 10, 1]))
        .collect();
    let mut fadt = firmware::fadt(276);
    put(&mut fadt, 140, 8, 0x1000_0000);
    fix(&mut fadt, 9);
    let mut memory = firmware::memory(2, &[&other[..], &[fadt, madt], &blocks].concat());
    memory.pieces.push((0x1000_0000, firmware::table(b"DSDT", 2, b"")));
    let xsdt = piece(&mut memory, b"XSDT");
    for absent in [0x4000_0000, u64::MAX, u64::MAX - 30] {
        xsdt.splice(36..36, absent.to_le_bytes());
    }
    let length = xsdt.len() as u64;
    put(xsdt, 4, 4, length);
    fix(xsdt, 9);
    let tables = Tables::new(&memory, RSDP).unwrap();
    assert!(Madt::find(&tables).unwrap().is_some());
    let mut found: Vec<&[u8]> = vec![];
    let each = tables.each_definition_block(Fadt::find(&tables).unwrap().dsdt, |table| {
        found.push(table?.bytes());
        Ok::<_, TableError>(())
    });
    assert_eq!((each, found.len()), (Ok(()), 101));
    let aml = Aml::load(
        &mut Controller::new(Layout::qemu(Space::SystemIo, 0xA00), 0),
        &found,
        Limits::DEFAULT,
    )
    .unwrap();
    assert!(aml.find("N000").is_some() && aml.find("N099").is_some());
    assert_eq!(aml.load_report().count(), 0);
}
