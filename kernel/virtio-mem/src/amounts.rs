//! How much of a device is to be plugged and unplugged: what its host requests, and what is needed.

use hotmem::{BlockState, Machine, Mm, PhysRange, Removability};

use super::device::Device;
use super::need::Need;
use super::pieces::{Piece, Pieces, Stage};
use super::transport::{Board, Transport};

/// What decides.
pub(crate) struct Amounts<'a, 'm, M: Machine, C> {
    pub(crate) mm: &'m Mm<M>,
    pub(crate) need: &'a Need,
    pub(crate) pieces: &'a Pieces,
    pub(crate) time: &'a C,
}

impl<'m, M: Machine, C: Board> Amounts<'_, 'm, M, C> {
    /// Bytes that a device may plug, and that are wanted: whole units.
    pub(crate) fn wanted<T: Transport>(&self, device: &Device<'m, M, T>) -> u64 {
        let missing = device.missing();
        if missing == 0 || device.dead.is_some() || device.pauses(self.time) {
            return 0;
        }
        let wanted = self.need.wanted(self.mm, self.pending());
        missing.min(wanted.div_ceil(device.unit).saturating_mul(device.unit))
    }

    /// Bytes that are plugged, and do not count as free yet.
    pub(crate) fn pending(&self) -> u64 {
        let waits = |piece: &&Piece| match piece.stage {
            Stage::New | Stage::Announced => true,
            Stage::Held => piece.offline && !is_online(self.mm, piece.range),
            _ => false,
        };
        self.pieces.all().iter().filter(waits).map(|piece| piece.range.len()).sum()
    }

    /// Bytes that a device is to unplug: what it must, or what can be spared if that is more. Whole units.
    pub(crate) fn excess<T: Transport>(&self, device: &Device<'m, M, T>) -> u64 {
        if device.dead.is_some() || device.pauses(self.time) {
            return 0;
        }
        let spare = if device.keeps.is_on(self.time) { 0 } else { device.plugged };
        let surplus = self.need.surplus(self.mm, device.unit).min(spare);
        device.excess().max(surplus / device.unit * device.unit)
    }

    /// Whether free memory requires something of a device.
    pub(crate) fn is_due<T: Transport>(&self, device: &Device<'m, M, T>) -> bool {
        !self.need.is_eager() && (self.wanted(device) != 0 || self.excess(device) != 0)
    }
}

/// Whether the memory of a piece that was added is online.
pub(crate) fn is_online<M: Machine>(mm: &Mm<M>, range: PhysRange) -> bool {
    let info = mm.page_info(M::pfns(range).start);
    info.is_some_and(|info| info.block_state != BlockState::Offline)
}

/// Bytes of a piece that are in use.
pub(crate) fn used_bytes<M: Machine>(mm: &Mm<M>, range: PhysRange) -> u64 {
    let block = mm.block_size().bytes();
    if range.start().get().is_multiple_of(block) && range.len().is_multiple_of(block) {
        // The counts of its blocks say it.
        let used = mm.blocks_in(range).filter_map(|id| mm.block(id));
        let pages = used.map(|block| block.counts.managed.saturating_sub(block.counts.free));
        return pages.sum::<u64>() * M::PAGE_BYTES;
    }
    match mm.explain_remove(range) {
        Removability::Now => 0,
        Removability::AfterMoving { pages, .. } => pages * M::PAGE_BYTES,
        // After all others.
        Removability::Blocked(_) => u64::MAX,
    }
}
