//! The list of guests.

use core::fmt::{self, Write};
use core::ops::Range;
use hotmem::BlockId;
use hotmem_hotplug::{json_list, shown};
use hotmem_vm::{Figures, Moved, VcpuStatus, VmStatus};

/// A list of blocks with their bytes, as JSON.
fn blocks(blocks: &[(BlockId, u64)]) -> impl fmt::Display {
    shown(move |f| {
        json_list(f, blocks, |(block, bytes), out| {
            write!(out, "{{\"block\":{},\"bytes\":{bytes}}}", block.get())
        })
    })
}

/// Virtual CPUs with their figures, as JSON.
fn vcpus(vcpus: &[VcpuStatus]) -> impl fmt::Display {
    shown(move |f| {
        json_list(f, vcpus, |vcpu, out| {
            write!(out, "{{\"cpu\":{},\"power\":\"{}\"", vcpu.cpu, vcpu.power.name())?;
            figures(&vcpu.figures, out)?;
            out.write_char('}')
        })
    })
}

/// Writes figures as members of a JSON object.
fn figures(figures: &Figures, out: &mut dyn Write) -> fmt::Result {
    let Figures { rounds, wrong_words, checksum, longest_gap, longest_stop, .. } = figures;
    let Figures { longest_move, exits, waits, .. } = figures;
    write!(out, ",\"rounds\":{rounds},\"wrong_words\":{wrong_words}")?;
    write!(out, ",\"checksum\":\"{checksum:#018x}\",\"longest_gap\":{longest_gap}")?;
    write!(out, ",\"longest_stop\":{longest_stop},\"longest_move\":{longest_move}")?;
    write!(out, ",\"exits\":{exits},\"waits\":{waits}")
}

/// The CPUs that virtual CPUs are pinned to.
struct Pins<'a>(&'a [VcpuStatus]);

impl fmt::Display for Pins<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.len() == 1 { "CPU" } else { "CPUs" })?;
        self.0.iter().enumerate().try_for_each(|(index, vcpu)| {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma} {}", vcpu.cpu)
        })
    }
}

/// Writes the guests as JSON. A checksum is a string, since it has 64 bits.
pub(super) fn json(guests: impl Iterator<Item = VmStatus>, out: &mut dyn Write) -> fmt::Result {
    json_list(out, guests, |guest, out| {
        let VmStatus { name, program, state, bytes, written, .. } = guest;
        write!(out, "{{\"name\":\"{name}\",\"program\":\"{program}\"")?;
        write!(out, ",\"state\":\"{state}\",\"vcpus\":{}", vcpus(&guest.vcpus))?;
        write!(out, ",\"written\":{written}")?;
        write!(out, ",\"bytes\":{bytes},\"blocks\":{}", blocks(&guest.blocks))?;
        write!(out, ",\"table_blocks\":{}", blocks(&guest.table_blocks))?;
        figures(&guest.figures, out)?;
        write!(out, ",\"longest_pause\":{}", guest.moved.longest_pause)?;
        write!(out, ",\"longest_pause_of_page\":{}", guest.moved.longest_pause_of_page)?;
        write!(out, ",\"extents_ahead\":{}", guest.moved.ahead)?;
        write!(out, ",\"extents_hurried\":{}", guest.moved.hurried)?;
        write!(out, ",\"pages_moved\":{}", guest.moved.pages)?;
        write!(out, ",\"tables_moved\":{}}}", guest.moved.tables)
    })?;
    writeln!(out)
}

/// Writes the guests as text.
pub(super) fn text(guests: impl Iterator<Item = VmStatus>, out: &mut dyn Write) -> fmt::Result {
    for guest in guests {
        let VmStatus { name, program, state, bytes, written, .. } = guest;
        let Figures { rounds, wrong_words, checksum, longest_gap, longest_stop, .. } =
            guest.figures;
        writeln!(out, "{name}: {program}, {state} on {}, {} MiB", Pins(&guest.vcpus), bytes >> 20)?;
        for (block, bytes) in &guest.blocks {
            writeln!(out, "  {block} holds {} KiB", bytes >> 10)?;
        }
        if program != "payload" {
            writeln!(out, "  {written} bytes written to its serial port")?;
        } else {
            writeln!(
                out,
                "  {rounds} rounds, {wrong_words} wrong words, checksum {checksum:#018x}"
            )?;
        }
        for (number, vcpu) in guest.vcpus.iter().enumerate().filter(|_| guest.vcpus.len() > 1) {
            let (power, rounds) = (vcpu.power.name(), vcpu.figures.rounds);
            writeln!(out, "  virtual CPU {number} on CPU {}: {power}, {rounds} rounds", vcpu.cpu)?;
        }
        let Moved { pages, tables, longest_pause, longest_pause_of_page, .. } = guest.moved;
        writeln!(out, "  {pages} pages and {tables} tables moved")?;
        writeln!(
            out,
            "  longest pause {longest_pause} instructions, {longest_pause_of_page} for each page"
        )?;
        let longest_move = guest.figures.longest_move;
        writeln!(
            out,
            "  longest stop {longest_stop} ticks, {longest_move} instructions by a move, longest gap {longest_gap} ticks"
        )?;
    }
    Ok(())
}

/// Writes the lines that a guest wrote: their place among all of its bytes, and each line behind a bar, so that none can
/// be mistaken for one of the kernel's.
pub(super) fn console(range: &Range<u64>, lines: &[u8], out: &mut dyn Write) -> fmt::Result {
    writeln!(out, "bytes {} to {}", range.start, range.end)?;
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        out.write_str("| ")?;
        for byte in line.trim_ascii_end() {
            let is_plain = *byte == b' ' || byte.is_ascii_graphic();
            if is_plain {
                out.write_char(char::from(*byte))?
            } else {
                write!(out, "{}", byte.escape_ascii())?
            }
        }
        out.write_char('\n')?;
    }
    Ok(())
}
