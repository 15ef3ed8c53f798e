//! The page tables of the crate [`x86_64`](https://docs.rs/x86_64), as a [`Mapper`](crate::Mapper) (feature `x86_64`).
//!
//! ```text
//!   OffsetPageTable    MappedPageTable    RecursivePageTable      the kernel's own tables
//!              \              |              /
//!               +------- TableAccess -------+   map_to of the crate; and access to tables, which it has not
//!                             |
//!                       LockedTables            the lock, undo, tables detached by the gather
//! ```
//!
//! A kernel that maps memory with that crate puts its tables into [`LockedTables`], and gives them to the manager:
//!
//! ```no_run
//! # // UNSAFETY: shows a call of the crate's unsafe functions.
//! use hotmem_paging::x86_64::{LocalTlb, LockedTables};
//! use x86_64::VirtAddr;
//! use x86_64::registers::control::Cr3;
//! use x86_64::structures::paging::{OffsetPageTable, PageTable};
//! # type Spin = lock_api_spin::Spin;
//! # mod lock_api_spin {
//! #     pub struct Spin(core::sync::atomic::AtomicBool);
//! #     unsafe impl lock_api::RawMutex for Spin {
//! #         const INIT: Self = Self(core::sync::atomic::AtomicBool::new(false));
//! #         type GuardMarker = lock_api::GuardSend;
//! #         fn lock(&self) { while !self.try_lock() {} }
//! #         fn try_lock(&self) -> bool { !self.0.swap(true, core::sync::atomic::Ordering::Acquire) }
//! #         unsafe fn unlock(&self) { self.0.store(false, core::sync::atomic::Ordering::Release) }
//! #     }
//! # }
//!
//! /// The tables in CR3, in memory that the loader mapped at `offset`.
//! unsafe fn tables(offset: VirtAddr) -> LockedTables<OffsetPageTable<'static>, LocalTlb, Spin> {
//!     let root = Cr3::read().0;
//!     let table = (offset + root.start_address().as_u64()).as_mut_ptr::<PageTable>();
//!     unsafe { LockedTables::new(OffsetPageTable::new(&mut *table, offset), root, LocalTlb::new()) }
//! }
//! ```
//!
//! The crate's functions leave work to their callers, which is done here:
//!
//! - `map_to` links a new table before it is empty; here, tables are empty before they are linked, except below a
//!   `RecursivePageTable`, which reaches them by their entry only;
//! - `map_to` over a read-only leaf of a larger size returns an error, but makes that leaf writable; here, it is not
//!   called then;
//! - it leaves the tables that it has made if it finds no frame for the next; here, all frames are taken before;
//! - `unmap` leaves empty tables, and `clean_up` frees all of them before a flush; here, the [`Gather`](crate::Gather)
//!   frees them after it, except those that stay.

mod access;
mod change;
mod frames;
mod mapper;
mod slot;
#[cfg(target_arch = "x86_64")]
mod tlb;
mod visit;

pub use access::TableAccess;
pub use mapper::LockedTables;
#[cfg(target_arch = "x86_64")]
pub use tlb::LocalTlb;
