//! Checks the two windows of virtual addresses at boot, and creates their root entries.

use crate::addr::{PhysAddr, PhysRange};
use crate::geometry::DESCRIPTOR_BYTES;
use crate::machine::Machine;
use crate::memmap::whole::Whole;
use crate::operations::boot::{BootError, EarlyFrames, inner};
use crate::operations::pin::{PinError, pin};
use crate::paging::Mapper;

/// Creates the tables of the root entries that address spaces share.
pub(super) fn pin_root_entries<M: Machine>(
    memmap: Whole<'_, M>,
    ram: Option<PhysRange>,
    early: &mut dyn EarlyFrames,
) -> Result<(), BootError> {
    let page = ram.map_or(PhysAddr::default(), |range| inner::<M>(range).start());
    memmap.windows().shared_root_entries().try_for_each(|entries| {
        pin(entries, memmap.mapper(), early, (page, M::PAGE_BYTES)).map_err(|error| match error {
            PinError::NoTable(at) => BootError::RootEntry(at),
            PinError::Map(error) => BootError::Map(error),
        })
    })
}

/// Checks that the two windows of virtual addresses are disjoint, and that the part of them where memory of
/// `windows` may be added is free; or, if the linear map is complete, that what it maps there is that memory.
pub(super) fn check_windows<M: Machine>(
    memmap: Whole<'_, M>,
    windows: &[PhysRange],
) -> Result<(), BootError> {
    let (linear, vmemmap) = (memmap.machine().linear_base(), memmap.machine().vmemmap_base());
    let limit = memmap.machine().phys_limit();
    let [Some(one), Some(other)] = memmap.windows().both() else {
        return Err(BootError::Windows { linear, vmemmap, limit });
    };
    if one.overlaps(other) || !vmemmap.is_aligned(DESCRIPTOR_BYTES) {
        return Err(BootError::Windows { linear, vmemmap, limit });
    }
    windows.iter().try_for_each(|window| {
        let len = limit.get().saturating_sub(window.start().get()).min(window.len());
        let window = PhysRange::new(window.start(), len).unwrap_or_default();
        check_window(memmap, inner::<M>(window))
    })
}

/// Checks one window, whose memory may share sections with RAM that is mapped.
fn check_window<M: Machine>(memmap: Whole<'_, M>, window: PhysRange) -> Result<(), BootError> {
    let machine = memmap.machine();
    let mut wrong = None;
    memmap.mapper().visit(memmap.windows().linear_virt(window), &mut |leaf| {
        let linear = leaf.virt == machine.linear_base().add(leaf.phys.get());
        if !(linear && machine.linear_map_is_complete()) {
            wrong.get_or_insert(leaf);
        }
    });
    memmap.mapper().visit(memmap.windows().memmap_virt(M::pfns(window)), &mut |leaf| {
        wrong.get_or_insert(leaf);
    });
    wrong.map_or(Ok(()), |leaf| Err(BootError::WindowMapped(leaf)))
}
