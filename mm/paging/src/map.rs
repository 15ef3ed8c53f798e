//! Mapping: fills empty slots run by run; on failure undoes exactly that, from a cursor.
//!
//! A run is the part of a mapping that goes into one table with one leaf size. A larger leaf can only start where a
//! table of smaller ones ends, so a run ends at its table's end, at the range's end, or at a slot that is in use
//! (which the next run then reports). A slot with a table cannot hold a leaf, even if the table is empty: because
//! memory was unmapped and kept its tables, or because the kernel made it before. The leaves then go into that
//! table.

use super::slots;
use super::tables::Tables;
use super::{Entry, Gather, MapError, Mapping, NotFlushed, PhysMem, PteFormat, TableFrames};
use super::{TablePlace, Tlb};
use crate::addr::{Address, AddressRange, PhysAddr, Space};

use core::sync::atomic::{AtomicU64, Ordering};

impl<F: PteFormat, P: PhysMem, T: Tlb<I>, I: Space> Tables<F, P, T, I> {
    pub(super) fn map_range<S: TableFrames>(
        &self,
        mapping: &Mapping<I>,
        frames: &S,
    ) -> Result<(), MapError<I>> {
        if mapping.len == 0 {
            return Ok(());
        }
        self.check(mapping)?;
        let mapping = &Mapping { max_leaf: self.largest_leaf(mapping.max_leaf), ..*mapping };

        // The cursor: everything below it is mapped, and nothing above it.
        let mut done = 0;
        while done < mapping.len {
            // The level of the first table that the run makes.
            let mut made = F::LEVELS.len();
            match self.map_run(&rest(mapping, done), &mut made, frames) {
                Ok(bytes) => done += bytes,
                Err(error) => {
                    let undone = self.undo(mapping.virt, done, made, frames);
                    return Err(undone.err().map_or(error, MapError::NotFlushed));
                }
            }
        }
        self.caches().publish();
        Ok(())
    }

    /// Refuses mappings that the format cannot express, or the MMU cannot use.
    fn check(&self, mapping: &Mapping<I>) -> Result<(), MapError<I>> {
        let Mapping { virt, phys, len, .. } = *mapping;
        let page = F::LEVELS[F::LEVELS.len() - 1].span();
        if (virt.get() | phys.get() | len) & (page - 1) != 0 {
            return Err(MapError::Misaligned { virt, phys, len });
        }
        let low_enough = phys.checked_add(len).is_some_and(|end| end.get() <= self.phys_limit());
        match AddressRange::new(virt, len) {
            Some(range) if low_enough && Self::reaches(range) => Ok(()),
            _ => Err(MapError::BeyondFormat { virt, phys, len }),
        }
    }

    /// Maps the first run of `mapping` and returns its bytes, at least one leaf's.
    fn map_run<S: TableFrames>(
        &self,
        mapping: &Mapping<I>,
        made: &mut usize,
        frames: &S,
    ) -> Result<u64, MapError<I>> {
        let level = Self::leaf_level(mapping);
        let table = self.table_for(mapping.virt, level, made, frames)?;
        let empty = *made <= level;
        let first = F::LEVELS[level].index(mapping.virt.get());
        let slots = &self.slots(table, level)[first..];

        let span = F::LEVELS[level].span();
        let wanted = (mapping.len >> F::LEVELS[level].shift).min(slots.len() as u64);
        let wanted = &slots[..wanted as usize];
        let empty = if empty { wanted.len() } else { slots::run(wanted, slots::any) };
        fill::<F, I>(&wanted[..empty], level, mapping);
        match empty {
            0 => self.map_below(mapping, level, slots, made, frames),
            leaves => Ok(leaves as u64 * span),
        }
    }

    /// As [`map_run`](Self::map_run), if the first of `slots`, of `level`, is in use: with smaller leaves if it
    /// holds a table.
    #[cold]
    fn map_below<S: TableFrames>(
        &self,
        mapping: &Mapping<I>,
        level: usize,
        slots: &[AtomicU64],
        made: &mut usize,
        frames: &S,
    ) -> Result<u64, MapError<I>> {
        let taken = slots.first().map(|slot| F::decode(slot.load(Ordering::Acquire), level));
        let smaller = F::LEVELS.iter().skip(level + 1).find(|below| below.leaf);
        match (taken, smaller) {
            (Some(Entry::Table(_)), Some(below)) => {
                let max_leaf = below.span();
                self.map_run(&Mapping { max_leaf, ..*mapping }, made, frames)
            }
            _ => Err(MapError::AlreadyMapped { at: mapping.virt }),
        }
    }

    /// The level of the largest leaf that fits at the start of `mapping`.
    fn leaf_level(mapping: &Mapping<I>) -> usize {
        let bits = mapping.virt.get() | mapping.phys.get();
        let room = mapping.len.min(mapping.max_leaf);
        F::LEVELS
            .iter()
            .position(|level| level.leaf && level.span() <= room && bits & (level.span() - 1) == 0)
            // A base page always fits, for any `max_leaf`: `check` has made sure of that.
            .unwrap_or(F::LEVELS.len() - 1)
    }

    /// The table of `level` that covers `at`; creates it and the missing ones above it. `made` becomes the level of
    /// the first one created, and those below it are then new, too.
    fn table_for<S: TableFrames>(
        &self,
        at: Address<I>,
        level: usize,
        made: &mut usize,
        frames: &S,
    ) -> Result<PhysAddr, MapError<I>> {
        let mut table = self.root();
        for above in 0..level {
            let slot = &self.slots(table, above)[F::LEVELS[above].index(at.get())];
            table = match F::decode(slot.load(Ordering::Acquire), above) {
                Entry::Table(next) => next,
                Entry::Leaf(..) => return Err(MapError::AlreadyMapped { at }),
                Entry::Absent => {
                    let bytes = F::LEVELS[above + 1].table_bytes();
                    let first = at.align_down(F::LEVELS[above].span()).get();
                    let frame = frames.take_for(bytes, TablePlace { level: above + 1, first })?;
                    self.zero(&frame);
                    let frame = frame.into_raw();
                    // Release: a walk that sees the link sees an empty table.
                    slot.store(F::encode(Entry::Table(frame), above), Ordering::Release);
                    *made = (above + 1).min(*made);
                    frame
                }
            };
        }
        Ok(table)
    }

    /// Unmaps the first `done` bytes, and detaches the tables from level `made` on, of a run that then failed.
    ///
    /// Tables that existed before stay: those in use, since they are not empty, and the empty ones, which
    /// [`TableFrames::keeps`] names.
    #[cold]
    fn undo<S: TableFrames>(
        &self,
        start: Address<I>,
        done: u64,
        made: usize,
        frames: &S,
    ) -> Result<(), NotFlushed> {
        let mut gather = Gather::new(self.caches(), frames);
        self.prune(start.add(done), made, &mut gather);
        if let Some(range) = AddressRange::new(start, done) {
            // It begins and ends with leaves of this mapping, so it cuts no leaf.
            let _whole = self.clear(range, &mut gather);
        }
        gather.flush()
    }
}

/// The rest of `mapping` after its first `done` bytes.
fn rest<I: Space>(mapping: &Mapping<I>, done: u64) -> Mapping<I> {
    Mapping {
        virt: mapping.virt.add(done),
        phys: mapping.phys.add(done),
        len: mapping.len - done,
        ..*mapping
    }
}

/// Writes consecutive leaves into empty slots.
#[inline]
fn fill<F: PteFormat, I: Space>(slots: &[AtomicU64], level: usize, mapping: &Mapping<I>) {
    let span = F::LEVELS[level].span();
    let mut phys = mapping.phys;
    for slot in slots {
        slot.store(F::encode(Entry::Leaf(phys, mapping.attr), level), Ordering::Release);
        phys = phys.add(span);
    }
}
