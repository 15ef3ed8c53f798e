//! The exception vectors and the stacks that traps run on.

// UNSAFETY: sets the CPU's vectors and trap stacks.
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

/// What a CPU needs to take traps: on aarch64, only registers.
#[derive(Debug, Default)]
pub struct CpuTables(());

impl contract::CpuTables<TrapStacks> for CpuTables {
    unsafe fn load(&'static mut self, stacks: Option<TrapStacks>) {
        // The vectors have entry code for every exception, and are never freed.
        VBAR_EL1.set(trap::vectors());
        barrier::isb(barrier::SY);
        let Some([first, nested]) = stacks else {
            let sp;
            // SAFETY: reads SP_ELx.
            unsafe {
                asm!("msr spsel, #1", "mov {}, sp", "msr spsel, #0", out(reg) sp, options(nomem, nostack))
            };
            // A trap of a trap overwrites the frames of the first, and is still reported.
            return TPIDR_EL1.set(sp);
        };
        // SAFETY: no trap is being handled, so SP_ELx holds no frames; by the contract of `load` the stacks are for
        // traps only.
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
