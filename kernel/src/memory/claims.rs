//! Whether registers that tables describe can be mapped: in a range that nothing else is known to have, with frames to spare.

use super::devices::SPARE;
use super::layout::{FIRMWARE_BASE, PAGE, in_window};
use super::machine::KernelTables;
use hotmem::paging::Mapper as _;
use hotmem::{PhysAddr, PhysRange};

/// Frames for page tables that are kept for registers of devices: all of a bus takes many.
pub const RESERVED_TABLES: usize = 24;

/// Whether more frames than [`RESERVED_TABLES`] are left.
pub fn has_tables() -> bool {
    SPARE.left() > RESERVED_TABLES
}

/// Whether a part of `range` was read as firmware's tables. Registers of a device cannot be there.
pub fn was_read(range: PhysRange, tables: &KernelTables) -> bool {
    let (first, last) = (range.start().get() / PAGE, range.end().get().saturating_sub(1) / PAGE);
    let read = |page| {
        let virt = in_window(FIRMWARE_BASE, PhysAddr::new(page * PAGE));
        virt.is_some_and(|virt| tables.translate(virt).is_some())
    };
    !range.is_empty() && (first..=last).any(read)
}
