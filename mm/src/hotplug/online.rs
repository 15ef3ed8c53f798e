//! Online: give a block's pages to the allocator, but for those that hold its range's memmap.

use crate::Mm;
use crate::addr::PfnRange;
use crate::block::{Block, BlockId, BlockState, BlockWord};
use crate::machine::Machine;
use crate::section::SectionState;
use crate::zone::{PageCounts, ZoneKind};
use core::fmt;

/// Why a block was not brought online. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnlineError {
    /// Another verb is running.
    Busy,
    /// There is no such block.
    NoSuchBlock(BlockId),
    /// The block is online.
    AlreadyOnline(BlockId),
    /// The block can be removed, so its memory cannot serve as system memory.
    NotSystemMemory(BlockId),
}

impl fmt::Display for OnlineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy => f.write_str("another memory operation is running"),
            Self::NoSuchBlock(id) => write!(f, "{id} is not there"),
            Self::AlreadyOnline(id) => write!(f, "{id} is online already"),
            Self::NotSystemMemory(id) => {
                write!(f, "{id} can be removed, so it cannot be system memory")
            }
        }
    }
}

impl core::error::Error for OnlineError {}

impl<M: Machine> Mm<M> {
    /// Brings an offline block online in zone `kind` of its node.
    ///
    /// A block that is memmap from end to end comes online too, and gives the allocator nothing.
    /// Takes the same few steps whatever the block holds: no descriptor is written but the heads of
    /// the extents the block falls into.
    ///
    /// # Errors
    ///
    /// [`OnlineError`].
    pub fn online(&self, id: BlockId, kind: ZoneKind) -> Result<Block, OnlineError> {
        let _lock = self.hotplug.try_lock().ok_or(OnlineError::Busy)?;
        let section = self.sections_of_block(id).next().ok_or(OnlineError::NoSuchBlock(id))?;
        let record = section.record();
        let word = BlockWord::decode(record.block().get());
        if word.state != BlockState::Offline {
            return Err(OnlineError::AlreadyOnline(id));
        }
        if kind == ZoneKind::System {
            return Err(OnlineError::NotSystemMemory(id));
        }

        let pfns = self.block_pfns(id);
        let memmap = self.memmap_in(section, pfns).unwrap_or(PfnRange::new(pfns.start, 0));
        let usable = PfnRange { start: memmap.end, end: pfns.end };
        let counts = PageCounts {
            present: pfns.pages(),
            managed: usable.pages(),
            memmap: memmap.pages(),
            free: usable.pages(),
        };

        let mut zone = self.nodes.lock(word.node, kind);
        self.insert_range(&mut zone, usable);
        record.managed().set(counts.managed);
        record.free().set(counts.free);
        record.block().set(BlockWord { state: BlockState::Online(kind), ..word }.encode());
        self.set_block_state(id, SectionState::Online);
        zone.counts = zone.counts.plus(counts);
        self.nodes.set_populated(word.node, kind, true);
        drop(zone);

        self.describe_block(id).ok_or(OnlineError::NoSuchBlock(id))
    }

    /// Moves the sections of a block to `state`.
    pub(super) fn set_block_state(&self, id: BlockId, state: SectionState) {
        for section in self.sections_of_block(id) {
            let word = section.word().with_state(state);
            self.sections.set_word(&self.machine, section.number(), word);
        }
    }
}
