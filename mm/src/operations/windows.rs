//! Checks the two windows of virtual addresses at boot, and creates their root entries.

use crate::addr::{PfnRange, PhysAddr, PhysRange, VirtRange};
use crate::geometry::DESCRIPTOR_BYTES;
use crate::machine::Machine;
use crate::memmap::section::{record_pfns, sections_touched};
use crate::memmap::whole::Whole;
use crate::operations::boot::{BootError, BootMemory, EarlyFrames, inner, whole_pages};
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

/// Checks that the two windows of virtual addresses are disjoint, that nothing is mapped where the memmap of `memory.ram`
/// goes, and that the part of them where memory of `memory.window` may be added is free; or, if the linear map is complete,
/// that what it maps there is that memory.
pub(super) fn check_windows<M: Machine>(
    memmap: Whole<'_, M>,
    memory: &BootMemory<'_>,
) -> Result<(), BootError> {
    let (linear, vmemmap) = (memmap.machine().linear_base(), memmap.machine().vmemmap_base());
    let limit = memmap.machine().phys_limit();
    let [Some(one), Some(other)] = memmap.windows().both() else {
        return Err(BootError::Windows { linear, vmemmap, limit });
    };
    if one.overlaps(other) || !vmemmap.is_aligned(DESCRIPTOR_BYTES) {
        return Err(BootError::Windows { linear, vmemmap, limit });
    }
    for (pfns, _) in whole_pages::<M>(memory.ram) {
        check_unmapped(memmap, memmap.windows().memmap_virt(described::<M>(pfns)))?;
    }
    memory.window.iter().try_for_each(|window| {
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
    wrong.map_or(Ok(()), |leaf| Err(BootError::WindowMapped(leaf)))?;
    check_unmapped(memmap, memmap.windows().memmap_virt(M::pfns(window)))
}

/// Whatever is mapped in `range` would be taken for a memmap of the manager.
fn check_unmapped<M: Machine>(memmap: Whole<'_, M>, range: VirtRange) -> Result<(), BootError> {
    let mut found = None;
    memmap.mapper().visit(range, &mut |leaf| {
        found.get_or_insert(leaf);
    });
    found.map_or(Ok(()), |leaf| Err(BootError::WindowMapped(leaf)))
}

/// All frames that a memmap for `pfns` describes: it is made for whole records.
fn described<M: Machine>(pfns: PfnRange) -> PfnRange {
    let sections = sections_touched::<M>(pfns);
    let (first, last) = (record_pfns::<M>(*sections.start()), record_pfns::<M>(*sections.end()));
    PfnRange { start: first.start, end: last.end }
}
