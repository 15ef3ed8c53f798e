//! The values of device registers.

use core::fmt;

/// A number that a device register holds: 1, 2, 4 or 8 bytes.
pub trait Register: Copy + fmt::Debug {
    /// The number in the low bits of `bits`.
    fn from_bits(bits: u64) -> Self;
    /// The number, in the low bits.
    fn bits(self) -> u64;
}

macro_rules! registers {
    ($($number:ty),*) => {$(
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
