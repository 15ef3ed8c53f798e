//! The laws, checked: callable at any time that nobody allocates or frees.
//!
//! [`verify`](crate::Mm::verify) judges the manager: what it keeps, maps and holds, on any kernel's page tables.
//! [`verify_machine`](crate::Mm::verify_machine) judges everything that the tables translate as well: it is for
//! kernels whose mappings all follow laws 5 and 6.
//!
//! | law | what holds | where |
//! |---|---|---|
//! | 1 | every present section's descriptors are mapped, each where it belongs; every believed one holds a state | `memmap` |
//! | 2 | a self-hosted memmap lies in what it describes, and the allocator has none of its pages | `memmap`, `counts` |
//! | 3 | a head counts its sections and pages; its tails answer with it | `memmap` |
//! | 4 | present = managed + memmap, per block and zone; lists, bitmaps, extents and spans agree | `counts` |
//! | 5 | a leaf spans one memory block *; tables *, nodes and boot memmap lie in boot memory, in pages held for them and for nothing else; no table of the manager's is empty; shared root entries have a table behind them * | `tables`, `frames` |
//! | 6 | all of a block is in the linear map, and nothing of one that was taken; a table page has one writable mapping *, protected memory none *; the linear map is plain memory *; removed and taken memory has no translation * | `tables` |
//!
//! What has a star is for `verify_machine`.
//!
//! Law 7 compares two [snapshots](crate::observe::snapshot).

mod counts;
mod frames;
mod memmap;
mod tables;
#[cfg(test)]
mod tests;

use crate::machine::Machine;
use crate::observe::View;
use crate::paging::Translation;
use core::fmt;

/// A law that does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The law's number.
    pub law: u8,
    /// What is wrong.
    pub what: &'static str,
    /// Where: an address, a pfn, a section or a block, as `what` says.
    pub at: u64,
    /// The value that should be there.
    pub expected: u64,
    /// The value that is there.
    pub found: u64,
    /// The leaf that is wrong, if one is.
    pub leaf: Option<Translation>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { law, what, at, expected, found, leaf } = self;
        write!(f, "law {law}: {what} at {at:#x}: expected {expected:#x}, found {found:#x}")?;
        let Some(Translation { virt, phys, len, attr }) = leaf else { return Ok(()) };
        let attr = attr.bits();
        write!(f, "; the leaf at {virt} maps {len:#x} bytes to {phys}, attributes {attr:#x}")
    }
}

impl core::error::Error for Violation {}

/// Answers a violation of `law` unless the values are equal.
fn expect(
    law: u8,
    what: &'static str,
    at: u64,
    expected: u64,
    found: u64,
) -> Result<(), Violation> {
    let leaf = None;
    if expected == found { Ok(()) } else { Err(Violation { law, what, at, expected, found, leaf }) }
}

/// Answers a violation of `law` unless `holds`.
fn hold(law: u8, what: &'static str, at: u64, holds: bool) -> Result<(), Violation> {
    expect(law, what, at, 1, u64::from(holds))
}

impl<M: Machine> View<'_, M> {
    /// See [`Mm::verify`](crate::Mm::verify).
    pub(crate) fn verify(&self) -> Result<(), Violation> {
        let _look = self.allocator.turn.looks.enter();
        self.verify_memmap()?;
        self.verify_frames()?;
        self.verify_counts()?;
        self.verify_section_nodes()?;
        self.verify_filled_tables()?;
        self.verify_linear_map()
    }

    /// See [`Mm::verify_machine`](crate::Mm::verify_machine).
    pub(crate) fn verify_machine(&self) -> Result<(), Violation> {
        self.verify()?;
        let _look = self.allocator.turn.looks.enter();
        self.verify_tables()
    }
}
