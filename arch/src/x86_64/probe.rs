//! The instructions of accesses that may fault.

// UNSAFETY: deliberate accesses to arbitrary addresses, in assembly.
#![expect(unsafe_code)]

use super::X86_64;
use super::frame::{GENERAL_PROTECTION, PAGE_FAULT, TrapFrame};
use crate::contract::Probe;
use core::arch::naked_asm;

impl Probe for X86_64 {
    #[unsafe(naked)]
    unsafe extern "C" fn load(_address: u64, _value: *mut u64) -> u64 {
        naked_asm!("mov rax, [rdi]", "mov [rsi], rax", "mov eax, 1", "ret")
    }

    #[unsafe(naked)]
    unsafe extern "C" fn store(_address: u64, _value: u64) -> u64 {
        naked_asm!("mov [rdi], rsi", "mov eax, 1", "ret")
    }

    #[unsafe(naked)]
    unsafe extern "C" fn execute(_address: u64, _fetching: u64) -> u64 {
        naked_asm!("jmp rdi")
    }

    #[unsafe(naked)]
    extern "C" fn executed() -> u64 {
        naked_asm!("mov eax, 1", "ret")
    }
}

/// Where a faulting probe continues: it returns 0.
#[unsafe(naked)]
extern "C" fn faulted() -> u64 {
    naked_asm!("xor eax, eax", "ret")
}

/// Resumes a probe that faulted; returns whether the trap came from a probe.
pub(super) fn resume(frame: &mut TrapFrame) -> bool {
    let probes = [X86_64::load as *const () as u64, X86_64::store as *const () as u64];
    let fetch = frame.rsi == X86_64::FETCHING && frame.rip == frame.rdi;
    let ours = matches!(frame.vector(), PAGE_FAULT | GENERAL_PROTECTION)
        && (fetch || probes.contains(&frame.rip));
    if ours {
        frame.rip = faulted as *const () as u64;
    }
    ours
}
