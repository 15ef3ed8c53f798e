//! What can be typed at the monitor, read into a [`Command`].

use super::listeners::Objection;
use crate::{cmdline, number};
use core::fmt;
use hotmem::{
    AutoOnline, BlockId, ListError, MhpFlags, NodeId, OnlineAs, Order, Pfn, PhysAddr, PhysRange,
    Placement, TakeList, VirtAddr, ZoneKind,
};
use log::LevelFilter;

/// What `help` answers, a line for each command.
pub const HELP: &[&str] = &[
    "help                                   this list",
    "blocks [--json]                        memory blocks and their states",
    "stats [--json]                         counts over all memory",
    "zones [--json]                         zones of each node, free extents by order",
    "page PFN [--json]                      what is known of a page",
    "peek VADDR                             the eight bytes there, or that a load faults",
    "walk VADDR                             how the page tables translate an address",
    "verify                                 check every law",
    "alloc ORDER                            allocate 2^ORDER pages that stay where they are",
    "free PFN                               free what alloc gave",
    "add START SIZE [device|block|boot]     add plugged memory that nobody owns",
    "remove START SIZE                      remove memory that add added",
    "online N [WAY]                         bring block N online: online, online_kernel, online_movable",
    "offline N                              take block N offline, moving what is in use",
    "offline status|cancel                  the eject under way; give it up",
    "policy [POLICY [RATIO]]                what happens to added memory: offline, a WAY, auto_movable",
    "vmemmap [enable|disable]               whether added memory may hold its own memmap",
    "convert START SIZE block               give each block of a device range its own memmap",
    "explain-remove START SIZE [--json]     whether the range could go, or what is in the way",
    "memtrace NODE:FIRST-LAST[,...]         take offline boot blocks out of the linear map",
    "memtrace contig NODE SIZE              find, empty and take so much adjacent boot memory",
    "memtrace status [--json]|release       what is taken; give it all back",
    "poison PFN                             take a bad page out of use",
    "compact NODE ZONE ORDER                make a free extent of that order",
    "dump [--json]                          the pages that a crash dump takes",
    "notify                                 the watchers of online and offline",
    "notify add PRIORITY [online|offline]   put up a watcher, one that objects to either",
    "notify remove NUMBER                   take a watcher down",
    "pool [--json]                          the pool of movable pages",
    "pool grow N [ORDER]|shrink N|check     add or free extents; check what they hold",
    "pool pin|unpin|free HANDLE             keep an extent where it is; give it back",
    "cache [--json]                         the page cache, and the store of objects under it",
    "cache write OBJECT OFFSET BYTE [COUNT] write bytes of an object, which grows",
    "cache read OBJECT OFFSET               read a byte of an object",
    "cache flush|drop|check                 write back; forget; compare with the store",
    "use [all|SEED]                         allocate, write and read back all added memory",
    "snapshot save|check                    note the state of memory, or compare with it",
    "verdict                                pass, refused or fail, over all that happened",
    "log LEVEL                              off, error, warn, info, debug or trace",
    "crash                                  write where nothing is: ends in a backtrace",
    "exit [CODE]                            leave the machine, CODE 0 to 100",
];

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
#[expect(missing_docs, reason = "the commands are described in HELP")]
#[expect(clippy::large_enum_variant, reason = "one command is read at a time, and not kept")]
pub enum Command {
    Help,
    Blocks { json: bool },
    Stats { json: bool },
    Zones { json: bool },
    Page { pfn: Pfn, json: bool },
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
    Crash,
    Exit(u8),
}

/// A command on the life cycle of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the commands are described in HELP")]
#[expect(clippy::large_enum_variant, reason = "one command is read at a time, and not kept")]
pub enum Life {
    Policy(Option<AutoOnline>),
    Vmemmap(Option<bool>),
    Convert(PhysRange),
    Explain { range: PhysRange, json: bool },
    Take(TakeList),
    Contig(NodeId, u64),
    Taken { json: bool },
    Release,
    Poison(Pfn),
    Dump { json: bool },
    Compact(NodeId, ZoneKind, Order),
    Watch(Watch),
}

/// A command on the pool of movable pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the commands are described in HELP")]
pub enum PoolCommand {
    Status { json: bool },
    Grow(u64, Order),
    Shrink(u64),
    Free(u64),
    Check,
    Pin(u64, bool),
}

/// A command on the page cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the commands are described in HELP")]
pub enum CacheCommand {
    Status { json: bool },
    Write { object: u64, offset: u64, byte: u8, count: u64 },
    Read { object: u64, offset: u64 },
    Flush,
    Drop,
    Check,
}

/// A command on watchers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the commands are described in HELP")]
pub enum Watch {
    List,
    Add(i32, Objection),
    Remove(u32),
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

/// The words of a line that were not read yet.
struct Words<'t>(core::str::SplitAsciiWhitespace<'t>);

impl<'t> Words<'t> {
    fn word(&mut self, what: &'static str) -> Result<&'t str, CommandError<'t>> {
        self.0.next().ok_or(CommandError::Missing(what))
    }

    fn read<T>(
        &mut self,
        what: &'static str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<T, CommandError<'t>> {
        let word = self.word(what)?;
        read(word).ok_or(CommandError::Bad(word, what))
    }

    fn pfn(&mut self) -> Result<Pfn, CommandError<'t>> {
        self.read("a page frame number", number::parse).map(Pfn::new)
    }

    fn block(&mut self) -> Result<BlockId, CommandError<'t>> {
        self.read("a block number", number::parse).map(BlockId::new)
    }

    fn range(&mut self) -> Result<PhysRange, CommandError<'t>> {
        let start = self.read("an address", number::parse)?;
        let (size, what) = (self.word("a size")?, "a size in bytes that fits above the address");
        let range = number::parse_size(size).filter(|&bytes| bytes != 0);
        let range = range.and_then(|bytes| PhysRange::new(PhysAddr::new(start), bytes));
        range.ok_or(CommandError::Bad(size, what))
    }

    fn json(&mut self) -> Result<bool, CommandError<'t>> {
        match self.0.next() {
            None => Ok(false),
            Some("--json") => Ok(true),
            Some(word) => Err(CommandError::Bad(word, "--json")),
        }
    }

    /// The flags that the placements named ask for; `None` if none is.
    fn flags(&mut self) -> Result<Option<MhpFlags>, CommandError<'t>> {
        let mut flags = None;
        for word in self.0.by_ref() {
            let placement = cmdline::placement(word);
            let placement = placement.ok_or(CommandError::Bad(word, "device, block or boot"))?;
            let new = match placement {
                Placement::PerRange => MhpFlags::MEMMAP_DEVICE,
                Placement::PerBlock => MhpFlags::MEMMAP_MEMBLOCK,
                Placement::Boot => MhpFlags::empty(),
            };
            flags = Some(flags.unwrap_or(MhpFlags::empty()) | new);
        }
        Ok(flags)
    }

    fn sample(&mut self) -> Result<Sample, CommandError<'t>> {
        match self.0.next() {
            None => Ok(Sample::Seeded(0)),
            Some("all") => Ok(Sample::All),
            Some(word) => number::parse(word)
                .map(Sample::Seeded)
                .ok_or(CommandError::Bad(word, "all or a number")),
        }
    }

    /// How to bring a block online; movable if nothing is said.
    fn way(&mut self) -> Result<OnlineAs, CommandError<'t>> {
        let Some(word) = self.0.next() else { return Ok(OnlineAs::Movable) };
        word.parse().map_err(|_| CommandError::Bad(word, "online, online_kernel or online_movable"))
    }

    fn offline(&mut self) -> Result<Command, CommandError<'t>> {
        match self.word("a block number, status or cancel")? {
            "status" => Ok(Command::OfflineStatus),
            "cancel" => Ok(Command::OfflineCancel),
            word => match number::parse(word) {
                Some(raw) => Ok(Command::Offline(BlockId::new(raw))),
                None => Err(CommandError::Bad(word, "a block number, status or cancel")),
            },
        }
    }

    fn policy(&mut self) -> Result<Life, CommandError<'t>> {
        let Some(word) = self.0.next() else { return Ok(Life::Policy(None)) };
        let policy = word.parse().map_err(|_| CommandError::Bad(word, "a policy"))?;
        let AutoOnline::AutoMovable { .. } = policy else { return Ok(Life::Policy(Some(policy))) };
        let Some(word) = self.0.next() else { return Ok(Life::Policy(Some(policy))) };
        let ratio = number::parse(word).and_then(|ratio| u32::try_from(ratio).ok());
        let ratio = ratio.ok_or(CommandError::Bad(word, "a ratio in per cent"))?;
        Ok(Life::Policy(Some(AutoOnline::AutoMovable { ratio })))
    }

    fn vmemmap(&mut self) -> Result<Life, CommandError<'t>> {
        match self.0.next() {
            None => Ok(Life::Vmemmap(None)),
            Some("enable") => Ok(Life::Vmemmap(Some(true))),
            Some("disable") => Ok(Life::Vmemmap(Some(false))),
            Some(word) => Err(CommandError::Bad(word, "enable or disable")),
        }
    }

    fn number(&mut self, what: &'static str) -> Result<u64, CommandError<'t>> {
        self.read(what, number::parse)
    }

    fn pool(&mut self) -> Result<PoolCommand, CommandError<'t>> {
        match self.0.next() {
            None => Ok(PoolCommand::Status { json: false }),
            Some("--json") => Ok(PoolCommand::Status { json: true }),
            Some("grow") => {
                let count = self.number("a number of extents")?;
                let Some(word) = self.0.next() else {
                    return Ok(PoolCommand::Grow(count, Order::ZERO));
                };
                let order = order(word).ok_or(CommandError::Bad(word, "an order from 0 to 19"))?;
                Ok(PoolCommand::Grow(count, order))
            }
            Some("shrink") => Ok(PoolCommand::Shrink(self.number("a number of extents")?)),
            Some("free") => Ok(PoolCommand::Free(self.number("a handle")?)),
            Some("check") => Ok(PoolCommand::Check),
            Some("pin") => Ok(PoolCommand::Pin(self.number("a handle")?, true)),
            Some("unpin") => Ok(PoolCommand::Pin(self.number("a handle")?, false)),
            Some(word) => Err(CommandError::Bad(word, "grow, shrink, free, check, pin or unpin")),
        }
    }

    fn cache(&mut self) -> Result<CacheCommand, CommandError<'t>> {
        match self.0.next() {
            None => Ok(CacheCommand::Status { json: false }),
            Some("--json") => Ok(CacheCommand::Status { json: true }),
            Some("write") => {
                let (object, offset) = (self.number("an object")?, self.number("an offset")?);
                let byte = |word: &str| u8::try_from(number::parse(word)?).ok();
                let byte = self.read("a byte from 0 to 255", byte)?;
                let count = match self.0.next() {
                    None => 1,
                    Some(word) => {
                        number::parse(word).ok_or(CommandError::Bad(word, "a number of bytes"))?
                    }
                };
                Ok(CacheCommand::Write { object, offset, byte, count })
            }
            Some("read") => {
                let (object, offset) = (self.number("an object")?, self.number("an offset")?);
                Ok(CacheCommand::Read { object, offset })
            }
            Some("flush") => Ok(CacheCommand::Flush),
            Some("drop") => Ok(CacheCommand::Drop),
            Some("check") => Ok(CacheCommand::Check),
            Some(word) => Err(CommandError::Bad(word, "write, read, flush, drop or check")),
        }
    }

    fn convert(&mut self) -> Result<Life, CommandError<'t>> {
        let range = self.range()?;
        match self.word("block")? {
            "block" => Ok(Life::Convert(range)),
            word => Err(CommandError::Bad(word, "block")),
        }
    }

    fn memtrace(&mut self) -> Result<Life, CommandError<'t>> {
        match self.word("a list of blocks, contig, status or release")? {
            "status" => Ok(Life::Taken { json: self.json()? }),
            "release" => Ok(Life::Release),
            "contig" => {
                let node = self.node()?;
                let bytes = self.read("a size in bytes", number::parse_size)?;
                Ok(Life::Contig(node, bytes))
            }
            list => TakeList::parse(list).map(Life::Take).map_err(CommandError::List),
        }
    }

    fn node(&mut self) -> Result<NodeId, CommandError<'t>> {
        let node = |word: &str| u32::try_from(number::parse(word)?).ok().and_then(NodeId::new);
        self.read("a node from 0 to 127", node)
    }

    fn compact(&mut self) -> Result<Life, CommandError<'t>> {
        let node = self.node()?;
        let zone = |word: &str| ZoneKind::ALL.into_iter().find(|kind| kind.name() == word);
        let kind = self.read("normal or movable", zone)?;
        Ok(Life::Compact(node, kind, self.read("an order from 0 to 19", order)?))
    }

    fn watch(&mut self) -> Result<Watch, CommandError<'t>> {
        match self.0.next() {
            None => Ok(Watch::List),
            Some("add") => {
                let priority = self.read("a priority", |word| word.parse().ok())?;
                let objection = match self.0.next() {
                    None => Objection::None,
                    Some("online") => Objection::Online,
                    Some("offline") => Objection::Offline,
                    Some(word) => return Err(CommandError::Bad(word, "online or offline")),
                };
                Ok(Watch::Add(priority, objection))
            }
            Some("remove") => Ok(Watch::Remove(self.read("a number", |word| word.parse().ok())?)),
            Some(word) => Err(CommandError::Bad(word, "add or remove")),
        }
    }

    fn snapshot(&mut self) -> Result<Command, CommandError<'t>> {
        match self.word("save or check")? {
            "save" => Ok(Command::SnapshotSave),
            "check" => Ok(Command::SnapshotCheck),
            word => Err(CommandError::Bad(word, "save or check")),
        }
    }

    fn code(&mut self) -> Result<u8, CommandError<'t>> {
        let Some(word) = self.0.next() else { return Ok(0) };
        let code = number::parse(word).and_then(|code| u8::try_from(code).ok());
        code.filter(|&code| code <= 100).ok_or(CommandError::Bad(word, "a code from 0 to 100"))
    }
}

fn order(text: &str) -> Option<Order> {
    u8::try_from(number::parse(text)?).ok().and_then(Order::new)
}

/// Reads a command on the life cycle of memory.
fn life<'t>(name: &'t str, words: &mut Words<'t>) -> Result<Life, CommandError<'t>> {
    match name {
        "policy" => words.policy(),
        "vmemmap" => words.vmemmap(),
        "convert" => words.convert(),
        "explain-remove" => Ok(Life::Explain { range: words.range()?, json: words.json()? }),
        "memtrace" => words.memtrace(),
        "poison" => words.pfn().map(Life::Poison),
        "compact" => words.compact(),
        "dump" => Ok(Life::Dump { json: words.json()? }),
        "notify" => words.watch().map(Life::Watch),
        unknown => Err(CommandError::Unknown(unknown)),
    }
}

/// Reads a line; `None` if it is empty.
///
/// # Errors
///
/// [`CommandError`] with the word that is wrong.
pub fn parse(line: &str) -> Result<Option<Command>, CommandError<'_>> {
    let mut words = Words(line.split_ascii_whitespace());
    let Some(name) = words.0.next() else { return Ok(None) };
    let command = match name {
        "help" => Command::Help,
        "blocks" => Command::Blocks { json: words.json()? },
        "stats" => Command::Stats { json: words.json()? },
        "zones" => Command::Zones { json: words.json()? },
        "page" => Command::Page { pfn: words.pfn()?, json: words.json()? },
        "walk" => Command::Walk(words.read("an address", number::parse).map(VirtAddr::new)?),
        "peek" => Command::Peek(words.read("an address", number::parse).map(VirtAddr::new)?),
        "verify" => Command::Verify,
        "alloc" => Command::Alloc(words.read("an order from 0 to 19", order)?),
        "free" => Command::Free(words.pfn()?),
        "add" => Command::Add(words.range()?, words.flags()?),
        "remove" => Command::Remove(words.range()?),
        "online" => Command::Online(words.block()?, words.way()?),
        "offline" => words.offline()?,
        "use" => Command::Use(words.sample()?),
        "snapshot" => words.snapshot()?,
        "verdict" => Command::Verdict,
        "crash" => Command::Crash,
        "log" => Command::Log(words.read("a log level", |word| word.parse().ok())?),
        "exit" => Command::Exit(words.code()?),
        "pool" => Command::Pool(words.pool()?),
        "cache" => Command::Cache(words.cache()?),
        name => Command::Life(life(name, &mut words)?),
    };
    match words.0.next() {
        None => Ok(Some(command)),
        Some(word) => Err(CommandError::Surplus(word)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, bytes: u64) -> PhysRange {
        PhysRange::new(PhysAddr::new(start), bytes).unwrap()
    }

    #[test]
    fn commands_are_read_with_their_arguments() {
        for (line, command) in [
            ("  blocks\t--json ", Command::Blocks { json: true }),
            ("stats", Command::Stats { json: false }),
            ("page 0x100 --json", Command::Page { pfn: Pfn::new(256), json: true }),
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
    fn every_line_of_the_help_is_a_command() {
        let names: Vec<_> = HELP.iter().filter_map(|line| line.split(' ').next()).collect();
        for name in names {
            assert_ne!(parse(name), Err(CommandError::Unknown(name)));
        }
        assert_eq!(HELP.len(), 41);
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
