//! Parses a typed line into a [`Command`].

use super::command::Command;
use super::table::TABLE;
use super::words::{CommandError, Words};

/// Parses a line; `None` if it is empty.
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
    use super::super::command::{CpusCommand, HotplugCommand, Shown};
    use super::super::machinery::Crash;
    use super::super::usage::Sample;
    use super::*;
    use hotmem::{BlockId, MhpFlags, OnlineAs, Order, Pfn, PhysAddr, PhysRange, VirtAddr};
    use log::LevelFilter;

    fn range(start: u64, bytes: u64) -> PhysRange {
        PhysRange::new(PhysAddr::new(start), bytes).unwrap()
    }

    #[test]
    fn commands_are_read_with_their_arguments() {
        for (line, command) in [
            ("  blocks\t--json ", Command::Show(Shown::Blocks, true)),
            ("stats", Command::Show(Shown::Stats, false)),
            ("firmware --json", Command::Hotplug(HotplugCommand::Firmware { json: true })),
            ("page 0x100 --json", Command::Show(Shown::Page(Pfn::new(256)), true)),
            ("mapping 7 --json", Command::Show(Shown::Mapping(Pfn::new(7)), true)),
            ("walk 0xffff800000000000", Command::Walk(VirtAddr::new(0xffff_8000_0000_0000))),
            ("alloc 3", Command::Alloc(Order::new(3).unwrap(), 0)),
            ("alloc 0 15", Command::Alloc(Order::ZERO, 15)),
            (
                "add 0x100000000 128M",
                Command::Hotplug(HotplugCommand::Add(range(1 << 32, 128 << 20), None)),
            ),
            ("remove 4096 4096", Command::Hotplug(HotplugCommand::Remove(range(4096, 4096)))),
            (
                "online 32",
                Command::Hotplug(HotplugCommand::Online(BlockId::new(32), OnlineAs::Movable)),
            ),
            ("use", Command::Use(Sample::Seeded(0))),
            ("use all", Command::Use(Sample::All)),
            ("use 7", Command::Use(Sample::Seeded(7))),
            ("snapshot check", Command::SnapshotCheck),
            ("log debug", Command::Log(LevelFilter::Debug)),
            ("crash", Command::Crash(Crash::Write, 0)),
            ("crash 3", Command::Crash(Crash::Write, 3)),
            ("crash stack", Command::Crash(Crash::Stack, 0)),
            ("crash deaf 1", Command::Crash(Crash::Deaf, 1)),
            ("cpus --json", Command::Cpus(CpusCommand::Show { json: true })),
            ("cpus tick", Command::Cpus(CpusCommand::Tick(Some(100)))),
            ("cpus tick 1000", Command::Cpus(CpusCommand::Tick(Some(1000)))),
            ("cpus tick off", Command::Cpus(CpusCommand::Tick(None))),
            ("cpus start 0x81", Command::Cpus(CpusCommand::Start(0x81))),
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
            Ok(Some(Command::Hotplug(HotplugCommand::Add(_, flags)))) => flags,
            other => panic!("{other:?}"),
        };
        assert_eq!(flags("add 0 4096 boot"), Some(MhpFlags::empty()));
        assert_eq!(flags("add 0 4096 block"), Some(MhpFlags::MEMMAP_MEMBLOCK));
        assert_eq!(flags("add 0 4096 device block"), Some(MhpFlags::all()));
    }

    #[test]
    fn invalid_words_are_named() {
        for (line, error) in [
            ("nonsense x", CommandError::Unknown("nonsense")),
            ("online", CommandError::Missing("a block number")),
            ("online -1", CommandError::Bad("-1", "a block number")),
            ("offline 1 2", CommandError::Surplus("2")),
            ("alloc 20", CommandError::Bad("20", "an order from 0 to 19")),
            ("alloc 4294967296", CommandError::Bad("4294967296", "an order from 0 to 19")),
            ("exit 101", CommandError::Bad("101", "a code from 0 to 100")),
            ("crash heap", CommandError::Bad("heap", "stack, deaf or the number of a CPU")),
            ("cpus tick 0", CommandError::Bad("0", "off or 1 to 10000 times a second")),
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
