//! Traps: the registers that the entry code saves, the way to Rust, and the handler.
//!
//! ```text
//!   the kernel runs on SP_EL0 --> vectors 0..3: on SP_ELx, save all registers --> dispatch(frame)
//!   a trap of a trap          --> vectors 4..7: the same on the stack in TPIDR_EL1
//!   a guest                   --> vectors 8..15: back to its runner, in `el2_switch`
//!      --> a probe that faults returns 0; anything else goes to the kernel's handler
//! ```
//!
//! So a stack overflow is never reported on the stack that overflowed, and a trap of a trap returns to it. With HCR_EL2.{E2H, TGE} set, all of this also
//! holds at EL2: the names `*_EL1` are then EL2's registers.

// UNSAFETY: entry code in assembly, and calling back through a stored function pointer.
#![expect(unsafe_code)]

use super::frame::{SYNCHRONOUS, TrapFrame};
use super::{cpu, el2_switch, probe};
use crate::common::trap::HandlerSlot;
use core::arch::global_asm;

/// The kernel's trap handler.
pub(super) static HANDLER: HandlerSlot<TrapFrame> = HandlerSlot::empty();

/// Called by the entry code with interrupts off.
extern "C" fn dispatch(frame: &mut TrapFrame) {
    let synchronous = frame.vector % 4 == SYNCHRONOUS;
    if synchronous && probe::resume(frame) {
        return;
    }
    if !HANDLER.call(frame) {
        cpu::halt_forever();
    }
}

unsafe extern "C" {
    static hotmem_vectors: u8;
}

/// The address of the vectors.
pub(super) fn vectors() -> u64 {
    (&raw const hotmem_vectors).addr() as u64
}

// A vector has room for 32 instructions; x0 is kept in TPIDRRO_EL0 while the stack is changed: there is no
// unprivileged code that could read it.
global_asm!(
    r#"
    .macro hotmem_vector number, nested
    .balign 128
    .if \nested
    msr tpidrro_el0, x0
    mrs x0, tpidr_el1
    sub x0, x0, #304
    str x1, [x0, #8]
    mov x1, sp
    mov sp, x0
    mrs x0, tpidrro_el0
    str x0, [sp]
    .else
    sub sp, sp, #304
    stp x0, x1, [sp]
    add x1, sp, #304
    .endif
    mov x0, #\number
    stp x0, x1, [sp, #288]
    b hotmem_trap_common
    .endm

    /* A guest at EL1 or EL0: TPIDR_EL2 points to its registers. There are no guests unless the kernel is at EL2. */
    .macro hotmem_guest_vector number
    .balign 128
    stp x0, x1, [sp, #-16]!
    mrs x0, tpidr_el2
    mov x1, #\number
    b {left_guest}
    .endm

    .section .text.hotmem_vectors, "ax"
    .balign 2048
    .global hotmem_vectors
hotmem_vectors:
    hotmem_vector 0, 0
    hotmem_vector 1, 0
    hotmem_vector 2, 0
    hotmem_vector 3, 0
    hotmem_vector 4, 1
    hotmem_vector 5, 1
    hotmem_vector 6, 1
    hotmem_vector 7, 1
    hotmem_guest_vector 8
    hotmem_guest_vector 9
    hotmem_guest_vector 10
    hotmem_guest_vector 11
    hotmem_guest_vector 12
    hotmem_guest_vector 13
    hotmem_guest_vector 14
    hotmem_guest_vector 15
    .balign 128

hotmem_trap_common:
    stp x2, x3, [sp, #16]
    stp x4, x5, [sp, #32]
    stp x6, x7, [sp, #48]
    stp x8, x9, [sp, #64]
    stp x10, x11, [sp, #80]
    stp x12, x13, [sp, #96]
    stp x14, x15, [sp, #112]
    stp x16, x17, [sp, #128]
    stp x18, x19, [sp, #144]
    stp x20, x21, [sp, #160]
    stp x22, x23, [sp, #176]
    stp x24, x25, [sp, #192]
    stp x26, x27, [sp, #208]
    stp x28, x29, [sp, #224]
    mrs x1, sp_el0
    stp x30, x1, [sp, #240]
    mrs x1, elr_el1
    mrs x2, spsr_el1
    stp x1, x2, [sp, #256]
    mrs x1, esr_el1
    mrs x2, far_el1
    stp x1, x2, [sp, #272]
    mov x29, xzr
    mov x30, xzr
    mov x0, sp
    bl {dispatch}
    ldp x1, x2, [sp, #256]
    msr elr_el1, x1
    msr spsr_el1, x2
    ldp x2, x3, [sp, #16]
    ldp x4, x5, [sp, #32]
    ldp x6, x7, [sp, #48]
    ldp x8, x9, [sp, #64]
    ldp x10, x11, [sp, #80]
    ldp x12, x13, [sp, #96]
    ldp x14, x15, [sp, #112]
    ldp x16, x17, [sp, #128]
    ldp x18, x19, [sp, #144]
    ldp x20, x21, [sp, #160]
    ldp x22, x23, [sp, #176]
    ldp x24, x25, [sp, #192]
    ldp x26, x27, [sp, #208]
    ldp x28, x29, [sp, #224]
    ldr x30, [sp, #240]
    mov x0, sp
    ldr x1, [x0, #296]
    mov sp, x1
    ldp x0, x1, [x0]
    eret
"#,
    dispatch = sym dispatch,
    left_guest = sym el2_switch::left_guest,
);
