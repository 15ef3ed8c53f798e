//! Movable pages: their owners, and the calls to an owner when a page must be migrated.
//!
//! ```text
//!   isolate            the owner allows no new use of the extent
//!   (a free extent of the same order is found elsewhere)
//!   migrate            the owner copies, and points everything at the copy
//!                      or  putback: the migration is cancelled, the extent is used as before
//! ```
//!
//! Only a registered owner can allocate movable memory, so the owner of any page in a movable zone can be asked to
//! migrate it.

use crate::addr::{Order, Pfn};
use core::fmt;

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

/// The owner cannot release the extent at present, or has freed it already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotNow;

impl fmt::Display for NotNow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the owner cannot release the extent now")
    }
}

impl core::error::Error for NotNow {}

/// An owner of movable pages.
///
/// Called by an operation under way, which holds no lock that other CPUs spin on: an owner may allocate, free, look
/// up and look; an operation that it begins returns `Busy`. It may sleep if the caller of the operation may, and
/// delays every other operation by that. An owner may free an extent at any time until [`isolate`](Self::isolate)
/// has returned `Ok`, and the block may then be removed, so `pinned` and `isolate` may be called with an extent that
/// the owner has freed.
pub trait MovableOps: Sync {
    /// The owner's name, for messages.
    fn name(&self) -> &'static str;

    /// Whether the extent is pinned so that [`isolate`](Self::isolate) would fail for a long time. Called before any
    /// page is migrated, so that an operation that cannot succeed changes nothing.
    fn pinned(&self, extent: &Extent) -> bool {
        let _ = extent;
        false
    }

    /// Stops using the extent until [`migrate`](Self::migrate) or [`putback`](Self::putback).
    ///
    /// # Errors
    ///
    /// [`NotNow`] if it is in use at present, or no longer belongs to the owner.
    fn isolate(&self, extent: &Extent) -> Result<(), NotNow>;

    /// Copies the isolated extent `from` to the `1 << order` pages from `to` on, and uses those from now on. The
    /// owner's word of `to` is that of `from`. The manager then frees `from`.
    ///
    /// # Errors
    ///
    /// [`NotNow`]; the extent stays isolated, and is put back.
    fn migrate(&self, from: &Extent, to: Pfn) -> Result<(), NotNow>;

    /// Uses an isolated extent again, where it is.
    fn putback(&self, extent: &Extent);
}
