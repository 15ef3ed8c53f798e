//! Traps: the registers that the entry code saves, the way to Rust, and the handler.
//!
//! ```text
//!   vector (physical 0x100 and on, no translation) --> a few registers into the CPU's area --> translation on
//!     --> all registers onto a stack of traps --> dispatch(frame)
//!     --> a probe that faults returns 0; anything else goes to the kernel's handler
//! ```
//!
//! So a stack overflow is never reported on the stack that overflowed, and a trap of a trap has yet another stack.
//! The vectors are copied to the addresses that the CPU uses (Power ISA 3.0B, book III, 6.5).

// UNSAFETY: entry code in assembly, and calling back through a stored function pointer.
#![expect(unsafe_code)]

use super::frame::{DECREMENTER, DOORBELL, TrapFrame};
use super::{cpu, probe, timer};
use crate::area::CpuArea;
use crate::common::trap::HandlerSlot;
use core::arch::global_asm;
use core::mem::offset_of;

/// The kernel's trap handler.
pub(super) static HANDLER: HandlerSlot<TrapFrame> = HandlerSlot::empty();

/// Called by the entry code with interrupts off.
extern "C" fn dispatch(frame: &mut TrapFrame) {
    if frame.vector == DECREMENTER && !timer::go_on() {
        return;
    }
    if frame.vector == DOORBELL {
        // The kernel sends no messages; one of a guest that runs on another thread of the core ends here.
        return;
    }
    if probe::resume(frame) {
        return;
    }
    if !HANDLER.call(frame) {
        cpu::halt_forever();
    }
}

unsafe extern "C" {
    static hotmem_vectors: u8;
    static hotmem_vectors_end: u8;
}

/// The code of the vectors, to be copied to physical address 0x100.
pub(super) fn vectors() -> &'static [u8] {
    let (start, end) = (&raw const hotmem_vectors, &raw const hotmem_vectors_end);
    // SAFETY: the assembly below puts the two symbols around code that is never written.
    unsafe { core::slice::from_raw_parts(start, end.addr() - start.addr()) }
}

// SPRG3 points to the area of the CPU (`enter`). Without translation, the low 32 bits are its address.
global_asm!(
    r#"
    .macro hotmem_load reg, symbol
    lis \reg, \symbol@highest
    ori \reg, \reg, \symbol@higher
    rldicr \reg, \reg, 32, 31
    oris \reg, \reg, \symbol@high
    ori \reg, \reg, \symbol@l
    .endm

    .section .text.hotmem_vectors, "ax"
    .balign 256
hotmem_vectors:
    .set vector, 0x100
    .rept 120
    mtspr 272, 2
    li 2, vector
    b hotmem_vectors_common
    .balign 32
    .set vector, vector + 0x20
    .endr
hotmem_vectors_common:
    mtspr 273, 1
    mtspr 274, 0
    mfspr 1, 275
    clrldi 1, 1, 32
    addi 1, 1, {saved}
    mfspr 0, 274
    std 0, 0(1)
    mfspr 0, 273
    std 0, 8(1)
    mfspr 0, 272
    std 0, 16(1)
    mfcr 0
    std 0, 24(1)
    mfspr 0, 26
    std 0, 32(1)
    mfspr 0, 27
    std 0, 40(1)
    std 2, 48(1)
    hotmem_load 2, hotmem_trap_entry
    mtspr 26, 2
    /* MSR: 64 bits, vectors, VSX, floating point, machine checks, translation, RI, little-endian. */
    li 0, 1
    rldicr 0, 0, 63, 0
    oris 0, 0, 0x0280
    ori 0, 0, 0x3033
    mtspr 27, 0
    rfid
hotmem_vectors_end:

    .section .text.hotmem_trap_entry, "ax"
    .balign 16
hotmem_trap_entry:
    mfspr 1, 275
    addi 1, 1, {saved}
    ld 2, 56(1)
    addi 2, 2, -1392
    .irp n, 3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    std \n, \n * 8(2)
    .endr
    mr 3, 1
    ld 4, 0(3)
    std 4, 0(2)
    ld 4, 8(3)
    std 4, 8(2)
    ld 4, 16(3)
    std 4, 16(2)
    ld 4, 24(3)
    std 4, 256(2)
    mflr 4
    std 4, 264(2)
    mfctr 4
    std 4, 272(2)
    mfspr 4, 1
    std 4, 280(2)
    ld 4, 32(3)
    std 4, 288(2)
    ld 4, 40(3)
    std 4, 296(2)
    mfspr 4, 19
    std 4, 304(2)
    mfspr 4, 18
    std 4, 312(2)
    ld 4, 48(3)
    std 4, 320(2)
    ld 4, 64(3)
    std 4, 56(3)
    addi 4, 2, 336
    .set vsr, 0
    .rept 64
    stxvd2x vsr, 0, 4
    addi 4, 4, 16
    .set vsr, vsr + 1
    .endr
    mffs 0
    stfd 0, 0(4)
    addi 4, 4, 16
    mfvscr 0
    stvx 0, 0, 4

    mr 31, 2
    mr 3, 2
    addi 1, 2, -64
    li 0, 0
    std 0, 0(1)
    std 0, 16(1)
    hotmem_load 2, .TOC.
    hotmem_load 12, {dispatch}
    mtctr 12
    bctrl

    mr 2, 31
    mfspr 3, 275
    addi 3, 3, {saved}
    /* The next trap has the stack of this one again. */
    addi 4, 2, 1392
    std 4, 56(3)
    addi 4, 2, 1376
    lvx 0, 0, 4
    mtvscr 0
    addi 4, 4, -16
    lfd 0, 0(4)
    mtfsf 255, 0
    addi 4, 2, 336
    .set vsr, 0
    .rept 64
    lxvd2x vsr, 0, 4
    addi 4, 4, 16
    .set vsr, vsr + 1
    .endr
    ld 4, 256(2)
    mtcrf 255, 4
    ld 4, 264(2)
    mtlr 4
    ld 4, 272(2)
    mtctr 4
    ld 4, 280(2)
    mtspr 1, 4
    ld 4, 288(2)
    mtspr 26, 4
    ld 4, 296(2)
    mtspr 27, 4
    .irp n, 0,1,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31,2
    ld \n, \n * 8(2)
    .endr
    rfid
"#,
    saved = const offset_of!(CpuArea, saved),
    dispatch = sym dispatch,
);
