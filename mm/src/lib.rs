//! Memory hotplug for bare-metal kernels.
//!
//! The manager keeps a sparse section map, a virtual memmap of 64-byte page descriptors, and a buddy
//! allocator with zones for each node. Memory is hot-added, brought online, taken offline and removed
//! by four verbs; the descriptors of added memory are placed *in the added memory itself*, for the
//! whole range or for each block, as the caller chooses, so that adding memory needs no memory.
//!
//! ```text
//!            add              online             offline            remove
//!   absent -------> offline ---------> online ----------> offline ---------> absent
//!           mapped,           in a zone's         all pages          unmapped, flushed,
//!           described         free lists          free again         then given back
//! ```
//!
//! A kernel gives it a [`Machine`]: sizes, pointers, page tables. It has no heap and no static of its
//! own, knows no architecture and no firmware.
//!
//! # Locks, in the order they are taken
//!
//! 1. the hotplug lock: one verb at a time, the others answer `Busy`;
//! 2. the lock of the tables that share pages, held while a page is taken for them; then that of the
//!    table reserve, a few loads and stores, and given up again;
//! 3. a zone's lock: never two; held, whatever the sizes, for no more steps than there are orders and
//!    for writing the descriptors of one part; but `convert` copies all descriptors of a block.
//!
//! Lookups take none: they count themselves as readers while they look, and a removal waits for
//! them. No function here may be called from an interrupt handler. `verify` holds a zone's lock
//! while it walks a list: it is for when nothing else is going on.
#![no_std]

pub mod addr;
mod altmap;
pub mod block;
pub mod boot;
mod buddy;
pub mod compact;
pub mod dump;
mod evacuate;
pub mod explain;
mod extent;
mod frames;
pub mod geometry;
pub mod hotplug;
mod isolate;
pub mod machine;
pub mod migrate;
mod node;
pub mod notify;
mod packed;
pub mod page;
pub mod paging;
pub mod placement;
pub mod poison;
pub mod policy;
mod readers;
pub mod section;
pub mod snapshot;
pub mod span;
pub mod stats;
pub mod take;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
pub mod verify;
mod vmemmap;
mod zone;

pub use addr::{Order, Pfn, PfnRange, PhysAddr, PhysRange, VirtAddr, VirtRange};
pub use block::{Block, BlockId, BlockState, Group};
pub use boot::{BootError, BootMemory, EarlyFrames};
pub use buddy::{FreeError, OutOfMemory};
pub use compact::CompactError;
pub use dump::{Content, DumpRun};
pub use explain::{Obstacle, Removability};
pub use geometry::{BlockSize, Geometry, GeometryError};
pub use hotplug::{AddError, Added, OfflineError, OfflineOp, OnlineError, Progress, RemoveError};
pub use hotplug::{ConvertError, Removed, Stepped};
pub use machine::{Machine, PhysMem};
pub use migrate::{Extent, MovableOps, NotNow, TooManyMovers};
pub use node::{MAX_NODES, NodeId};
pub use notify::{Change, Event, Listen, Listener, Veto};
pub use page::{Mover, Owner, Page, PageState};
pub use placement::{MhpFlags, Placement, UnknownPlacement};
pub use poison::{PoisonError, Quarantined};
pub use policy::{AutoOnline, OnlineAs, UnknownPolicy};
pub use snapshot::Fact;
pub use span::NodeInfo;
pub use stats::{PageInfo, Stats, ZoneInfo};
pub use take::{ContigError, ListError, Piece, ReleaseError, TakeError, TakeList};
pub use verify::Violation;
pub use zone::{PageCounts, ZoneKind};

use crate::frames::Frames;
use crate::hotplug::Verb;
use crate::migrate::Movers;
use crate::node::Nodes;
use crate::notify::Listeners;
use crate::policy::Knobs;
use crate::readers::Readers;
use crate::section::{Section, SectionMap, descriptor, section_of};
use core::sync::atomic::{AtomicU32, Ordering};
use spin::Mutex;

/// The memory manager of one machine. Thread-safe; a kernel keeps it in a static.
#[derive(Debug)]
pub struct Mm<M: Machine> {
    machine: M,
    /// Log2 of a memory block's bytes; written once, by [`Mm::boot`].
    block_shift: AtomicU32,
    sections: SectionMap,
    nodes: Nodes,
    frames: Frames,
    readers: Readers,
    knobs: Knobs,
    movers: Movers,
    listeners: Listeners,
    /// Serialises the verbs. Held means: the section map and the page tables change under you.
    hotplug: Mutex<Verb>,
}

impl<M: Machine> Mm<M> {
    /// A manager that knows of no memory yet: see [`Mm::boot`].
    pub const fn new(machine: M) -> Self {
        Self {
            machine,
            block_shift: AtomicU32::new(M::SECTION_SHIFT),
            sections: SectionMap::new(),
            nodes: Nodes::new(),
            frames: Frames::new(),
            readers: Readers::new(),
            knobs: Knobs::new(),
            movers: Movers::new(),
            listeners: Listeners::new(),
            hotplug: Mutex::new(Verb::None),
        }
    }

    /// The machine it runs on.
    pub const fn machine(&self) -> &M {
        &self.machine
    }

    /// The size of a memory block.
    pub fn block_size(&self) -> BlockSize {
        BlockSize::from_shift(self.block_shift.load(Ordering::Relaxed))
    }

    /// The section `number`, if it is there.
    pub(crate) fn section(&self, number: u64) -> Option<Section<'_, M>> {
        Section::get(&self.sections, &self.machine, number)
    }

    /// The section that holds `pfn`, if it is there.
    pub(crate) fn section_at(&self, pfn: Pfn) -> Option<Section<'_, M>> {
        self.section(section_of::<M>(pfn))
    }

    /// The descriptor of `pfn`, of a section that is there.
    pub(crate) fn page(&self, pfn: Pfn) -> &Page {
        descriptor(&self.machine, pfn)
    }
}
