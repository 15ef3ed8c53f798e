//! What a conversion does, and whether it can be done.

use super::error::ConvertError;
use crate::addr::{Pfn, PfnRange, PhysAddr, PhysRange};
use crate::alloc::isolate::next_used;
use crate::machine::Machine;
use crate::memmap::altmap::Altmap;
use crate::memmap::bad;
use crate::memmap::block::{BlockId, unit_bytes};
use crate::memmap::page::Owner;
use crate::memmap::placement::Placement;
use crate::memmap::record::Record;
use crate::memmap::seen::Seen;
use crate::memmap::whole::Whole;
use crate::paging::UnmapError;

/// The shares that a group becomes: where their descriptors are, and where they shall be.
#[derive(Clone, Copy)]
pub(super) struct Plan {
    /// All that is described: it may begin and end inside a block.
    pub(super) pfns: PfnRange,
    /// Where the second share begins.
    second: Pfn,
    /// Pages of a block: where each of the others begins.
    pub(super) block: u64,
    /// Pages that a page of the memmap describes.
    described: u64,
}

impl Plan {
    /// The shares of `pfns`, of which the second begins at `second`, and each after that with a block.
    fn of<M: Machine>(pfns: PfnRange, second: Pfn, block: u64) -> Self {
        Self { pfns, second, block, described: M::described_pages(1) }
    }

    /// The number of shares.
    pub(super) fn count(self) -> u64 {
        self.index_of(Pfn::new(self.pfns.end.get() - 1)) + 1
    }

    /// The share that has `pfn`.
    pub(super) fn index_of(self, pfn: Pfn) -> u64 {
        let past = pfn.get().checked_sub(self.second.get());
        past.map_or(0, |past| (past + self.second.get() % self.block) / self.block + 1)
    }

    /// The frames of share `index`.
    pub(super) fn share(self, index: u64) -> PfnRange {
        let start = |index: u64| match index {
            0 => self.pfns.start,
            1 => self.second,
            _ => Pfn::new((self.second.get() / self.block + index - 1) * self.block),
        };
        PfnRange { start: start(index), end: start(index + 1).min(self.pfns.end) }
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
    let pfns = memmap.whole_units(range).map_err(ConvertError::NotWholeSubsections)?;
    let id = memmap.block_at(range.start());
    let block = memmap.describe_block(id).ok_or(ConvertError::NoSuchBlock(id))?;
    let (share, whole) = find_share(*memmap, id, pfns.start)?;
    let is_first = memmap.first_lot(&block).start == share.start;
    let is_per_range = is_first && block.placement == Placement::PerRange;
    if share.covers(whole) && !is_per_range {
        return Err(ConvertError::NotPerRange(id, Placement::PerBlock));
    }
    if whole != pfns {
        return Err(ConvertError::NotOnePiece(whole));
    }
    let plan = Plan::of::<M>(pfns, block.pfns.end.min(pfns.end), block.pfns.pages());
    check(memmap, plan)?;
    check_memmap_leaves(memmap, plan)?;
    Ok(plan)
}

/// What splitting the share around `at` there does, if it can be split.
pub(super) fn plan_split<M: Machine>(
    memmap: Whole<'_, M>,
    at: PhysAddr,
) -> Result<Plan, ConvertError> {
    let range = PhysRange::new(at, unit_bytes::<M>()).unwrap_or_default();
    let units = memmap.whole_units(range).map_err(ConvertError::NotWholeSubsections)?;
    let second = units.start;
    let id = memmap.block_at(at);
    let block = memmap.describe_block(id).ok_or(ConvertError::NoSuchBlock(id))?;
    let (share, whole) = find_share(*memmap, id, second)?;
    if !share.covers(whole) {
        return Err(ConvertError::NotOnePiece(whole));
    }
    if share.start == second {
        return Err(ConvertError::NotPerRange(id, Placement::PerBlock));
    }
    let plan = Plan::of::<M>(share, second, block.pfns.pages());
    check(memmap, plan)?;
    check_linear_leaves(memmap, plan)?;
    Ok(plan)
}

/// The share of block `id` that has `pfn`, and all that its memmap describes.
fn find_share<M: Machine>(
    memmap: Seen<'_, M>,
    id: BlockId,
    pfn: Pfn,
) -> Result<(PfnRange, PfnRange), ConvertError> {
    let share = memmap.shares(id).find(|share| share.pfns.contains(pfn));
    let share = share.ok_or(ConvertError::Hole(M::address(pfn)))?;
    let group = share.group.ok_or(ConvertError::NotPerRange(id, Placement::Boot))?;
    Ok((share.pfns, Altmap::of_memmap::<M>(group.pfns).described))
}

/// Refuses memory of which a part is offline or bad.
fn check<M: Machine>(memmap: Whole<'_, M>, plan: Plan) -> Result<(), ConvertError> {
    check_parts(*memmap, plan)?;
    check_poison(*memmap, plan)
}

/// Refuses where a leaf of the linear map has memory of both shares: it cannot be unmapped, for its memory is in use.
fn check_linear_leaves<M: Machine>(memmap: Whole<'_, M>, plan: Plan) -> Result<(), ConvertError> {
    if memmap.machine().linear_map_is_complete() {
        return Ok(());
    }
    let share = plan.share(1);
    let range = PhysRange::new(M::address(share.start), share.pages() * M::PAGE_BYTES);
    let virt = memmap.windows().linear_virt(range.unwrap_or_default());
    memmap.cut_leaf(virt).map_or(Ok(()), |leaf| {
        let cut = UnmapError::CutsLeaf { at: leaf.virt, len: leaf.len };
        Err(ConvertError::Unmap(memmap.block_at(M::address(share.start)), cut))
    })
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
