//! The hardware of a machine whose registers are all in memory.

// UNSAFETY: accesses registers that byte code names.
#![expect(unsafe_code)]

use core::fmt;
use core::hint::spin_loop;

use hotmem::PhysAddr;
use hotmem_aml::{HostError, Io, Space, Width};
use hotmem_hotplug::Line;

use crate::Hardware;
use crate::registers::{Registers, compare_exchange, load, register, store};

/// A counter that never stops: its value, and its frequency in Hertz.
pub type Counter = (fn() -> u64, u64);

/// The registers of a machine without ports, and its time, by a counter. `unmask` lets a line interrupt again.
///
/// Of PCI configuration space only a bridge whose registers are in memory for byte code is reached.
///
/// ```no_run
/// # #![allow(unsafe_code)]
/// # fn ticks() -> u64 { 0 }
/// # fn unmask(_interrupt: u32) {}
/// use hotmem::PhysRange;
/// use hotmem_acpi::{Hardware, MappedHardware};
/// use std::ptr::NonNull;
///
/// /// Where the kernel has mapped device registers.
/// fn registers(range: PhysRange) -> Option<NonNull<u8>> {
///     # let _ = range;
///     None
/// }
///
/// /// # Safety
/// ///
/// /// As for [`MappedHardware::new`].
/// unsafe fn hardware() -> impl Hardware {
///     // SAFETY: the caller's promise.
///     unsafe { MappedHardware::new(registers, (ticks, 62_500_000), |line| unmask(line.gsi)) }
/// }
/// ```
pub struct MappedHardware<U> {
    pub(crate) registers: Registers,
    pub(crate) counter: Counter,
    unmask: U,
}

impl<U: FnMut(&Line)> MappedHardware<U> {
    /// The hardware whose registers `registers` finds.
    ///
    /// # Safety
    ///
    /// The pointers that `registers` returns are valid for loads and stores of that many bytes, for ever, and lead to
    /// no memory of the kernel's. No other code uses the devices that firmware's byte code drives.
    pub const unsafe fn new(registers: Registers, counter: Counter, unmask: U) -> Self {
        Self { registers, counter, unmask }
    }

    fn spin(&self, microseconds: u64) {
        let (ticks, hertz) = self.counter;
        let wait = u128::from(microseconds) * u128::from(hertz) / 1_000_000;
        let start = ticks();
        while u128::from(ticks().wrapping_sub(start)) < wait {
            spin_loop();
        }
    }

    fn register(
        &self,
        space: Space,
        address: u64,
        width: Width,
    ) -> Result<core::ptr::NonNull<u8>, HostError> {
        match space {
            Space::SystemMemory => register(self.registers, address, width),
            _ => Err(HostError::Unsupported),
        }
    }
}

impl<U: FnMut(&Line)> Io for MappedHardware<U> {
    fn read(&mut self, space: Space, address: u64, width: Width) -> Result<u64, HostError> {
        let register = self.register(space, address, width)?;
        // SAFETY: by the contract of `new`; firmware's own code asks for it.
        Ok(unsafe { load(register, width) })
    }

    fn write(
        &mut self,
        space: Space,
        address: u64,
        width: Width,
        value: u64,
    ) -> Result<(), HostError> {
        let register = self.register(space, address, width)?;
        // SAFETY: as for `read`.
        unsafe { store(register, width, value) };
        Ok(())
    }

    fn stall(&mut self, microseconds: u64) {
        self.spin(microseconds);
    }

    fn sleep(&mut self, milliseconds: u64) {
        self.spin(milliseconds.saturating_mul(1000));
    }

    fn timer(&mut self) -> u64 {
        let (ticks, hertz) = self.counter;
        (u128::from(ticks()) * 10_000_000 / u128::from(hertz.max(1))) as u64
    }
}

impl<U: FnMut(&Line)> Hardware for MappedHardware<U> {
    fn compare_exchange(&mut self, at: PhysAddr, old: u32, new: u32) -> Result<u32, HostError> {
        // SAFETY: by the contract of `new`.
        unsafe { compare_exchange(self.registers, at, old, new) }
    }

    fn unmask(&mut self, line: &Line) {
        (self.unmask)(line);
    }
}

impl<U> fmt::Debug for MappedHardware<U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MappedHardware").field("hertz", &self.counter.1).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use core::cell::Cell;
    use core::ptr::NonNull;

    use super::*;

    std::thread_local! {
        static TICKS: Cell<u64> = const { Cell::new(0) };
    }

    fn ticks() -> u64 {
        TICKS.set(TICKS.get() + 1);
        TICKS.get()
    }

    #[test]
    fn registers_are_accessed_in_memory_only_and_time_passes_by_the_counter() {
        static WORD: core::sync::atomic::AtomicU32 = core::sync::atomic::AtomicU32::new(7);
        let find: Registers = |range| {
            let whole = range.start().get() == 0x1000 && range.len() <= 4;
            whole.then(|| NonNull::from(&WORD).cast())
        };
        let mut unmasked = 0;
        // SAFETY: the pointer is that of the word.
        let mut hardware =
            unsafe { MappedHardware::new(find, (ticks, 2_000_000), |_| unmasked += 1) };
        assert_eq!(hardware.read(Space::SystemMemory, 0x1000, Width::Dword), Ok(7));
        assert_eq!(hardware.write(Space::SystemMemory, 0x1000, Width::Dword, 9), Ok(()));
        assert_eq!(hardware.compare_exchange(PhysAddr::new(0x1000), 7, 1), Ok(9));
        assert_eq!(hardware.compare_exchange(PhysAddr::new(0x1000), 9, 1), Ok(9));
        let unsupported = Err(HostError::Unsupported);
        assert_eq!(hardware.read(Space::SystemMemory, 0x2000, Width::Byte), unsupported);
        assert_eq!(hardware.read(Space::SystemIo, 0x1000, Width::Byte), unsupported);
        let before = TICKS.get();
        hardware.stall(50);
        assert!(TICKS.get() - before > 100);
        assert_eq!(hardware.timer(), TICKS.get() * 5);
    }
}
