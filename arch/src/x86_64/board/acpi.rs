//! ACPI tables of a guest: its CPUs, and how to turn the machine off and restart it.

use super::apic::MOST_CPUS;
use crate::common::tables::{self, FADT_FLAGS, HW_REDUCED};

/// Where the tables are, from the RSDP on: below 1 MiB, where firmware has them.
pub(crate) const AT: u64 = 0xe_0000;

/// The ports of the FADT: sleep control and status, and reset.
pub(crate) const SLEEP_CONTROL: u16 = 0x600;
pub(crate) const SLEEP_STATUS: u16 = 0x601;
pub(crate) const RESET: u16 = 0x602;
/// In the sleep control: enter the state.
pub(crate) const SLEEP_ENABLE: u8 = 1 << 5;
pub(crate) const RESET_VALUE: u8 = 1;

/// Room for all tables.
const BYTES: usize = 0x400;
const LOCAL_APIC_AT: u32 = 0xfee0_0000;

// Fields of the FADT (table 5.9), by offset.
const FADT_BOOT: usize = 109;
const FADT_RESET: usize = 116;
const FADT_RESET_VALUE: usize = 128;
const FADT_SLEEP_CONTROL: usize = 244;
const FADT_SLEEP_STATUS: usize = 256;
/// No VGA, no MSI.
const BOOT: u16 = 1 << 2 | 1 << 3;
/// WBINVD works, the reset register is there, and no other hardware.
const FLAGS: u32 = 1 | 1 << 10 | HW_REDUCED;

/// `Name (_S5, Package () {5, 0, 0, 0})`: the number that turns the machine off.
const OFF: [u8; 13] = *b"\x08_S5_\x12\x07\x04\x0a\x05\0\0\0";
/// The local APIC (5.2.12.2) of CPU `number`, which is enabled.
const fn local_apic(number: u8) -> [u8; 8] {
    [0, 8, number, number, 1, 0, 0, 0]
}

/// A generic address of one byte in port space.
const fn port(at: u16) -> [u8; 12] {
    let [low, high] = at.to_le_bytes();
    [1, 8, 0, 1, low, high, 0, 0, 0, 0, 0, 0]
}

/// Hands the tables of a guest with `cpus` CPUs to `use_them`, which are to be written at [`AT`]; `None` if they have no room.
pub(crate) fn with_tables<R>(cpus: usize, use_them: impl FnOnce(&[u8]) -> R) -> Option<R> {
    let mut tables = tables::Tables::<BYTES>::new(AT);
    let dsdt = tables.add(*b"DSDT", 2, &[&OFF]);
    let fields: [(usize, &[u8]); 6] = [
        (FADT_BOOT, &BOOT.to_le_bytes()),
        (FADT_FLAGS, &FLAGS.to_le_bytes()),
        (FADT_RESET, &port(RESET)),
        (FADT_RESET_VALUE, &[RESET_VALUE]),
        (FADT_SLEEP_CONTROL, &port(SLEEP_CONTROL)),
        (FADT_SLEEP_STATUS, &port(SLEEP_STATUS)),
    ];
    let fadt = tables.add_fadt(dsdt, &fields);
    let apics: [[u8; 8]; MOST_CPUS] = core::array::from_fn(|number| local_apic(number as u8));
    let apics = apics.get(..cpus)?.as_flattened();
    let madt = tables.add(*b"APIC", 5, &[&LOCAL_APIC_AT.to_le_bytes(), &[0; 4], apics]);
    tables.finish(&[fadt, madt]).map(use_them)
}

#[cfg(test)]
mod tests;
