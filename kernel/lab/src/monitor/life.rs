//! Commands on the life cycle of memory, and on its movable contents.

use super::listeners::Objection;
use super::words::{CommandError, Words, order};
use hotmem::{AutoOnline, NodeId, Order, Pfn, PhysRange, TakeList, ZoneKind};
use hotmem_hotplug::number;

/// A command on the life cycle of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the commands are described in TABLE")]
#[expect(clippy::large_enum_variant, reason = "one command is read at a time, and not kept")]
pub enum Life {
    Policy(Option<AutoOnline>),
    Vmemmap(Option<bool>),
    Convert(PhysRange),
    Explain {
        range: PhysRange,
        json: bool,
    },
    Take(TakeList),
    Contig(NodeId, u64),
    Taken {
        json: bool,
    },
    Release,
    Poison(Pfn),
    /// The same, deferred as in the handler of a machine check.
    PoisonLater(Pfn),
    Dump {
        json: bool,
    },
    Compact(NodeId, ZoneKind, Order),
    Watch(Watch),
}

/// A command on the pool of movable pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the commands are described in TABLE")]
pub enum PoolCommand {
    Status { json: bool },
    Grow(u64, Order),
    Shrink(u64),
    Free(u64),
    Check,
    Sum,
    Pin(u64, bool),
}

/// A command on the page cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the commands are described in TABLE")]
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
#[expect(missing_docs, reason = "the commands are described in TABLE")]
pub enum Watch {
    List,
    Add(i32, Objection),
    Remove(u32),
}

impl<'t> Words<'t> {
    pub(super) fn policy(&mut self) -> Result<Life, CommandError<'t>> {
        let Some(word) = self.next() else { return Ok(Life::Policy(None)) };
        let policy = word.parse().map_err(|_| CommandError::Bad(word, "a policy"))?;
        if word != "auto_movable" {
            return Ok(Life::Policy(Some(policy)));
        }
        let ratio = |word: &str| u32::try_from(number::parse(word)?).ok();
        let ratio = self.maybe("a ratio in per cent", ratio)?;
        Ok(Life::Policy(Some(ratio.map_or(policy, |ratio| AutoOnline::AutoMovable { ratio }))))
    }

    pub(super) fn vmemmap(&mut self) -> Result<Life, CommandError<'t>> {
        let enable = |word: &str| match word {
            "enable" => Some(true),
            "disable" => Some(false),
            _ => None,
        };
        self.maybe("enable or disable", enable).map(Life::Vmemmap)
    }

    pub(super) fn pool(&mut self) -> Result<PoolCommand, CommandError<'t>> {
        match self.next() {
            None => Ok(PoolCommand::Status { json: false }),
            Some("--json") => Ok(PoolCommand::Status { json: true }),
            Some("grow") => {
                let count = self.number("a number of extents")?;
                let order = self.maybe("an order from 0 to 19", order)?;
                Ok(PoolCommand::Grow(count, order.unwrap_or(Order::ZERO)))
            }
            Some("shrink") => Ok(PoolCommand::Shrink(self.number("a number of extents")?)),
            Some("free") => Ok(PoolCommand::Free(self.number("a handle")?)),
            Some("check") => Ok(PoolCommand::Check),
            Some("sum") => Ok(PoolCommand::Sum),
            Some("pin") => Ok(PoolCommand::Pin(self.number("a handle")?, true)),
            Some("unpin") => Ok(PoolCommand::Pin(self.number("a handle")?, false)),
            Some(word) => {
                Err(CommandError::Bad(word, "grow, shrink, free, check, sum, pin or unpin"))
            }
        }
    }

    pub(super) fn cache(&mut self) -> Result<CacheCommand, CommandError<'t>> {
        match self.next() {
            None => Ok(CacheCommand::Status { json: false }),
            Some("--json") => Ok(CacheCommand::Status { json: true }),
            Some("write") => {
                let (object, offset) = (self.number("an object")?, self.number("an offset")?);
                let byte = |word: &str| u8::try_from(number::parse(word)?).ok();
                let byte = self.read("a byte from 0 to 255", byte)?;
                let count = self.maybe("a number of bytes", number::parse)?.unwrap_or(1);
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

    pub(super) fn explain(&mut self) -> Result<Life, CommandError<'t>> {
        Ok(Life::Explain { range: self.range()?, json: self.json()? })
    }

    pub(super) fn poison(&mut self) -> Result<Life, CommandError<'t>> {
        let pfn = self.pfn()?;
        Ok(if self.has("later")? { Life::PoisonLater(pfn) } else { Life::Poison(pfn) })
    }

    pub(super) fn convert(&mut self) -> Result<Life, CommandError<'t>> {
        let range = self.range()?;
        self.read("block", |word| (word == "block").then_some(Life::Convert(range)))
    }

    pub(super) fn memtrace(&mut self) -> Result<Life, CommandError<'t>> {
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

    pub(super) fn compact(&mut self) -> Result<Life, CommandError<'t>> {
        let node = self.node()?;
        let zone = |word: &str| ZoneKind::ALL.into_iter().find(|kind| kind.name() == word);
        let kind = self.read("normal or movable", zone)?;
        Ok(Life::Compact(node, kind, self.read("an order from 0 to 19", order)?))
    }

    pub(super) fn watch(&mut self) -> Result<Watch, CommandError<'t>> {
        match self.next() {
            None => Ok(Watch::List),
            Some("add") => {
                let priority = self.read("a priority", |word| word.parse().ok())?;
                let objection = self.maybe("online or offline", |word| match word {
                    "online" => Some(Objection::Online),
                    "offline" => Some(Objection::Offline),
                    _ => None,
                });
                Ok(Watch::Add(priority, objection?.unwrap_or(Objection::None)))
            }
            Some("remove") => Ok(Watch::Remove(self.read("a number", |word| word.parse().ok())?)),
            Some(word) => Err(CommandError::Bad(word, "add or remove")),
        }
    }
}
