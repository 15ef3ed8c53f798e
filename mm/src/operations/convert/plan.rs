//! What a conversion does, and whether it can be done.

use super::error::ConvertError;
use crate::addr::{Pfn, PfnRange, PhysRange};
use crate::alloc::isolate::next_used;
use crate::machine::Machine;
use crate::memmap::altmap::Altmap;
use crate::memmap::bad;
use crate::memmap::block::unit_bytes;
use crate::memmap::page::Owner;
use crate::memmap::placement::Placement;
use crate::memmap::record::Record;
use crate::memmap::seen::Seen;
use crate::memmap::whole::Whole;
use crate::paging::UnmapError;

/// The shares of a group, one in each of its blocks: where their descriptors are, and where they shall be.
#[derive(Clone, Copy)]
pub(super) struct Plan {
    /// All that is described: it may begin and end inside a block.
    pub(super) pfns: PfnRange,
    /// Pages of a block.
    pub(super) block: u64,
    /// Pages that a page of the memmap describes.
    described: u64,
}

impl Plan {
    /// The number of shares.
    pub(super) fn count(self) -> u64 {
        self.index_of(Pfn::new(self.pfns.end.get() - 1)) + 1
    }

    /// The share that has `pfn`.
    pub(super) fn index_of(self, pfn: Pfn) -> u64 {
        pfn.get() / self.block - self.pfns.start.get() / self.block
    }

    /// The frames of share `index`.
    pub(super) fn share(self, index: u64) -> PfnRange {
        let first = self.pfns.start.get() / self.block;
        let block = PfnRange::new(Pfn::new((first + index) * self.block), self.block);
        block.intersection(self.pfns).unwrap_or(PfnRange::EMPTY)
    }

    /// Where its memmap shall be.
    pub(super) fn head(self, index: u64) -> PfnRange {
        let share = self.share(index);
        PfnRange::new(share.start, share.pages() / self.described)
    }

    /// Where its memmap is in the group's: it ends before the next share, for a page is described by less than a page.
    pub(super) fn piece(self, index: u64) -> PfnRange {
        let before = self.share(index).start.offset_from(self.pfns.start);
        let start = self.pfns.start.add(before / self.described);
        PfnRange::new(start, self.head(index).pages())
    }
}

/// What converting `range` does, if it can be converted.
pub(super) fn plan_convert<M: Machine>(
    memmap: Whole<'_, M>,
    range: PhysRange,
) -> Result<Plan, ConvertError> {
    let not_whole = ConvertError::NotWholeSubsections { range, subsection: unit_bytes::<M>() };
    let pfns = memmap.whole_units(range).ok_or(not_whole)?;
    let id = memmap.block_at(range.start());
    let block = memmap.describe_block(id).ok_or(ConvertError::NoSuchBlock(id))?;
    let mut shares = memmap.shares(id).filter(|share| share.pfns.contains(pfns.start));
    let share = shares.next().ok_or(ConvertError::Hole { at: range.start() })?;
    let group = share.group.ok_or(ConvertError::NotPerRange(id, Placement::Boot))?;
    let whole = Altmap::of_memmap::<M>(group.pfns).described;
    let is_first = memmap.first_lot(&block).start == share.pfns.start;
    let is_per_range = is_first && block.placement == Placement::PerRange;
    if share.pfns.covers(whole) && !is_per_range {
        return Err(ConvertError::NotPerRange(id, Placement::PerBlock));
    }
    if whole != pfns {
        return Err(ConvertError::NotOnePiece(whole));
    }
    let block = memmap.block_size().pages::<M>();
    let plan = Plan { pfns, block, described: M::described_pages(1) };
    check_parts(*memmap, plan)?;
    check_poison(*memmap, plan)?;
    check_memmap_leaves(memmap, plan)?;
    Ok(plan)
}

/// Refuses where a leaf holds descriptors of several shares: live leaves are never split.
fn check_memmap_leaves<M: Machine>(memmap: Whole<'_, M>, plan: Plan) -> Result<(), ConvertError> {
    for share in (0..plan.count()).map(|index| plan.share(index)) {
        if let Some(leaf) = memmap.cut_leaf(memmap.windows().memmap_virt(share)) {
            let id = memmap.block_at(M::address(share.start));
            let cut = UnmapError::CutsLeaf { at: leaf.virt, len: leaf.len };
            return Err(ConvertError::Unmap(id, cut));
        }
    }
    Ok(())
}

/// Refuses a part that is offline in a block that is online: all that it has leaves, or comes back, at once. Only at its
/// ends a range can have one.
fn check_parts<M: Machine>(memmap: Seen<'_, M>, plan: Plan) -> Result<(), ConvertError> {
    for share in [0, plan.count() - 1].map(|index| plan.share(index)) {
        let id = memmap.block_at(M::address(share.start));
        let whole = memmap.block_record_of(id).is_some_and(Record::is_whole);
        if !whole && next_used(memmap, share, Owner::Offline).is_some() {
            return Err(ConvertError::OfflinePart(id, share));
        }
    }
    Ok(())
}

/// Refuses where a bad page could be given to the allocator, as one that held descriptors, or get descriptors: only the
/// bad pages that an online block's allocator had are known one by one.
fn check_poison<M: Machine>(memmap: Seen<'_, M>, plan: Plan) -> Result<(), ConvertError> {
    if memmap.page(plan.pfns.start).has_bad_memmap() {
        return Err(ConvertError::Poisoned(memmap.block_at(M::address(plan.pfns.start))));
    }
    for share in (1..plan.count()).map(|index| plan.share(index)) {
        let id = memmap.block_at(M::address(share.start));
        let record = memmap.block_record_of(id).ok_or(ConvertError::NoSuchBlock(id))?;
        if record.is_offline() && record.is_poisoned() && bad::is_in(memmap, id, share) {
            return Err(ConvertError::Poisoned(id));
        }
    }
    Ok(())
}
