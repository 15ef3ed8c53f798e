//! The values of device registers.

use core::fmt;

mod number {
    /// Keeps other types out.
    pub trait Number {}
}

/// A number that a device register holds: 1, 2, 4 or 8 bytes.
///
/// A register may hold any bits, so only types for which all bits are a value implement it, and all of them are here:
///
/// ```compile_fail,E0277
/// use hotmem_arch::mmio::Register;
///
/// #[derive(Clone, Copy, Debug)]
/// enum Switch { Off, On }
///
/// impl Register for Switch {
///     fn from_bits(bits: u64) -> Self { if bits == 0 { Self::Off } else { Self::On } }
///     fn bits(self) -> u64 { self as u64 }
/// }
/// ```
pub trait Register: number::Number + Copy + fmt::Debug {
    /// The number in the low bits of `bits`.
    fn from_bits(bits: u64) -> Self;
    /// The number, in the low bits.
    fn bits(self) -> u64;
}

macro_rules! registers {
    ($($number:ty),*) => {$(
        impl number::Number for $number {}

        impl Register for $number {
            #[inline(always)]
            fn from_bits(bits: u64) -> Self {
                bits as Self
            }

            #[inline(always)]
            fn bits(self) -> u64 {
                self.into()
            }
        }
    )*};
}

registers!(u8, u16, u32, u64);
