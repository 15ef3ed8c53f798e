//! ACPI tables of a guest (ACPI 6.5, chapter 5): one CPU, no hardware of ACPI, no memory device.
//!
//! ```text
//!   RSDP --> XSDT --> FADT --> DSDT: only how to turn the machine off
//!                 \-> MADT: one local APIC
//! ```

/// Where the tables are, from the RSDP on: below 1 MiB, where firmware has them.
pub(crate) const AT: u64 = 0xe_0000;

/// The ports of the FADT: sleep control and status, and reset.
pub(crate) const SLEEP_CONTROL: u16 = 0x600;
pub(crate) const SLEEP_STATUS: u16 = 0x601;
pub(crate) const RESET: u16 = 0x602;
/// In the sleep control: enter the state.
pub(crate) const SLEEP_ENABLE: u8 = 1 << 5;
pub(crate) const RESET_VALUE: u8 = 1;

const RSDP: usize = 0;
const RSDP_BYTES: usize = 36;
const XSDT: usize = 0x30;
const FADT: usize = 0x70;
const FADT_BYTES: usize = 276;
const MADT: usize = 0x190;
const DSDT: usize = 0x1d0;
/// Bytes of all tables.
pub(crate) const BYTES: usize = 0x210;

const HEADER_BYTES: usize = 36;
const LOCAL_APIC_AT: u32 = 0xfee0_0000;

// Fields of the FADT (table 5.9), by offset.
const FADT_DSDT: usize = 40;
const FADT_BOOT: usize = 109;
const FADT_FLAGS: usize = 112;
const FADT_RESET: usize = 116;
const FADT_RESET_VALUE: usize = 128;
const FADT_MINOR: usize = 131;
const FADT_X_DSDT: usize = 140;
const FADT_SLEEP_CONTROL: usize = 244;
const FADT_SLEEP_STATUS: usize = 256;
/// No VGA, no MSI.
const BOOT: u16 = 1 << 2 | 1 << 3;
/// WBINVD works, the reset register is there, and no other hardware.
const FLAGS: u32 = 1 | 1 << 10 | 1 << 20;

/// `Name (_S5, Package () {5, 0, 0, 0})`: the number that turns the machine off.
const OFF: [u8; 13] = *b"\x08_S5_\x12\x07\x04\x0a\x05\0\0\0";
/// A local APIC (5.2.12.2): CPU 0, APIC 0, enabled.
const LOCAL_APIC: [u8; 8] = [0, 8, 0, 0, 1, 0, 0, 0];

/// A generic address of one byte in port space.
const fn port(at: u16) -> [u8; 12] {
    let [low, high] = at.to_le_bytes();
    [1, 8, 0, 1, low, high, 0, 0, 0, 0, 0, 0]
}

/// The physical address of what is at `offset`.
const fn address(offset: usize) -> u64 {
    AT + offset as u64
}

/// The tables.
pub(crate) struct Tables([u8; BYTES]);

impl Tables {
    /// The tables, which are to be written at [`AT`].
    pub(crate) fn new() -> Self {
        let mut tables = Self([0; BYTES]);
        tables.fill_rsdp();
        tables.put(XSDT + HEADER_BYTES, &address(FADT).to_le_bytes());
        tables.put(XSDT + HEADER_BYTES + 8, &address(MADT).to_le_bytes());
        tables.finish(XSDT, *b"XSDT", 1, HEADER_BYTES + 16);
        tables.fill_fadt();
        tables.put(MADT + HEADER_BYTES, &LOCAL_APIC_AT.to_le_bytes());
        tables.put(MADT + HEADER_BYTES + 8, &LOCAL_APIC);
        tables.finish(MADT, *b"APIC", 5, HEADER_BYTES + 8 + LOCAL_APIC.len());
        tables.put(DSDT + HEADER_BYTES, &OFF);
        tables.finish(DSDT, *b"DSDT", 2, HEADER_BYTES + OFF.len());
        tables
    }

    /// Their bytes.
    pub(crate) const fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        let slots = self.0.iter_mut().skip(at);
        slots.zip(bytes).for_each(|(slot, byte)| *slot = *byte);
    }

    /// Puts the byte at `sum` that makes the `bytes` from `at` on add up to 0.
    fn add_up(&mut self, at: usize, bytes: usize, sum: usize) {
        let all = self.0.iter().skip(at).take(bytes);
        let total = all.fold(0_u8, |total, byte| total.wrapping_add(*byte));
        self.put(sum, &[total.wrapping_neg()]);
    }

    /// Writes the header of a table whose content is there.
    fn finish(&mut self, at: usize, name: [u8; 4], revision: u8, bytes: usize) {
        self.put(at, &name);
        self.put(at + 4, &(bytes as u32).to_le_bytes());
        self.put(at + 8, &[revision]);
        self.put(at + 10, b"HOTMEMGUEST   ");
        self.put(at + 24, &1_u32.to_le_bytes());
        self.put(at + 28, b"HTMM");
        self.put(at + 32, &1_u32.to_le_bytes());
        self.add_up(at, bytes, at + 9);
    }

    fn fill_rsdp(&mut self) {
        self.put(RSDP, b"RSD PTR ");
        self.put(RSDP + 9, b"HOTMEM");
        self.put(RSDP + 15, &[2]);
        self.put(RSDP + 20, &(RSDP_BYTES as u32).to_le_bytes());
        self.put(RSDP + 24, &address(XSDT).to_le_bytes());
        self.add_up(RSDP, 20, RSDP + 8);
        self.add_up(RSDP, RSDP_BYTES, RSDP + 32);
    }

    fn fill_fadt(&mut self) {
        let dsdt = address(DSDT);
        self.put(FADT + FADT_DSDT, &(dsdt as u32).to_le_bytes());
        self.put(FADT + FADT_BOOT, &BOOT.to_le_bytes());
        self.put(FADT + FADT_FLAGS, &FLAGS.to_le_bytes());
        self.put(FADT + FADT_RESET, &port(RESET));
        self.put(FADT + FADT_RESET_VALUE, &[RESET_VALUE]);
        self.put(FADT + FADT_MINOR, &[5]);
        self.put(FADT + FADT_X_DSDT, &dsdt.to_le_bytes());
        self.put(FADT + FADT_SLEEP_CONTROL, &port(SLEEP_CONTROL));
        self.put(FADT + FADT_SLEEP_STATUS, &port(SLEEP_STATUS));
        self.finish(FADT, *b"FACP", 6, FADT_BYTES);
    }
}

#[cfg(test)]
mod tests;
