//! Convert: give each block of a range that was added in one piece a memmap of its own, so that any of
//! them can be removed alone.
//!
//! ```text
//!   one memmap   [M0 M1 M2 M3 . . . .|. . . . . . . .|. . . . . . . .|. . . . . . . .]
//!   last first   [M0 M1 M2 .  . . . .|. . . . . . . .|. . . . . . . .|M3. . . . . . .]
//!                [M0 M1 .  .  . . . .|. . . . . . . .|M2. . . . . . .|M3. . . . . . .]
//!   one each     [M0 .  .  .  . . . .|M1. . . . . . .|M2. . . . . . .|M3. . . . . . .]
//! ```
//!
//! What a block has of the range is a share of it, with a memmap at its head: the first and the last may be less than a
//! block, and have neighbours that were added apart, whose memmap and pages stay as they are.
//!
//! ```text
//!   one memmap   - - a a[M0 M1 M2. .|. . . . . . . .|. . . .]b b b b      -: no memory, a, b: added apart
//!   one each     - - a a[M0 .  .  . .|M1. . . . . . .|M2. . .]b b b b
//! ```
//!
//! A share can be split in the same way: its end becomes a share of its own, which can go while the rest stays online.
//!
//! ```text
//!   one share    [M M M M . . . . . . . . . . . . . . . . . . . .]
//!   split        [M M M . . . . . . . . . . . . . .|M . . . . . .]      . in M's old place: free now
//! ```
//!
//! A leaf that has descriptors of both is mapped again with smaller ones; that takes a table, which may fail.
//!
//! First the heads of all shares but the first are emptied and claimed: that can fail, and is undone. Then block after
//! block is taken off its zone's lists and out of the caches; then, with its readers held off, the descriptors of its
//! share are copied to the head of that, and its memmap is mapped there: cleared, flushed, mapped; and it is put back on
//! the lists. A failure leaves it between two blocks, with all descriptors where they are mapped. There are three: a
//! reader stays, a CPU does not acknowledge the flush, or the mapper breaks its word. Nothing else fails:
//! `plan_convert` saw that no leaf goes past a share's memmap, the leaves are at least as large as before or go into the
//! tables that were there, and these tables stay.
//! Going backwards, each step leaves a whole range behind, one share shorter; and what a share's head holds of other
//! shares' descriptors is gone by the time it is needed. It may hold the last of its own, if the first share is so small
//! that the memmap of the next one reaches into that: then they are copied from the end to the start, so that each is
//! read before it is overwritten, and the other way round if the conversion fails.
//!
//! No zone is locked during the copy and the flush: the free extents of the block are isolated, so that no list leads to
//! them, and allocations take other memory.
//!
//! Look-ups in the block are held off during its flush, and no other flush is made with look-ups held off
//! ([`Convert::switch_memmap`] takes the gate). Why they have to be:
//!
//! - The descriptors of a block have one address, which depends on the page numbers only. From the moment that its
//!   entries are cleared until the last CPU has acknowledged, a CPU may use its old translation or none, so that a store
//!   is lost, or the access faults. Writing the new entries over the old ones shortens nothing: stores are still lost,
//!   and arm64 forbids it (break before make).
//! - Read-only old entries do not help either: look-ups write. A free claims its extent in the descriptor, and the
//!   kernel changes its own words there.
//! - The frames have a second address, in the linear map. To use it, each access to a descriptor would have to choose
//!   between two addresses. It would gain little: the copy needs look-ups held off in any case, since what they store
//!   after it would be lost, and takes longer than the flush.
//!
//! Look-ups in all other blocks continue. They use nothing that moves: if a block still shares the memmap, its
//! descriptors and its record lie before those that move, and the group's head is in the first block, which stays.
//!
//! No CPU waits for ever. The copy is bounded, and so is the flush ([`Tlb::flush`](crate::paging::Tlb::flush)): if a CPU
//! does not acknowledge, `convert` opens the gate and names the CPU. And every wait at that time serves the flush: that
//! for the block, in [`Readers::enter`]; those for the operation, of looks; and those for a lock, whose holder waits for
//! nothing, or in one of these ways.
//!
//! [`Readers::enter`]: crate::memmap::readers::Readers::enter

// UNSAFETY: copies descriptors between frames that no other code accesses.
#![expect(unsafe_code)]

mod error;
mod plan;

pub use error::ConvertError;

use self::plan::{Plan, plan_convert, plan_split};
use crate::addr::{Pfn, PfnRange, PhysAddr, PhysRange};
use crate::alloc::Allocator;
use crate::alloc::batch::Cached;
use crate::alloc::evacuate::{Evacuation, Stuck};
use crate::alloc::isolate::Area;
use crate::alloc::lists::FreeLists;
use crate::machine::Machine;
use crate::memmap::HeldOff;
use crate::memmap::altmap::Altmap;
use crate::memmap::block::{Block, BlockId, BlockState, BlockWord, pieces};
use crate::memmap::page::{Owner, PageState};
use crate::memmap::placement::Placement;
use crate::memmap::readers::Stays;
use crate::memmap::section::{Section, record_pfns, section_of};
use crate::memmap::share::move_record;
use crate::memmap::whole::Whole;
use crate::operations::Operations;
use crate::operations::notify::News;
use crate::operations::ranges::records_of;
use crate::paging::{MapError, UnmapError};
use crate::turn::Operation;

impl<M: Machine> Operations<M> {
    /// See [`Mm::convert`](crate::Mm::convert).
    pub(crate) fn convert(&self, range: PhysRange) -> Result<u64, ConvertError> {
        let operation = self.allocator.operation().ok_or(ConvertError::Busy)?;
        let plan = plan_convert(operation.seen(), range)?;
        carry_out(self, operation, plan)
    }

    /// See [`Mm::split_at`](crate::Mm::split_at).
    pub(crate) fn split_at(&self, at: PhysAddr) -> Result<(), ConvertError> {
        let operation = self.allocator.operation().ok_or(ConvertError::Busy)?;
        let plan = plan_split(operation.seen(), at)?;
        carry_out(self, operation, plan).map(drop)
    }
}

/// Gives each share of a plan its own memmap; returns their number.
fn carry_out<M: Machine>(
    operations: &Operations<M>,
    operation: Operation<'_, M>,
    plan: Plan,
) -> Result<u64, ConvertError> {
    let convert = Convert { allocator: &operations.allocator, memmap: operation.seen(), plan };
    convert.claim_heads()?;
    let alone = if operation.alone() { Ok(()) } else { Err(ConvertError::Busy) };
    alone.inspect_err(|_| convert.unclaim_heads(plan.count()))?;
    let moved = convert.move_memmaps();
    let first = moved.err().map_or(0, |(index, _)| index + 1);
    convert.unclaim_heads(first);
    operation.settle();
    let (start, end) = (M::address(plan.share(first).start), M::address(plan.pfns.end));
    let done = PhysRange::new(start, end.offset_from(start));
    operations.announce(done.filter(|done| !done.is_empty()).map(News::Converted));
    moved.map(|()| plan.count()).map_err(|(_, error)| error)
}

/// A range that is converted.
struct Convert<'m, M: Machine> {
    allocator: &'m Allocator<M>,
    memmap: Whole<'m, M>,
    plan: Plan,
}

impl<M: Machine> Convert<'_, M> {
    /// Gives each share its own memmap, the last one first; on failure that share and those below it still have one
    /// together.
    fn move_memmaps(&self) -> Result<(), (u64, ConvertError)> {
        for index in (1..self.plan.count()).rev() {
            self.move_memmap(index).map_err(|error| (index, error))?;
            self.give_piece(index);
        }
        self.note_memmap(0);
        Ok(())
    }

    /// The part of share `index` that becomes memmap and is not the group's, if its block is online.
    fn head_area(&self, index: u64) -> Option<Area> {
        let head = self.plan.head(index);
        Area::among(*self.memmap, head).filter(|area| area.pages != 0)
    }

    /// Empties the head of each share but the first, and claims it.
    fn claim_heads(&self) -> Result<(), ConvertError> {
        for index in 1..self.plan.count() {
            let Some(area) = self.head_area(index) else { continue };
            let emptied = Evacuation::begin(self.allocator, area).run(self.allocator, *self.memmap);
            let unusable = emptied.ok().and_then(|area| self.unusable_in(area.pfns));
            match emptied {
                Ok(area) if unusable.is_none() => {
                    area.claim(self.allocator, *self.memmap, Owner::Memmap)
                }
                emptied => {
                    if let Ok(area) = emptied {
                        area.end_isolation(self.allocator, *self.memmap);
                    }
                    self.unclaim_heads(index);
                    let id = self.memmap.block_at(M::address(area.pfns.start));
                    let held =
                        |pfn, by| ConvertError::InUse(id, pfn, by, self.allocator.owners.name(by));
                    return Err(match emptied {
                        Err(Stuck::NoRoom(order)) => ConvertError::NoRoom(id, order),
                        Err(Stuck::Held(pfn, owner)) => held(pfn, owner),
                        Ok(area) => held(area.pfns.start, unusable.unwrap_or(Owner::Poison)),
                    });
                }
            }
        }
        Ok(())
    }

    /// Whose pages are in an emptied range that the emptying leaves: bad ones.
    fn unusable_in(&self, pfns: PfnRange) -> Option<Owner> {
        self.memmap.extents(pfns).find_map(|(_, _, state)| match state {
            PageState::Used { owner, .. } => Some(owner),
            _ => None,
        })
    }

    /// Gives the heads of the shares below `end` back.
    fn unclaim_heads(&self, end: u64) {
        for index in 1..end {
            if let Some(area) = self.head_area(index) {
                area.unclaim(self.allocator, *self.memmap, Owner::Memmap);
            }
        }
    }

    /// The block of share `index`, as it is.
    fn block(&self, index: u64) -> Option<Block> {
        let id = self.memmap.block_at(M::address(self.plan.share(index).start));
        self.memmap.describe_block(id)
    }

    /// Moves the descriptors of the group's last share, `index`, to its head; on failure they are where they were.
    fn move_memmap(&self, index: u64) -> Result<(), ConvertError> {
        let id = self.memmap.block_at(M::address(self.plan.share(index).start));
        let known = self.block(index).ok_or(ConvertError::NoSuchBlock(id))?;
        let block = known.pfns;
        if let Some(area) = Area::of(*self.memmap, &known) {
            area.take_off_lists(self.allocator, *self.memmap);
        }
        // Before readers are held off: some of them may be about to lock a cache.
        let paused = Cached::of(self.allocator).pause_caches(block);
        let moved = self.move_alone(index, &known);
        // Its pages that are not memmap now.
        if let Some(area) = self.block(index).and_then(|block| Area::of(*self.memmap, &block)) {
            area.put_on_lists(self.allocator, *self.memmap);
        }
        drop(paused);
        moved
    }

    /// The same, with readers of the block held off. No list and no cache leads to its descriptors.
    fn move_alone(&self, index: u64, block: &Block) -> Result<(), ConvertError> {
        let gate = self.memmap.hold_off_readers(block.id);
        let gate = gate.map_err(|Stays(cpu)| ConvertError::ReadersStay(block.id, cpu))?;
        let claimed = self.head_area(index).map_or(0, |area| area.pages.into());
        let (from, to) = (self.plan.piece(index), self.plan.head(index));
        self.copy_frames(from, to.start);
        let moved = self.switch_memmap(&gate, index);
        moved.inspect_err(|_| self.copy_frames(to, from.start))?;
        self.move_records(index);
        self.note_memmap(index);
        self.count_memmap(block, claimed);
        Ok(())
    }

    /// Counts pages of a block that were managed and in use as its memmap, if it is online.
    fn count_memmap(&self, block: &Block, pages: u64) {
        let BlockState::Online(kind) = block.state else { return };
        let Some(record) = self.memmap.known_record_of(block.pfns.start) else { return };
        let mut zone = self.allocator.nodes.lock(block.node, kind);
        record.managed().sub(pages);
        zone.make_memmap(pages);
    }

    /// Copies whole frames, which no reader and no allocation looks at: if they overlap, first those that are
    /// overwritten.
    fn copy_frames(&self, from: PfnRange, to: Pfn) {
        let pages = from.pages();
        for index in 0..pages {
            let index = if from.start < to { pages - 1 - index } else { index };
            let source = self.memmap.machine().pointer(M::address(from.start.add(index)));
            let target = self.memmap.machine().pointer(M::address(to.add(index)));
            // SAFETY: both are whole frames of mapped RAM, and two of them, as `from` does not begin at `to`. The
            // source backs descriptors that nothing writes: readers of the block are drained and held off, no page of
            // it is in a cache or may enter one, and no list of the zone leads there. The target was claimed, or its
            // block is offline, or it backs descriptors of the same share that were copied before.
            unsafe { target.copy_from_nonoverlapping(source, M::PAGE_BYTES as usize) };
        }
    }

    /// Moves the memmap of share `index`, of the block whose readers `gate` holds off, to its head; on failure it is where
    /// it was. If a leaf has the end of the share before, that is mapped again, too, with smaller leaves.
    fn switch_memmap(&self, gate: &HeldOff<'_, M>, index: u64) -> Result<(), ConvertError> {
        let (id, share) = (BlockId::new(gate.block()), self.plan.share(index));
        let cut = self.memmap.cut_leaf(self.memmap.windows().memmap_virt(share));
        let before = cut.map(|_| PfnRange { end: share.start, ..self.plan.pfns });
        let all = before.map_or(share, |before| before.hull(share));
        let mut gather = self.allocator.gather_keeping_tables(self.memmap);
        let unmapped = self.memmap.unmap(self.memmap.windows().memmap_virt(all), &mut gather);
        let map_back = || {
            let from = before.map_or(self.plan.piece(index).start, |before| before.start);
            if let Err(error) = self.map(all, from) {
                log::error!("the descriptors of {id} are lost: {error}");
            }
        };
        gather.conclude(unmapped).map_err(|error| {
            if let UnmapError::NotFlushed(_) = error {
                map_back();
            }
            ConvertError::Unmap(id, error)
        })?;
        self.map_both(before, share).map_err(|error| {
            map_back();
            ConvertError::Map(id, error)
        })
    }

    /// Maps the memmap of `share` at its head, and that of what is `before` it where it was: in this order, so that the
    /// tables which the second needs are there. On failure neither is mapped.
    fn map_both(&self, before: Option<PfnRange>, share: PfnRange) -> Result<(), MapError> {
        self.map(share, share.start)?;
        let mapped = before.map_or(Ok(()), |before| self.map(before, before.start));
        mapped.inspect_err(|_| {
            let mut gather = self.allocator.gather(self.memmap);
            let unmapped = self.memmap.unmap(self.memmap.windows().memmap_virt(share), &mut gather);
            if let Err(error) = gather.conclude(unmapped) {
                log::error!("the descriptors of {share} stay at its head: {error}");
            }
        })
    }

    /// Maps the descriptors of `pfns` at frames from `to` on.
    fn map(&self, pfns: PfnRange, to: Pfn) -> Result<(), MapError> {
        self.allocator.map(self.memmap, &self.memmap.windows().memmap_mapping(pfns, to))
    }

    /// Moves the records of the group's last share to the descriptors of its own memmap, makes its first page a head,
    /// and has the group's head count without it. A record that is in the memmap of other memory stays there.
    fn move_records(&self, index: u64) {
        let own = Altmap::new::<M>(self.plan.share(index));
        let head = own.memmap.start;
        let group = PfnRange { end: self.plan.piece(index).end, ..self.plan.pfns };
        // The last first: the old places of the last ones may be the new places of the first.
        for first in records_of::<M>(own.described).rev() {
            let (to, word) =
                (own.record::<M>(first), self.memmap.sections().word(self.memmap.machine(), first));
            // What shares a record with memory before it leaves it there.
            let is_own = record_pfns::<M>(first).start >= head;
            let record = match is_own && group.contains(word.record()) {
                true => move_record(*self.memmap, first, to),
                false => self.memmap.hidden_section(first, word).record(),
            };
            match first == section_of::<M>(head) {
                true => record.starts().insert(Section::<M>::part(head)),
                false => record.set_group(Some(head)),
            }
            if record_pfns::<M>(first).start == head {
                record.set_group(None);
            }
        }
        self.forget_extents(own.memmap);
        for first in records_of::<M>(own.described) {
            self.memmap.page(own.record::<M>(first)).set_state(PageState::MemmapTail { head });
        }
        self.memmap.page(head).set_state(own.head_state::<M>());
        let rest = Altmap::new::<M>(PfnRange { end: own.described.start, ..self.plan.pfns });
        self.memmap.page(rest.memmap.start).set_state(rest.head_state::<M>());
    }

    /// Makes pages that were claimed, that were the group's, or of an offline block, tails of a memmap.
    fn forget_extents(&self, memmap: PfnRange) {
        let head = memmap.start;
        for (pfn, _, state) in self.memmap.extents(memmap) {
            if let PageState::Used { order, .. } = state
                && let Some(section) = self.memmap.known_section(pfn)
            {
                section.clear_head(pfn, order);
            }
        }
        self.set_initialised(memmap, PageState::MemmapTail { head });
    }

    /// Gives pages a state whose descriptors are initialised.
    fn set_initialised(&self, pfns: PfnRange, state: PageState) {
        for pfn in pfns.iter() {
            if let Some(section) = self.memmap.section_at(pfn)
                && section.record().initialised().has(Section::<M>::part(pfn))
            {
                section.page(pfn).set_state(state);
            }
        }
    }

    /// Gives the frames that held the descriptors of share `index` to the blocks that they lie in. Those that hold them
    /// again stay.
    fn give_piece(&self, index: u64) {
        let piece = self.plan.piece(index);
        let free = PfnRange { end: piece.end.min(self.plan.share(index).start), ..piece };
        pieces(free, self.plan.block).for_each(|pfns| self.give_frames(pfns));
    }

    /// Gives frames to the block that they lie in: to its allocator, or for its own descriptors.
    fn give_frames(&self, pfns: PfnRange) {
        let Some(record) = self.memmap.known_record_of(pfns.start) else { return };
        let word = record.block();
        let BlockState::Online(kind) = word.state else { return };
        // Before the lock, which other CPUs wait for: there may be many. The group's head does not count them any more,
        // so that a CPU which initialises the rest of their subsections makes them tails, too.
        self.set_initialised(pfns, PageState::Tail);
        let holder = self.plan.index_of(pfns.start);
        let head = Some(self.plan.head(holder)).filter(|_| holder > 0);
        let own = head.and_then(|head| head.intersection(pfns));
        let own = own.unwrap_or(PfnRange::new(pfns.start, 0));
        let free = PfnRange { start: own.end, ..pfns };
        let mut zone = self.allocator.nodes.lock(word.node, kind);
        record.managed().add(pfns.pages());
        zone.make_managed(pfns.pages());
        FreeLists::of(*self.memmap)
            .give_heads(own, |order| PageState::Used { order, owner: Owner::Memmap });
        FreeLists::of(*self.memmap).merge_range(&mut zone, free);
        record.free().add(free.pages());
        zone.make_free(free.pages());
    }

    /// Notes in the word of the block of share `index` that the share has a memmap of its own.
    fn note_memmap(&self, index: u64) {
        let start = self.plan.share(index).start;
        let Some(block) = self.block(index) else { return };
        let Some(record) = self.memmap.known_record_of(start) else { return };
        let is_first = self.memmap.first_lot(&block).start == start;
        let placement = if is_first { Placement::PerBlock } else { block.placement };
        let whole = block.whole && self.plan.share(index) == block.pfns;
        // The memmap, and what was emptied for it, may have been anywhere.
        let (described, dirty) = (true, u32::MAX);
        record.change_block(|word| BlockWord { placement, described, dirty, whole, ..word });
    }
}
