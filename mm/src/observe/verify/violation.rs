//! The report of an invariant that does not hold.

use crate::paging::Translation;
use core::fmt;

/// An invariant that does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The invariant's number.
    pub invariant: u8,
    /// The statement that is wrong.
    pub what: &'static str,
    /// The place: an address, a pfn, a section or a block, according to `what`.
    pub at: u64,
    /// The expected value.
    pub expected: u64,
    /// The value found.
    pub found: u64,
    /// The wrong leaf, if it is one.
    pub leaf: Option<Translation>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { invariant, what, at, expected, found, leaf } = self;
        write!(
            f,
            "invariant {invariant}: {what} at {at:#x}: expected {expected:#x}, found {found:#x}"
        )?;
        let Some(Translation { virt, phys, len, attr }) = leaf else { return Ok(()) };
        let attr = attr.bits();
        write!(f, "; the leaf at {virt} maps {len:#x} bytes to {phys}, attributes {attr:#x}")
    }
}

impl core::error::Error for Violation {}

/// Returns a violation of `invariant` unless the values are equal.
pub(super) fn expect(
    invariant: u8,
    what: &'static str,
    at: u64,
    expected: u64,
    found: u64,
) -> Result<(), Violation> {
    let leaf = None;
    if expected == found {
        Ok(())
    } else {
        Err(Violation { invariant, what, at, expected, found, leaf })
    }
}

/// Returns a violation of `invariant` unless `holds`.
pub(super) fn hold(
    invariant: u8,
    what: &'static str,
    at: u64,
    holds: bool,
) -> Result<(), Violation> {
    expect(invariant, what, at, 1, u64::from(holds))
}
