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
//! First the heads of all blocks are emptied and claimed: that can fail, and is undone. Then block after block is taken
//! off its zone's lists and out of the caches; then, with its readers held off, its descriptors are copied to its head
//! and its memmap is mapped there: cleared, flushed, mapped; and it is put back on the lists. A failure leaves it between
//! two blocks, with all descriptors where they are mapped. There are three: a reader stays, a CPU does not acknowledge
//! the flush, or the mapper breaks its word. Nothing else fails: `plan_convert` saw that no leaf goes past a block's
//! memmap, the leaves are as large as before, and their tables stay.
//! Going backwards, each step leaves a whole range behind, one block shorter; and what a block's head holds of other
//! blocks' descriptors is gone by the time it is needed.
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

use self::plan::{Plan, plan_convert};
use crate::addr::{Pfn, PfnRange, PhysRange};
use crate::alloc::Allocator;
use crate::alloc::batch::Cached;
use crate::alloc::evacuate::{Evacuation, Stuck};
use crate::alloc::isolate::Area;
use crate::alloc::lists::FreeLists;
use crate::machine::Machine;
use crate::memmap::HeldOff;
use crate::memmap::altmap::Altmap;
use crate::memmap::block::{BlockId, BlockState, BlockWord};
use crate::memmap::page::{Owner, PageState};
use crate::memmap::placement::Placement;
use crate::memmap::readers::Stays;
use crate::memmap::record::Part;
use crate::memmap::section::{Section, section_of};
use crate::memmap::whole::Whole;
use crate::operations::Operations;
use crate::operations::notify::News;
use crate::operations::ranges::records_of;
use crate::paging::UnmapError;

impl<M: Machine> Operations<M> {
    /// See [`Mm::convert`](crate::Mm::convert).
    pub(crate) fn convert(&self, range: PhysRange) -> Result<u64, ConvertError> {
        let operation = self.allocator.operation().ok_or(ConvertError::Busy)?;
        let memmap = operation.seen();
        let plan = plan_convert(memmap, range)?;
        let convert = Convert { allocator: &self.allocator, memmap, plan };
        convert.claim_heads()?;
        let alone = if operation.alone() { Ok(()) } else { Err(ConvertError::Busy) };
        alone.inspect_err(|_| convert.unclaim_heads(plan.count()))?;
        let moved = convert.move_memmaps();
        let first = moved.err().map_or(0, |(index, _)| index + 1);
        convert.unclaim_heads(first);
        operation.settle();
        let start = M::address(plan.block(first).start);
        let done = PhysRange::new(start, range.end().offset_from(start));
        self.announce(done.filter(|done| !done.is_empty()).map(News::Converted));
        moved.map(|()| plan.count()).map_err(|(_, error)| error)
    }
}

/// A range that is converted.
struct Convert<'m, M: Machine> {
    allocator: &'m Allocator<M>,
    memmap: Whole<'m, M>,
    plan: Plan,
}

impl<M: Machine> Convert<'_, M> {
    /// Gives each block its own memmap, the last one first; on failure that block and those below it still
    /// share one.
    fn move_memmaps(&self) -> Result<(), (u64, ConvertError)> {
        for index in (1..self.plan.count()).rev() {
            self.move_memmap(index).map_err(|error| (index, error))?;
            self.give_piece(index);
        }
        self.set_placement(self.plan.block(0), Placement::PerBlock);
        Ok(())
    }

    /// The part of block `index` that becomes memmap, if the block is online and its head is not memmap
    /// of the group's.
    fn head_area(&self, index: u64) -> Option<Area> {
        let head = self.plan.head(index);
        Area::among(*self.memmap, head).filter(|area| area.pfns == head)
    }

    /// Empties the head of each block but the first, and claims it.
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

    /// Whose pages are in an emptied range that the emptying leaves: bad ones, and those that are offline.
    fn unusable_in(&self, pfns: PfnRange) -> Option<Owner> {
        self.memmap.extents(pfns).find_map(|(_, _, state)| match state {
            PageState::Used { owner, .. } => Some(owner),
            _ => None,
        })
    }

    /// Gives the heads of the blocks below `end` back.
    fn unclaim_heads(&self, end: u64) {
        for index in 1..end {
            if let Some(area) = self.head_area(index) {
                area.unclaim(self.allocator, *self.memmap, Owner::Memmap);
            }
        }
    }

    /// Moves the descriptors of the group's last block, `index`, to the block's head; on failure they are
    /// where they were.
    fn move_memmap(&self, index: u64) -> Result<(), ConvertError> {
        let block = self.plan.block(index);
        let id = self.memmap.block_at(M::address(block.start));
        let old = self.memmap.block_record(section_of::<M>(block.start));
        let old = old.ok_or(ConvertError::NoSuchBlock(id))?;
        let word = old.block();
        if let Some(area) = Area::among(*self.memmap, block) {
            area.take_off_lists(self.allocator, *self.memmap);
        }
        // Before readers are held off: some of them may be about to lock a cache.
        let paused = Cached::of(self.allocator).pause_caches(block);
        let moved = self.move_alone(index, id, word);
        // Its pages that are not memmap now.
        if let Some(area) = Area::among(*self.memmap, block) {
            area.put_on_lists(self.allocator, *self.memmap);
        }
        drop(paused);
        moved
    }

    /// The same, with readers of the block held off. No list and no cache leads to its descriptors.
    fn move_alone(&self, index: u64, id: BlockId, word: BlockWord) -> Result<(), ConvertError> {
        let gate = self.memmap.hold_off_readers(id);
        let gate = gate.map_err(|Stays(cpu)| ConvertError::ReadersStay(cpu))?;
        self.copy_frames(self.plan.piece(index).start, self.plan.head(index));
        let (from, to) = (self.plan.piece(index).start, self.plan.head(index).start);
        self.switch_memmap(&gate, from, to)?;
        self.move_records(index);
        self.set_placement(self.plan.block(index), Placement::PerBlock);
        self.count_memmap(self.plan.block(index), word);
        Ok(())
    }

    /// Counts pages of a block that were managed and in use as its memmap, if it is online.
    fn count_memmap(&self, block: PfnRange, word: BlockWord) {
        let BlockState::Online(kind) = word.state else { return };
        let Some(record) = self.memmap.known_block_record(section_of::<M>(block.start)) else {
            return;
        };
        let mut zone = self.allocator.nodes.lock(word.node, kind);
        record.managed().sub(self.plan.memmap_pages);
        zone.make_memmap(self.plan.memmap_pages);
    }

    /// Copies whole frames, which no reader and no allocation looks at.
    fn copy_frames(&self, from: Pfn, to: PfnRange) {
        for (index, target) in to.iter().enumerate() {
            let source = self.memmap.machine().pointer(M::address(from.add(index as u64)));
            let target = self.memmap.machine().pointer(M::address(target));
            // SAFETY: both are whole frames of mapped RAM, apart from each other. The source backs
            // descriptors that nothing writes: readers of the block are drained and held off, no page of it is in a cache
            // or may enter one, and no list of the zone leads there. The target was claimed, or its block is offline.
            unsafe { target.copy_from_nonoverlapping(source, M::PAGE_BYTES as usize) };
        }
    }

    /// Moves the memmap of the block whose readers `gate` holds off from the frames at `from` to those at `to`; on failure
    /// it is as it was.
    fn switch_memmap(&self, gate: &HeldOff<'_, M>, from: Pfn, to: Pfn) -> Result<(), ConvertError> {
        let id = BlockId::new(gate.block());
        let described = self.memmap.block_pfns(id);
        let mut gather = self.allocator.gather_keeping_tables(self.memmap);
        let unmapped = self.memmap.unmap(self.memmap.windows().memmap_virt(described), &mut gather);
        let map = |backing| {
            self.allocator
                .map(self.memmap, &self.memmap.windows().memmap_mapping(described, backing))
        };
        let map_back = || {
            if let Err(error) = map(from) {
                log::error!("the descriptors of {id} are lost: {error}");
            }
        };
        gather.conclude(unmapped).map_err(|error| {
            if let UnmapError::NotFlushed(_) = error {
                map_back();
            }
            ConvertError::Unmap(id, error)
        })?;
        map(to).map_err(|error| {
            map_back();
            ConvertError::Map(id, error)
        })
    }

    /// Moves the records of the group's last block to the descriptors of its own memmap, makes its first
    /// page a head, and has the group's head count without it.
    fn move_records(&self, index: u64) {
        let own = Altmap::new::<M>(self.plan.block(index));
        let head = own.memmap.start;
        for first in records_of::<M>(own.described) {
            let record = own.record::<M>(first);
            let word = self.memmap.sections().word(self.memmap.machine(), first);
            let old = self.memmap.hidden_section(first, word).record();
            let new = self.memmap.hidden_section(first, word.with_record(record)).record();
            new.copy(old);
            match first == section_of::<M>(head) {
                true => {
                    new.starts().insert(Part::new(0));
                    new.set_group(None);
                }
                false => new.set_group(Some(head)),
            }
            for number in first..first + M::RECORD_SECTIONS {
                let word =
                    self.memmap.sections().word(self.memmap.machine(), number).with_record(record);
                self.memmap.sections().set_word(self.memmap.machine(), number, word);
            }
        }
        let blocks = |count: u64| PageState::MemmapHead {
            sections: (count * self.memmap.block_sections()) as u32,
            pages: count * self.plan.memmap_pages,
        };
        self.forget_extents(own.memmap);
        for first in records_of::<M>(own.described) {
            self.memmap.page(own.record::<M>(first)).set_state(PageState::MemmapTail { head });
        }
        self.memmap.page(head).set_state(blocks(1));
        self.memmap.page(self.plan.pfns.start).set_state(blocks(index));
    }

    /// Makes pages that were claimed, or of an offline block, tails of a memmap.
    fn forget_extents(&self, memmap: PfnRange) {
        let head = memmap.start;
        for (pfn, order) in self.memmap.cut(memmap) {
            let Some(section) = self.memmap.known_section(pfn) else { continue };
            section.clear_head(pfn, order);
        }
        for pfn in memmap.iter() {
            if let Some(section) = self.memmap.section_at(pfn)
                && section.record().initialised().has(Section::<M>::part(pfn))
            {
                section.page(pfn).set_state(PageState::MemmapTail { head });
            }
        }
    }

    /// Gives the frames that held the descriptors of block `index` to the block that they lie in: to its
    /// allocator, or for its own descriptors.
    fn give_piece(&self, index: u64) {
        let piece = self.plan.piece(index);
        let holder = piece.start.offset_from(self.plan.pfns.start) / self.plan.block_pages;
        let number = section_of::<M>(piece.start);
        let Some(record) = self.memmap.known_block_record(number) else { return };
        let word = record.block();
        let BlockState::Online(kind) = word.state else { return };
        // Before the lock, which other CPUs wait for: there may be many. The group's head does not count them any more,
        // so that a CPU which initialises the rest of their subsections makes them tails, too.
        for pfn in piece.iter() {
            if let Some(section) = self.memmap.section_at(pfn)
                && section.record().initialised().has(Section::<M>::part(pfn))
            {
                section.page(pfn).set_state(PageState::Tail);
            }
        }
        let mut zone = self.allocator.nodes.lock(word.node, kind);
        record.managed().add(piece.pages());
        zone.make_managed(piece.pages());
        if holder > 0 && piece == self.plan.head(holder) {
            FreeLists::of(*self.memmap)
                .give_heads(piece, |order| PageState::Used { order, owner: Owner::Memmap });
            return;
        }
        FreeLists::of(*self.memmap).merge_range(&mut zone, piece);
        record.free().add(piece.pages());
        zone.make_free(piece.pages());
    }

    fn set_placement(&self, block: PfnRange, placement: Placement) {
        if let Some(record) = self.memmap.known_block_record(section_of::<M>(block.start)) {
            // The memmap, and what was emptied for it, may have been anywhere.
            let (described, dirty) = (true, u32::MAX);
            record.change_block(|word| BlockWord { placement, described, dirty, ..word });
        }
    }
}
