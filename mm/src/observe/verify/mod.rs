//! The check of the invariants, which may run at any time when no page is being allocated or freed.
//!
//! [`verify`](crate::Mm::verify) checks the manager: its records, mappings and frames, with any kernel's page
//! tables. [`verify_machine`](crate::Mm::verify_machine) also checks everything that the tables translate: it is for
//! kernels whose mappings all follow invariants 5 and 6.
//!
//! | invariant | statement | where |
//! |---|---|---|
//! | 1 | every present section's descriptors are mapped, each at its address; every initialised one holds a state, every record a word of its block | `map`, `records`, `counts` |
//! | 2 | a self-hosted memmap lies in the memory it describes, and the allocator has none of its pages | `memmap`, `counts` |
//! | 3 | a head counts its sections and pages; its tails name it; a record continues the one before, or memory begins there | `memmap`, `records`, `counts` |
//! | 4 | present = managed + memmap, per block and zone; lists, caches, bitmaps, extents and spans agree; an extent in use has an owner, and names its zone | `counts`, `lists`, `cached`, `used` |
//! | 5 | a leaf spans one memory block *; tables can be read and lie in boot memory *; nodes and boot memmap do, in pages held for them alone; pages that tables share count them; no table of the manager is empty; shared root entries point to tables * | `tree`, `tables`, `frames` |
//! | 6 | all of a block is in the linear map, and no part of a taken one; a table page has one writable mapping *, protected memory none *; the linear map is plain memory *, and so is a memmap; each entry is one of its format *; removed and taken memory has no translation * | `tree`, `tables`, `records` |
//!
//! What may be damaged is checked before it is followed, in this order, and each walk has a bound:
//!
//! ```text
//!   tree      tables can be read, none is below itself
//!   map       nodes and words of the section map: the descriptors of records can be read
//!   records   bitmaps agree; so all descriptors of memory can be read; groups name heads that exist
//!   the rest  heads, extents, and lists link by link
//! ```
//!
//! Statements with a star are checked by `verify_machine` only.
//!
//! Invariant 7 compares two [snapshots](crate::observe::snapshot).

mod bag;
mod cached;
mod counts;
mod frames;
mod lists;
mod map;
mod memmap;
mod records;
mod tables;
#[cfg(test)]
mod tests;
mod tree;
mod used;
mod violation;

pub use violation::{Subject, Violation};

use self::counts::Counts;
use self::frames::HeldFrames;
use self::map::Map;
use self::memmap::Descriptors;
use self::tables::Tables;
use crate::alloc::Waits;
use crate::machine::Machine;
use crate::observe::View;

impl<M: Machine> View<'_, M> {
    /// See [`Mm::verify`](crate::Mm::verify).
    pub(crate) fn verify(&self) -> Result<(), Violation> {
        self.check_all(false)
    }

    /// See [`Mm::verify_machine`](crate::Mm::verify_machine).
    pub(crate) fn verify_machine(&self) -> Result<(), Violation> {
        self.check_all(true)
    }

    /// Checks the manager; and the `machine`, too.
    fn check_all(&self, machine: bool) -> Result<(), Violation> {
        let look = &Waits::of(self.allocator).look();
        let tables = Tables::of(self.allocator, look);
        let all = || {
            tables.check_tree(!machine)?;
            Map::of(look.seen()).check()?;
            Descriptors::of(look.seen()).check()?;
            HeldFrames::of(self.allocator, look).check()?;
            Counts::of(self.allocator, look).check()?;
            tables.check_section_nodes()?;
            tables.check_filled()?;
            tables.check_linear_map()?;
            if machine { tables.check() } else { Ok(()) }
        };
        all().map_err(|found: Violation| found.placed(look.seen()))
    }
}
