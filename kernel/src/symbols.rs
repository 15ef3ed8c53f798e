//! The symbol table inside the image, filled in after linking.
//!
//! ```text
//!   +0 "KSYM"   +4 count u32   +8 count entries { address u64, name offset u32, name bytes u32 }   names
//! ```
//!
//! Little-endian, entries sorted by address, offsets from the start of the table. It is read while the kernel
//! panics, so every offset is checked.

/// Bytes before the first entry.
const HEADER: usize = 8;
/// Bytes of an entry.
const ENTRY: usize = 16;

/// A symbol table.
#[derive(Clone, Copy, Debug)]
pub struct Symbols<'t> {
    table: &'t [u8],
    count: usize,
}

/// The function an address lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Symbol<'t> {
    /// The function's name, demangled.
    pub name: &'t str,
    /// Bytes from the function's start to the address.
    pub offset: u64,
}

impl<'t> Symbols<'t> {
    /// Reads a table; a missing or truncated one counts as empty.
    pub fn new(table: &'t [u8]) -> Self {
        let claimed = if table.starts_with(b"KSYM") { u32_at(table, 4).unwrap_or(0) } else { 0 };
        let room = table.len().saturating_sub(HEADER) / ENTRY;
        Self { table, count: (claimed as usize).min(room) }
    }

    /// The function with the highest start at or below `address`.
    pub fn find(&self, address: u64) -> Option<Symbol<'t>> {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.start(middle)? <= address {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let index = low.checked_sub(1)?;
        let at = HEADER + index * ENTRY;
        let name = u32_at(self.table, at + 8)? as usize;
        let end = name.checked_add(u32_at(self.table, at + 12)? as usize)?;
        let name = core::str::from_utf8(self.table.get(name..end)?).ok()?;
        Some(Symbol { name, offset: address - self.start(index)? })
    }

    fn start(&self, index: usize) -> Option<u64> {
        let bytes = self.table.get(HEADER + index * ENTRY..)?.first_chunk()?;
        Some(u64::from_le_bytes(*bytes))
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(symbols: &[(u64, &str)]) -> Vec<u8> {
        let mut bytes = b"KSYM".to_vec();
        bytes.extend((symbols.len() as u32).to_le_bytes());
        let mut name = HEADER + symbols.len() * ENTRY;
        for (address, text) in symbols {
            bytes.extend(address.to_le_bytes());
            bytes.extend((name as u32).to_le_bytes());
            bytes.extend((text.len() as u32).to_le_bytes());
            name += text.len();
        }
        for (_, text) in symbols {
            bytes.extend(text.as_bytes());
        }
        bytes
    }

    #[test]
    fn an_address_belongs_to_the_last_function_that_starts_before_it() {
        let bytes = table(&[(0x100, "a::first"), (0x200, "second"), (0x300, "third")]);
        let symbols = Symbols::new(&bytes);
        assert_eq!(symbols.find(0xff), None);
        assert_eq!(symbols.find(0x100), Some(Symbol { name: "a::first", offset: 0 }));
        assert_eq!(symbols.find(0x2ff), Some(Symbol { name: "second", offset: 0xff }));
        assert_eq!(symbols.find(u64::MAX).map(|found| found.name), Some("third"));
    }

    #[test]
    fn a_table_that_was_not_filled_in_is_empty() {
        assert_eq!(Symbols::new(&[0; 4096]).find(0x100), None);
        assert_eq!(Symbols::new(b"KSYM").find(0x100), None);
        assert_eq!(Symbols::new(&[]).find(0), None);
    }

    #[test]
    fn no_corruption_reads_out_of_bounds() {
        let bytes = table(&[(0x100, "one"), (0x200, "two")]);
        for at in 0..bytes.len() {
            for value in [0, 0x7f, 0x80, 0xff] {
                let mut bytes = bytes.clone();
                bytes[at] = value;
                for length in [at, bytes.len()] {
                    let _ = Symbols::new(&bytes[..length]).find(0x180);
                }
            }
        }
    }
}
