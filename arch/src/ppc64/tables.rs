//! The vectors in low memory, and the stacks that traps run on.

// UNSAFETY: writes the code that the CPU runs on a trap.
#![expect(unsafe_code)]

use super::frame::{self, TrapFrame};
use super::{Ppc64, trap};
use crate::contract::{self, Layout, Traps};
use core::arch::asm;
use core::cell::UnsafeCell;
use hotmem_paging::addr::VirtAddr;

/// The address that the CPU continues at on a trap: the first vector (book III, 6.5).
const VECTORS: u64 = 0x100;
/// Bytes of the stack for traps before they have stacks of their own.
const EARLY_BYTES: usize = 16 << 10;

#[repr(align(4096))]
struct EarlyStack(UnsafeCell<[u8; EARLY_BYTES]>);

// SAFETY: only the entry code of traps uses the bytes.
unsafe impl Sync for EarlyStack {}

static EARLY_STACK: EarlyStack = EarlyStack(UnsafeCell::new([0; EARLY_BYTES]));

/// The tops of the stacks of traps that interrupt the kernel, and of those that interrupt another trap.
type TrapStacks = [VirtAddr; Ppc64::TRAP_STACKS.len()];

/// What a CPU needs to take traps: code in low memory.
#[derive(Debug, Default)]
pub struct CpuTables(());

impl contract::CpuTables<TrapStacks> for CpuTables {
    unsafe fn load(&'static mut self, stacks: Option<TrapStacks>) {
        if let Some([first, nested]) = stacks {
            frame::set_stacks(first, nested);
            return;
        }
        // A trap of a trap overwrites the frames of the first, and is still reported.
        let top = VirtAddr::new((EARLY_STACK.0.get().expose_provenance() + EARLY_BYTES) as u64);
        frame::set_stacks(top, top);
        let code = trap::vectors();
        let at =
            core::ptr::with_exposed_provenance_mut(Ppc64::LINEAR_BASE.add(VECTORS).get() as usize);
        // SAFETY: by the contract low memory is mapped and of no other use; the code ends far below 64 KiB.
        unsafe { core::ptr::copy_nonoverlapping(code.as_ptr(), at, code.len()) };
        for line in (0..code.len()).step_by(128) {
            let line = at.wrapping_add(line);
            // SAFETY: makes the CPU fetch what was just written (book II, 1.8).
            unsafe {
                asm!("dcbst 0, {0}", "sync", "icbi 0, {0}", "isync", in(reg) line, options(nostack))
            };
        }
    }
}

impl Traps for Ppc64 {
    type TrapFrame = TrapFrame;
    type TrapStacks = TrapStacks;
    type CpuTables = CpuTables;

    fn set_handler(handler: fn(&mut TrapFrame)) {
        trap::HANDLER.set(handler);
    }
}
