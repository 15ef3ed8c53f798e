//! What the kernel does about traps: exceptions end it, device interrupts are noted.

// UNSAFETY: hands the CPU its tables and trap stacks.
#![expect(unsafe_code)]

use crate::{interrupts, panic};
use alloc::boxed::Box;
use hotmem_arch::current::tables::{CpuTables, TrapStacks};
use hotmem_arch::current::trap::{self, TrapFrame};

fn handle(frame: &mut TrapFrame) {
    if frame.is_exception() {
        panic::die(format_args!("{frame}"), Some(frame.instruction()), frame.frame_pointer());
    }
    interrupts::handle(frame.vector());
}

/// Takes over traps. Without `stacks` they run on the stack they interrupt.
pub(crate) fn init(stacks: Option<TrapStacks>) {
    trap::set_handler(handle);
    let tables = Box::leak(Box::new(CpuTables::new()));
    // SAFETY: whoever calls mapped the stacks for this purpose and never unmaps them.
    unsafe { tables.load(stacks) };
}
