//! The report of an invariant that does not hold.

use crate::addr::{Pfn, PhysAddr, VirtAddr};
use crate::machine::Machine;
use crate::memmap::block::BlockId;
use crate::memmap::section::node_word;
use crate::memmap::whole::Whole;
use crate::paging::{Mapper, Translation};
use core::fmt;

/// An invariant that does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The invariant's number.
    pub invariant: u8,
    /// The statement that is wrong.
    pub what: &'static str,
    /// What it is wrong of.
    pub of: Subject,
    /// Where the descriptor, word or memory of that is: its address in the windows, and its physical address, if it has
    /// memory.
    pub place: Option<(VirtAddr, Option<PhysAddr>)>,
    /// The expected value.
    pub expected: u64,
    /// The value found.
    pub found: u64,
    /// The wrong leaf, if it is one.
    pub leaf: Option<Translation>,
}

/// What a violation is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A node, a CPU, an order, or a count of the whole machine (0).
    Number(u64),
    /// A page: its descriptor is wrong.
    Page(Pfn),
    /// A section: its word is wrong, or what the word leads to.
    Section(u64),
    /// A memory block.
    Block(BlockId),
    /// Memory: a table, a node of the section map, or a word in one.
    Memory(PhysAddr),
    /// An address that page tables translate.
    Address(VirtAddr),
}

impl Subject {
    /// Its number, or its address.
    pub const fn get(self) -> u64 {
        match self {
            Self::Number(number) | Self::Section(number) => number,
            Self::Page(pfn) => pfn.get(),
            Self::Block(id) => id.get(),
            Self::Memory(at) => at.get(),
            Self::Address(at) => at.get(),
        }
    }

    /// Where it is, by page tables that are sound.
    fn place<M: Machine>(self, memmap: Whole<'_, M>) -> Option<(VirtAddr, Option<PhysAddr>)> {
        let linear = |at: PhysAddr| (memmap.machine().linear_base().add(at.get()), Some(at));
        let translated = |virt: VirtAddr| {
            Some((virt, memmap.mapper().translate(virt).map(|leaf| leaf.target(virt))))
        };
        match self {
            Self::Number(_) => None,
            Self::Page(pfn) => translated(memmap.windows().descriptor_virt(pfn)),
            Self::Section(number) => node_word(memmap.sections(), number).map(linear),
            Self::Block(id) => memmap.block_range(id).map(|range| linear(range.start())),
            Self::Memory(at) => Some(linear(at)),
            Self::Address(virt) => translated(virt),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number:#x}"),
            Self::Page(pfn) => pfn.fmt(f),
            Self::Section(number) => write!(f, "section {number:#x}"),
            Self::Block(id) => id.fmt(f),
            Self::Memory(at) => at.fmt(f),
            Self::Address(at) => at.fmt(f),
        }
    }
}

/// Makes a subject of what it is about.
macro_rules! subjects {
    ($($of:ty => $kind:ident),+) => {$(
        impl From<$of> for Subject {
            fn from(of: $of) -> Self {
                Self::$kind(of)
            }
        }
    )+};
}

subjects!(u64 => Number, Pfn => Page, BlockId => Block, PhysAddr => Memory, VirtAddr => Address);

impl Violation {
    /// The same with its place, by page tables that are sound.
    pub(super) fn placed<M: Machine>(self, memmap: Whole<'_, M>) -> Self {
        Self { place: self.place.or_else(|| self.of.place(memmap)), ..self }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { invariant, what, of, place, expected, found, leaf } = self;
        write!(f, "invariant {invariant}: {what} at {of}")?;
        match place {
            Some((virt, Some(phys))) => write!(f, " ({virt}, memory {phys})")?,
            Some((virt, None)) => write!(f, " ({virt}, not mapped)")?,
            None => {}
        }
        write!(f, ": expected {expected:#x}, found {found:#x}")?;
        let Some(Translation { virt, phys, len, attr }) = leaf else { return Ok(()) };
        let attr = attr.bits();
        write!(f, "; the leaf at {virt} maps {len:#x} bytes to {phys}, attributes {attr:#x}")
    }
}

impl core::error::Error for Violation {}

/// Returns a violation of `invariant` unless the values are equal.
pub(super) fn expect(
    invariant: u8,
    what: &'static str,
    of: impl Into<Subject>,
    expected: u64,
    found: u64,
) -> Result<(), Violation> {
    if expected == found {
        return Ok(());
    }
    let (of, place, leaf) = (of.into(), None, None);
    Err(Violation { invariant, what, of, place, expected, found, leaf })
}

/// Returns a violation of `invariant` unless `holds`.
pub(super) fn hold(
    invariant: u8,
    what: &'static str,
    of: impl Into<Subject>,
    holds: bool,
) -> Result<(), Violation> {
    expect(invariant, what, of, 1, u64::from(holds))
}
