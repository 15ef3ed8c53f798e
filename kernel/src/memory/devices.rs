//! Device registers, mapped uncached in a window of their own.

// UNSAFETY: reads and writes device registers.
#![expect(unsafe_code)]

use super::layout::{DEVICE_BASE, PAGE, in_window};
use super::machine::KernelTables;
use super::spare::SpareFrames;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering};
use hotmem::paging::{Attr, MapError, Mapper, Mapping};
use hotmem::{PhysAddr, PhysRange, VirtAddr, VirtRange};
use hotmem_arch::current::{addressing, mmio};
use hotmem_arch::irq::Registers;
use hotmem_arch::mmio::Register;

/// Frames for the tables of both windows.
pub(super) static SPARE: SpareFrames = SpareFrames::new(PAGE);

/// Mapped device registers.
#[derive(Debug)]
pub struct Window {
    base: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the mapping is never removed, and every access through it is a single one.
unsafe impl Send for Window {}
// SAFETY: as above: registers are not memory, and one access never tears another.
unsafe impl Sync for Window {}

impl Window {
    /// Maps the registers at `range`, for ever.
    ///
    /// # Safety
    ///
    /// `range` is registers of a device, not RAM, and the accesses that the caller's code makes only do what the
    /// device is meant to do.
    ///
    /// # Errors
    ///
    /// [`MapError`] if the window or the tables have no room.
    pub unsafe fn map(range: PhysRange, tables: &KernelTables) -> Result<Self, MapError> {
        let start = map_pages(range, DEVICE_BASE, Attr::WRITE | Attr::DEVICE, tables)?;
        let (phys, len) = (range.start(), range.len());
        let beyond = MapError::BeyondFormat { virt: start, phys, len };
        let window = VirtRange::new(start, len).ok_or(beyond)?;
        let base = addressing::bytes(window).ok_or(beyond)?;
        Ok(Self { base, bytes: len as usize })
    }

    /// The address of `size` bytes at `offset`, if they are inside and aligned.
    fn at<T>(&self, offset: usize) -> Option<*mut T> {
        let end = offset.checked_add(size_of::<T>())?;
        let pointer = self.base.as_ptr().wrapping_add(offset).cast::<T>();
        (end <= self.bytes && pointer.is_aligned()).then_some(pointer)
    }

    /// Reads the register of type `T` at `offset`; `None` outside of the window or unaligned.
    pub fn load<T: Register>(&self, offset: usize) -> Option<T> {
        let pointer = self.at::<T>(offset)?;
        // SAFETY: the address is inside the mapped window and aligned; by `map`'s contract reading this device's
        // registers is sound.
        Some(unsafe { mmio::load(pointer) })
    }

    /// Writes the register of type `T` at `offset`; `None` outside of the window or unaligned.
    pub fn store<T: Register>(&self, offset: usize, value: T) -> Option<()> {
        let pointer = self.at::<T>(offset)?;
        // SAFETY: as for `load`.
        unsafe { mmio::store(pointer, value) };
        Some(())
    }

    /// Stores `new` in the word at `offset` if the word is `old`, in one access. Returns the previous word, or
    /// `None` if it is outside of the window or unaligned.
    pub fn compare_exchange(&self, offset: usize, old: u32, new: u32) -> Option<u32> {
        let pointer = self.at::<u32>(offset)?;
        // SAFETY: the address is inside the mapped window and aligned, and all accesses to the word, the
        // kernel's and firmware's, are atomic.
        let word = unsafe { AtomicU32::from_ptr(pointer) };
        let seen = word.compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst);
        Some(seen.unwrap_or_else(|seen| seen))
    }
}

impl Registers for Window {
    fn read(&self, offset: usize) -> u32 {
        self.load(offset).unwrap_or(u32::MAX)
    }

    fn write(&self, offset: usize, value: u32) {
        // A register outside of the window does not exist: the value can be dropped.
        let _ = self.store(offset, value);
    }
}

/// Maps the pages of `range` at their place in the window at `base`, except those that are mapped already. Returns
/// the address of `range`.
pub(super) fn map_pages(
    range: PhysRange,
    base: VirtAddr,
    attr: Attr,
    tables: &KernelTables,
) -> Result<VirtAddr, MapError> {
    let beyond = MapError::BeyondFormat { virt: base, phys: range.start(), len: range.len() };
    let last = range.len().checked_sub(1).map(|last| range.start().add(last)).ok_or(beyond)?;
    in_window(base, last).ok_or(beyond)?;
    let start = in_window(base, range.start()).ok_or(beyond)?;

    let (first, last) = (range.start().get() / PAGE, last.get() / PAGE);
    for phys in (first..=last).map(|page| PhysAddr::new(page * PAGE)) {
        let virt = base.add(phys.get());
        if tables.translate(virt).is_none() {
            tables.map(&Mapping { virt, phys, len: PAGE, attr, max_leaf: PAGE }, &SPARE)?;
        }
    }
    Ok(start)
}
