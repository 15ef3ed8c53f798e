//! The words of a typed line, read one after the other.

use core::fmt;
use hotmem::{
    BlockId, ListError, MhpFlags, NodeId, OnlineAs, Order, Pfn, PhysAddr, PhysRange, Placement,
    VirtAddr,
};
use hotmem_hotplug::number;

/// The reason why a line is not a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandError<'t> {
    /// Unknown command.
    Unknown(&'t str),
    /// A word is missing: its name.
    Missing(&'static str),
    /// An invalid word, and what is expected.
    Bad(&'t str, &'static str),
    /// A word after the last argument of the command.
    Surplus(&'t str),
    /// An invalid list of blocks.
    List(ListError<'t>),
}

/// Characters of a typed word that an error repeats.
const REPEATED: usize = 40;

/// A typed word, cut to a reasonable length.
fn cut(word: &str) -> &str {
    word.char_indices().nth(REPEATED).map_or(word, |(end, _)| word.get(..end).unwrap_or(word))
}

impl fmt::Display for CommandError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Unknown(word) => write!(f, "unknown command {:?}, type help", cut(word)),
            Self::Missing(what) => write!(f, "{what} is missing"),
            Self::Bad(word, what) => write!(f, "{:?} is not {what}", cut(word)),
            Self::Surplus(word) => write!(f, "unexpected argument {:?}", cut(word)),
            Self::List(ListError { part, why }) => write!(f, "{:?} {why}", cut(part)),
        }
    }
}

/// The words of a line that were not read yet.
pub(super) struct Words<'t>(core::str::SplitAsciiWhitespace<'t>);

impl<'t> Words<'t> {
    /// The words of `line`.
    pub(super) fn of(line: &'t str) -> Self {
        Self(line.split_ascii_whitespace())
    }

    /// The next word, if there is one.
    pub(super) fn next(&mut self) -> Option<&'t str> {
        self.0.next()
    }

    pub(super) fn word(&mut self, what: &'static str) -> Result<&'t str, CommandError<'t>> {
        self.next().ok_or(CommandError::Missing(what))
    }

    pub(super) fn read<T>(
        &mut self,
        what: &'static str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<T, CommandError<'t>> {
        let word = self.word(what)?;
        read(word).ok_or(CommandError::Bad(word, what))
    }

    /// As [`read`](Self::read), if there is a word.
    pub(super) fn maybe<T>(
        &mut self,
        what: &'static str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, CommandError<'t>> {
        let Some(word) = self.next() else { return Ok(None) };
        read(word).map(Some).ok_or(CommandError::Bad(word, what))
    }

    pub(super) fn number(&mut self, what: &'static str) -> Result<u64, CommandError<'t>> {
        self.read(what, number::parse)
    }

    pub(super) fn pfn(&mut self) -> Result<Pfn, CommandError<'t>> {
        self.read("a page frame number", number::parse).map(Pfn::new)
    }

    pub(super) fn address(&mut self) -> Result<VirtAddr, CommandError<'t>> {
        self.read("an address", number::parse).map(VirtAddr::new)
    }

    /// The number of a CPU; the first one if no word is left.
    pub(super) fn cpu(&mut self) -> Result<usize, CommandError<'t>> {
        Ok(self.maybe("the number of a CPU", index)?.unwrap_or(0))
    }

    pub(super) fn block(&mut self) -> Result<BlockId, CommandError<'t>> {
        self.read("a block number", number::parse).map(BlockId::new)
    }

    pub(super) fn node(&mut self) -> Result<NodeId, CommandError<'t>> {
        let node = |word: &str| u32::try_from(number::parse(word)?).ok().and_then(NodeId::new);
        self.read("a node from 0 to 127", node)
    }

    pub(super) fn range(&mut self) -> Result<PhysRange, CommandError<'t>> {
        let start = self.read("an address", number::parse)?;
        let (size, what) = (self.word("a size")?, "a size in bytes that fits above the address");
        let range = number::parse_size(size).filter(|&bytes| bytes != 0);
        let range = range.and_then(|bytes| PhysRange::new(PhysAddr::new(start), bytes));
        range.ok_or(CommandError::Bad(size, what))
    }

    pub(super) fn json(&mut self) -> Result<bool, CommandError<'t>> {
        self.has("--json")
    }

    /// Whether there is a next word, which has to be `flag`.
    pub(super) fn has(&mut self, flag: &'static str) -> Result<bool, CommandError<'t>> {
        Ok(self.maybe(flag, |word| (word == flag).then_some(()))?.is_some())
    }

    /// The flags for the placements that are named; `None` if there are none.
    pub(super) fn flags(&mut self) -> Result<Option<MhpFlags>, CommandError<'t>> {
        let mut flags = None;
        for word in self.0.by_ref() {
            let placement = word.parse();
            let placement =
                placement.map_err(|_| CommandError::Bad(word, "device, block or boot"))?;
            let new = match placement {
                Placement::PerRange => MhpFlags::MEMMAP_DEVICE,
                Placement::PerBlock => MhpFlags::MEMMAP_MEMBLOCK,
                Placement::Boot => MhpFlags::empty(),
            };
            flags = Some(flags.unwrap_or(MhpFlags::empty()) | new);
        }
        Ok(flags)
    }

    /// The way to bring a block online; movable by default.
    pub(super) fn way(&mut self) -> Result<OnlineAs, CommandError<'t>> {
        let way =
            self.maybe("online, online_kernel or online_movable", |word| word.parse().ok())?;
        Ok(way.unwrap_or(OnlineAs::Movable))
    }

    pub(super) fn code(&mut self) -> Result<u8, CommandError<'t>> {
        let code = |word: &str| u8::try_from(number::parse(word)?).ok().filter(|&code| code <= 100);
        Ok(self.maybe("a code from 0 to 100", code)?.unwrap_or(0))
    }
}

/// A number of something that there are several of.
pub(super) fn index(text: &str) -> Option<usize> {
    usize::try_from(number::parse(text)?).ok()
}

/// An order, written as a number.
pub(super) fn order(text: &str) -> Option<Order> {
    u8::try_from(number::parse(text)?).ok().and_then(Order::new)
}
