//! The instructions of accesses that may fault.

// UNSAFETY: deliberate accesses to arbitrary addresses, in assembly.
#![expect(unsafe_code)]

use super::Ppc64;
use super::frame::{self, TrapFrame};
use crate::contract::Probe;
use core::arch::naked_asm;

impl Probe for Ppc64 {
    #[unsafe(naked)]
    unsafe extern "C" fn load(_address: u64, _value: *mut u64) -> u64 {
        naked_asm!("ld 5, 0(3)", "std 5, 0(4)", "li 3, 1", "blr")
    }

    #[unsafe(naked)]
    unsafe extern "C" fn store(_address: u64, _value: u64) -> u64 {
        naked_asm!("std 4, 0(3)", "li 3, 1", "blr")
    }

    #[unsafe(naked)]
    unsafe extern "C" fn execute(_address: u64, _fetching: u64) -> u64 {
        naked_asm!("mtctr 3", "bctr")
    }

    #[unsafe(naked)]
    extern "C" fn executed() -> u64 {
        naked_asm!("li 3, 1", "blr")
    }
}

/// Where a faulting probe continues: it returns 0.
#[unsafe(naked)]
extern "C" fn faulted() -> u64 {
    naked_asm!("li 3, 0", "blr")
}

/// Resumes a probe that faulted; returns whether the trap came from a probe.
pub(super) fn resume(frame: &mut TrapFrame) -> bool {
    let probes = [Ppc64::load as *const () as u64, Ppc64::store as *const () as u64];
    let ours = match frame.vector {
        frame::DATA_STORAGE | frame::DATA_SEGMENT => probes.contains(&frame.srr0),
        frame::INSTRUCTION_STORAGE | frame::INSTRUCTION_SEGMENT => {
            frame.r[4] == Ppc64::FETCHING && frame.srr0 == frame.r[3]
        }
        _ => false,
    };
    if ours {
        frame.srr0 = faulted as *const () as u64;
    }
    ours
}
