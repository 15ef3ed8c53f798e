//! How much of the NFIT there is room for, and what of a handle counts.

/// Ranges that there is room for, whatever their kind.
pub const MOST_REGIONS: usize = 128;
/// Parts of NVDIMMs that there is room for.
pub const MOST_PARTS: usize = 512;

/// Bits of the handle of an NVDIMM that say which one it is: the others are reserved (ACPI 6.5, 5.2.25.3).
pub(super) const HANDLE: u32 = 0x0fff_ffff;
