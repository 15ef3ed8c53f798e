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

use crate::addr::{Order, Pfn, PfnRange, PhysRange};
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
use crate::paging::{MapError, UnmapError};
use core::fmt;

/// The reason why a range was not converted. Nothing was changed, except that migrated pages are not moved back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConvertError {
    /// Another operation is running.
    Busy,
    /// The range is not whole, aligned memory blocks.
    NotWholeBlocks {
        /// The range.
        range: PhysRange,
        /// Bytes of a memory block.
        block: u64,
    },
    /// A block is not present.
    NoSuchBlock(BlockId),
    /// A block has its memmap elsewhere already.
    NotPerRange(BlockId, Placement),
    /// The range is not what was added in one piece; that is.
    NotOnePiece(PfnRange),
    /// A block has bad memory at an unknown place, or where descriptors may be.
    Poisoned(BlockId),
    /// The head of a block holds a page that stays; the last field is its owner's name.
    InUse(BlockId, Pfn, Owner, &'static str),
    /// There is no free extent elsewhere for an extent at the head of a block.
    NoRoom(BlockId, Order),
    /// A look-up under way does not end, as [`RemoveError::ReadersStay`](crate::RemoveError::ReadersStay). The blocks
    /// that were reached before are converted, and the others are not.
    ReadersStay(usize),
    /// The descriptors of a block cannot be unmapped: a leaf holds those of other blocks, too. Or the mapper broke its
    /// word, or a CPU does not acknowledge the flush; then the blocks above this one are converted, and the others are
    /// not.
    Unmap(BlockId, UnmapError),
    /// The mapper broke its word: it does not map the descriptors of a block at its head. The blocks above
    /// it are converted, and the others are not.
    Map(BlockId, MapError),
}

impl fmt::Display for ConvertError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy => f.write_str(crate::turn::BUSY),
            Self::NotWholeBlocks { range, block } => {
                write!(f, "{range} is not whole aligned memory blocks of {block:#x} bytes")
            }
            Self::NoSuchBlock(id) => write!(f, "{id} is not there"),
            Self::NotPerRange(id, placement) => {
                write!(f, "{id} has placement {placement}: it can be removed alone already")
            }
            Self::NotOnePiece(whole) => {
                write!(f, "{whole} share one memmap: all of it, or nothing")
            }
            Self::Poisoned(id) => write!(f, "{id} has bad memory, maybe where descriptors are"),
            Self::InUse(id, pfn, _, by) => {
                write!(f, "{pfn} at the head of {id} is held by {by}")
            }
            Self::NoRoom(id, order) => {
                write!(f, "the head of {id} holds {} pages that fit nowhere else", order.pages())
            }
            Self::ReadersStay(cpu) => write!(f, "a reader on CPU {cpu} does not leave"),
            Self::Unmap(id, error) => write!(f, "the descriptors of {id} stay: {error}"),
            Self::Map(id, error) => write!(f, "the descriptors of {id} stay: {error}"),
        }
    }
}

impl core::error::Error for ConvertError {}

/// The blocks of a group, and how many memmap pages each has in it.
#[derive(Clone, Copy)]
struct Plan {
    /// All that is described.
    pfns: PfnRange,
    block_pages: u64,
    memmap_pages: u64,
}

impl Plan {
    fn count(self) -> u64 {
        self.pfns.pages() / self.block_pages
    }

    /// The frames of block `index`.
    fn block(self, index: u64) -> PfnRange {
        PfnRange::new(self.pfns.start.add(index * self.block_pages), self.block_pages)
    }

    /// Where its memmap shall be.
    fn head(self, index: u64) -> PfnRange {
        PfnRange::new(self.block(index).start, self.memmap_pages)
    }

    /// Where its memmap is in the group's.
    fn piece(self, index: u64) -> PfnRange {
        PfnRange::new(self.pfns.start.add(index * self.memmap_pages), self.memmap_pages)
    }
}

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

/// What converting `range` does, if it can be converted.
fn plan_convert<M: Machine>(memmap: Whole<'_, M>, range: PhysRange) -> Result<Plan, ConvertError> {
    let block = memmap.block_size().bytes();
    let pfns = memmap.whole_blocks(range).ok_or(ConvertError::NotWholeBlocks { range, block })?;
    let id = memmap.block_at(range.start());
    let known = memmap.describe_block(id).ok_or(ConvertError::NoSuchBlock(id))?;
    if known.placement != Placement::PerRange {
        return Err(ConvertError::NotPerRange(id, known.placement));
    }
    let group = known.group.and_then(|head| memmap.group_at(head));
    let held = group.ok_or(ConvertError::NoSuchBlock(id))?.pfns;
    let whole = Altmap::of_memmap::<M>(held).described;
    if whole != pfns {
        return Err(ConvertError::NotOnePiece(whole));
    }
    let block_pages = memmap.block_size().pages::<M>();
    let memmap_pages = held.pages() / (pfns.pages() / block_pages);
    let plan = Plan { pfns, block_pages, memmap_pages };
    check_poison(memmap, plan, held)?;
    check_memmap_leaves(memmap, plan)?;
    Ok(plan)
}

/// Refuses where a leaf holds descriptors of several blocks: live leaves are never split.
fn check_memmap_leaves<M: Machine>(memmap: Whole<'_, M>, plan: Plan) -> Result<(), ConvertError> {
    for block in (0..plan.count()).map(|index| plan.block(index)) {
        if let Some(leaf) = memmap.cut_leaf(memmap.windows().memmap_virt(block)) {
            let id = memmap.block_at(M::address(block.start));
            let cut = UnmapError::CutsLeaf { at: leaf.virt, len: leaf.len };
            return Err(ConvertError::Unmap(id, cut));
        }
    }
    Ok(())
}

/// Refuses where a bad page could be given to the allocator, as one that held descriptors, or get
/// descriptors: only the bad pages that an online block's allocator had are known one by one.
fn check_poison<M: Machine>(
    memmap: Whole<'_, M>,
    plan: Plan,
    held: PfnRange,
) -> Result<(), ConvertError> {
    for index in 0..plan.count() {
        let id = memmap.block_at(M::address(plan.block(index).start));
        let block = memmap.describe_block(id).ok_or(ConvertError::NoSuchBlock(id))?;
        let holds = held.intersection(block.pfns).is_some();
        if block.poisoned && (holds || block.state == BlockState::Offline) {
            return Err(ConvertError::Poisoned(id));
        }
    }
    Ok(())
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
                area.unclaim(self.allocator, Owner::Memmap);
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
