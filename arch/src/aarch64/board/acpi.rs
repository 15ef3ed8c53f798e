//! ACPI tables of a guest (ACPI 6.5, chapter 5): its CPUs, their interrupt controller, its serial port, and PSCI by HVC.

use super::gic::REDISTRIBUTOR_BYTES;
use super::{DISTRIBUTOR, MOST_CPUS, REDISTRIBUTOR, SERIAL, SERIAL_LINE};
use crate::common::tables::{FADT_FLAGS, HW_REDUCED, Tables};
use crate::contract::{Described, NoKernel, Put};
use hotmem_paging::addr::GuestRange;

/// Room for all tables.
const BYTES: usize = 0x800;

/// The Arm boot flags in the FADT (table 5.11): PSCI is there, by HVC.
const FADT_ARM_BOOT: usize = 129;
const ARM_BOOT: u16 = 0b11;

/// Bytes of a GICC (table 5.36), and where it has the CPU's number, that it is enabled, and its MPIDR.
const CPU_BYTES: usize = 80;
const CPU_UID: usize = 8;
const CPU_FLAGS: usize = 12;
const CPU_MPIDR: usize = 68;

/// A part of the MADT: kind, bytes, fields by their offsets.
fn part<const N: usize>(kind: u8, fields: &[(usize, &[u8])]) -> [u8; N] {
    let mut part = [0; N];
    for (at, field) in [(0, &[kind, N as u8][..])].iter().chain(fields) {
        part.iter_mut().skip(*at).zip(*field).for_each(|(slot, byte)| *slot = *byte);
    }
    part
}

/// The serial port (Microsoft, Serial Port Console Redirection Table): a PL011 at its address, whose interrupt is one of
/// the GIC.
fn console() -> [u8; 44] {
    let mut console = [0; 44];
    let fields: [(usize, &[u8]); 5] = [
        // Offsets in the table, which has a header of 36 bytes: kind, address, kind of interrupt, interrupt, 115,200 baud.
        (36, &[3]),
        (44, &SERIAL.to_le_bytes()),
        (52, &[1 << 3]),
        (54, &SERIAL_LINE.to_le_bytes()),
        (58, &[7]),
    ];
    for (at, field) in fields {
        let slots = console.iter_mut().skip(at - 36);
        slots.zip(field).for_each(|(slot, byte)| *slot = *byte);
    }
    console
}

/// The start info and the tables of a kernel that is not Linux lie at the beginning of the memory, below the kernel, in
/// pages of their own of any size.
const TABLES_BYTES: u64 = 64 << 10;
const START_INFO_BYTES: u64 = 64 << 10;

/// Describes the board to a kernel that begins with a start info: see
/// [`Guests::describe`](crate::contract::Guests::describe).
///
/// # Errors
///
/// [`NoKernel`]
pub fn describe(ram: GuestRange, cpus: usize, put: &mut Put<'_>) -> Result<Described, NoKernel> {
    let rsdp = ram.start();
    let written = with_tables(rsdp.get(), cpus, |tables| put(rsdp, tables));
    written.unwrap_or(Err(NoKernel("its ACPI tables have no room")))?;
    let part = |from: u64, bytes| {
        let start = ram.start().checked_add(from)?;
        GuestRange::new(start, bytes).filter(|part| ram.covers(*part))
    };
    let free = ram.len().saturating_sub(TABLES_BYTES);
    let parts =
        (part(0, TABLES_BYTES), part(TABLES_BYTES, START_INFO_BYTES), part(TABLES_BYTES, free));
    let (Some(tables), Some(start_info), Some(free)) = parts else {
        return Err(NoKernel("its tables do not fit the guest's memory"));
    };
    let none = (GuestRange::default(), false);
    let memory = [(tables, false), (free, true), none, none, none];
    Ok(Described { rsdp, start_info, memory })
}

/// Hands the tables to `use_them`, which are to be written at `at`; `None` if they have no room.
fn with_tables<R>(at: u64, cpus: usize, use_them: impl FnOnce(&[u8]) -> R) -> Option<R> {
    let mut tables = Tables::<BYTES>::new(at);
    let dsdt = tables.add(*b"DSDT", 2, &[]);
    let fields: [(usize, &[u8]); 2] =
        [(FADT_FLAGS, &HW_REDUCED.to_le_bytes()), (FADT_ARM_BOOT, &ARM_BOOT.to_le_bytes())];
    let fadt = tables.add_fadt(dsdt, &fields);
    let mut processors = [[0; CPU_BYTES]; MOST_CPUS];
    for (number, processor) in (0_u64..).zip(&mut processors) {
        let uid = (number as u32).to_le_bytes();
        let mpidr = number.to_le_bytes();
        *processor = part(11, &[(CPU_UID, &uid), (CPU_FLAGS, &[1]), (CPU_MPIDR, &mpidr)]);
    }
    let distributor: [u8; 24] = part(12, &[(8, &DISTRIBUTOR.to_le_bytes()), (20, &[3])]);
    let bytes = (REDISTRIBUTOR_BYTES as u32 * cpus as u32).to_le_bytes();
    let redistributors: [u8; 16] = part(14, &[(4, &REDISTRIBUTOR.to_le_bytes()), (12, &bytes)]);
    let processors = processors.get(..cpus)?.as_flattened();
    let madt = tables.add(*b"APIC", 5, &[&[0; 8], processors, &distributor, &redistributors]);
    let spcr = tables.add(*b"SPCR", 2, &[&console()]);
    tables.finish(&[fadt, madt, spcr]).map(use_them)
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use crate::common::tables::tests::{find, number};

    #[test]
    fn the_tables_name_one_cpu_its_controller_and_its_console() {
        let at = 0x4000_0000;
        let all = with_tables(at, 1, <[u8]>::to_vec).unwrap();
        let fadt = find(&all, at, b"FACP");
        assert_eq!((number(fadt, 129, 2), number(fadt, 112, 4)), (0b11, 1 << 20));
        let madt = find(&all, at, b"APIC");
        assert_eq!(madt.len(), 44 + 80 + 24 + 16);
        assert_eq!((&madt[44..46], madt[56], number(madt, 44 + 68, 8)), (&[11, 80][..], 1, 0));
        assert_eq!((&madt[124..126], number(madt, 132, 8)), (&[12, 24][..], DISTRIBUTOR));
        assert_eq!((&madt[148..150], number(madt, 152, 8)), (&[14, 16][..], REDISTRIBUTOR));
        let spcr = find(&all, at, b"SPCR");
        assert_eq!((spcr.len(), spcr[52], number(spcr, 54, 4)), (80, 8, 33));
        assert_eq!(number(spcr, 44, 8), SERIAL);
        assert_eq!(find(&all, at, b"DSDT").len(), 36, "no device, so no memory device");
    }

    #[test]
    fn each_cpu_has_an_entry_of_its_own() {
        let all = with_tables(0, 3, <[u8]>::to_vec).unwrap();
        let madt = find(&all, 0, b"APIC");
        assert_eq!(madt.len(), 44 + 3 * 80 + 24 + 16);
        assert_eq!((number(madt, 44 + 160 + 8, 4), number(madt, 44 + 160 + 68, 8)), (2, 2));
        assert_eq!(number(madt, madt.len() - 4, 4), 3 * REDISTRIBUTOR_BYTES);
        assert!(with_tables(0, MOST_CPUS, <[u8]>::len).is_some());
        assert_eq!(with_tables(0, MOST_CPUS + 1, <[u8]>::len), None);
    }
}
