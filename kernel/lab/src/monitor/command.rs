//! What can be typed at the monitor, read into a [`Command`].

use super::life::{CacheCommand, Life, PoolCommand};
use super::machinery::Crash;
use super::table::TABLE;
use super::words::Words;
use core::fmt;
use hotmem::{BlockId, ListError, MhpFlags, OnlineAs, Order, Pfn, PhysRange, VirtAddr};
use log::LevelFilter;

/// Which pages `use` writes and reads back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sample {
    /// All of them.
    All,
    /// All of them up to a limit; above, some of each block, chosen by this seed.
    Seeded(u64),
}

/// A command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the commands are described in TABLE")]
#[expect(clippy::large_enum_variant, reason = "one command is read at a time, and not kept")]
pub enum Command {
    Help,
    Blocks { json: bool },
    Stats { json: bool },
    Zones { json: bool },
    Firmware { json: bool },
    Page { pfn: Pfn, json: bool },
    Mapping { pfn: Pfn, json: bool },
    Walk(VirtAddr),
    Peek(VirtAddr),
    Verify,
    Alloc(Order),
    Free(Pfn),
    Add(PhysRange, Option<MhpFlags>),
    Remove(PhysRange),
    Online(BlockId, OnlineAs),
    Offline(BlockId),
    OfflineStatus,
    OfflineCancel,
    Life(Life),
    Pool(PoolCommand),
    Cache(CacheCommand),
    Use(Sample),
    SnapshotSave,
    SnapshotCheck,
    Verdict,
    Log(LevelFilter),
    Crash(Crash),
    Exit(u8),
}

/// Why a line is no command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandError<'t> {
    /// There is no such command.
    Unknown(&'t str),
    /// A word is missing; its name.
    Missing(&'static str),
    /// A word makes no sense; what it should be.
    Bad(&'t str, &'static str),
    /// More words than the command takes.
    Surplus(&'t str),
    /// A list of blocks makes no sense.
    List(ListError<'t>),
}

/// Characters of a typed word that an error repeats.
const REPEATED: usize = 40;

/// A typed word, cut to a sensible length.
fn cut(word: &str) -> &str {
    word.char_indices().nth(REPEATED).map_or(word, |(end, _)| word.get(..end).unwrap_or(word))
}

impl fmt::Display for CommandError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Unknown(word) => write!(f, "no command is called {:?}: try help", cut(word)),
            Self::Missing(what) => write!(f, "{what} is missing"),
            Self::Bad(word, what) => write!(f, "{:?} is not {what}", cut(word)),
            Self::Surplus(word) => write!(f, "{:?} is too much", cut(word)),
            Self::List(ListError { part, why }) => write!(f, "{:?} {why}", cut(part)),
        }
    }
}

/// Reads a line; `None` if it is empty.
///
/// # Errors
///
/// [`CommandError`] with the word that is wrong.
pub fn parse(line: &str) -> Result<Option<Command>, CommandError<'_>> {
    let mut words = Words::of(line);
    let Some(name) = words.next() else { return Ok(None) };
    let entry = TABLE.iter().find(|entry| entry.name == name);
    let command = (entry.ok_or(CommandError::Unknown(name))?.read)(&mut words)?;
    match words.next() {
        None => Ok(Some(command)),
        Some(word) => Err(CommandError::Surplus(word)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hotmem::PhysAddr;

    fn range(start: u64, bytes: u64) -> PhysRange {
        PhysRange::new(PhysAddr::new(start), bytes).unwrap()
    }

    #[test]
    fn commands_are_read_with_their_arguments() {
        for (line, command) in [
            ("  blocks\t--json ", Command::Blocks { json: true }),
            ("stats", Command::Stats { json: false }),
            ("firmware --json", Command::Firmware { json: true }),
            ("page 0x100 --json", Command::Page { pfn: Pfn::new(256), json: true }),
            ("mapping 7 --json", Command::Mapping { pfn: Pfn::new(7), json: true }),
            ("walk 0xffff800000000000", Command::Walk(VirtAddr::new(0xffff_8000_0000_0000))),
            ("alloc 3", Command::Alloc(Order::new(3).unwrap())),
            ("add 0x100000000 128M", Command::Add(range(1 << 32, 128 << 20), None)),
            ("remove 4096 4096", Command::Remove(range(4096, 4096))),
            ("online 32", Command::Online(BlockId::new(32), OnlineAs::Movable)),
            ("use", Command::Use(Sample::Seeded(0))),
            ("use all", Command::Use(Sample::All)),
            ("use 7", Command::Use(Sample::Seeded(7))),
            ("snapshot check", Command::SnapshotCheck),
            ("log debug", Command::Log(LevelFilter::Debug)),
            ("crash", Command::Crash(Crash::Write)),
            ("crash stack", Command::Crash(Crash::Stack)),
            ("exit", Command::Exit(0)),
            ("exit 100", Command::Exit(100)),
        ] {
            assert_eq!(parse(line), Ok(Some(command)), "{line}");
        }
        assert_eq!(parse(" \t "), Ok(None));
    }

    #[test]
    fn placements_add_up_to_flags() {
        let flags = |line| match parse(line) {
            Ok(Some(Command::Add(_, flags))) => flags,
            other => panic!("{other:?}"),
        };
        assert_eq!(flags("add 0 4096 boot"), Some(MhpFlags::empty()));
        assert_eq!(flags("add 0 4096 block"), Some(MhpFlags::MEMMAP_MEMBLOCK));
        assert_eq!(flags("add 0 4096 device block"), Some(MhpFlags::all()));
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (line, error) in [
            ("nonsense x", CommandError::Unknown("nonsense")),
            ("online", CommandError::Missing("a block number")),
            ("online -1", CommandError::Bad("-1", "a block number")),
            ("offline 1 2", CommandError::Surplus("2")),
            ("alloc 20", CommandError::Bad("20", "an order from 0 to 19")),
            ("alloc 4294967296", CommandError::Bad("4294967296", "an order from 0 to 19")),
            ("exit 101", CommandError::Bad("101", "a code from 0 to 100")),
            ("crash heap", CommandError::Bad("heap", "stack")),
            ("blocks --xml", CommandError::Bad("--xml", "--json")),
            ("add 0 4096 up", CommandError::Bad("up", "device, block or boot")),
        ] {
            assert_eq!(parse(line), Err(error), "{line}");
        }
        for line in ["add 0 0", "add 1", "remove 0xffffffffffffffff 2", "free x", "log loud"] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn an_error_repeats_only_the_start_of_a_long_word() {
        let long = "ä".repeat(1000);
        let error = parse(&long).unwrap_err().to_string();
        assert!(error.len() < 200, "{error}");
    }
}
