//! Reads memory that is not RAM of the kernel, and may not be there: it is mapped meanwhile only.

// UNSAFETY: maps memory of a device, and unmaps it.
#![expect(unsafe_code)]

use super::layout::{DEVICE_BASE, PAGE, in_window};
use super::machine::KernelMachine;
use hotmem::paging::{Attr, Mapper as _, Mapping};
use hotmem::{Geometry, Mm, Pfn, PhysAddr, PhysRange, VirtAddr, VirtRange};
use hotmem_arch::current::probe::probe_read;

/// The range cannot be read: it holds RAM or registers of the kernel, it does not respond, or it could not be mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unreadable;

/// The first 64-bit word of `range` that is not zero.
///
/// # Errors
///
/// [`Unreadable`].
pub(crate) fn first_used(
    range: PhysRange,
    mm: &Mm<KernelMachine>,
) -> Result<Option<PhysAddr>, Unreadable> {
    let start = range.start().align_down(PAGE);
    let end = range.end().get().checked_next_multiple_of(PAGE).ok_or(Unreadable)?;
    let pages = PhysRange::new(start, end - start.get()).ok_or(Unreadable)?;
    let mapped = Mapped::new(pages, mm)?;
    let words = (0..range.len() / 8).map(|word| range.start().add(8 * word));
    let mut words = words.map(|at| (at, probe_read(mapped.virt(at))));
    let found = words.find(|(_, word)| *word != Ok(0));
    match found {
        None => Ok(None),
        Some((at, Ok(_))) => Ok(Some(at)),
        Some((_, Err(_))) => Err(Unreadable),
    }
}

/// Pages that are mapped until the value is dropped.
#[must_use]
struct Mapped<'m> {
    pages: PhysRange,
    virt: VirtRange,
    mm: &'m Mm<KernelMachine>,
}

impl<'m> Mapped<'m> {
    fn new(pages: PhysRange, mm: &'m Mm<KernelMachine>) -> Result<Self, Unreadable> {
        let last = pages.len().checked_sub(1).map(|last| pages.start().add(last));
        in_window(DEVICE_BASE, last.ok_or(Unreadable)?).ok_or(Unreadable)?;
        let start = in_window(DEVICE_BASE, pages.start()).ok_or(Unreadable)?;
        let virt = VirtRange::new(start, pages.len()).ok_or(Unreadable)?;
        let (first, count) = (KernelMachine::pfn(pages.start()).get(), pages.len() / PAGE);
        let is_mapped =
            |page: u64| mm.machine().tables().translate(start.add(page * PAGE)).is_some();
        if (0..count).any(|page| mm.is_ram(Pfn::new(first + page)) || is_mapped(page)) {
            return Err(Unreadable);
        }
        let (phys, attr) = (pages.start(), Attr::DEVICE);
        let mapping = Mapping { virt: start, phys, len: pages.len(), attr, max_leaf: PAGE };
        // SAFETY: the addresses are those of the window of device registers that belong to these pages, and are not mapped;
        // the pages are not RAM, so no reference leads there, and they are only read.
        unsafe { mm.map_own(&mapping) }.map_err(|_| Unreadable)?;
        Ok(Self { pages, virt, mm })
    }

    /// The address of a byte of the pages.
    fn virt(&self, at: PhysAddr) -> VirtAddr {
        self.virt.start().add(at.offset_from(self.pages.start()))
    }
}

impl Drop for Mapped<'_> {
    fn drop(&mut self) {
        // SAFETY: `new` mapped them, and nothing that the value gave out is a reference.
        if let Err(error) = unsafe { self.mm.unmap_own(self.virt) } {
            log::error!("samples of {} stay mapped: {error}", self.pages);
        }
    }
}
