//! Registers and configuration space at addresses that a kernel has mapped.

// UNSAFETY: accesses registers on the word of their creator.
#![expect(unsafe_code)]

use core::ptr::NonNull;

use super::space::{ConfigSpace, Function, Registers, Width};

/// Registers of a device, mapped.
#[derive(Debug)]
pub struct MappedRegisters {
    first: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the addresses are the same for all threads, and the contract of `new` is not about one of them.
unsafe impl Send for MappedRegisters {}

impl MappedRegisters {
    /// The `bytes` registers from `first` on.
    ///
    /// # Safety
    ///
    /// The addresses are mapped, as those of a device are, as long as the value is there: they may be loaded from and stored
    /// to in 8, 16 and 32 bits. They lead to no memory that the kernel uses otherwise.
    pub const unsafe fn new(first: NonNull<u8>, bytes: usize) -> Self {
        Self { first, bytes }
    }

    /// Where the register at `offset` is, if all of it is inside, and aligned.
    fn register<T>(&self, offset: usize) -> Option<NonNull<T>> {
        let room = self.bytes.checked_sub(size_of::<T>())?;
        if offset > room {
            return None;
        }
        // SAFETY: the register ends inside, by the check.
        let register = unsafe { self.first.add(offset) }.cast::<T>();
        register.is_aligned().then_some(register)
    }

    fn load<T: Copy>(&self, offset: usize) -> Option<T> {
        // SAFETY: `register` checks that it is inside, where `new`'s caller allows loads, and that it is aligned.
        self.register(offset).map(|register| unsafe { register.read_volatile() })
    }

    fn store<T: Copy>(&self, offset: usize, value: T) {
        if let Some(register) = self.register(offset) {
            // SAFETY: as for `load`; stores are allowed, too.
            unsafe { register.write_volatile(value) };
        }
    }
}

impl Registers for MappedRegisters {
    fn read(&self, offset: usize, width: Width) -> u32 {
        let read = match width {
            Width::Byte => self.load::<u8>(offset).map(u32::from),
            Width::Half => self.load::<u16>(offset).map(u32::from),
            Width::Word => self.load(offset),
        };
        read.unwrap_or(u32::MAX)
    }

    fn write(&self, offset: usize, width: Width, value: u32) {
        match width {
            Width::Byte => self.store(offset, value as u8),
            Width::Half => self.store(offset, value as u16),
            Width::Word => self.store(offset, value),
        }
    }
}

/// The configuration space of the buses from 0 on, as far as it is mapped: 1 MiB for each (PCI Express 6.0, 7.2.2).
#[derive(Debug)]
pub struct Ecam(MappedRegisters);

impl Ecam {
    /// The space that is mapped as `registers`.
    pub const fn new(registers: MappedRegisters) -> Self {
        Self(registers)
    }
}

impl ConfigSpace for Ecam {
    fn read(&self, function: Function, offset: u8) -> u32 {
        self.0.read32(function.place(offset))
    }

    fn write(&self, function: Function, offset: u8, value: u32) {
        self.0.write32(function.place(offset), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapped(words: &mut [u32]) -> MappedRegisters {
        let first = NonNull::from(&mut *words).cast();
        // SAFETY: the words are there as long as each test, which does not use them meanwhile.
        unsafe { MappedRegisters::new(first, size_of_val(words)) }
    }

    #[test]
    fn registers_are_accessed_as_wide_as_they_are_and_not_past_their_end() {
        let mut words = [0x4433_2211_u32, 0x8877_6655];
        let registers = mapped(&mut words);
        assert_eq!(
            (registers.read8(5), registers.read16(6), registers.read32(4)),
            (0x66, 0x8877, 0x8877_6655)
        );
        registers.write8(0, 0xaa);
        registers.write16(2, 0xbbcc);
        assert_eq!(registers.read32(0), 0xbbcc_22aa);
        for past in [5, 8, usize::MAX] {
            registers.write32(past, 0);
            assert_eq!(registers.read32(past), u32::MAX);
        }
        // Inside, but not aligned.
        registers.write16(3, 0);
        assert_eq!((registers.read16(3), registers.read32(2)), (u16::MAX, u32::MAX));
        assert_eq!(words, [0xbbcc_22aa_u32, 0x8877_6655]);
    }

    #[test]
    fn each_function_has_4_kib_of_the_mib_of_its_bus_and_buses_that_are_not_mapped_are_empty() {
        let mut words = vec![0_u32; 2 << 18];
        let space = Ecam::new(mapped(&mut words));
        let function = |bus, device, function| Function { bus, device, function };
        space.write(function(1, 31, 7), 0xfc, 7);
        assert_eq!(space.read(function(1, 31, 7), 0xfc), 7);
        assert_eq!(space.read(function(2, 0, 0), 0), u32::MAX);
        space.write(function(2, 0, 0), 0, 0);
        let written: Vec<_> = words.iter().enumerate().filter(|(_, word)| **word != 0).collect();
        assert_eq!(written, [((0x1f_f0fc) / 4, &7)]);
    }
}
