//! Offline: take a block's pages back from the allocator. Memmap pages never stand in the way.

use crate::Mm;
use crate::addr::Pfn;
use crate::block::{Block, BlockId, BlockState, BlockWord};
use crate::machine::Machine;
use crate::page::{Owner, PageState};
use crate::section::SectionState;
use crate::zone::PageCounts;
use core::fmt;

/// Why a block stayed online (or was not). Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OfflineError {
    /// Another verb is running.
    Busy,
    /// There is no such block.
    NoSuchBlock(BlockId),
    /// The block is offline.
    AlreadyOffline(BlockId),
    /// The block holds memory that the machine was started with.
    BootMemory(BlockId),
    /// Pages of the block are in use.
    InUse {
        /// The block.
        block: BlockId,
        /// How many pages are in use.
        pages: u64,
        /// The first of them, and who holds it; `None` if it was freed meanwhile.
        first: Option<(Pfn, Owner)>,
    },
}

impl fmt::Display for OfflineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy => f.write_str("another memory operation is running"),
            Self::NoSuchBlock(id) => write!(f, "{id} is not there"),
            Self::AlreadyOffline(id) => write!(f, "{id} is offline already"),
            Self::BootMemory(id) => {
                write!(f, "{id} is memory the machine was started with, it stays online")
            }
            Self::InUse { block, pages, first: Some((pfn, owner)) } => write!(
                f,
                "{block}: {pages} pages are in use, the first is {pfn}, held by {}",
                owner.name()
            ),
            Self::InUse { block, pages, first: None } => {
                write!(f, "{block}: {pages} pages were in use")
            }
        }
    }
}

impl core::error::Error for OfflineError {}

impl<M: Machine> Mm<M> {
    /// Takes a block offline, if none of its pages is in use.
    ///
    /// # Errors
    ///
    /// [`OfflineError`]; the block is then as it was.
    pub fn offline(&self, id: BlockId) -> Result<Block, OfflineError> {
        let _lock = self.hotplug.try_lock().ok_or(OfflineError::Busy)?;
        let section = self.sections_of_block(id).next().ok_or(OfflineError::NoSuchBlock(id))?;
        if section.word().boot() {
            return Err(OfflineError::BootMemory(id));
        }
        let block = self.describe_block(id).ok_or(OfflineError::NoSuchBlock(id))?;
        let BlockState::Online(kind) = block.state else {
            return Err(OfflineError::AlreadyOffline(id));
        };

        let record = section.record();
        let mut zone = self.nodes.lock(block.node, kind);
        let managed = record.managed().get();
        let used = managed - record.free().get();
        if used != 0 {
            drop(zone);
            return Err(OfflineError::InUse {
                block: id,
                pages: used,
                first: self.first_used(block),
            });
        }

        // All free, so merged: as many extents as the block had when it came online.
        for (pfn, _, state) in self.extents(block.pfns) {
            if let PageState::Free { order } = state {
                self.unlink(&mut zone, pfn, order);
            }
        }
        let memmap = block.counts.memmap;
        let present = managed + memmap;
        zone.counts = zone.counts.minus(PageCounts { present, managed, memmap, free: managed });
        self.nodes.set_populated(block.node, kind, zone.counts.present != 0);
        for section in self.sections_of_block(id) {
            section.record().initialised().clear();
            section.record().heads().clear();
        }
        record.managed().set(0);
        record.free().set(0);
        let word = BlockWord::decode(record.block().get());
        record.block().set(BlockWord { state: BlockState::Offline, ..word }.encode());
        self.set_block_state(id, SectionState::Present);
        drop(zone);

        self.describe_block(id).ok_or(OfflineError::NoSuchBlock(id))
    }

    /// The first page of a block that is in use, and who holds it.
    fn first_used(&self, block: Block) -> Option<(Pfn, Owner)> {
        self.extents(block.pfns).find_map(|(pfn, _, state)| match state {
            PageState::Used { owner, .. } => Some((pfn, owner)),
            _ => None,
        })
    }
}
