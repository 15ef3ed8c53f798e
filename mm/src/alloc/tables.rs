//! Frames taken for tables and section nodes and given back, of the reserve or of a zone, whole or in pieces.

// UNSAFETY: vouches for the frames that it gives away.
#![expect(unsafe_code)]

use crate::addr::{Order, Pfn, PhysAddr};
use crate::alloc::Allocator;
use crate::alloc::frames::Reserve;
use crate::alloc::strand::strand_table;
use crate::machine::Machine;
use crate::memmap::page::{Owner, PageState};
use crate::memmap::seen::Seen;
use crate::paging::{OutOfFrames, TableFrame, TableFrames};
use core::sync::atomic::Ordering;

/// Where frames for tables come from while the manager maps.
#[derive(Debug)]
pub(crate) struct TableSource<'m, M: Machine> {
    allocator: &'m Allocator<M>,
    /// Whether the reserve, which is there for memory that comes, may be used.
    reserve: bool,
}

impl<M: Machine> Allocator<M> {
    /// Frames for tables and section nodes.
    pub(crate) fn table_frames(&self) -> TableSource<'_, M> {
        TableSource { allocator: self, reserve: true }
    }

    /// Frames for tables that the reserve is not there for.
    pub(crate) fn spare_frames(&self) -> TableSource<'_, M> {
        TableSource { allocator: self, reserve: false }
    }
}

impl<M: Machine> TableSource<'_, M> {
    /// Takes a page for tables or nodes, of the reserve first if it may.
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

    /// Gives such a page back to where it came from; a bad one to nobody.
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
            Err(error) => log::error!("table frame {frame} is not given back: {error}"),
        }
    }

    /// Takes a table of less than a page.
    fn take_piece(&self, bytes: u64) -> Option<PhysAddr> {
        self.allocator
            .frames
            .packed
            .lock()
            .take(self.allocator.machine(), bytes, || self.take_frame())
    }

    /// Gives such a table back, and its frame if it was the last one there.
    fn return_piece(&self, at: PhysAddr, bytes: u64) {
        if !self.owns(at) {
            log::error!("table {at} is not given back: it was there before the memory manager");
            return;
        }
        let bad = self.is_bad(at.align_down(M::PAGE_BYTES));
        let empty =
            self.allocator.frames.packed.lock().give_back(self.allocator.machine(), at, bytes, bad);
        if let Some(frame) = empty {
            self.return_frame(frame);
        }
    }

    /// Whether a table of `bytes`, less than a page, is the first that its page holds; `None` if the page
    /// does not count it as in use. The page is one that the manager took for tables.
    pub(crate) fn is_first_piece(&self, at: PhysAddr, bytes: u64) -> Option<bool> {
        self.allocator.frames.packed.lock().is_first(self.allocator.machine(), at, bytes)
    }

    /// The memmap of what tables and nodes lie in.
    fn seen(&self) -> Seen<'_, M> {
        // SAFETY: that is boot memory, which is never removed, and whose memmap never moves.
        unsafe { Seen::vouched(&self.allocator.memmap) }
    }

    /// Whether the page that holds `at`, in a table or node, was taken by [`take_frame`](Self::take_frame).
    /// Tables from before the memory manager were not. A bad page that holds tables was: others are not
    /// taken out of use.
    pub(crate) fn owns(&self, at: PhysAddr) -> bool {
        let table = |state| match state {
            PageState::Used { owner, .. } => owner == Owner::Table || owner.is_out_of_use(),
            _ => false,
        };
        self.allocator.frames.reserves(at)
            || self.seen().extent_of(M::pfn(at)).is_some_and(|(_, state)| table(state))
    }

    /// Whether a page that was taken for tables or nodes turned out bad, or is stranded.
    #[inline]
    pub(crate) fn is_bad(&self, frame: PhysAddr) -> bool {
        self.allocator.frames.any_bad() && self.is_bad_page(M::pfn(frame))
    }

    #[cold]
    fn is_bad_page(&self, pfn: Pfn) -> bool {
        let bad = |state| matches!(state, PageState::Used { owner, .. } if owner.is_out_of_use());
        self.seen().extent_of(pfn).is_some_and(|(_, state)| bad(state))
    }

    /// Keeps a page, which holds tables or is of the reserve, from being used for them again: it is
    /// marked as out of use already. Whether it is free, and not in use.
    pub(crate) fn withdraw(&self, frame: PhysAddr, owner: Owner) -> bool {
        self.allocator.frames.bad.store(true, Ordering::Relaxed);
        self.allocator.frames.packed.lock().forget(self.allocator.machine(), frame);
        if owner == Owner::Table {
            self.allocator.frames.uncount_system(1);
            return false;
        }
        self.allocator.frames.reserve.lock().withdraw(self.allocator.machine(), frame)
    }
}

impl<M: Machine> TableFrames for TableSource<'_, M> {
    fn take(&self, bytes: u64) -> Result<TableFrame, OutOfFrames> {
        if bytes > M::PAGE_BYTES || !self.allocator.machine().allows_allocation() {
            return Err(OutOfFrames { bytes });
        }
        let whole = bytes == M::PAGE_BYTES;
        let taken = if whole { self.take_frame() } else { self.take_piece(bytes) };
        // SAFETY: the reserve and the allocator give each frame away once until it comes back, aligned to its size,
        // and both have RAM of the linear map only.
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

    /// The page becomes one that is out of use; what else is in it stays, as in a bad one.
    fn strand(&self, frame: TableFrame) {
        let page = frame.at().align_down(M::PAGE_BYTES);
        log::error!("the page {} of a table is stranded", M::pfn(page));
        if let Some(owner) = strand_table(self.allocator, M::pfn(page)) {
            self.withdraw(page, owner);
        }
        self.give_back(frame);
    }

    /// Tables that were there before the manager stay, empty or not.
    ///
    /// The linear map of boot memory has no others, so releasing what was taken of it needs no memory.
    /// Those that the manager made are never empty: what it maps there it maps in the call that makes
    /// them, and what it unmaps detaches them (but for `convert`, which maps again at once). So an
    /// operation that is undone detaches the tables that it made, and those alone.
    fn keeps(&self, frame: PhysAddr) -> bool {
        !self.owns(frame)
    }
}
