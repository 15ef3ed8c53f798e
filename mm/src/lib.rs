//! Memory hotplug for bare-metal kernels.
//!
//! The manager keeps a sparse section map, a virtual memmap of 64-byte page descriptors, and a buddy
//! allocator with zones for each node. Memory is hot-added, brought online, taken offline and removed
//! by four operations; the descriptors of added memory are placed *in the added memory itself*, for the
//! whole range or for each block, as the caller chooses, so that adding memory needs no memory.
//!
//! ```text
//!            add              online             offline            remove
//!   absent -------> offline ---------> online ----------> offline ---------> absent
//!           mapped,           in a zone's         all pages          unmapped, flushed,
//!           described         free lists          free again         then given back
//! ```
//!
//! A kernel provides a [`Machine`]: sizes, pointers, page tables. The manager has no heap, and no statics but a
//! count of managers and a flag that a broken rule was reported; it depends on no architecture and no firmware.
//!
//! The life of a DIMM, on any machine that has booted:
//!
//! ```no_run
//! use hotmem::{Machine, Mm, NodeId, Order, PhysRange, Placement, ZoneKind};
//!
//! /// # Safety
//! ///
//! /// The range is RAM of no other use.
//! unsafe fn plug_use_unplug<M: Machine>(
//!     mm: &Mm<M>,
//!     dimm: PhysRange,
//! ) -> Result<(), Box<dyn std::error::Error>> {
//!     // Its memmap goes to its own first pages, so this needs no memory.
//!     // SAFETY: by the contract of this function.
//!     unsafe { mm.add(dimm, NodeId::default(), Placement::PerRange) }?;
//!     for block in mm.blocks_in(dimm) {
//!         mm.online(block, ZoneKind::Normal)?;
//!     }
//!     let pages = mm.alloc(Order::ZERO)?;
//!     drop(pages);
//!     for block in mm.blocks_in(dimm) {
//!         mm.offline(block)?;
//!     }
//!     mm.remove(dimm)?;
//!     Ok(())
//! }
//! ```
//!
//! `examples/embed.rs` is a whole kernel on the host: it implements the traits, and boots.
//!
//! # Locks, in the order they are taken
//!
//! 1. the turn: one operation at a time, the others return `Busy`; and the gate, by which an operation waits for
//!    looks (`explain_*`, `verify`, `dump`, `snapshot`) to end, and a look for an operation, but not while the
//!    operation calls a listener or an owner of pages (`turn/looks.rs` has the proof);
//! 2. the lock of the tables that share pages, held while a page is taken for them; then that of the
//!    table reserve, a few loads and stores, and given up again;
//! 3. the lock of a CPU's cache of pages: a CPU holds at most one; held while at most a batch is moved. The CPU
//!    itself takes it, and any CPU that drains;
//! 4. a zone's lock: a CPU holds at most one; held for no more steps than there are orders, for any sizes, and while
//!    the descriptors of one subsection are written.
//!
//! Look-ups take no lock: they count themselves as readers while they run, and a removal waits for them, about a
//! second at most: then it fails with [`RemoveError::ReadersStay`], which names the CPU. [`machine`] lists the
//! functions that handlers may call; for these the manager's locks mask interrupts. `verify` holds a zone's lock
//! while it walks a list: call it when no other work is going on.
//!
//! # Flushes
//!
//! If [`Tlb::flush`](paging::Tlb::flush) needs an acknowledgement from every CPU, the rule is: *no CPU waits with
//! interrupts off unless it serves flushes during the wait; no flush is made with a lock held that other CPUs wait
//! for*. So the functions that [`machine`] allows may be called with interrupts off: all waits for look-ups, looks
//! and operations call [`Machine::relax`], and those for a lock are the wait of [`Machine::Lock`]
//! ([`lock::TicketLock`]). Only `convert` flushes with look-ups held off: those in the block whose descriptors it
//! moves. It also holds a lock that keeps handlers of this CPU out, and that no other CPU takes.
//! `operations/convert.rs` explains why it has to, and why no CPU waits for ever.
//!
//! The flushes are those of `remove` and of an `add` that is undone, of `take` and a `release` that is undone, of
//! `unmap_own`, of `convert`, and of a mapping that fails half way: all by an operation under way. The fake machine
//! fails a test that flushes, or waits for another CPU, with any lock held but that of `convert`, or that flushes anything
//! but descriptors with that one held. `tests/tests/manager/locks.rs` checks that look-ups in other blocks continue.
//!
//! # Preemption
//!
//! The crate knows no scheduler. While a preempted thread does not run, it delays:
//!
//! - in a look-up (`page_info`, `block`, `free`, ..): a `remove` or `convert` that waits for it. A `remove` gives up
//!   after about 2^26 polls, without a change, and can be tried again; so does a `convert`, which leaves the blocks
//!   that it has converted. Allocations and look-ups continue during that time, looks wait. `convert` holds look-ups
//!   in one block off for a thousandth of that at a time, until the readers are gone.
//! - in a look (`explain_*`, `verify`, ..): an operation that waits for it, and then returns `Busy`.
//! - with a zone's lock, that is inside `alloc` and `free`, or inside an operation: any CPU that needs the same lock
//!   or looks spins. A thread of a higher priority on the same CPU would spin for ever, so a kernel that preempts
//!   its own threads disables preemption around calls of the allocator and around operations, except in the
//!   callbacks of the table in [`machine`], where it may enable it.
#![no_std]

mod alloc;
mod facade;
#[cfg(feature = "heap")]
pub mod heap;
mod impossible;
pub mod lock;
pub mod machine;
mod memmap;
#[cfg(any(misuse = "right", misuse = "wrong"))]
#[path = "../tests/misuse/cases.rs"]
mod misuse;
mod observe;
mod operations;
mod simple;
mod sync;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
mod turn;
mod wait;

#[doc(hidden)]
pub use hotmem_paging::errors;
pub use hotmem_paging::{self as paging, addr, geometry};
pub use hotmem_paging::{BlockSize, Geometry, GeometryError, Sizes};
pub use hotmem_paging::{Order, Pfn, PfnRange, PhysAddr, PhysRange, VirtAddr, VirtRange};

pub use alloc::buddy::{FreeError, OutOfMemory};
pub use alloc::cache::{CacheStorage, CpuCache, CpuCaches, CpuPages};
pub use alloc::compact::CompactError;
pub use alloc::migrate::{Extent, MOST_AHEAD, MovableOps, Move, Part};
pub use alloc::node::{MAX_NODES, NodeId, NodeStorage, NodeTable};
pub use alloc::owners::{Mover, TooManyOwners, User};
pub use alloc::pages::Pages;
pub use alloc::poison::{PoisonError, Quarantined};
pub use alloc::request::Request;
pub use alloc::span::NodeInfo;
pub use alloc::watches::{MAX_WATCHES, Marks, MarksReversed, Pressure, Watch, WatchError};
pub use alloc::zone::{PageCounts, SYSTEM_FLOOR_SHARE, ZoneKind};
pub use facade::Mm;
pub use lock::SpinLock;
pub use machine::{LOCAL_DISTANCE, Machine, PhysMem, REMOTE_DISTANCE};
pub use memmap::block::{Block, BlockId, BlockState, Group, NotWholeSubsections};
pub use memmap::meta::{META_BYTES, Meta, check_meta};
pub use memmap::page::{MAX_MOVERS, MAX_USERS, MoverId, Owner, Page, PageState, UserId};
pub use memmap::placement::{MhpFlags, Placement, UnknownPlacement};
pub use memmap::section::MAX_SECTIONS;
pub use memmap::share::Share;
pub use memmap::state::StateWord;
pub use observe::dump::{Content, DescriptorsMove, DumpRun};
pub use observe::explain::{Estimate, Obstacle, Removability};
pub use observe::shares::Shares;
pub use observe::snapshot::Fact;
pub use observe::stats::{PageInfo, Stats, ZoneInfo};
pub use observe::verify::{Subject, Violation};
pub use operations::boot::{BootError, BootMemory, EarlyFrames, EarlyTables, RESERVE_SHARE};
pub use operations::early::EarlyRanges;
pub use operations::knobs::{AUTO_MOVABLE_RATIO, AutoOnline, OnlineAs, UnknownPolicy};
pub use operations::later::QueueFull;
pub use operations::notify::{Change, Event, ListInUse, Listen, Listener, News, Veto};
pub use operations::take::{
    ContigError, ListError, MAX_PIECES, Piece, ReleaseError, TakeError, TakeList,
};
pub use operations::{
    AddError, Added, OfflineError, OfflineOp, OnlineError, Progress, RemoveError,
};
pub use operations::{ConvertError, OwnMapError, Removed, ScrubError, Scrubbed, Stepped, Walk};
pub use simple::SimpleMachine;
