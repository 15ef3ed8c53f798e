//! Frames allocated for tables and section nodes and freed, from the reserve or from a zone, whole or in pieces.

// UNSAFETY: vouches for the frames that it allocates.
#![expect(unsafe_code)]

use crate::addr::{Order, Pfn, PhysAddr};
use crate::alloc::Allocator;
use crate::alloc::frames::Reserve;
use crate::alloc::packed::Piece;
use crate::alloc::strand::strand_table;
use crate::machine::Machine;
use crate::memmap::page::{Owner, PageState};
use crate::memmap::seen::Seen;
use crate::paging::{OutOfFrames, TableFrame, TableFrames};
use core::sync::atomic::Ordering;

/// The source of frames for tables while the manager maps.
#[derive(Debug)]
pub(crate) struct TableSource<'m, M: Machine> {
    allocator: &'m Allocator<M>,
    /// Whether the reserve, which is for added memory, may be used.
    reserve: bool,
}

impl<M: Machine> Allocator<M> {
    /// Frames for tables and section nodes.
    pub(crate) fn table_frames(&self) -> TableSource<'_, M> {
        TableSource { allocator: self, reserve: true }
    }

    /// Frames for tables that must not use the reserve.
    pub(crate) fn spare_frames(&self) -> TableSource<'_, M> {
        TableSource { allocator: self, reserve: false }
    }
}

impl<M: Machine> TableSource<'_, M> {
    /// Allocates a page for tables or nodes, from the reserve first if allowed.
    pub(crate) fn take_frame(&self) -> Option<PhysAddr> {
        let pop =
            |reserve: &mut Reserve| reserve.pop(self.allocator.machine(), |at| self.is_bad(at));
        let reserved = || pop(&mut self.allocator.frames.reserve.lock());
        self.reserve.then(reserved).flatten().or_else(|| {
            let pfn = self.allocator.alloc_as(Order::ZERO, Owner::Table).ok()?;
            self.allocator.frames.count_system(1);
            Some(M::address(pfn))
        })
    }

    /// Frees such a page to its origin; a bad page is not freed.
    pub(crate) fn return_frame(&self, frame: PhysAddr) {
        if self.is_bad(frame) {
            log::info!("page {}, which held tables, is out of use", M::pfn(frame));
            return;
        }
        if self.allocator.frames.reserves(frame) {
            self.allocator.frames.reserve.lock().push(self.allocator.machine(), frame);
            return;
        }
        match self.allocator.free_of(M::pfn(frame), |owner| owner == Owner::Table) {
            Ok(_) => self.allocator.frames.uncount_system(1),
            Err(error) => log::error!("table frame {frame} is not freed: {error}"),
        }
    }

    /// Allocates a table of less than a page.
    fn take_piece(&self, bytes: u64) -> Option<PhysAddr> {
        self.allocator
            .frames
            .packed
            .lock()
            .take(self.allocator.machine(), bytes, || self.take_frame())
    }

    /// Frees such a table, and its frame if it was the last one there.
    fn return_piece(&self, at: PhysAddr, bytes: u64) {
        if !self.owns(at) {
            log::error!("table {at} is not freed: it is older than the memory manager");
            return;
        }
        let bad = self.is_bad(at.align_down(M::PAGE_BYTES));
        let empty =
            self.allocator.frames.packed.lock().give_back(self.allocator.machine(), at, bytes, bad);
        if let Some(frame) = empty {
            self.return_frame(frame);
        }
    }

    /// How a table of `bytes`, less than a page, stands among the others in its page; `None` if the page does not count it
    /// as in use. The page is one that the manager allocated for tables, and can be read.
    pub(crate) fn piece(&self, at: PhysAddr, bytes: u64) -> Option<Piece> {
        self.allocator.frames.packed.lock().piece(self.allocator.machine(), at, bytes)
    }

    /// Calls `each` with the pages that have room for more tables, each before it is read, until it returns `false`.
    /// Returns the first page that is wrong there.
    ///
    /// For a look, or the operation under way: only operations change the lists, so they are read without the lock.
    pub(crate) fn find_wrong_room(
        &self,
        each: &mut dyn FnMut(PhysAddr) -> bool,
    ) -> Option<PhysAddr> {
        let rooms = self.allocator.frames.packed.lock().rooms();
        rooms.find_wrong(self.allocator.machine(), each)
    }

    /// The memmap of the pages that hold tables and nodes.
    fn seen(&self) -> Seen<'_, M> {
        // SAFETY: these pages are boot memory, which is never removed, and whose memmap is never moved.
        unsafe { Seen::vouched(&self.allocator.memmap) }
    }

    /// Whether the page that contains `at`, in a table or node, was allocated by [`take_frame`](Self::take_frame).
    /// Tables from before the memory manager were not. A bad page that holds tables was: other such pages are not
    /// taken out of use.
    pub(crate) fn owns(&self, at: PhysAddr) -> bool {
        let table = |state| match state {
            PageState::Used { owner, .. } => owner == Owner::Table || owner.is_out_of_use(),
            _ => false,
        };
        self.allocator.frames.reserves(at)
            || self.seen().extent_of(M::pfn(at)).is_some_and(|(_, state)| table(state))
    }

    /// Whether a page that was allocated for tables or nodes turned out bad, or is stranded.
    #[inline]
    pub(crate) fn is_bad(&self, frame: PhysAddr) -> bool {
        self.allocator.frames.any_bad() && self.is_bad_page(M::pfn(frame))
    }

    #[cold]
    fn is_bad_page(&self, pfn: Pfn) -> bool {
        let bad = |state| matches!(state, PageState::Used { owner, .. } if owner.is_out_of_use());
        self.seen().extent_of(pfn).is_some_and(|(_, state)| bad(state))
    }

    /// Prevents that a page, which holds tables or belongs to the reserve, is used for them again: it is marked as
    /// out of use already. Returns whether it is free.
    pub(crate) fn withdraw(&self, frame: PhysAddr, owner: Owner) -> bool {
        self.allocator.frames.bad.store(true, Ordering::Relaxed);
        let (machine, packed) = (self.allocator.machine(), &self.allocator.frames.packed);
        let rooms = packed.lock().rooms();
        if let Some(found) = rooms.find(machine, frame) {
            packed.lock().forget(machine, found);
        }
        if owner == Owner::Table {
            self.allocator.frames.uncount_system(1);
            return false;
        }
        self.allocator.frames.withdraw(machine, frame)
    }
}

impl<M: Machine> TableFrames for TableSource<'_, M> {
    fn take(&self, bytes: u64) -> Result<TableFrame, OutOfFrames> {
        if bytes > M::PAGE_BYTES || !self.allocator.machine().allows_allocation() {
            return Err(OutOfFrames { bytes });
        }
        let whole = bytes == M::PAGE_BYTES;
        let taken = if whole { self.take_frame() } else { self.take_piece(bytes) };
        // SAFETY: the reserve and the allocator allocate each frame once until it is freed, aligned to its size, and
        // both have RAM of the linear map only.
        let frame = |at| unsafe { TableFrame::new(at, bytes) };
        taken.map(frame).ok_or(OutOfFrames { bytes })
    }

    fn give_back(&self, frame: TableFrame) {
        let (bytes, frame) = (frame.bytes(), frame.into_raw());
        if bytes < M::PAGE_BYTES {
            self.return_piece(frame, bytes);
        } else {
            self.return_frame(frame);
        }
    }

    /// The page is then out of use; other tables in it stay, as in a bad page.
    fn strand(&self, frame: TableFrame) {
        let page = frame.at().align_down(M::PAGE_BYTES);
        log::error!("the page {} of a table is stranded", M::pfn(page));
        if let Some(owner) = strand_table(self.allocator, M::pfn(page)) {
            self.withdraw(page, owner);
        }
        self.give_back(frame);
    }

    /// Tables from before the manager stay, empty or not.
    ///
    /// The linear map of boot memory has no others, so that releasing taken boot memory needs no memory. Tables that
    /// the manager made are never empty: the call that makes them also maps in them, and unmapping detaches them
    /// (except in `convert`, which maps again at once). So an operation that is undone detaches the tables that it
    /// made, and only those.
    fn keeps(&self, frame: PhysAddr) -> bool {
        !self.owns(frame)
    }
}
