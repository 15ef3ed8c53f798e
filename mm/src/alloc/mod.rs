//! Allocates and frees pages: zones over a memmap.
//!
//! ```text
//!   zone, node, span   free lists of a zone, the zones of a node, the blocks they span
//!   gauge, watches     whether free memory is low, and who is notified
//!   lists, buddy       free lists: linked, merged; extents taken from them and given back
//!   cache, class, links, closing, batch, drain, cached   pages that wait for the next user on a CPU: lists, batches of
//!                      them, emptying
//!   request, pages     what users ask for, and get: owned pages, and pages in a mover's name
//!   take, below        extents for a request from one zone; those that end by a frame
//!   zeroed             pages cleared, ahead by CPUs that have nothing else to do
//!   metas, meta        the kernel's own data of the pages that it allocates: where it is, and how it is reached
//!   owners             registered owners of pages that move, and their names
//!   isolate, evacuate (budget), migrate, moves (in_parts), divide, compact, poison   pages moved, and kept out of use
//!   frames, packed     frames of page tables: the reserve, and tables that share a page
//!   tables             such frames allocated and freed, from the reserve or from a zone
//!   strand             pages that a CPU may still reach, never freed
//!   populate           memmaps mapped and unmapped, with those frames
//! ```

// UNSAFETY: vouches for the turn of its memmap.
#![expect(unsafe_code)]

pub(crate) mod batch;
mod below;
pub(crate) mod buddy;
pub(crate) mod budget;
pub(crate) mod cache;
mod cached;
pub(crate) mod class;
mod closing;
pub(crate) mod compact;
pub(crate) mod divide;
pub(crate) mod drain;
pub(crate) mod evacuate;
pub(crate) mod frames;
mod gauge;
mod in_parts;
pub(crate) mod isolate;
mod links;
pub(crate) mod list;
pub(crate) mod lists;
pub(crate) mod meta;
pub(crate) mod metas;
pub(crate) mod migrate;
mod moves;
pub(crate) mod node;
pub(crate) mod owners;
pub(crate) mod packed;
pub(crate) mod pages;
pub(crate) mod poison;
pub(crate) mod populate;
pub(crate) mod request;
pub(crate) mod span;
mod strand;
pub(crate) mod tables;
mod take;
mod targets;
pub(crate) mod watches;
pub(crate) mod zeroed;
pub(crate) mod zone;

use crate::alloc::cache::Caches;
use crate::alloc::frames::Frames;
use crate::alloc::in_parts::InParts;
use crate::alloc::node::Nodes;
use crate::alloc::owners::Owners;
use crate::machine::Machine;
use crate::memmap::Memmap;
use crate::turn::{Operation, Taken, Turn};
use spin::Mutex;

pub(crate) use crate::turn::Waits;

/// Allocates and frees pages: zones, over a memmap.
#[derive(Debug)]
pub(crate) struct Allocator<M: Machine> {
    pub(crate) memmap: Memmap<M>,
    pub(crate) turn: Turn,
    pub(crate) nodes: Nodes<M::Nodes>,
    pub(crate) caches: Caches<M::Caches>,
    pub(crate) frames: Frames<M::Lock>,
    pub(crate) owners: Owners,
    /// The extent that is moved in parts. Changed by the operation that empties a range, and by its end.
    pub(crate) in_parts: Mutex<Option<InParts>>,
}

impl<M: Machine> Allocator<M> {
    /// An allocator without memory.
    pub(crate) const fn new(machine: M) -> Self {
        Self {
            memmap: Memmap::new(machine),
            turn: Turn::new(),
            nodes: Nodes::new(),
            caches: Caches::new(),
            frames: Frames::new(),
            owners: Owners::new(),
            in_parts: Mutex::new(None),
        }
    }

    /// The machine it runs on.
    pub(crate) const fn machine(&self) -> &M {
        self.memmap.machine()
    }

    /// See [`Waits::take`].
    pub(crate) fn take_turn(&self) -> Option<Taken<'_, M>> {
        Waits::of(self).take()
    }

    /// See [`Waits::operation`].
    pub(crate) fn operation(&self) -> Option<Operation<'_, M>> {
        Waits::of(self).operation()
    }

    /// See [`Waits::moment`].
    pub(crate) fn moment(&self) -> Option<Operation<'_, M>> {
        Waits::of(self).moment()
    }
}

impl<'m, M: Machine> Waits<'m, M> {
    /// The turn and the looks of an allocator.
    pub(crate) const fn of(allocator: &'m Allocator<M>) -> Self {
        // SAFETY: every operation of the manager has this turn: only that creates what changes the memmap.
        unsafe { Self::new(&allocator.memmap, &allocator.turn) }
    }
}
