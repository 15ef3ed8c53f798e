//! The exception vectors and the stacks that traps run on.

// UNSAFETY: tells the CPU where its vectors and trap stacks are.
#![expect(unsafe_code)]

use super::frame::TrapFrame;
use super::{Aarch64, trap};
use crate::contract::{self, Layout, Traps};
use aarch64_cpu::asm::barrier;
use aarch64_cpu::registers::{TPIDR_EL1, VBAR_EL1, Writeable};
use core::arch::asm;
use hotmem_paging::addr::VirtAddr;

/// The tops of the stacks of traps that interrupt the kernel, and of those that interrupt another trap.
type TrapStacks = [VirtAddr; Aarch64::TRAP_STACKS.len()];

/// What a CPU needs to take traps: on aarch64 all of it is in registers.
#[derive(Debug, Default)]
pub struct CpuTables(());

impl contract::CpuTables<TrapStacks> for CpuTables {
    unsafe fn load(&'static mut self, stacks: Option<TrapStacks>) {
        // The vectors are entry code for every exception, and stay.
        VBAR_EL1.set(trap::vectors());
        barrier::isb(barrier::SY);
        let Some([first, nested]) = stacks else {
            let sp;
            // SAFETY: reads SP_ELx.
            unsafe {
                asm!("msr spsel, #1", "mov {}, sp", "msr spsel, #0", out(reg) sp, options(nomem, nostack))
            };
            // A trap of a trap overwrites the frames of the first, and is reported all the same.
            return TPIDR_EL1.set(sp);
        };
        // SAFETY: no trap is being handled, so nothing is on SP_ELx; by the caller's promise the
        // stacks are there for traps.
        unsafe {
            asm!("msr spsel, #1", "mov sp, {}", "msr spsel, #0", in(reg) first.get(), options(nostack))
        };
        // Only the vectors read it.
        TPIDR_EL1.set(nested.get());
    }
}

impl Traps for Aarch64 {
    type TrapFrame = TrapFrame;
    type TrapStacks = TrapStacks;
    type CpuTables = CpuTables;

    fn set_handler(handler: fn(&mut TrapFrame)) {
        trap::HANDLER.set(handler);
    }
}
