//! The memory of a guest: its second-stage tables, and the ranges that are being moved.
//!
//! ```text
//!   break_batch: for each extent clear its leaf, note its range; flush once
//!   (the extents are copied, without the lock)
//!   map_batch:   for each extent a leaf for the copy, forget its range
//! ```

use crate::Shared;
use crate::ahead::Ahead;
use crate::held::{Counting, Held};
use crate::id::VmId;
use crate::platform::Platform;
use crate::residence::Residence;
use crate::runs::{MOST_MOVING, joined, note};
use crate::switch::{self, Fresh, GuestTables, Root};
use crate::word::PageWord;
use alloc::sync::Arc;
use core::cell::RefCell;
use hotmem::paging::{
    Attr, FoldError, Gather, Guest, GuestAddr, GuestRange, MapError, Mapper, Mapping, NoFrames,
    NotFlushed, PhysAddr, RelocateError, TableFrame, TableFrames, TablePlace, UnmapError,
};
use hotmem::{BlockId, Mm, Move, Order, Pfn};

/// The accesses of a guest to its memory.
const ACCESS: Attr = Attr::WRITE.union(Attr::EXECUTE).union(Attr::USER);

/// What a guest finds at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Memory.
    Memory,
    /// Memory that is being moved.
    Moving,
    /// Nothing.
    Nothing,
}

/// What moves have done to a guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Pages moved.
    pub pages: u64,
    /// Tables moved.
    pub tables: u64,
    /// The longest time from the first cleared leaf of a batch to its last new one, in instructions.
    pub longest_pause: u64,
    /// The longest share of one page in the pause of its batch, rounded up.
    pub longest_pause_of_page: u64,
    /// Extents that were copied ahead of their move.
    pub ahead: u64,
    /// Those of them that the guest changed faster than they were copied: their pause is as long as what differed then.
    pub hurried: u64,
}

/// The memory of a guest.
#[derive(Debug)]
pub(crate) struct Space<M: Shared, P: Platform> {
    mm: &'static Mm<M>,
    id: VmId,
    pub(crate) ram: GuestRange,
    /// The size of its extents.
    pub(crate) order: Order,
    pub(crate) tables: GuestTables<M, P>,
    pub(crate) root: Arc<Root<M>>,
    /// One for each virtual CPU.
    pub(crate) residences: Arc<[Residence]>,
    /// The ranges without a leaf because they are being moved; the first `runs` are in use.
    moving: [GuestRange; MOST_MOVING],
    runs: usize,
    /// When the batch under way began.
    begun: u64,
    pub(crate) moved: Moved,
    /// The blocks that hold its pages, which are many: a look at each takes as long as thousands of moves.
    pub(crate) pages_held: Held,
    /// The blocks that hold its tables, with the root.
    pub(crate) tables_held: Held,
}

impl<M: Shared, P: Platform> Space<M, P> {
    pub(crate) fn new(
        mm: &'static Mm<M>,
        id: VmId,
        ram: GuestRange,
        order: Order,
        root: Arc<Root<M>>,
        residences: Arc<[Residence]>,
        tables: GuestTables<M, P>,
    ) -> Self {
        let moving = [GuestRange::EMPTY; MOST_MOVING];
        let moved = Moved::default();
        let (runs, begun, pages_held, mut tables_held) = (0, 0, Held::default(), Held::default());
        tables_held.add(mm.block_at(tables.root()), GuestTables::<M, P>::ROOT_BYTES);
        Self {
            mm,
            id,
            ram,
            order,
            tables,
            root,
            residences,
            moving,
            runs,
            begun,
            moved,
            pages_held,
            tables_held,
        }
    }

    /// The address of a page of the guest, by its frame number.
    fn address(frame: u64) -> GuestAddr {
        PageWord { vm: 0, frame }.address::<M>()
    }

    /// The addresses of an extent.
    pub(crate) fn range(frame: u64, order: Order) -> Option<GuestRange> {
        GuestRange::new(Self::address(frame), order.pages() * M::PAGE_BYTES)
    }

    /// Maps a new extent at `frame`.
    pub(crate) fn map(
        &mut self,
        frame: u64,
        fresh: &Fresh,
        frames: &impl TableFrames,
    ) -> Result<(), MapError<Guest>> {
        let (virt, phys) = (Self::address(frame), M::address(fresh.pfn));
        let len = fresh.order.pages() * M::PAGE_BYTES;
        let mapping = Mapping { virt, phys, len, attr: ACCESS, max_leaf: len };
        let held = RefCell::new(&mut self.tables_held);
        self.tables.map(&mapping, &Counting { mm: self.mm, frames, held })?;
        self.pages_held.add(self.mm.block_at(phys), len);
        Ok(())
    }

    /// Moves a table to a frame, and has it counted there.
    ///
    /// # Errors
    ///
    /// Those of [`Tables::relocate`](hotmem::paging::Tables::relocate); the table is where it was.
    pub(crate) fn relocate(
        &mut self,
        place: TablePlace,
        from: PhysAddr,
        to: TableFrame,
    ) -> Result<TableFrame, RelocateError> {
        let (at, bytes) = (to.at(), to.bytes());
        let old = self.tables.relocate(place, from, to)?;
        self.table_moved(from, at, bytes);
        Ok(old)
    }

    /// Moves the root to a frame, and has it counted there.
    ///
    /// # Errors
    ///
    /// [`NotFlushed`]: the root is where it was.
    pub(crate) fn relocate_root(&mut self, to: TableFrame) -> Result<(), NotFlushed> {
        let (from, at, bytes) = (self.tables.root(), to.at(), to.bytes());
        switch::relocate_root::<M, P>(&mut self.tables, &self.root, to)?;
        self.table_moved(from, at, bytes);
        Ok(())
    }

    fn table_moved(&mut self, from: PhysAddr, to: PhysAddr, bytes: u64) {
        self.tables_held.add(self.mm.block_at(to), bytes);
        self.tables_held.remove(self.mm.block_at(from), bytes);
        self.moved.tables += 1;
    }

    /// What the guest finds at `at`.
    pub(crate) fn find(&self, at: GuestAddr) -> Found {
        if self.tables.translate(at).is_some() {
            return Found::Memory;
        }
        let moving = self.moving().iter().any(|range| range.contains(at));
        if moving { Found::Moving } else { Found::Nothing }
    }

    /// Marks a range as moving, whatever invariant that breaks.
    #[cfg(test)]
    pub(crate) fn mark(&mut self, range: GuestRange) {
        note(&mut self.moving, &mut self.runs, range);
    }

    /// The ranges that are being moved.
    pub(crate) fn moving(&self) -> &[GuestRange] {
        self.moving.get(..self.runs).unwrap_or_default()
    }

    /// Whether the guest has the extent of a move where the manager's word says.
    pub(crate) fn has(&self, one: &Move) -> bool {
        let (word, from) = (PageWord::decode(one.from().private), one.from());
        let (at, bytes) = (Self::address(word.frame), from.order.pages() * M::PAGE_BYTES);
        let leaf = self.tables.translate(at);
        word.vm == self.id.number()
            && leaf.is_some_and(|leaf| leaf.len <= bytes && leaf.target(at) == M::address(from.pfn))
    }

    /// Clears the leaves of the extents in `moves` that are this guest's, and flushes once. Refuses those that are
    /// not there, and all of them if a CPU does not acknowledge the flush.
    pub(crate) fn break_batch<'m>(&mut self, moves: impl Iterator<Item = &'m Move> + Clone) {
        if !self.may_break(moves.clone()) {
            return;
        }
        let mut gather = Gather::keeping_tables(self.tables.tlb(), NoFrames);
        let (mut cleared, mut run) = (Ok(()), GuestRange::EMPTY);
        for one in moves.clone() {
            let Some(range) = Self::range_of(one) else { continue };
            match joined(run, range) {
                Some(both) => run = both,
                None => {
                    cleared = cleared.and(self.tables.unmap(run, &mut gather));
                    note(&mut self.moving, &mut self.runs, run);
                    run = range;
                }
            }
        }
        cleared = cleared.and(self.tables.unmap(run, &mut gather));
        note(&mut self.moving, &mut self.runs, run);
        if let Err(error) = gather.conclude(cleared) {
            self.undo_break(moves, &error);
        }
    }

    /// As [`break_batch`](Self::break_batch), of an extent that was copied ahead; notes what the guest has stored to since
    /// the last round.
    pub(crate) fn break_ahead(&mut self, one: &Move, ahead: &mut Ahead) {
        let moves = core::iter::once(one);
        if !self.may_break(moves.clone()) {
            return;
        }
        let mut gather = Gather::keeping_tables(self.tables.tlb(), NoFrames);
        let (range, each) = (ahead.range, &mut |leaf| ahead.note::<M>(leaf));
        let cleared = self.tables.unmap_marked(range, &mut gather, each);
        note(&mut self.moving, &mut self.runs, range);
        if let Err(error) = gather.conclude(cleared) {
            self.undo_break(moves, &error);
        }
    }

    /// Whether a break may begin: there is room to count the moves. Refuses those that are not there, while the guest goes
    /// on.
    fn may_break<'m>(&mut self, moves: impl Iterator<Item = &'m Move> + Clone) -> bool {
        if self.pages_held.reserve(MOST_MOVING).is_err() {
            log::error!(
                "guest {}: the kernel's heap has no room to count a move",
                self.id.number()
            );
            moves.for_each(Move::refuse);
            return false;
        }
        moves.filter(|one| !self.has(one)).for_each(Move::refuse);
        self.begun = P::instructions();
        true
    }

    /// Maps again what was cleared, after a flush that failed: the guest was without it meanwhile.
    #[cold]
    fn undo_break<'m>(
        &mut self,
        moves: impl Iterator<Item = &'m Move> + Clone,
        error: &UnmapError<Guest>,
    ) {
        log::error!("guest {}: {error}", self.id.number());
        let pages = moves.clone().map(|one| one.from().order.pages()).sum();
        self.take_back(moves);
        self.runs = 0;
        self.count_pause(self.pause(), pages);
    }

    /// Begins to copy an extent ahead: each page of it has a leaf of its own afterwards, without a mark. Returns whether
    /// that is so; if not, the tables are as before.
    pub(crate) fn begin_ahead(
        &mut self,
        one: &Move,
        ahead: &mut Ahead,
        frames: &impl TableFrames,
    ) -> bool {
        let leaf = self.tables.translate(ahead.range.start()).filter(|_| self.has(one));
        let Some(leaf) = leaf else { return false };
        let tables = if leaf.len > M::PAGE_BYTES { ahead.range.len() / leaf.len } else { 0 };
        if self.tables_held.reserve(tables as usize).is_err() {
            log::warn!("guest {}: the kernel's heap has no room to count tables", self.id.number());
            return false;
        }
        let unfolded = self.unfold(ahead.range, frames);
        let begins = unfolded.and_then(|()| {
            self.unmark(ahead).map_err(|error| match error {
                UnmapError::NotFlushed(cpu) => FoldError::NotFlushed(cpu),
                _ => FoldError::NoLeaf,
            })
        });
        if let Err(error) = begins {
            log::warn!("guest {}: an extent is not copied ahead: {error}", self.id.number());
            self.fold(ahead.range, frames);
        }
        begins.is_ok()
    }

    /// Replaces larger leaves of `range` by leaves of a page.
    fn unfold(&mut self, range: GuestRange, frames: &impl TableFrames) -> Result<(), FoldError> {
        let leaf = self.tables.translate(range.start()).ok_or(FoldError::NoLeaf)?;
        if leaf.len == M::PAGE_BYTES {
            return Ok(());
        }
        for offset in (0..range.len()).step_by(leaf.len as usize) {
            self.begun = P::instructions();
            let held = RefCell::new(&mut self.tables_held);
            let counting = Counting { mm: self.mm, frames, held };
            self.tables.unfold(range.start().add(offset), &counting)?;
            self.count_pause(self.pause(), leaf.len / M::PAGE_BYTES);
        }
        let now = self.tables.translate(range.start());
        if now.is_some_and(|leaf| leaf.len == M::PAGE_BYTES) {
            Ok(())
        } else {
            Err(FoldError::NoLeaf)
        }
    }

    /// Replaces leaves of a page in `range`, the addresses of an extent, by larger ones, where those were replaced to copy
    /// ahead. None is larger than the extent: its neighbours move without it.
    pub(crate) fn fold(&mut self, range: GuestRange, frames: &impl TableFrames) {
        let mut offset = 0;
        while let Some(leaf) = self.tables.translate(range.start().add(offset))
            && offset < range.len()
        {
            self.begun = P::instructions();
            let (at, largest) = (leaf.virt, range.len());
            let held = RefCell::new(&mut self.tables_held);
            let counting = Counting { mm: self.mm, frames, held };
            let folded = self.tables.fold(at, largest, &counting);
            let span = self.tables.translate(at).map_or(range.len(), |leaf| leaf.len);
            match folded {
                Ok(()) => self.count_pause(self.pause(), span / M::PAGE_BYTES),
                // It is as large as it can be, or the extent has leaves of a page, and always had.
                Err(FoldError::NoLeaf) if span > M::PAGE_BYTES => {}
                Err(FoldError::NoLeaf) => return,
                Err(error) => {
                    log::warn!("guest {}: {error}", self.id.number());
                    return;
                }
            }
            offset = offset.saturating_add(span);
        }
    }

    /// Takes the marks of an extent back, and notes those that there were.
    pub(crate) fn unmark(&self, ahead: &mut Ahead) -> Result<(), UnmapError<Guest>> {
        let mut gather = Gather::keeping_tables(self.tables.tlb(), NoFrames);
        let (range, each) = (ahead.range, &mut |leaf| ahead.note::<M>(leaf));
        let unmarked = self.tables.unmark(range, &mut gather, each);
        gather.conclude(unmarked)
    }

    /// Counts an extent that was copied ahead, and moved.
    pub(crate) const fn count_ahead(&mut self, hurried: bool) {
        self.moved.ahead += 1;
        self.moved.hurried += hurried as u64;
    }

    /// Instructions since a pause began.
    fn pause(&self) -> u64 {
        P::instructions().wrapping_sub(self.begun)
    }

    /// Maps the copies of the extents in `moves`, those of one batch.
    pub(crate) fn map_batch<'m>(&mut self, moves: impl Iterator<Item = &'m Move> + Clone) {
        // Now, for `moves` may leave out those that are refused below.
        let pages = moves.clone().map(|one| one.from().order.pages()).sum();
        if let Err(error) = self.map_runs(moves.clone()) {
            log::error!("guest {}: {error}", self.id.number());
            self.take_back(moves.clone());
        }
        self.runs = 0;
        self.count_pause(self.pause(), pages);
        self.count(moves.filter(|one| !one.is_refused()));
    }

    /// Counts the pause of a batch of so many pages. A batch without pages was refused before a leaf was cleared: its pause
    /// never began.
    fn count_pause(&mut self, pause: u64, pages: u64) {
        if pages == 0 {
            return;
        }
        let moved = &mut self.moved;
        moved.longest_pause = moved.longest_pause.max(pause);
        moved.longest_pause_of_page = moved.longest_pause_of_page.max(pause.div_ceil(pages));
    }

    /// Counts extents that have moved: neighbours at once, since most lie in the same block.
    fn count<'m>(&mut self, moves: impl Iterator<Item = &'m Move>) {
        let mut run = None;
        for one in moves {
            let (from, to) = (M::address(one.from().pfn), M::address(one.to()));
            let (blocks, pages) =
                ((self.mm.block_at(from), self.mm.block_at(to)), one.from().order.pages());
            run = match run {
                Some((known, sum)) if known == blocks => Some((known, sum + pages)),
                other => {
                    self.count_run(other);
                    Some((blocks, pages))
                }
            };
        }
        self.count_run(run);
    }

    /// Counts pages that have moved from a block to another.
    fn count_run(&mut self, run: Option<((BlockId, BlockId), u64)>) {
        let Some(((from, to), pages)) = run else { return };
        self.pages_held.add(to, pages * M::PAGE_BYTES);
        self.pages_held.remove(from, pages * M::PAGE_BYTES);
        self.moved.pages += pages;
    }

    /// Maps the targets, neighbours at once.
    fn map_runs<'m>(&self, moves: impl Iterator<Item = &'m Move>) -> Result<(), MapError<Guest>> {
        let mut run: Option<Mapping<Guest>> = None;
        for one in moves {
            let Some(next) = Self::mapping(one, one.to()) else { continue };
            run = match run {
                Some(run)
                    if run.virt.add(run.len) == next.virt && run.phys.add(run.len) == next.phys =>
                {
                    Some(Mapping { len: run.len + next.len, ..run })
                }
                Some(run) => {
                    self.tables.map(&run, &NoFrames)?;
                    Some(next)
                }
                None => Some(next),
            };
        }
        run.map_or(Ok(()), |run| self.tables.map(&run, &NoFrames))
    }

    /// Maps the extents that have no leaf where they were, and refuses all whose copy is not mapped: the manager frees
    /// the others.
    #[cold]
    fn take_back<'m>(&self, moves: impl Iterator<Item = &'m Move>) {
        for one in moves {
            let Some(back) = Self::mapping(one, one.from().pfn) else { continue };
            match self.tables.translate(back.virt) {
                Some(leaf) if leaf.target(back.virt) == M::address(one.to()) => continue,
                Some(_) => {}
                None => {
                    if let Err(error) = self.tables.map(&back, &NoFrames) {
                        log::error!("guest {}: {error}", self.id.number());
                    }
                }
            }
            one.refuse();
        }
    }

    /// The addresses of the extent of a move.
    fn range_of(one: &Move) -> Option<GuestRange> {
        Self::range(PageWord::decode(one.from().private).frame, one.from().order)
    }

    /// The mapping of an extent to the pages from `pfn` on. Its leaves are not larger than the extent, since a leaf
    /// is never split.
    fn mapping(one: &Move, pfn: Pfn) -> Option<Mapping<Guest>> {
        let range = Self::range_of(one)?;
        let (virt, phys, len) = (range.start(), M::address(pfn), range.len());
        Some(Mapping { virt, phys, len, attr: ACCESS, max_leaf: len })
    }
}
