//! Movable pages: their owners, and the calls to an owner when pages must be migrated.
//!
//! ```text
//!   (a free extent of the same order is found elsewhere for each extent of a batch)
//!   isolate            the owner stops using all extents of the batch: cleared one by one, flushed once
//!   (the manager carries the owner's words and the kernel's metadata over)
//!   migrate            the owner copies, and uses the copies
//!   (the manager frees the old extents, and the targets of those that the owner refused)
//! ```
//!
//! An extent that is a batch of its own may be copied while it is in use, in parts between which the caller of the
//! operation does other work; what it left behind is then cleared in parts, too:
//!
//! ```text
//!   copy_ahead, ..., copy_ahead --> isolate, migrate --> clear_behind, ..., clear_behind
//!        \--- cancel: abandon                                \--- cancel: clear_behind, all at once
//! ```
//!
//! A target exists before the owner is called, so no owner stops using a page in vain when memory is full.
//!
//! Only a registered owner can allocate movable memory, so the owner of any page in a movable zone can be asked to
//! migrate it.

use crate::addr::{Order, Pfn};
use crate::memmap::page::MoverId;
use core::cell::Cell;

/// An allocated extent, in the form that its owner knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The first page.
    pub pfn: Pfn,
    /// The size.
    pub order: Order,
    /// The owner's word, given when it was allocated: see [`Mm::alloc_movable`](crate::Mm::alloc_movable).
    pub private: u64,
}

impl Extent {
    /// Fills a list.
    pub(crate) const NONE: Self = Self { pfn: Pfn::new(0), order: Order::ZERO, private: 0 };
}

/// One extent of a batch, and its target. Only the manager creates it; its owner reads it, and may refuse it.
#[derive(Debug)]
pub struct Move {
    from: Extent,
    to: Pfn,
    mover: MoverId,
    /// The extent has bad memory.
    bad: bool,
    refused: Cell<bool>,
}

impl Move {
    /// Fills a batch without an extent.
    pub(crate) const fn none() -> Self {
        Self::new(Extent::NONE, MoverId::FIRST, false)
    }

    /// A move whose target is not known yet.
    pub(crate) const fn new(from: Extent, mover: MoverId, bad: bool) -> Self {
        Self { from, to: Pfn::new(0), mover, bad, refused: Cell::new(false) }
    }

    pub(crate) const fn set_to(&mut self, to: Pfn) {
        self.to = to;
    }

    /// The extent.
    pub const fn from(&self) -> &Extent {
        &self.from
    }

    /// The first page of the target, which has the size of the extent, and from [`migrate`](MovableOps::migrate) on
    /// its owner's word.
    pub const fn to(&self) -> Pfn {
        self.to
    }

    /// Each page of the extent, and the page of the target that it is copied to.
    pub fn pages(&self) -> impl Iterator<Item = (Pfn, Pfn)> + use<> {
        let (from, to) = (self.from.pfn, self.to);
        (0..self.from.order.pages()).map(move |page| (from.add(page), to.add(page)))
    }

    /// Whether the extent moves because a page of it has bad memory, which must not be written.
    pub const fn is_bad(&self) -> bool {
        self.bad
    }

    /// Refuses: the extent stays where it is, and its owner goes on using it. The manager frees the target.
    pub fn refuse(&self) {
        self.refused.set(true);
    }

    /// Whether the owner has refused.
    pub fn is_refused(&self) -> bool {
        self.refused.get()
    }

    pub(crate) const fn mover(&self) -> MoverId {
        self.mover
    }
}

/// A part of the work on an extent that is done in parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Pages that were copied or cleared, or as many as the rest of this part cost.
    pub pages: u64,
    /// This was the last part.
    pub last: bool,
}

impl Part {
    /// Nothing was to be done.
    pub const NOTHING: Self = Self { pages: 0, last: true };
}

/// How often each page of an extent is copied ahead at most, on average; and how often each is cleared behind.
pub const MOST_AHEAD: u64 = 16;

/// An owner of movable pages.
///
/// Called by an operation under way, which holds no lock that other CPUs spin on: an owner may allocate, free, look
/// up and look; an operation that it begins returns `Busy`. It may sleep if the caller of the operation may, and
/// delays every other operation by that.
///
/// Extents are moved in batches: all extents of a batch belong to this owner and have one size, ascending. A batch
/// has at most 64 extents, and at most 2 MiB or one extent. The owner refuses single ones by [`Move::refuse`].
pub trait MovableOps: Sync {
    /// The owner's name, for messages.
    fn name(&self) -> &'static str;

    /// Whether the extent is pinned so that the owner would refuse to move it for a long time. Called before any
    /// page is migrated, so that an operation that cannot succeed changes nothing. The owner may have freed it.
    fn pinned(&self, extent: &Extent) -> bool {
        let _ = extent;
        false
    }

    /// Whether the owner divides its extents, down to single pages, where there is room for them only in pieces: see
    /// [`split`](Self::split). Asked once, when it registers. Its extents then move after those of all other owners,
    /// and find room if as many pages are free as they have.
    fn splits(&self) -> bool {
        false
    }

    /// Divides an extent by [`Mm::split_movable`](crate::Mm::split_movable); returns `false` if it does not. Called,
    /// if the owner [`splits`](Self::splits) extents, for one that has to move and fits nowhere in one piece: its
    /// parts are then moved.
    fn split(&self, extent: &Extent) -> bool {
        let _ = extent;
        false
    }

    /// Copies a part of an extent to its target while the extent stays in use: about `pages` pages, and more only if it
    /// takes no parts. Called for an extent of 2 MiB or more, which is a batch of its own, until the last part; then
    /// come [`isolate`](Self::isolate) and [`migrate`](Self::migrate), in which only what was changed since has to be
    /// copied. Between two parts the operation is not under way, and the owner may free the extent: it refuses the move
    /// then, and forgets it.
    ///
    /// An owner that copies without end is stopped after [`MOST_AHEAD`] times the pages of the extent, or as many parts.
    fn copy_ahead(&self, one: &Move, pages: u64) -> Part {
        let _ = (one, pages);
        Part::NOTHING
    }

    /// Forgets a move of which parts were copied ahead: it is not made. The extent stays in use, and the manager frees
    /// the target, which the owner may clear before.
    fn abandon(&self, one: &Move) {
        let _ = one;
    }

    /// Clears a part of an extent that has moved, about `pages` pages. Called after
    /// [`migrate`](Self::migrate) for an extent of which parts were copied ahead, until the last part. The manager then
    /// frees it.
    fn clear_behind(&self, one: &Move, pages: u64) -> Part {
        let _ = (one, pages);
        Part::NOTHING
    }

    /// Stops using the extents until [`migrate`](Self::migrate): from its return on nothing changes their content
    /// and none is freed. With page tables: clears all entries, and flushes once.
    ///
    /// The owner refuses an extent that is in use at present, or that does not belong to it any longer: it may free
    /// one at any time before, and the block may then be removed.
    fn isolate(&self, moves: &[Move]);

    /// Copies each extent to its target, and uses that from now on. The manager then frees the extent, which the owner
    /// may clear before, so that its next user does not read what was there.
    ///
    /// Called at once after [`isolate`](Self::isolate) with the extents of that batch that were not refused. One
    /// that is refused here is used again where it is, from this call on.
    fn migrate(&self, moves: &[Move]);
}
