//! Page descriptors: their format, their place, and the access to them.
//!
//! ```text
//!   page       the 64 bytes of a descriptor, encoded and decoded in one place
//!   state      the same word as a value, for frequent callers
//!   meta       the kernel's own part of a descriptor
//!   section    the sparse section map; a section's word
//!   record     the data about a section and its block
//!   share      the parts of a block that were added apart
//!   seen       the memmap under a guard: the only access to sections and descriptors
//!   whole      the same with the page tables, for operations and looks; lookup: one frame of it, without a lock
//!   block      memory blocks: state, placement, head; word: their number, their word in a record
//!   granules   the parts of a block that may hold data; bad: the parts with bad memory
//!   home       the node and the zone that memory belongs to
//!   extent     heads and tails of runs of pages, initialised part by part
//!   placement  the placement of the memmap of added memory
//!   vmemmap    the memmap's translations; altmap: the frames that a range keeps for its own memmap
//!   roots      root entries of the windows, that address spaces share
//!   readers    look-ups without a lock, counted so that a removal can wait
//! ```

pub(crate) mod altmap;
pub(crate) mod bad;
pub(crate) mod block;
pub(crate) mod extent;
pub(crate) mod granules;
pub(crate) mod home;
pub(crate) mod lookup;
pub(crate) mod meta;
pub(crate) mod page;
pub(crate) mod placement;
pub(crate) mod readers;
pub(crate) mod record;
pub(crate) mod roots;
pub(crate) mod section;
pub(crate) mod seen;
pub(crate) mod share;
pub(crate) mod state;
pub(crate) mod vmemmap;
pub(crate) mod whole;
pub(crate) mod word;

use crate::geometry::BlockSize;
use crate::lock::{Mutex, MutexGuard};
use crate::machine::Machine;
use crate::memmap::readers::{Gate, Readers, Stays};
use crate::memmap::section::SectionMap;
use crate::memmap::word::BlockId;
use core::sync::atomic::{AtomicU32, Ordering};

/// The map of present memory, and the descriptors of its pages.
#[derive(Debug)]
pub(crate) struct Memmap<M: Machine> {
    machine: M,
    /// Log2 of a memory block's sections; written once, at boot.
    block_order: AtomicU32,
    sections: SectionMap,
    readers: Readers,
    /// Held while readers of a block are held off, and for nothing else: so only the operation under way takes it.
    keeps_handlers_out: Mutex<M::Lock, ()>,
}

/// Readers of a block are held off, and so are handlers on this CPU, if the machine's lock masks them.
pub(crate) type HeldOff<'m, M> = Gate<'m, MutexGuard<'m, <M as Machine>::Lock, ()>>;

impl<M: Machine> Memmap<M> {
    /// A memmap without memory.
    pub(crate) const fn new(machine: M) -> Self {
        let (sections, readers) = (SectionMap::new(), Readers::new());
        let block_order = AtomicU32::new(0);
        Self { machine, block_order, sections, readers, keeps_handlers_out: Mutex::new(()) }
    }

    /// The machine it runs on.
    pub(crate) const fn machine(&self) -> &M {
        &self.machine
    }

    /// The size of a memory block.
    pub(crate) fn block_size(&self) -> BlockSize {
        BlockSize::from_shift(M::SECTION_SHIFT + self.block_order.load(Ordering::Relaxed))
    }

    /// Sets the size of a memory block, at boot.
    pub(crate) fn set_block_order(&self, order: u32) {
        self.block_order.store(order, Ordering::Relaxed);
    }

    /// The words of all sections.
    pub(crate) const fn sections(&self) -> &SectionMap {
        &self.sections
    }

    /// The look-ups under way.
    pub(crate) const fn readers(&self) -> &Readers {
        &self.readers
    }

    /// Waits until no look-up in a block is under way, and holds off those that come: see [`Readers::exclude`]. Handlers
    /// on this CPU are kept out by the lock, where that masks them.
    pub(crate) fn hold_off_readers(&self, id: BlockId) -> Result<HeldOff<'_, M>, Stays> {
        self.readers.exclude(id.get(), || self.keeps_handlers_out.lock(), &self.relax())
    }

    /// The lock that keeps handlers out while readers are held off.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) const fn lock_of_operations(&self) -> &Mutex<M::Lock, ()> {
        &self.keeps_handlers_out
    }

    /// See [`Readers::drain`].
    pub(crate) fn drain_readers(&self) -> Result<(), Stays> {
        self.readers.drain(&self.relax())
    }

    /// One iteration of a wait.
    pub(crate) fn relax(&self) -> impl Fn() {
        || self.machine.relax()
    }
}
