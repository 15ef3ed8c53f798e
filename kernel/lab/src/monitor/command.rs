//! The monitor's commands.

use super::fault::{FaultCommand, Kind};
use super::life::{CacheCommand, Life, PoolCommand};
use super::machinery::Crash;
use super::usage::Sample;
use super::vm::VmCommand;
use super::words::{CommandError, Words, index};
use hotmem::{BlockId, MhpFlags, OnlineAs, Order, Pfn, PhysRange, Placement, VirtAddr};
use hotmem_hotplug::{Growth, GrowthError, number};
use log::LevelFilter;

/// The allowed frequencies of the timer in hertz, and the default.
const HERTZ: core::ops::RangeInclusive<u64> = 1..=10_000;
const DEFAULT_HERTZ: u64 = 100;

/// An operation on CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CpusCommand {
    /// Show all CPUs.
    Show {
        /// As JSON.
        json: bool,
    },
    /// Start the CPU with this firmware id.
    Start(u64),
    /// Have all CPUs but the first allocate and free until they are stopped.
    Churn {
        /// With interrupts disabled.
        masked: bool,
    },
    /// Have all CPUs but the first hold so many pages each, from when the first one sleeps until they are stopped.
    Hold(u64),
    /// Stop what they do.
    Rest,
    /// Have a timer handler on each CPU allocate and free this many times a second, or stop that.
    Tick(Option<u64>),
}

/// A state that is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    Help,
    Blocks,
    Shares,
    Stats,
    Zones,
    Page(Pfn),
    Mapping(Pfn),
    Holds,
}

/// A request to the driver of hotplug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HotplugCommand {
    Add(PhysRange, Option<MhpFlags>),
    Remove(PhysRange),
    Online(BlockId, OnlineAs),
    Offline(BlockId),
    Status,
    Cancel,
    Firmware {
        /// As JSON.
        json: bool,
    },
    Pmem(PmemCommand),
    /// Show when memory is plugged that a host offers, or set it.
    Growth(Option<Growth>),
}

/// A request about persistent memory, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PmemCommand {
    /// Show all of it.
    List {
        /// As JSON.
        json: bool,
    },
    /// Use it as RAM.
    Add {
        /// Which one.
        number: usize,
        /// Where its memmap goes.
        placement: Placement,
        /// Though it may hold data.
        force: bool,
    },
    /// Give it up.
    Remove(usize),
}

/// A command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the commands are described in TABLE")]
#[expect(clippy::large_enum_variant, reason = "one command is read at a time, and not kept")]
pub enum Command {
    /// As JSON or as text.
    Show(Shown, bool),
    Cpus(CpusCommand),
    Walk(VirtAddr),
    /// On the CPU with this number.
    Peek(VirtAddr, usize),
    Verify,
    /// On the CPU with this number.
    Alloc(Order, usize),
    Free(Pfn),
    Hotplug(HotplugCommand),
    Life(Life),
    Pool(PoolCommand),
    Cache(CacheCommand),
    Vm(VmCommand),
    Use(Sample),
    Bench {
        json: bool,
    },
    Fault(FaultCommand),
    SnapshotSave,
    SnapshotCheck,
    Verdict,
    Log(LevelFilter),
    /// On the CPU with this number.
    Crash(Crash, usize),
    Exit(u8),
}

impl Command {
    /// The kind of its operation, if a step of that can fail on purpose.
    pub(super) const fn kind(&self) -> Option<Kind> {
        match self {
            Self::Hotplug(HotplugCommand::Add(..)) => Some(Kind::Add),
            Self::Hotplug(HotplugCommand::Online(..)) => Some(Kind::Online),
            Self::Hotplug(HotplugCommand::Offline(_)) => Some(Kind::Offline),
            Self::Hotplug(HotplugCommand::Remove(_)) => Some(Kind::Remove),
            Self::Life(Life::Convert(_)) => Some(Kind::Convert),
            _ => None,
        }
    }
}

impl<'t> Words<'t> {
    pub(super) fn cpus(&mut self) -> Result<Command, CommandError<'t>> {
        Ok(Command::Cpus(match self.next() {
            None => CpusCommand::Show { json: false },
            Some("--json") => CpusCommand::Show { json: true },
            Some("churn") => CpusCommand::Churn { masked: self.has("masked")? },
            Some("hold") => CpusCommand::Hold(self.number("a number of pages")?),
            Some("rest") => CpusCommand::Rest,
            Some("tick") => CpusCommand::Tick(self.hertz()?),
            Some("start") => CpusCommand::Start(self.number("a CPU's firmware id")?),
            Some(word) => {
                return Err(CommandError::Bad(word, "--json, start, churn, hold, rest or tick"));
            }
        }))
    }

    /// A frequency; `None` to stop.
    fn hertz(&mut self) -> Result<Option<u64>, CommandError<'t>> {
        let hertz = |word: &str| match word {
            "off" => Some(None),
            word => number::parse(word).filter(|hertz| HERTZ.contains(hertz)).map(Some),
        };
        let hertz = self.maybe("off or 1 to 10000 times a second", hertz)?;
        Ok(hertz.unwrap_or(Some(DEFAULT_HERTZ)))
    }

    pub(super) fn crash(&mut self) -> Result<Command, CommandError<'t>> {
        let bad = |word| CommandError::Bad(word, "stack, deaf or the number of a CPU");
        let (crash, cpu) = match self.next() {
            None => (Crash::Write, None),
            Some("stack") => (Crash::Stack, self.next()),
            Some("deaf") => (Crash::Deaf, self.next()),
            Some(word) => (Crash::Write, Some(word)),
        };
        let cpu = cpu.map_or(Ok(0), |word| index(word).ok_or(bad(word)))?;
        Ok(Command::Crash(crash, cpu))
    }

    pub(super) fn sample(&mut self) -> Result<Sample, CommandError<'t>> {
        let sample = |word: &str| match word {
            "all" => Some(Sample::All),
            word => number::parse(word).map(Sample::Seeded),
        };
        Ok(self.maybe("all or a number", sample)?.unwrap_or(Sample::Seeded(0)))
    }

    pub(super) fn offline(&mut self) -> Result<Command, CommandError<'t>> {
        const WANTED: &str = "a block number, status or cancel";
        let command = match self.word(WANTED)? {
            "status" => HotplugCommand::Status,
            "cancel" => HotplugCommand::Cancel,
            word => {
                let raw = number::parse(word).ok_or(CommandError::Bad(word, WANTED))?;
                HotplugCommand::Offline(BlockId::new(raw))
            }
        };
        Ok(Command::Hotplug(command))
    }

    pub(super) fn growth(&mut self) -> Result<Command, CommandError<'t>> {
        let growth = match self.next() {
            None => None,
            Some("eager") => Some(Growth::Eager),
            Some("need") => Some(self.need()?),
            Some(word) => return Err(CommandError::Bad(word, "eager or need")),
        };
        Ok(Command::Hotplug(HotplugCommand::Growth(growth)))
    }

    /// The marks of growth by need, or the usual ones.
    fn need(&mut self) -> Result<Growth, CommandError<'t>> {
        let Some(low) = self.next() else { return Ok(Growth::usual()) };
        let high = self.word("a high mark")?;
        Growth::need(low, high).map_err(|error| match error {
            GrowthError::Never => CommandError::Bad(low, "a low mark: memory is never below it"),
            GrowthError::Reversed(_) => CommandError::Bad(low, "a low mark up to the high mark"),
            _ if number::parse_size(low).is_some() => CommandError::Bad(high, "a size in bytes"),
            _ => CommandError::Bad(low, "a size in bytes"),
        })
    }

    pub(super) fn pmem(&mut self) -> Result<Command, CommandError<'t>> {
        const WANTED: &str = "list, add or remove";
        const NUMBER: &str = "the number of persistent memory";
        let command = match self.word(WANTED)? {
            "list" => PmemCommand::List { json: self.json()? },
            "add" => {
                let number = self.read(NUMBER, index)?;
                let (mut placement, mut force) = (None, false);
                while let Some(word) = self.next() {
                    let named = match word {
                        "force" => {
                            force = true;
                            continue;
                        }
                        "device" => Placement::PerRange,
                        "block" => Placement::PerBlock,
                        word => return Err(CommandError::Bad(word, "device, block or force")),
                    };
                    if placement.replace(named).is_some() {
                        return Err(CommandError::Bad(word, "one placement"));
                    }
                }
                let placement = placement.unwrap_or(Placement::PerRange);
                PmemCommand::Add { number, placement, force }
            }
            "remove" => PmemCommand::Remove(self.read(NUMBER, index)?),
            word => return Err(CommandError::Bad(word, WANTED)),
        };
        Ok(Command::Hotplug(HotplugCommand::Pmem(command)))
    }

    pub(super) fn snapshot(&mut self) -> Result<Command, CommandError<'t>> {
        self.read("save or check", |word| match word {
            "save" => Some(Command::SnapshotSave),
            "check" => Some(Command::SnapshotCheck),
            _ => None,
        })
    }
}
