//! Lists on the kernel's heap, which may be full.

use alloc::vec::Vec;

use hotmem_hotplug::OutOfHeap;

use super::error::TableError;

/// Appends to a list.
pub(super) fn push<T>(list: &mut Vec<T>, item: T) -> Result<(), OutOfHeap> {
    list.try_reserve(1).map_err(|_| OutOfHeap)?;
    list.push(item);
    Ok(())
}

/// An optional table. A broken one is left out, and that is noted, as long as there is room.
pub(super) fn or_none<T>(
    found: Result<Option<T>, TableError>,
    cost: &str,
    left_out: &mut Vec<TableError>,
) -> Option<T> {
    found.unwrap_or_else(|error| {
        log::warn!("acpi: {error}; {cost}");
        let _ = push(left_out, error);
        None
    })
}
