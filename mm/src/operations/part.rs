//! A part of an online block goes offline, and comes back: memory that was added at once to a block with other memory.
//!
//! ```text
//!   online    [ M a a a a a a M b b b b b ]  b: used pages are moved away, free ones are isolated
//!   a part    [ M a a a a a a M - - - - - ]  -: held offline (`Owner::Offline`), still counted in the block
//!                             |       ^ scrubbed here
//!             [ M a a a a a a . . . . . . ]  removed; a was online all the time
//! ```
//!
//! The pages of the part are isolated and moved as those of a block that goes offline; the pages of others are neither
//! moved nor isolated. A part is exactly what one add brought to the block, its memmap included: a part of that would
//! leave without its memmap, or with that of its neighbours.

use crate::addr::{PfnRange, PhysRange};
use crate::alloc::Waits;
use crate::alloc::isolate::Area;
use crate::alloc::zone::{PageCounts, ZoneKind};
use crate::machine::Machine;
use crate::memmap::block::{Block, BlockId, BlockState};
use crate::memmap::page::{Owner, PageState};
use crate::memmap::seen::Seen;
use crate::memmap::share::Lot;
use crate::operations::Operations;
use crate::operations::notify::Event;
use crate::operations::offline::{OfflineError, OfflineOp, change};
use crate::operations::online::OnlineError;

impl<M: Machine> Operations<M> {
    /// See [`Mm::offline_part`](crate::Mm::offline_part).
    pub(crate) fn offline_part(&self, id: BlockId, range: PhysRange) -> Result<(), OfflineError> {
        self.start_offline_part(id, range)?.run()
    }

    /// See [`Mm::start_offline_part`](crate::Mm::start_offline_part).
    pub(crate) fn start_offline_part(
        &self,
        id: BlockId,
        range: PhysRange,
    ) -> Result<OfflineOp<'_, M>, OfflineError> {
        let turn = self.allocator.take_turn().ok_or(OfflineError::Busy)?;
        let area = check_part(turn.seen(), id, range)?;
        Ok(OfflineOp::begin(self, id, area, true))
    }

    /// See [`Mm::online_part`](crate::Mm::online_part).
    pub(crate) fn online_part(&self, id: BlockId, range: PhysRange) -> Result<(), OnlineError> {
        let turn = self.allocator.take_turn().ok_or(OnlineError::Busy)?;
        let memmap = turn.seen();
        let block = memmap.describe_block(id).ok_or(OnlineError::NoSuchBlock(id))?;
        let share = one_share(memmap, id, range).filter(|lot| is_offline(memmap, lot.usable));
        let area = share.and_then(|lot| area_of(&block, lot));
        let area = area.ok_or(OnlineError::AlreadyOnline(id))?;
        let change = change(id, &area);
        let agreed = self.notify_or_veto(Event::GoingOnline, Event::CancelOnline, &change);
        agreed.map_err(|veto| OnlineError::Vetoed(id, veto))?;
        let operation = Waits::of(&self.allocator).begin(turn).map_err(|_turn| {
            self.notify_reverse(Event::CancelOnline, &change);
            OnlineError::Busy
        })?;
        area.unclaim(&self.allocator, *operation.seen(), Owner::Offline);
        operation.settle();
        self.notify(Event::Online, &change);
        Ok(())
    }
}

/// The usable pages of what `range` has of block `id`, if that can go offline apart.
fn check_part<M: Machine>(
    memmap: Seen<'_, M>,
    id: BlockId,
    range: PhysRange,
) -> Result<Area, OfflineError> {
    let pfns = memmap.whole_units(range).map_err(OfflineError::NotWholeSubsections)?;
    let block = memmap.describe_block(id).ok_or(OfflineError::NoSuchBlock(id))?;
    match block {
        Block { state: BlockState::Offline, .. } => return Err(OfflineError::AlreadyOffline(id)),
        Block { state: BlockState::Online(ZoneKind::System), .. } => {
            return Err(OfflineError::SystemMemory(id));
        }
        Block { boot: true, .. } => return Err(OfflineError::BootMemory(id)),
        _ => {}
    }
    let part = block.pfns.intersection(pfns).ok_or(OfflineError::NothingThere(id))?;
    let mut shares = memmap.shares(id).map(|share| share.pfns);
    if shares.all(|share| part.covers(share)) {
        return Err(OfflineError::WholeBlock(id));
    }
    let share = memmap.shares(id).map(|share| share.pfns);
    let mut share = share.filter(|share| share.intersection(part).is_some());
    let share = share.next().ok_or(OfflineError::NothingThere(id))?;
    let lot = one_share(memmap, id, range);
    let lot = lot.ok_or(OfflineError::NotOneShare { block: id, part, share })?;
    // A share without usable pages is: there is nothing to take offline.
    if is_offline(memmap, lot.usable) {
        return Err(OfflineError::AlreadyOffline(id));
    }
    area_of(&block, lot).ok_or(OfflineError::AlreadyOffline(id))
}

/// What `range` has of a block, if that is one share.
fn one_share<M: Machine>(memmap: Seen<'_, M>, id: BlockId, range: PhysRange) -> Option<Lot> {
    let here = memmap.block_pfns(id).intersection(M::pfns(range))?;
    memmap.lots(id).find(|lot| lot.start == here.start && lot.usable.end == here.end)
}

/// The usable pages of a share, if its block is online.
fn area_of(block: &Block, lot: Lot) -> Option<Area> {
    let BlockState::Online(kind) = block.state else { return None };
    Some(Area::whole(lot.usable, block.node, kind))
}

/// Whether `pfns`, usable pages of an online block, are those of a part that is offline.
fn is_offline<M: Machine>(memmap: Seen<'_, M>, pfns: PfnRange) -> bool {
    let away =
        |state| matches!(state, PageState::Used { owner: Owner::Offline | Owner::Poison, .. });
    memmap.extents(pfns).all(|(_, _, state)| away(state))
}

/// Whether what `pfns` has of an online block is offline, and other memory of the block is there.
pub(super) fn is_offline_part<M: Machine>(
    memmap: Seen<'_, M>,
    id: BlockId,
    pfns: PfnRange,
) -> bool {
    let (mut away, mut stays) = (true, false);
    for lot in memmap.lots(id) {
        match pfns.contains(lot.start) {
            true => away &= is_offline(memmap, lot.usable),
            false => stays = true,
        }
    }
    away && stays
}

/// The pages of what `pfns`, whole shares, has of a block: none of them is free.
pub(super) fn counts_of<M: Machine>(
    memmap: Seen<'_, M>,
    id: BlockId,
    pfns: PfnRange,
) -> PageCounts {
    let lots = memmap.lots(id).filter(|lot| pfns.contains(lot.start));
    let counts = lots.map(|lot| PageCounts::given(lot.pages(), lot.usable.pages()));
    let all = counts.fold(PageCounts::default(), PageCounts::plus);
    PageCounts { free: 0, ..all }
}
