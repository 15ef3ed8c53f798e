//! The instructions of accesses that may fault.

// UNSAFETY: deliberate accesses to arbitrary addresses, in assembly.
#![expect(unsafe_code)]

use super::Aarch64;
use super::frame::TrapFrame;
use super::syndrome::{self, DATA_ABORT, INSTRUCTION_ABORT};
use crate::contract::Probe;
use core::arch::naked_asm;

impl Probe for Aarch64 {
    #[unsafe(naked)]
    unsafe extern "C" fn load(_address: u64, _value: *mut u64) -> u64 {
        naked_asm!("ldr x2, [x0]", "str x2, [x1]", "mov x0, #1", "ret")
    }

    #[unsafe(naked)]
    unsafe extern "C" fn store(_address: u64, _value: u64) -> u64 {
        naked_asm!("str x1, [x0]", "mov x0, #1", "ret")
    }

    #[unsafe(naked)]
    unsafe extern "C" fn execute(_address: u64, _fetching: u64) -> u64 {
        naked_asm!("br x0")
    }

    #[unsafe(naked)]
    extern "C" fn executed() -> u64 {
        naked_asm!("mov x0, #1", "ret")
    }
}

/// Where a faulting probe continues: it returns 0.
#[unsafe(naked)]
extern "C" fn faulted() -> u64 {
    naked_asm!("mov x0, #0", "ret")
}

/// Resumes a probe that faulted; returns whether the trap came from a probe.
pub(super) fn resume(frame: &mut TrapFrame) -> bool {
    let probes = [Aarch64::load as *const () as u64, Aarch64::store as *const () as u64];
    let ours = match syndrome::class(frame.syndrome) {
        DATA_ABORT => probes.contains(&frame.elr),
        INSTRUCTION_ABORT => frame.x[1] == Aarch64::FETCHING && frame.elr == frame.x[0],
        _ => false,
    };
    if ours {
        frame.elr = faulted as *const () as u64;
    }
    ours
}
