//! Moves a live table to another frame.
//!
//! ```text
//!   clear the parent's entry --> flush --> copy --> link the copy
//! ```
//!
//! In between, addresses that the table spans have no translation: a CPU that accesses them faults, and its handler
//! waits for the caller's lock. The parent's entry never changes from one table to another directly
//! (break-before-make).
//!
//! No entry names the root: the caller keeps all CPUs from walking the tree while it moves.

// UNSAFETY: declares a function with a safety contract.
#![expect(unsafe_code)]

use super::tables::Tables;
use super::{Entry, Gather, NoFrames, NotFlushed, PhysMem, PteFormat, TableFrame, TablePlace, Tlb};
use crate::addr::{Address, AddressRange, PhysAddr, Space};

use core::sync::atomic::Ordering;

crate::errors! {
    /// The reason why a table was not moved: the tree is unchanged.
    #[derive(Debug)]
    pub enum RelocateError {
        /// The tree has no table in that frame at that place, or it is the root. The new frame comes back.
        NoTable(_: TableFrame) => "the tree has no such table",
        /// The new frame has another size than the table, and comes back.
        Size(frame: TableFrame) => ("the table does not have {} bytes", frame.bytes()),
        /// A CPU did not drop its cached pointers to the table, which stays in use. The new frame comes back.
        NotFlushed(cpu: NotFlushed, _: TableFrame) => "{cpu}",
    }
}

impl RelocateError {
    /// The new frame, which has no use.
    pub fn into_frame(self) -> TableFrame {
        match self {
            Self::NoTable(frame) | Self::Size(frame) | Self::NotFlushed(_, frame) => frame,
        }
    }
}

impl<F: PteFormat, P: PhysMem, T: Tlb<I>, I: Space> Tables<F, P, T, I> {
    /// Moves the table in frame `from`, which is at `place`, to the frame `to`. Returns the old frame.
    ///
    /// # Errors
    ///
    /// [`RelocateError`], with the tree unchanged.
    pub fn relocate(
        &self,
        place: TablePlace,
        from: PhysAddr,
        to: TableFrame,
    ) -> Result<TableFrame, RelocateError> {
        let at = Address::<I>::new(place.first);
        let Some(above) = place.level.checked_sub(1).filter(|_| self.has(place, from)) else {
            return Err(RelocateError::NoTable(to));
        };
        if to.bytes() != F::LEVELS[place.level].table_bytes() {
            return Err(RelocateError::Size(to));
        }
        let span = F::LEVELS[above].span();
        let Some(range) = AddressRange::new(at.align_down(span), span) else {
            return Err(RelocateError::NoTable(to));
        };

        let stop = self.walk(at);
        let mut gather = Gather::keeping_tables(self.caches(), NoFrames);
        let (old, parents) = self.take_out(&stop, place.level, at);
        let slot = &parents[F::LEVELS[above].index(at.get())];
        gather.cleared(range);
        if let Err(cpu) = gather.flush() {
            slot.store(F::encode(Entry::Table(old.into_raw()), above), Ordering::Release);
            self.caches().publish();
            return Err(RelocateError::NotFlushed(cpu, to));
        }
        let entries = self.slots(from, place.level).iter();
        for (old, new) in entries.zip(self.slots(to.at(), place.level)) {
            new.store(old.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        // Release: a walk that sees the link sees the copied entries.
        slot.store(F::encode(Entry::Table(to.into_raw()), above), Ordering::Release);
        self.caches().publish();
        self.caches().retire(old.at(), old.bytes());
        Ok(old)
    }

    /// Moves the root to the frame `to`. Returns the old one's address.
    ///
    /// # Safety
    ///
    /// - `to` has [`ROOT_BYTES`](Self::ROOT_BYTES), which `mem`'s pointers reach.
    /// - No CPU walks the tree during this call; walks that begin after it begin at the new root, and no CPU has cached
    ///   a pointer to the old one.
    pub unsafe fn relocate_root(&mut self, to: TableFrame) -> PhysAddr {
        let (old, bytes) = (self.root, to.bytes());
        let entries = self.slots(old, 0).iter();
        for (old, new) in entries.zip(self.slots(to.at(), 0)) {
            new.store(old.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        self.root = to.into_raw();
        self.caches().publish();
        self.caches().retire(old, bytes);
        old
    }

    /// Whether the table at `place` is in the frame `from`.
    fn has(&self, place: TablePlace, from: PhysAddr) -> bool {
        let at = AddressRange::new(Address::<I>::new(place.first), 1);
        let Some(at) = at.filter(|&at| Self::reaches(at)) else { return false };
        let stop = self.walk(at.start());
        place.level <= stop.level && stop.path.get(place.level) == Some(&from)
    }
}
