//! The parsers on good tables, on tables broken in every way, and on tables with flipped bytes.

use std::format;
use std::string::ToString;
use std::vec;
use std::vec::Vec;

use hotmem::addr::{PhysAddr, PhysRange};
use hotmem_aml::Space;

use super::firmware::{self, Memory, RSDP, Random, fix, put};
use crate::{
    Block, Controller, Fadt, Madt, PowerOff, Signature, Slit, Spcr, Srat, Table, TableError, Tables,
};
use hotmem_hotplug::{Line, Polarity, Trigger};

/// A complete firmware with a MADT, a SRAT, a SLIT, a FADT and an SSDT.
pub(super) fn machine(revision: u8) -> Memory {
    let madt = firmware::madt(&[
        &[0, 8, 0, 0, 1, 0, 0, 0],
        &firmware::io_apic(0, 0xFEC0_0000, 0),
        &firmware::io_apic(1, 0xFEC0_1000, 24),
        &firmware::source_override(0, 2, 0),
        &firmware::source_override(9, 9, 0x0D),
    ]);
    let srat = firmware::srat(
        2,
        &[
            vec![0, 16, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            firmware::affinity(0, 0, 0xA_0000, 1),
            firmware::affinity(1, 0x10_0000, 0x1FF0_0000, 1),
            firmware::affinity(0, 0, 0, 0),
            firmware::affinity(2, 1 << 32, 8 << 30, 3),
        ],
    );
    let slit = firmware::table(b"SLIT", 1, &[2, 0, 0, 0, 0, 0, 0, 0, 10, 20, 20, 10]);
    let mut fadt = firmware::fadt(244);
    let dsdt = firmware::table(b"DSDT", 1, b"a block");
    put(&mut fadt, 40, 4, 0x1000_0000);
    fix(&mut fadt, 9);
    let ssdt = firmware::table(b"SSDT", 2, b"another");
    let mut memory = firmware::memory(revision, &[madt, srat, slit, fadt, ssdt]);
    memory.pieces.push((0x1000_0000, dsdt));
    memory
}

/// Everything the parsers have to say about a firmware.
fn survey(memory: &Memory) -> Result<usize, TableError> {
    let tables = Tables::new(memory, RSDP)?;
    let mut seen = tables.addresses().count();
    if let Some(madt) = Madt::find(&tables)? {
        seen += madt.io_apics().count() + madt.overrides().count() + madt.processors().count();
        seen += madt.local_apic().get() as usize & 1;
        seen += madt.isa_line(0).gsi as usize & 1;
    }
    if let Some(srat) = Srat::find(&tables)? {
        seen += srat.memory().count();
        let cpus = Madt::find(&tables)?;
        let cpus = cpus.iter().flat_map(Madt::processors);
        seen += cpus.filter(|cpu| srat.domain_of(cpu).is_some()).count();
    }
    if let Some(slit) = Slit::find(&tables)? {
        seen += slit.count() + usize::from(slit.distance(0, 1).unwrap_or(0));
    }
    let fadt = Fadt::find(&tables)?;
    tables.each_definition_block(fadt.dsdt, |table| {
        seen += table.map_or(1, |table| table.bytes().len());
        Ok::<_, TableError>(())
    })?;
    Ok(seen)
}

/// The piece of memory that holds the table `name`.
pub(super) fn piece<'a>(memory: &'a mut Memory, name: &[u8]) -> &'a mut Vec<u8> {
    let found = memory.pieces.iter_mut().find(|(_, bytes)| bytes.starts_with(name));
    &mut found.unwrap().1
}

/// Changes a field of a table, and its checksum to match.
pub(super) fn change(memory: &mut Memory, name: &[u8; 4], offset: usize, size: usize, value: u64) {
    let bytes = piece(memory, name);
    put(bytes, offset, size, value);
    fix(bytes, 9);
}

#[test]
fn the_cpus_of_a_madt_are_read_of_both_kinds_and_whether_they_may_be_used() {
    let x2apic = |id: u32, flags: u8| {
        let mut record = vec![9, 16, 0, 0];
        record.extend(id.to_le_bytes());
        record.extend([flags, 0, 0, 0, 7, 0, 0, 0]);
        record
    };
    let mut gicc = vec![0; 80];
    (gicc[0], gicc[1], gicc[12]) = (11, 80, 1);
    gicc[68..76].copy_from_slice(&0x2_0000_0103_u64.to_le_bytes());
    let records: &[&[u8]] = &[
        &[0, 8, 5, 3, 1, 0, 0, 0],
        &x2apic(0x1_0203, 1),
        &[0, 8, 6, 4, 2, 0, 0, 0],
        &x2apic(5, 0),
        &gicc,
        // One that is too short has no fields.
        &[0, 4, 7, 9],
    ];
    let memory = firmware::memory(2, &[firmware::madt(records)]);
    let madt = Madt::find(&Tables::new(&memory, RSDP).unwrap()).unwrap().unwrap();
    let found: Vec<_> = madt.processors().map(|cpu| (cpu.hardware, cpu.enabled)).collect();
    let gicc = (0x2_0000_0103, true);
    assert_eq!(found, [(3, true), (0x1_0203, true), (4, false), (5, false), gicc]);
}

#[test]
fn the_madt_lists_controllers_and_how_interrupts_are_wired() {
    let memory = machine(0);
    let tables = Tables::new(&memory, RSDP).unwrap();
    let madt = Madt::find(&tables).unwrap().unwrap();

    assert_eq!(madt.local_apic(), PhysAddr::new(0xFEE0_0000));
    let bases: Vec<_> = madt.io_apics().map(|apic| (apic.id, apic.gsi_base)).collect();
    assert_eq!(bases, [(0, 0), (1, 24)]);
    let (trigger, polarity) = (Trigger::Level, Polarity::ActiveHigh);
    assert_eq!(madt.sci_line(9), Line { gsi: 9, trigger, polarity });
    let (trigger, polarity) = (Trigger::Edge, Polarity::ActiveHigh);
    assert_eq!(madt.isa_line(0), Line { gsi: 2, trigger, polarity });
    assert_eq!(madt.isa_line(4), Line { gsi: 4, trigger, polarity });
    let (trigger, polarity) = (Trigger::Level, Polarity::ActiveLow);
    assert_eq!(madt.sci_line(10), Line { gsi: 10, trigger, polarity });
}

/// A MADT record of `kind` with `len` bytes and these fields (offset, size, value).
fn record(kind: u8, len: u8, fields: &[(usize, usize, u64)]) -> Vec<u8> {
    let mut bytes = vec![0; len.into()];
    (bytes[0], bytes[1]) = (kind, len);
    fields.iter().for_each(|&(offset, size, value)| put(&mut bytes, offset, size, value));
    bytes
}

#[test]
fn the_madt_lists_the_parts_of_a_gic() {
    let version_3_cpu = record(11, 80, &[(60, 8, 0x80a_0000)]);
    let version_2_cpu = record(11, 76, &[(32, 8, 0x801_0000)]);
    let distributor = record(12, 24, &[(8, 8, 0x800_0000), (20, 1, 3)]);
    let row = record(14, 16, &[(4, 8, 0x80a_0000), (12, 4, 0xf6_0000)]);
    let madt = firmware::madt(&[&version_3_cpu, &version_2_cpu, &distributor, &row]);
    let memory = firmware::memory(2, &[madt]);
    let tables = Tables::new(&memory, RSDP).unwrap();
    let madt = Madt::find(&tables).unwrap().unwrap();

    let at = PhysAddr::new;
    let range = PhysRange::new(at(0x80a_0000), 0xf6_0000).unwrap();
    let found: Vec<_> = madt.controllers().skip(1).collect();
    let wanted = [
        Controller::GicCpuInterface { at: at(0x801_0000) },
        Controller::GicDistributor { at: at(0x800_0000), version: 3 },
        Controller::GicRedistributors { range },
    ];
    assert_eq!(found, wanted);

    // A record that is too short for its fields is left out.
    let short = firmware::madt(&[&record(12, 20, &[]), &version_2_cpu]);
    let short = firmware::memory(2, &[short]);
    let madt = Madt::find(&Tables::new(&short, RSDP).unwrap()).unwrap().unwrap();
    assert_eq!(madt.controllers().skip(1).collect::<Vec<_>>(), [wanted[0]]);
}

#[test]
fn the_spcr_names_the_line_of_the_console() {
    for (kind, line) in [(0x08, Some(33)), (0x02, Some(33)), (0x01, None), (0, None)] {
        let mut body = [0; 44];
        put(&mut body, 52 - 36, 1, kind);
        put(&mut body, 54 - 36, 4, 33);
        let memory = firmware::memory(2, &[firmware::table(b"SPCR", 2, &body)]);
        let tables = Tables::new(&memory, RSDP).unwrap();
        let found = Spcr::find(&tables).unwrap().unwrap().line();
        assert_eq!(found.map(|line| line.gsi), line);
        assert!(found.is_none_or(|line| line.trigger == Trigger::Level));
    }
    let memory = firmware::memory(2, &[firmware::table(b"SPCR", 2, &[0; 8])]);
    assert!(Spcr::find(&Tables::new(&memory, RSDP).unwrap()).is_err());
}

#[test]
fn the_fadt_says_how_psci_is_called() {
    let ways =
        [(0, PowerOff::No), (1, PowerOff::PsciSmc), (3, PowerOff::PsciHvc), (2, PowerOff::No)];
    for (flags, way) in ways {
        let mut fadt = firmware::fadt(276);
        put(&mut fadt, 140, 8, 0x1000_0000);
        put(&mut fadt, 129, 2, flags);
        fix(&mut fadt, 9);
        let memory = firmware::memory(2, &[fadt]);
        let tables = Tables::new(&memory, RSDP).unwrap();
        assert_eq!(Fadt::find(&tables).unwrap().power_off, way);
    }
}

#[test]
fn a_local_apic_address_record_replaces_the_field() {
    let mut record = vec![5, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    put(&mut record, 4, 8, 0x12_3456_7000);
    let memory = firmware::memory(2, &[firmware::madt(&[&record])]);
    let tables = Tables::new(&memory, RSDP).unwrap();
    let madt = Madt::find(&tables).unwrap().unwrap();
    assert_eq!(madt.local_apic(), PhysAddr::new(0x12_3456_7000));
}

#[test]
fn the_srat_leaves_out_disabled_and_empty_ranges() {
    let memory = machine(2);
    let tables = Tables::new(&memory, RSDP).unwrap();
    let srat = Srat::find(&tables).unwrap().unwrap();

    let entries: Vec<_> = srat.memory().map(|e| (e.domain, e.range.len())).collect();
    assert_eq!(entries, [(0, 0xA_0000), (1, 0x1FF0_0000), (2, 8 << 30)]);

    // Ranges that overlap are returned as they are, and so is a domain that no machine has.
    let records =
        [firmware::affinity(4_000_000_000, 0, 1 << 30, 1), firmware::affinity(1, 0, 1 << 20, 1)];
    let memory = firmware::memory(2, &[firmware::srat(2, &records)]);
    let tables = Tables::new(&memory, RSDP).unwrap();
    let entries: Vec<_> = Srat::find(&tables).unwrap().unwrap().memory().collect();
    assert_eq!(entries.iter().map(|e| e.domain).collect::<Vec<_>>(), [4_000_000_000, 1]);
    assert_eq!(crate::node_of(4_000_000_000).get(), 0);
}

#[test]
fn an_old_srat_has_one_byte_of_domain() {
    let entry = firmware::affinity(0xAABB_CC07, 0, 4096, 1);
    for (revision, domain) in [(1, 7), (2, 0xAABB_CC07)] {
        let memory =
            firmware::memory(0, &[firmware::srat(revision, core::slice::from_ref(&entry))]);
        let tables = Tables::new(&memory, RSDP).unwrap();
        let srat = Srat::find(&tables).unwrap().unwrap();
        assert_eq!(srat.memory().next().unwrap().domain, domain);
    }
}

#[test]
fn a_range_that_passes_the_end_of_memory_costs_itself() {
    for flags in [3, 2] {
        let entry = firmware::affinity(0, u64::MAX - 4095, 8192, flags);
        let good = firmware::affinity(1, 0x1000, 0x1000, 1);
        let memory = firmware::memory(0, &[firmware::srat(2, &[entry, good])]);
        let tables = Tables::new(&memory, RSDP).unwrap();
        let srat = Srat::find(&tables).unwrap().unwrap();
        assert_eq!(srat.memory().map(|entry| entry.domain).collect::<Vec<_>>(), [1]);
    }
}

#[test]
fn a_fadt_of_the_first_revision_has_ports_only() {
    let memory = firmware::memory(0, &[firmware::fadt(116)]);
    let fadt = Fadt::find(&Tables::new(&memory, RSDP).unwrap()).unwrap();
    let block = |address, len| Some(Block { space: Space::SystemIo, address, len });
    assert_eq!(fadt.sci, Some(9));
    assert_eq!(fadt.pm1_event, [block(0x600, 4), None]);
    assert_eq!(fadt.pm1_control, [block(0x604, 2), None]);
    assert_eq!(fadt.gpe, [block(0x620, 16), None]);
    assert_eq!(fadt.enable.map(|enable| (enable.port, enable.value)), Some((0xB2, 2)));
}

#[test]
fn a_generic_address_replaces_the_port_unless_it_is_null() {
    let mut bytes = firmware::fadt(276);
    bytes[220] = 0;
    put(&mut bytes, 224, 8, 0xFED0_0000);
    put(&mut bytes, 140, 8, 0x1_2345_0000);
    fix(&mut bytes, 9);
    let memory = firmware::memory(2, &[bytes]);
    let fadt = Fadt::find(&Tables::new(&memory, RSDP).unwrap()).unwrap();
    let (space, address) = (Space::SystemMemory, 0xFED0_0000);
    assert_eq!(fadt.gpe[0], Some(Block { space, address, len: 16 }));
    assert_eq!(fadt.pm1_control[0].map(|block| block.address), Some(0x604));
    assert_eq!(fadt.dsdt, PhysAddr::new(0x1_2345_0000));
}

#[test]
fn a_hardware_reduced_machine_has_no_fixed_hardware() {
    let mut bytes = firmware::fadt(276);
    put(&mut bytes, 112, 4, 1 << 20);
    fix(&mut bytes, 9);
    let memory = firmware::memory(2, &[bytes]);
    let fadt = Fadt::find(&Tables::new(&memory, RSDP).unwrap()).unwrap();
    assert!(fadt.hardware_reduced);
    assert_eq!((fadt.sci, fadt.gpe, fadt.enable), (None, [None; 2], None));
}

#[test]
fn registers_that_cannot_exist_cost_their_block_and_no_other() {
    let fadt = |edits: &[(usize, usize, u64)]| {
        let mut memory = machine(2);
        for &(offset, size, value) in edits {
            change(&mut memory, b"FACP", offset, size, value);
        }
        let tables = Tables::new(&memory, RSDP).unwrap();
        Fadt::find(&tables)
    };
    let gpe = |edits: &[(usize, usize, u64)]| fadt(edits).unwrap().gpe.map(|block| block.is_some());
    let second = [(84, 4, 0x700), (93, 1, 4), (94, 1, 0x80)];
    assert_eq!((gpe(&[]), gpe(&second)), ([true, false], [true, true]));
    // A port past 64 KiB, an odd block, an address space without registers, one that wraps.
    let wraps = [(220, 1, 0), (224, 8, u64::MAX - 3)];
    for first in [&[(80, 4, 0xFFF8)][..], &[(92, 1, 15)], &[(220, 1, 2), (224, 8, 0x800)], &wraps] {
        let both: Vec<_> = first.iter().chain(&second).copied().collect();
        assert_eq!(gpe(&both), [false, true], "{first:?}");
        assert!(fadt(&both).unwrap().pm1_control[0].is_some());
    }
    // Events past 255, and a second block that overlaps the first.
    for base in [0xF8, 0x10] {
        assert_eq!(gpe(&[(84, 4, 0x700), (93, 1, 4), (94, 1, base)]), [true, false], "{base:#x}");
    }
    // The machine may be in ACPI mode already.
    let command = fadt(&[(48, 4, 0x1_0000)]).unwrap();
    assert!(command.enable.is_none() && command.gpe[0].is_some());
}

#[test]
fn a_table_that_is_not_what_it_says_is_refused() {
    let at = PhysAddr::new(0x1FFE_0000);
    let table = Signature(*b"APIC");

    let mut memory = machine(0);
    piece(&mut memory, b"APIC")[20] ^= 0x10;
    let sum = TableError::Checksum { table, at, sum: 0x10 };
    assert_eq!(survey(&memory), Err(sum));
    assert_eq!(sum.to_string(), "APIC at 0x1ffe0000 has a bad checksum: bytes add up to 0x10");

    for length in [0, 35, 43, 0xFFFF_FFFF] {
        let mut memory = machine(0);
        put(piece(&mut memory, b"APIC"), 4, 4, length);
        let length = length as u32;
        assert_eq!(survey(&memory), Err(TableError::Length { table, at, length }));
    }

    let mut memory = machine(0);
    put(piece(&mut memory, b"APIC"), 4, 4, 4096);
    assert!(matches!(survey(&memory), Err(TableError::Unreadable(range)) if range.len() == 4096));

    let mut memory = machine(0);
    change(&mut memory, b"FACP", 40, 4, 0x1FFE_0000);
    let tables = Tables::new(&memory, RSDP).unwrap();
    let mut first = None;
    let result = tables.each_definition_block(Fadt::find(&tables).unwrap().dsdt, |table| {
        first = first.take().or(Some(table.map(|table| table.signature())));
        Ok::<_, TableError>(())
    });
    let wrong =
        |error: TableError| matches!(error, TableError::Signature { found, .. } if found == table);
    assert!(result.is_ok() && first.unwrap().is_err_and(wrong));
}

#[test]
fn a_record_that_does_not_fit_costs_itself_and_what_follows() {
    let good = firmware::io_apic(3, 0xFEC0_0000, 0);
    // The last is cut off between its kind and its length.
    for broken in [&[1, 0][..], &[1, 1], &[2, 10], &[9, 200], &[9]] {
        let memory = firmware::memory(0, &[firmware::madt(&[&good, broken])]);
        let tables = Tables::new(&memory, RSDP).unwrap();
        let madt = Madt::find(&tables).unwrap().unwrap();
        assert_eq!(madt.io_apics().map(|apic| apic.id).collect::<Vec<_>>(), [3], "{broken:?}");
        assert_eq!(madt.overrides().count(), 0);
    }
}

#[test]
fn reserved_trigger_and_polarity_encodings_leave_the_interrupt_as_its_bus_has_it() {
    for flags in [0b0010, 0b1000] {
        let record = firmware::source_override(9, 20, flags);
        let memory = firmware::memory(0, &[firmware::madt(&[&record])]);
        let tables = Tables::new(&memory, RSDP).unwrap();
        let line = Madt::find(&tables).unwrap().unwrap().sci_line(9);
        let (trigger, polarity) = (Trigger::Level, Polarity::ActiveLow);
        assert_eq!(line, Line { gsi: 20, trigger, polarity });
    }
}

#[test]
fn flipped_bytes_never_panic_and_never_pass_unnoticed() {
    let good = survey(&machine(2)).unwrap();
    let mut random = Random(0x4855_4E47_5259);
    for run in 0..20_000 {
        let mut memory = machine(2);
        let count = memory.pieces.len();
        let bytes = &mut memory.pieces[random.below(count)].1;
        let (ssdt, dsdt) = (bytes.ends_with(b"another"), bytes.ends_with(b"a block"));
        let at = random.below(bytes.len());
        bytes[at] ^= 1 << random.below(8);
        // A flip in the name of an optional table hides the table; a flip in an SSDT leaves that SSDT out; a
        // flip in the DSDT is logged and the DSDT is used. Every other flip must be an error.
        let costs = |seen| (at < 4 || ssdt) && seen < good || dsdt && seen <= good;
        match survey(&memory) {
            Err(_) => {}
            Ok(seen) => assert!(costs(seen), "run {run}: byte {at} of a table"),
        }
    }
}

#[test]
fn flipped_bytes_behind_a_good_checksum_never_panic() {
    let mut random = Random(0xC0FF_EE00);
    let mut errors = 0;
    for _ in 0..50_000 {
        let mut memory = machine(2);
        let count = memory.pieces.len() - 1;
        let bytes = &mut memory.pieces[random.below(count)].1;
        for _ in 0..=random.below(4) {
            let at = random.below(bytes.len());
            bytes[at] = random.below(256) as u8;
        }
        fix(bytes, 9);
        errors += usize::from(survey(&memory).is_err());
    }
    assert!(errors > 10_000, "only {errors} of 50000 were refused");
}

#[test]
fn a_field_behind_the_end_of_its_table_is_none() {
    let memory = firmware::memory(0, &[firmware::table(b"SSDT", 1, &[1, 2])]);
    let at = PhysAddr::new(0x1FFE_0000);
    let table = Table::read(&memory, at, Signature(*b"SSDT"), 0).unwrap();
    assert_eq!(table.field(36, 2), Some(0x201));
    assert_eq!(table.field(36, 3), None);
    assert_eq!(table.field(usize::MAX, 2), None);
    assert!(format!("{table:?}").contains("Table"));
}
