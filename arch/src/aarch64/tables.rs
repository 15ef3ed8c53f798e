//! The exception vectors and the stacks that traps run on.

// UNSAFETY: tells the CPU where its vectors and trap stacks are.
#![expect(unsafe_code)]

use super::{Aarch64, trap};
use crate::contract::{self, Layout, Traps};
use core::arch::asm;
use hotmem_paging::addr::VirtAddr;

/// The tops of the stacks of traps that interrupt the kernel, and of those that interrupt another trap.
type TrapStacks = [VirtAddr; Aarch64::TRAP_STACKS.len()];

/// What a CPU needs to take traps: on aarch64 all of it is in registers.
#[derive(Debug, Default)]
pub struct CpuTables(());

impl contract::CpuTables<TrapStacks> for CpuTables {
    unsafe fn load(&'static mut self, stacks: Option<TrapStacks>) {
        // SAFETY: the vectors are entry code for every exception, and stay.
        unsafe {
            asm!("msr vbar_el1, {}", "isb", in(reg) trap::vectors(), options(nostack, preserves_flags));
        }
        let Some([first, nested]) = stacks else {
            // SAFETY: reads SP_ELx and keeps it as the nested traps' stack too: such a trap overwrites
            // the frames of the first, and is reported all the same.
            unsafe {
                asm!(
                    "msr spsel, #1", "mov {sp}, sp", "msr spsel, #0", "msr tpidr_el1, {sp}",
                    sp = out(reg) _, options(nostack, preserves_flags),
                );
            }
            return;
        };
        // SAFETY: no trap is being handled, so nothing is on SP_ELx; by the caller's promise the
        // stacks are there for traps. TPIDR_EL1 is read by the vectors alone.
        unsafe {
            asm!(
                "msr spsel, #1", "mov sp, {first}", "msr spsel, #0", "msr tpidr_el1, {nested}",
                first = in(reg) first.get(), nested = in(reg) nested.get(),
                options(nostack, preserves_flags),
            );
        }
    }
}

impl Traps for Aarch64 {
    type TrapFrame = trap::TrapFrame;
    type TrapStacks = TrapStacks;
    type CpuTables = CpuTables;

    fn set_handler(handler: fn(&mut trap::TrapFrame)) {
        trap::HANDLER.set(handler);
    }
}
