//! The kernel's trap handler: an exception ends the kernel unless it reports bad memory or is an NMI; device interrupts
//! are recorded.

// UNSAFETY: gives the CPU its tables and trap stacks.
#![expect(unsafe_code)]

use crate::cpus::{stop, table};
use crate::memory::layout::Stack;
use crate::memory::{self, KernelMachine};
use crate::{interrupts, nmi, panic};
use alloc::boxed::Box;
use core::sync::atomic::Ordering;
use hotmem::{Geometry, PhysAddr};
use hotmem_arch::contract::{CpuTables as _, TrapFrame as _, Traps};
use hotmem_arch::current::{Arch, CpuTables, TrapFrame, TrapStacks};

fn handle(frame: &mut TrapFrame) {
    stop::stop_if_another_dies();
    // A trap may interrupt the handler of another trap.
    let handles = &table::own().handles;
    let handled = handles.swap(true, Ordering::Relaxed);
    handle_one(frame);
    handles.store(handled, Ordering::Relaxed);
}

fn handle_one(frame: &mut TrapFrame) {
    if frame.is_exception() {
        if frame.takes_bad_memory(&mut note_bad) || takes_nmi(frame) {
            return;
        }
        let (at, caller) = (Some(frame.instruction()), frame.frame_pointer());
        match overflow(frame) {
            Some(stack) => panic::die(format_args!("{stack} stack overflow: {frame}"), at, caller),
            None => panic::die(format_args!("{frame}"), at, caller),
        }
    }
    interrupts::handle(frame);
}

/// Notes an NMI; returns whether the trap is one after which the kernel continues.
fn takes_nmi(frame: &mut TrapFrame) -> bool {
    let at = frame.instruction();
    frame.takes_nmi() && nmi::note(at)
}

/// Records bad memory for the main loop. The trap may have interrupted any code.
fn note_bad(at: PhysAddr) -> bool {
    let noted = memory::manager().map(|mm| mm.poison_later(KernelMachine::pfn(at)));
    noted.is_some_and(|noted| noted.is_ok())
}

/// The stack whose overflow caused the trap.
fn overflow(frame: &TrapFrame) -> Option<Stack> {
    frame.fault_address().and_then(Stack::overflowed)
}

/// Takes over traps. Without `stacks` they run on the stack that they interrupt.
pub(crate) fn init(stacks: Option<TrapStacks>) {
    Arch::set_handler(handle);
    load(stacks);
}

/// Takes over the traps of a CPU other than the first.
pub(crate) fn init_here(stacks: TrapStacks) {
    load(Some(stacks));
}

fn load(stacks: Option<TrapStacks>) {
    let tables = Box::leak(Box::new(CpuTables::default()));
    // SAFETY: the callers mapped the stacks for this purpose and never unmap them.
    unsafe { tables.load(stacks) };
}
