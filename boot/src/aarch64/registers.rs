//! The firmware configuration device's registers, as the early page tables show them.

// UNSAFETY: device registers.
#![expect(unsafe_code)]

use super::fw_cfg::Device;
use super::layout::{DEVICE_BASE, RAM_BASE};
use crate::info::HandoffError;
use hotmem_paging::addr::PhysAddr;

/// Offset of the selector: 16 bits, big-endian.
const SELECTOR: u64 = 8;

/// The device.
#[derive(Debug)]
pub(super) struct FwCfg {
    data: *const u8,
    selector: *mut u16,
}

impl FwCfg {
    /// The device at `at`.
    ///
    /// # Safety
    ///
    /// The early page tables are in use, and a firmware configuration device is at `at`.
    ///
    /// # Errors
    ///
    /// [`HandoffError::Unreachable`] if the early page tables show no device there.
    pub(super) unsafe fn new(at: PhysAddr) -> Result<Self, HandoffError> {
        if at.get() >= RAM_BASE.get() - SELECTOR || !at.is_aligned(8) {
            return Err(HandoffError::Unreachable { address: at.get(), bytes: 16 });
        }
        let data = DEVICE_BASE.add(at.get()).get() as usize;
        let selector = data + SELECTOR as usize;
        Ok(Self {
            data: core::ptr::with_exposed_provenance(data),
            selector: core::ptr::with_exposed_provenance_mut(selector),
        })
    }
}

impl Device for FwCfg {
    fn select(&mut self, key: u16) {
        // SAFETY: the register is mapped and the device's, by `new`'s contract; selecting an item only
        // says what is read next.
        unsafe { self.selector.write_volatile(key.to_be()) };
    }

    fn read(&mut self, into: &mut [u8]) {
        let (words, rest) = into.as_chunks_mut::<8>();
        for word in words {
            // SAFETY: as above; the data register may be read in any width up to 8 bytes, which come
            // in the item's order (QEMU, docs/specs/fw_cfg.rst).
            let next = unsafe { self.data.cast::<u64>().read_volatile() };
            *word = next.to_ne_bytes();
        }
        for byte in rest {
            // SAFETY: as above.
            *byte = unsafe { self.data.read_volatile() };
        }
    }
}
