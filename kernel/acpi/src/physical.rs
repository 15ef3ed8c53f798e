//! How tables are reached: checked slices of physical memory.

use hotmem::addr::PhysRange;

/// Physical memory that firmware left tables in.
///
/// The parsers ask for every range before they look at it and never for more than one table, so an
/// implementation may map what is asked for on demand.
pub trait Physical {
    /// The bytes of `range`, or `None` unless all of it is memory that may be read as firmware data:
    /// mapped, and neither device registers nor memory that the kernel writes.
    fn bytes(&self, range: PhysRange) -> Option<&[u8]>;
}
