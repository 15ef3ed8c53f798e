//! Accesses to device registers, each by one instruction without write-back.
//!
//! A hypervisor that emulates a device learns what a load or store did only if the instruction was of this kind (Arm
//! ARM, ISV in the syndrome of a data abort); another kind ends the guest. A compiler is free to choose another kind
//! for a volatile access.

// UNSAFETY: accesses to device registers, in assembly.
#![expect(unsafe_code)]

use super::Aarch64;
use crate::contract::Mmio;
use crate::mmio::Register;
use core::arch::asm;

macro_rules! load {
    ($instruction:literal, $at:ident) => {{
        let bits: u64;
        // SAFETY: by the contract of `load_register`.
        unsafe {
            asm!(concat!($instruction, ", [{at}]"), bits = out(reg) bits, at = in(reg) $at,
                options(nostack, preserves_flags));
        }
        bits
    }};
}

macro_rules! store {
    ($instruction:literal, $at:ident, $bits:expr) => {
        // SAFETY: by the contract of `store_register`.
        unsafe {
            asm!(concat!($instruction, ", [{at}]"), bits = in(reg) $bits, at = in(reg) $at,
                options(nostack, preserves_flags));
        }
    };
}

impl Mmio for Aarch64 {
    #[inline(always)]
    unsafe fn load_register<T: Register>(at: *const T) -> T {
        T::from_bits(match size_of::<T>() {
            1 => load!("ldrb {bits:w}", at),
            2 => load!("ldrh {bits:w}", at),
            4 => load!("ldr {bits:w}", at),
            _ => load!("ldr {bits:x}", at),
        })
    }

    #[inline(always)]
    unsafe fn store_register<T: Register>(at: *mut T, value: T) {
        match size_of::<T>() {
            1 => store!("strb {bits:w}", at, value.bits()),
            2 => store!("strh {bits:w}", at, value.bits()),
            4 => store!("str {bits:w}", at, value.bits()),
            _ => store!("str {bits:x}", at, value.bits()),
        }
    }
}
