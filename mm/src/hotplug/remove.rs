//! Remove: make a range of offline blocks absent.
//!
//! ```text
//!   check -> sections Leaving, drain readers -> count them out of their groups -> unmap the memmap,
//!   backwards, a head's own page last -> unmap the linear range -> flush -> sections Absent
//! ```
//!
//! Nothing fails after the check and the drain, for nothing is allocated.

use super::add::{nodes_of, sections_of};
use crate::Mm;
use crate::addr::{PfnRange, PhysRange, VirtAddr, VirtRange};
use crate::altmap::Altmap;
use crate::block::{BlockId, BlockWord};
use crate::machine::Machine;
use crate::page::PageState;
use crate::paging::Mapper;
use crate::placement::Placement;
use crate::section::{Section, SectionState, SectionWord};
use crate::vmemmap::MachineGather;
use core::fmt;

/// Why a range was not removed. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemoveError {
    /// Another verb is running.
    Busy,
    /// The range is not whole, aligned memory blocks.
    NotWholeBlocks {
        /// The range.
        range: PhysRange,
        /// Bytes of a memory block.
        block: u64,
    },
    /// A block of the range is not there.
    NoSuchBlock(BlockId),
    /// A block of the range holds memory that the machine was started with.
    BootMemory(BlockId),
    /// A block of the range is online.
    NotOffline(BlockId),
    /// The memmap of a block also describes memory outside the range: it was added in one piece and
    /// can only be removed so.
    SplitsGroup {
        /// The first such block.
        block: BlockId,
        /// What has to be removed together.
        whole: PfnRange,
    },
    /// Some blocks of the range hold their memmap and others do not: they were added apart and must
    /// be removed apart.
    MixedPlacement(BlockId),
    /// A reader did not leave: it holds a page of the range for good.
    ReadersStay,
    /// An end of the range, or of its memmap, lies inside a leaf, or is not mapped at all: the mapper
    /// used a larger leaf than it was told to.
    CutsLeaf {
        /// The first address of the range that would be unmapped.
        virt: VirtAddr,
    },
}

impl fmt::Display for RemoveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy => f.write_str("another memory operation is running"),
            Self::NotWholeBlocks { range, block } => write!(
                f,
                "{range} ({:#x} bytes) is not whole aligned memory blocks of {block:#x} bytes",
                range.len()
            ),
            Self::NoSuchBlock(id) => write!(f, "{id} is not there"),
            Self::BootMemory(id) => {
                write!(f, "{id} is memory the machine was started with, it cannot be removed")
            }
            Self::NotOffline(id) => write!(f, "{id} is online"),
            Self::SplitsGroup { block, whole } => write!(
                f,
                "{block} was added with {whole} under one memmap, they can only be removed together"
            ),
            Self::MixedPlacement(id) => {
                write!(f, "{id} keeps its memmap elsewhere than the blocks before it")
            }
            Self::CutsLeaf { virt } => {
                write!(f, "what is mapped from {virt} on does not begin and end with a leaf")
            }
            Self::ReadersStay => f.write_str("a reader of the range does not leave"),
        }
    }
}

impl core::error::Error for RemoveError {}

/// A range that was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removed {
    /// The range.
    pub range: PhysRange,
    /// Bytes of memory outside the range that this gave back.
    pub system_bytes: u64,
}

impl<M: Machine> Mm<M> {
    /// Removes a range whose blocks are all offline, whole placement groups at a time.
    ///
    /// When this returns, nothing translates to the range any more, on any CPU.
    ///
    /// # Errors
    ///
    /// [`RemoveError`]; everything is then as it was.
    pub fn remove(&self, range: PhysRange) -> Result<Removed, RemoveError> {
        let _lock = self.verb().ok_or(RemoveError::Busy)?;
        let (pfns, placement) = self.check_remove(range)?;
        let before = self.frames.system_pages();

        self.set_words(pfns, SectionState::Leaving);
        if !self.readers.drain() {
            self.set_words(pfns, SectionState::Present);
            return Err(RemoveError::ReadersStay);
        }

        self.forget_blocks(range);
        let mut gather = self.gather();
        match placement {
            Placement::Boot => self.depopulate_to_system(pfns),
            Placement::PerRange | Placement::PerBlock => self.drop_groups(pfns, &mut gather),
        }
        self.unmap(Self::linear_virt(range), &mut gather);
        gather.flush();

        sections_of::<M>(pfns).for_each(|number| {
            self.sections.set_word(&self.machine, number, SectionWord::ABSENT);
        });
        nodes_of::<M>(pfns).rev().for_each(|section| self.release_node(section));
        let pages = before - self.frames.system_pages();
        Ok(Removed { range, system_bytes: pages * M::PAGE_BYTES })
    }

    fn check_remove(&self, range: PhysRange) -> Result<(PfnRange, Placement), RemoveError> {
        let checked = self.check_removable(range)?;
        for id in self.blocks_in(range) {
            let online = |section: &Section<'_, M>| section.word().state() != SectionState::Present;
            if self.sections_of_block(id).next().is_some_and(|section| online(&section)) {
                return Err(RemoveError::NotOffline(id));
            }
        }
        Ok(checked)
    }

    /// Whether `range` could be removed if its blocks were offline, and where its memmap is.
    pub(crate) fn check_removable(
        &self,
        range: PhysRange,
    ) -> Result<(PfnRange, Placement), RemoveError> {
        let size = self.block_size().bytes();
        let pfns =
            self.whole_blocks(range).ok_or(RemoveError::NotWholeBlocks { range, block: size })?;
        let mut first = None;
        for id in self.blocks_in(range) {
            let placement = self.check_block(id, pfns)?;
            let before = *first.get_or_insert(placement);
            if before.self_hosted() != placement.self_hosted() {
                return Err(RemoveError::MixedPlacement(id));
            }
        }
        self.check_leaves(Self::linear_virt(range))?;
        self.check_leaves(Self::memmap_virt(pfns))?;
        Ok((pfns, first.unwrap_or_default()))
    }

    /// Whether leaves begin and end where `range` does, so that unmapping it cannot fail.
    fn check_leaves(&self, range: VirtRange) -> Result<(), RemoveError> {
        let mapper = self.machine.mapper();
        let last = range.end().add(1_u64.wrapping_neg());
        let begins = mapper.translate(range.start()).is_some_and(|leaf| leaf.virt == range.start());
        let ends =
            mapper.translate(last).is_some_and(|leaf| leaf.virt.add(leaf.len) == range.end());
        if begins && ends { Ok(()) } else { Err(RemoveError::CutsLeaf { virt: range.start() }) }
    }

    /// Whether a block can go when `pfns` go, and where its memmap is.
    fn check_block(&self, id: BlockId, pfns: PfnRange) -> Result<Placement, RemoveError> {
        let section = self.sections_of_block(id).next().ok_or(RemoveError::NoSuchBlock(id))?;
        if section.word().boot() {
            return Err(RemoveError::BootMemory(id));
        }
        let placement = BlockWord::decode(section.record().block().get()).placement;
        if placement.self_hosted()
            && let Some(memmap) = self.memmap_at(section.group_head())
        {
            let whole = Altmap::of_memmap::<M>(memmap).described;
            if !pfns.covers(whole) {
                return Err(RemoveError::SplitsGroup { block: id, whole });
            }
        }
        Ok(placement)
    }

    fn set_words(&self, pfns: PfnRange, state: SectionState) {
        for number in sections_of::<M>(pfns) {
            let word = self.sections.word(&self.machine, number).with_state(state);
            self.sections.set_word(&self.machine, number, word);
        }
    }

    /// Counts the sections of `pfns` out of their groups, the last one first, and unmaps the memmaps
    /// when that is done: backwards, so that a head's own page goes after all that its group describes.
    fn drop_groups(&self, pfns: PfnRange, gather: &mut MachineGather<'_, M>) {
        for number in sections_of::<M>(pfns).rev() {
            let word = self.sections.word(&self.machine, number);
            let head = self.page(Section::with_word(&self.machine, number, word).group_head());
            match head.state() {
                Some(PageState::MemmapHead { sections, pages }) if sections > 1 => {
                    head.set_state(PageState::MemmapHead { sections: sections - 1, pages });
                }
                // The group's last section: its first page is no head any more.
                _ => head.set_state(PageState::Tail),
            }
        }
        self.unmap(Self::memmap_virt(pfns), gather);
    }
}
