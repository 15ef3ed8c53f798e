//! The check of the invariants, which may run at any time when no page is being allocated or freed.
//!
//! [`verify`](crate::Mm::verify) checks the manager: its records, mappings and frames, with any kernel's page
//! tables. [`verify_machine`](crate::Mm::verify_machine) also checks everything that the tables translate: it is for
//! kernels whose mappings all follow invariants 5 and 6.
//!
//! | invariant | statement | where |
//! |---|---|---|
//! | 1 | every present section's descriptors are mapped, each at its address; every initialised one holds a state, every record a word of its block | `memmap` |
//! | 2 | a self-hosted memmap lies in the memory it describes, and the allocator has none of its pages | `memmap`, `counts` |
//! | 3 | a head counts its sections and pages; its tails name it | `memmap` |
//! | 4 | present = managed + memmap, per block and zone; lists, caches, bitmaps, extents and spans agree | `counts`, `lists`, `cached` |
//! | 5 | a leaf spans one memory block *; tables *, nodes and boot memmap lie in boot memory, in pages held for them alone; no table of the manager is empty; shared root entries point to tables * | `tables`, `frames` |
//! | 6 | all of a block is in the linear map, and no part of a taken one; a table page has one writable mapping *, protected memory none *; the linear map is plain memory *; removed and taken memory has no translation * | `tables` |
//!
//! Statements with a star are checked by `verify_machine` only.
//!
//! Invariant 7 compares two [snapshots](crate::observe::snapshot).

mod cached;
mod counts;
mod frames;
mod lists;
mod memmap;
mod tables;
#[cfg(test)]
mod tests;
mod violation;

pub use violation::Violation;

use self::counts::Counts;
use self::frames::HeldFrames;
use self::memmap::Descriptors;
use self::tables::Tables;
use crate::alloc::Waits;
use crate::machine::Machine;
use crate::observe::View;

impl<M: Machine> View<'_, M> {
    /// See [`Mm::verify`](crate::Mm::verify).
    pub(crate) fn verify(&self) -> Result<(), Violation> {
        let look = &Waits::of(self.allocator).look();
        Descriptors::of(look.seen()).check()?;
        HeldFrames::of(self.allocator, look).check()?;
        Counts::of(self.allocator, look).check()?;
        let tables = Tables::of(self.allocator, look);
        tables.check_section_nodes()?;
        tables.check_filled()?;
        tables.check_linear_map()
    }

    /// See [`Mm::verify_machine`](crate::Mm::verify_machine).
    pub(crate) fn verify_machine(&self) -> Result<(), Violation> {
        self.verify()?;
        let look = &Waits::of(self.allocator).look();
        Tables::of(self.allocator, look).check()
    }
}
