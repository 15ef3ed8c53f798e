//! The module: a file that the loader put into memory beside the kernel. It stays there for ever, and nothing writes it.

// UNSAFETY: makes a slice of the module's memory.
#![expect(unsafe_code)]

use super::machine::LinearMemory;
use hotmem::{PhysMem, PhysRange};
use hotmem_boot::RangeList;
use spin::Once;

/// Where it is.
static MODULE: Once<PhysRange> = Once::new();

/// Notes the module at `range`, if that is usable RAM apart from the kernel's `image`. Returns the part that must not be
/// allocated.
pub(super) fn note(range: Option<PhysRange>, ram: &RangeList, image: PhysRange) -> PhysRange {
    let Some(range) = range.filter(|range| !range.is_empty()) else { return PhysRange::EMPTY };
    if !ram.covers(range) || image.overlaps(range) {
        log::warn!("the module at {range} is not in usable RAM: it is ignored");
        return PhysRange::EMPTY;
    }
    *MODULE.call_once(|| range)
}

/// Its bytes, if there is one.
#[cfg_attr(not(feature = "lab"), expect(dead_code, reason = "only guests read it"))]
pub(crate) fn bytes() -> Option<&'static [u8]> {
    let range = MODULE.get()?;
    let bytes = LinearMemory.pointer(range.start());
    // SAFETY: `note` found the range in RAM, which the linear map maps for ever, and kept it from every allocator; no
    // code writes to it.
    Some(unsafe { core::slice::from_raw_parts(bytes.as_ptr(), range.len() as usize) })
}
