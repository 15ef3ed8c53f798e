//! The list of guests.

use core::fmt::{self, Write};
use hotmem::BlockId;
use hotmem_vm::{Figures, VmStatus};

/// A list of blocks with their bytes, as JSON.
struct Blocks<'a>(&'a [(BlockId, u64)]);

impl fmt::Display for Blocks<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('[')?;
        for (index, (block, bytes)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{{\"block\":{},\"bytes\":{bytes}}}", block.get())?;
        }
        f.write_char(']')
    }
}

/// Writes the guests as JSON. A checksum is a string, since it has 64 bits.
pub(super) fn json(guests: impl Iterator<Item = VmStatus>, out: &mut dyn Write) -> fmt::Result {
    out.write_char('[')?;
    for (index, guest) in guests.enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let VmStatus { name, state, cpu, bytes, .. } = guest;
        let Figures { rounds, wrong_words, checksum, longest_gap, exits, waits } = guest.figures;
        write!(out, "{comma}{{\"name\":\"{name}\",\"state\":\"{state}\",\"cpu\":{cpu}")?;
        write!(out, ",\"bytes\":{bytes},\"blocks\":{}", Blocks(&guest.blocks))?;
        write!(out, ",\"table_blocks\":{}", Blocks(&guest.table_blocks))?;
        write!(out, ",\"rounds\":{rounds},\"wrong_words\":{wrong_words}")?;
        write!(out, ",\"checksum\":\"{checksum:#018x}\",\"longest_gap\":{longest_gap}")?;
        write!(out, ",\"longest_pause\":{},\"exits\":{exits}", guest.longest_pause)?;
        write!(out, ",\"waits\":{waits},\"pages_moved\":{}", guest.pages_moved)?;
        write!(out, ",\"tables_moved\":{}}}", guest.tables_moved)?;
    }
    writeln!(out, "]")
}

/// Writes the guests as text.
pub(super) fn text(guests: impl Iterator<Item = VmStatus>, out: &mut dyn Write) -> fmt::Result {
    for guest in guests {
        let VmStatus { name, state, cpu, bytes, .. } = guest;
        let Figures { rounds, wrong_words, checksum, longest_gap, .. } = guest.figures;
        writeln!(out, "{name}: {state} on CPU {cpu}, {} MiB", bytes >> 20)?;
        for (block, bytes) in &guest.blocks {
            writeln!(out, "  {block} holds {} KiB", bytes >> 10)?;
        }
        writeln!(out, "  {rounds} rounds, {wrong_words} wrong words, checksum {checksum:#018x}")?;
        let VmStatus { pages_moved, tables_moved, longest_pause, .. } = guest;
        writeln!(out, "  {pages_moved} pages and {tables_moved} tables moved")?;
        writeln!(
            out,
            "  longest pause {longest_pause} instructions, longest gap {longest_gap} ticks"
        )?;
    }
    Ok(())
}
