//! The owner of the second-stage tables, and the source of their frames.
//!
//! A table moves at once, in [`migrate`](MovableOps::migrate), with the guest's lock held: its parent's entry is
//! cleared and flushed, and points to the copy afterwards. A guest that faults meanwhile waits for the lock. No entry
//! points to the root: while that moves, no CPU is in the guest.

use crate::Shared;
use crate::host::Host;
use crate::id::VmId;
use crate::platform::Platform;
use crate::switch;
use crate::word::TableWord;
use hotmem::paging::{OutOfFrames, PteFormat, RelocateError, TableFrame, TableFrames, TablePlace};
use hotmem::{Mm, MovableOps, Move, Mover};
use hotmem_arch::contract::Guests;

/// The format of a platform's tables.
type Format<P> = <<P as Platform>::Guests as Guests>::GuestFormat;

/// Bytes of address space that a table of `level` spans.
fn span<P: Platform>(level: usize) -> Option<u64> {
    Some(Format::<P>::LEVELS.get(level.checked_sub(1)?)?.span())
}

/// The word of the table at `place`.
pub(crate) fn word<P: Platform>(id: VmId, place: TablePlace) -> TableWord {
    let index = span::<P>(place.level).map_or(0, |span| place.first / span);
    TableWord { vm: id.number(), level: place.level, index }
}

/// The source of frames for the tables of a guest.
#[derive(Debug)]
pub(crate) struct GuestFrames<'a, M: Shared, P> {
    pub(crate) mm: &'a Mm<M>,
    pub(crate) mover: &'a Mover,
    pub(crate) id: VmId,
    /// Frames are cleared when they are free.
    pub(crate) scrub: bool,
    pub(crate) platform: core::marker::PhantomData<fn() -> P>,
}

impl<M: Shared, P: Platform> TableFrames for GuestFrames<'_, M, P> {
    /// Each table has a place.
    fn take(&self, bytes: u64) -> Result<TableFrame, OutOfFrames> {
        Err(OutOfFrames { bytes })
    }

    fn take_for(&self, bytes: u64, place: TablePlace) -> Result<TableFrame, OutOfFrames> {
        let word = word::<P>(self.id, place).encode();
        switch::frame(self.mm, self.mover, word, bytes).map_err(|_| OutOfFrames { bytes })
    }

    fn give_back(&self, frame: TableFrame) {
        if let Err(error) = switch::free_table(self.mm, frame, self.mover, self.scrub) {
            log::error!("guest {}: a table is lost: {error}", self.id.number());
        }
    }
}

/// The owner.
#[derive(Debug)]
pub(crate) struct TableOwner<M: Shared, P: Platform>(pub(crate) &'static Host<M, P>);

impl<M: Shared, P: Platform> TableOwner<M, P> {
    /// Moves a root. Returns whether it moved.
    fn relocate_root(&self, one: &Move, vm: u16, bytes: u64) -> bool {
        let moved = self.0.with_space(vm, |space| {
            if space.tables.root() != M::address(one.from().pfn) {
                return false;
            }
            let moved = space.relocate_root(switch::frame_of_target::<M>(one, bytes));
            moved.inspect_err(|cpu| log::error!("guest {vm}: {cpu}")).is_ok()
        });
        moved.unwrap_or(false)
    }

    /// Moves a table. Returns whether it moved.
    fn relocate(&self, one: &Move) -> bool {
        let word = TableWord::decode(one.from().private);
        if let (0, Some(root)) = (word.level, Format::<P>::LEVELS.first()) {
            return self.relocate_root(one, word.vm, root.table_bytes());
        }
        let Some(level) = Format::<P>::LEVELS.get(word.level) else { return false };
        let Some(first) = span::<P>(word.level).and_then(|span| span.checked_mul(word.index))
        else {
            return false;
        };
        let place = TablePlace { level: word.level, first };
        let from = M::address(one.from().pfn);
        let moved = self.0.with_space(word.vm, |space| {
            let to = switch::frame_of_target::<M>(one, level.table_bytes());
            // The manager frees what is not in use any more: the old frame, or the new one of a refused move.
            match space.relocate(place, from, to) {
                Ok(old) => {
                    let _freed_by_the_manager = old.into_raw();
                    true
                }
                Err(error) => {
                    if let RelocateError::NotFlushed(cpu, _) = &error {
                        log::error!("guest {}: {cpu}", word.vm);
                    }
                    let _freed_by_the_manager = error.into_frame().into_raw();
                    false
                }
            }
        });
        moved.unwrap_or(false)
    }
}

impl<M: Shared, P: Platform> MovableOps for TableOwner<M, P> {
    fn name(&self) -> &'static str {
        "guest tables"
    }

    /// Tables change by operations of the first CPU only, which is in the middle of this one.
    fn isolate(&self, _moves: &[Move]) {}

    fn migrate(&self, moves: &[Move]) {
        self.0.in_a_batch(|| {
            for one in moves.iter().filter(|one| !one.is_refused()) {
                if !self.relocate(one) {
                    one.refuse();
                }
                if self.0.scrubs() {
                    switch::clear_unused(self.0.mm, one);
                }
            }
        });
    }
}
