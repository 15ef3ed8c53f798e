//! ACPI tables of a guest's board (ACPI 6.5, chapter 5), in one piece of memory: no hardware of ACPI, no memory device.
//!
//! ```text
//!   RSDP --> XSDT --> FADT --> DSDT
//!                 \-> MADT, and others of the architecture
//! ```

/// Bytes of the header of each table.
pub(crate) const HEADER_BYTES: usize = 36;
/// Bytes of the RSDP, of which the first ones have a checksum of their own.
const RSDP_BYTES: usize = 36;
const FIRST_BYTES: usize = 20;
/// Where the first table goes: a multiple of 16, as each of them.
const BEGIN: usize = 0x30;
const UNIT: usize = 16;

/// Bytes of the FADT of revision 6, and where it names the DSDT (table 5.9).
const FADT_BYTES: usize = 276;
const FADT_DSDT: usize = 40;
pub(crate) const FADT_FLAGS: usize = 112;
const FADT_MINOR: usize = 131;
const FADT_X_DSDT: usize = 140;
/// No hardware of ACPI.
pub(crate) const HW_REDUCED: u32 = 1 << 20;

/// Tables in the making, `N` bytes from the physical address `at` on. What does not fit is lost, and that is noted.
pub(crate) struct Tables<const N: usize> {
    bytes: [u8; N],
    at: u64,
    end: usize,
    is_full: bool,
}

impl<const N: usize> Tables<N> {
    /// No table yet, and room for the RSDP.
    pub(crate) const fn new(at: u64) -> Self {
        Self { bytes: [0; N], at, end: BEGIN, is_full: false }
    }

    /// Adds a table of this name and revision with `parts` behind its header; returns its address.
    pub(crate) fn add(&mut self, name: [u8; 4], revision: u8, parts: &[&[u8]]) -> u64 {
        let (begin, mut at) = (self.end, self.end + HEADER_BYTES);
        for part in parts {
            self.put(at, part);
            at += part.len();
        }
        self.put(begin, &name);
        self.put(begin + 4, &((at - begin) as u32).to_le_bytes());
        self.put(begin + 8, &[revision]);
        self.put(begin + 10, b"HOTMEMGUEST   ");
        self.put(begin + 24, &1_u32.to_le_bytes());
        self.put(begin + 28, b"HTMM");
        self.put(begin + 32, &1_u32.to_le_bytes());
        self.add_up(begin, at - begin, begin + 9);
        self.end = at.next_multiple_of(UNIT);
        self.at + begin as u64
    }

    /// Adds the FADT, which names the DSDT, with what `fields` are, each by its offset in the table.
    pub(crate) fn add_fadt(&mut self, dsdt: u64, fields: &[(usize, &[u8])]) -> u64 {
        let mut body = [0; FADT_BYTES - HEADER_BYTES];
        let (narrow, wide) = ((dsdt as u32).to_le_bytes(), dsdt.to_le_bytes());
        let own: [(usize, &[u8]); 3] =
            [(FADT_DSDT, &narrow), (FADT_MINOR, &[5]), (FADT_X_DSDT, &wide)];
        for (at, field) in own.iter().chain(fields) {
            let slots = body.iter_mut().skip(at - HEADER_BYTES);
            slots.zip(*field).for_each(|(slot, byte)| *slot = *byte);
        }
        self.add(*b"FACP", 6, &[&body])
    }

    /// Adds the XSDT with the addresses of `tables`, and the RSDP at the beginning. `None` if there was no room for all.
    pub(crate) fn finish(&mut self, tables: &[u64]) -> Option<&[u8]> {
        let last = tables.len().checked_sub(1)?;
        let mut list = [0; 8 * 8];
        for (slot, table) in list.chunks_exact_mut(8).zip(tables) {
            slot.copy_from_slice(&table.to_le_bytes());
        }
        let xsdt = self.add(*b"XSDT", 1, &[list.get(..8 * (last + 1))?]);
        self.put(0, b"RSD PTR ");
        self.put(9, b"HOTMEM");
        self.put(15, &[2]);
        self.put(20, &(RSDP_BYTES as u32).to_le_bytes());
        self.put(24, &xsdt.to_le_bytes());
        self.add_up(0, FIRST_BYTES, 8);
        self.add_up(0, RSDP_BYTES, 32);
        if self.is_full { None } else { self.bytes.get(..self.end) }
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        match self.bytes.get_mut(at..at.saturating_add(bytes.len())) {
            Some(room) => room.copy_from_slice(bytes),
            None => self.is_full = true,
        }
    }

    /// Puts the byte at `sum` that makes the `bytes` from `at` on add up to 0.
    fn add_up(&mut self, at: usize, bytes: usize, sum: usize) {
        let all = self.bytes.iter().skip(at).take(bytes);
        let total = all.fold(0_u8, |total, byte| total.wrapping_add(*byte));
        self.put(sum, &[total.wrapping_neg()]);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    extern crate std;

    use super::*;

    pub(crate) fn number(bytes: &[u8], at: usize, length: usize) -> u64 {
        bytes[at..at + length].iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
    }

    fn sum(bytes: &[u8]) -> u8 {
        bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
    }

    /// The table of this name, found in `all` from the RSDP at the physical address `at` on, as a kernel does it.
    pub(crate) fn find<'a>(all: &'a [u8], at: u64, name: &[u8; 4]) -> &'a [u8] {
        let table = |address: u64| {
            let begin = (address - at) as usize;
            let table = &all[begin..begin + number(all, begin + 4, 4) as usize];
            assert!(sum(table) == 0 && begin.is_multiple_of(UNIT), "{address:#x}");
            table
        };
        assert_eq!(&all[..8], b"RSD PTR ");
        assert_eq!([sum(&all[..20]), sum(&all[..36]), all[15]], [0, 0, 2]);
        let xsdt = table(number(all, 24, 8));
        assert_eq!(&xsdt[..4], b"XSDT");
        let listed = xsdt[36..].chunks_exact(8).map(|entry| table(number(entry, 0, 8)));
        let fadt = listed.clone().find(|table| &table[..4] == b"FACP").unwrap();
        assert_eq!((fadt.len(), fadt[8]), (276, 6), "the length of its revision");
        assert_eq!(number(fadt, 40, 4), number(fadt, 140, 8));
        let dsdt = table(number(fadt, 140, 8));
        assert_eq!(&dsdt[..4], b"DSDT");
        listed.chain([dsdt]).find(|table| &table[..4] == name).unwrap()
    }

    #[test]
    fn what_does_not_fit_is_not_left_out_in_silence() {
        let mut small = Tables::<0x180>::new(0);
        let dsdt = small.add(*b"DSDT", 2, &[]);
        let fadt = small.add_fadt(dsdt, &[]);
        assert_eq!(small.finish(&[fadt]), None);
        assert_eq!(Tables::<0x200>::new(0).finish(&[]), None);
    }
}
