//! How much of the NFIT there is room for.

/// Ranges that there is room for, whatever their kind.
pub const MOST_REGIONS: usize = 128;
/// Parts of NVDIMMs that there is room for.
pub const MOST_PARTS: usize = 512;
