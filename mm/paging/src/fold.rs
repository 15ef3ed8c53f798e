//! Replaces a leaf by a table of smaller ones, which translate the same, and a table by a leaf.
//!
//! ```text
//!   unfold:  [ leaf ] --> clear --> flush --> [ table: leaf, leaf, leaf, ... ]
//!   fold:    [ table: leaf, leaf, leaf, ... ] --> clear --> flush --> [ leaf ]
//! ```
//!
//! As with [`relocate`](super::relocate), addresses in between have no translation for a moment: a CPU that accesses
//! them faults, and its handler waits for the caller's lock.

use super::tables::{Stop, Tables};
use super::{
    Attr, Entry, Gather, NoFrames, NotFlushed, OutOfFrames, PhysMem, PteFormat, TableFrames,
    TablePlace, Tlb,
};
use crate::addr::{Address, AddressRange, PhysAddr, Space};

use core::sync::atomic::Ordering;

crate::errors! {
    /// The reason why a leaf was not replaced by a table, or a table by a leaf: the tree is unchanged.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum FoldError {
        /// No leaf translates the address, or no leaf of the other size can.
        NoLeaf => "no leaf of this size can translate the address",
        /// No frame is free for the table.
        OutOfFrames(error: OutOfFrames) => "{error}",
        /// A CPU did not drop its cached translations.
        NotFlushed(cpu: NotFlushed) => "{cpu}",
    }
}

impl<F: PteFormat, P: PhysMem, T: Tlb<I>, I: Space> Tables<F, P, T, I> {
    /// Replaces the leaf that translates `at` by a table of leaves of the next level, all of them marked as
    /// [written](PteFormat::WRITTEN).
    ///
    /// # Errors
    ///
    /// [`FoldError`], with the tree unchanged.
    pub fn unfold<S: TableFrames>(&self, at: Address<I>, frames: &S) -> Result<(), FoldError> {
        let stop = self.walk(at);
        let below = F::LEVELS.get(stop.level + 1).filter(|below| below.leaf);
        let (Entry::Leaf(phys, attr), Some(below)) = (stop.entry, below) else {
            return Err(FoldError::NoLeaf);
        };
        let (level, first) = (stop.level + 1, at.align_down(F::LEVELS[stop.level].span()).get());
        let place = TablePlace { level, first };
        let taken = frames.take_for(below.table_bytes(), place);
        let frame = taken.map_err(FoldError::OutOfFrames)?;
        for (index, slot) in self.slots(frame.at(), level).iter().enumerate() {
            let leaf = Entry::Leaf(phys.add(index as u64 * below.span()), attr);
            slot.store(F::encode(leaf, level), Ordering::Relaxed);
        }
        match self.replace(&stop, stop.level, at, Entry::Table(frame.at())) {
            Ok(()) => {
                let _linked = frame.into_raw();
                Ok(())
            }
            Err(cpu) => {
                self.link(&stop, stop.level, at, stop.entry);
                frames.give_back(frame);
                Err(FoldError::NotFlushed(cpu))
            }
        }
    }

    /// Replaces the table of leaves that translates `at` by one leaf of at most `largest` bytes, which translates the
    /// same; returns the table to `frames`. Marks of single leaves are lost. A leaf is never split but by
    /// [`unfold`](Self::unfold): what is unmapped in pieces must not be folded into one.
    ///
    /// # Errors
    ///
    /// [`FoldError`], with the tree unchanged.
    pub fn fold<S: TableFrames>(
        &self,
        at: Address<I>,
        largest: u64,
        frames: &S,
    ) -> Result<(), FoldError> {
        let stop = self.walk(at);
        let Some((phys, attr)) = self.as_one(&stop, largest) else { return Err(FoldError::NoLeaf) };
        let (old, _) = self.take_out(&stop, stop.level, at);
        match self.replace(&stop, stop.level - 1, at, Entry::Leaf(phys, attr)) {
            Ok(()) => {
                self.caches().retire(old.at(), old.bytes());
                frames.give_back(old);
                Ok(())
            }
            Err(cpu) => {
                let linked = Entry::Table(old.into_raw());
                self.link(&stop, stop.level - 1, at, linked);
                Err(FoldError::NotFlushed(cpu))
            }
        }
    }

    /// The leaf of at most `largest` bytes that translates the same as the table in which a walk stopped.
    fn as_one(&self, stop: &Stop, largest: u64) -> Option<(PhysAddr, Attr)> {
        let Entry::Leaf(..) = stop.entry else { return None };
        let (here, above) = (F::LEVELS[stop.level], F::LEVELS.get(stop.level.checked_sub(1)?)?);
        if !above.leaf || above.span() > self.largest_leaf(largest) {
            return None;
        }
        let mut leaves = self.slots(stop.path[stop.level], stop.level).iter().map(|slot| {
            let entry = F::decode(slot.load(Ordering::Relaxed), stop.level);
            if let Entry::Leaf(phys, attr) = entry { Some((phys, attr)) } else { None }
        });
        let (phys, attr) = leaves.next()??;
        let follows =
            |(index, leaf)| leaf == Some((phys.add((index as u64 + 1) * here.span()), attr));
        let same = leaves.enumerate().all(follows);
        (same && phys.get() & (above.span() - 1) == 0).then_some((phys, attr))
    }

    /// Replaces the entry of `level` on the path of `stop`, which leads to `at`: clears it, flushes what it spans, and
    /// stores `entry`. If the flush fails, the caller stores the old one again.
    fn replace(
        &self,
        stop: &Stop,
        level: usize,
        at: Address<I>,
        entry: Entry,
    ) -> Result<(), NotFlushed> {
        self.link(stop, level, at, Entry::Absent);
        let span = F::LEVELS[level].span();
        let spanned = AddressRange::new(at.align_down(span), span);
        let mut gather = Gather::keeping_tables(self.caches(), NoFrames);
        gather.cleared(spanned.unwrap_or_default());
        gather.flush()?;
        self.link(stop, level, at, entry);
        Ok(())
    }

    /// Stores the entry of `level` on the path of `stop`, which leads to `at`.
    fn link(&self, stop: &Stop, level: usize, at: Address<I>, entry: Entry) {
        let slot = &self.slots(stop.path[level], level)[F::LEVELS[level].index(at.get())];
        // Release: a walk that sees a link sees the entries below.
        slot.store(F::encode(entry, level), Ordering::Release);
        self.caches().publish();
    }
}
