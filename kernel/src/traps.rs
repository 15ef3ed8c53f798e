//! What the kernel does about traps: exceptions end it, device interrupts are noted.

// UNSAFETY: hands the CPU its tables and trap stacks.
#![expect(unsafe_code)]

use crate::memory::layout::Stack;
use crate::{interrupts, panic};
use alloc::boxed::Box;
use hotmem_arch::current::tables::{CpuTables, TrapStacks};
use hotmem_arch::current::trap::{self, TrapFrame};

fn handle(frame: &mut TrapFrame) {
    if frame.is_exception() {
        let (at, caller) = (Some(frame.instruction()), frame.frame_pointer());
        match overflow(frame) {
            Some(stack) => panic::die(format_args!("{stack} stack overflow: {frame}"), at, caller),
            None => panic::die(format_args!("{frame}"), at, caller),
        }
    }
    interrupts::handle(frame);
}

/// The stack whose end the trap ran over.
fn overflow(frame: &TrapFrame) -> Option<Stack> {
    frame.fault_address().and_then(Stack::overflowed)
}

/// Takes over traps. Without `stacks` they run on the stack they interrupt.
pub(crate) fn init(stacks: Option<TrapStacks>) {
    trap::set_handler(handle);
    let tables = Box::leak(Box::new(CpuTables::new()));
    // SAFETY: whoever calls mapped the stacks for this purpose and never unmaps them.
    unsafe { tables.load(stacks) };
}
