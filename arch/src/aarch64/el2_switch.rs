//! The switch between the kernel at EL2 and a guest at EL1.
//!
//! ```text
//!   enter: masks all exceptions, keeps the kernel's registers, loads the guest's, clears HCR_EL2.TGE, ERET
//!   vectors 8..15 (trap.rs) --> left_guest: keeps the guest's registers, sets TGE, loads the kernel's: enter returns
//! ```
//!
//! The kernel runs on SP_EL0, and its registers TPIDR_EL0 and TPIDR_EL1 are the guest's, too.

// UNSAFETY: assembly that changes the exception level.
#![expect(unsafe_code)]

use core::arch::naked_asm;
use core::mem::offset_of;

/// HCR_EL2.TGE: set while the kernel runs.
pub(super) const TGE: u64 = 1 << 27;

/// The general registers of a guest, and those of the kernel while the guest runs.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(super) struct General {
    /// x0 to x30.
    pub(super) x: [u64; 31],
    /// The address where it continues.
    pub(super) pc: u64,
    /// Its PSTATE.
    pub(super) pstate: u64,
    /// SP_EL0 and SP_EL1.
    pub(super) sp: [u64; 2],
    /// TPIDR_EL0, TPIDRRO_EL0 and TPIDR_EL1.
    thread: [u64; 3],
    /// The kernel's SP_EL0, TPIDR_EL0 and TPIDR_EL1.
    kernel: [u64; 3],
}

/// Runs the guest until an exception brings the CPU back. Returns the number of the vector.
///
/// # Safety
///
/// - The kernel is at EL2, with HCR_EL2.E2H and TGE, on SP_EL0.
/// - `guest` is a guest's registers, with a PSTATE of EL1 or EL0.
/// - VTTBR_EL2 and VTCR_EL2 describe tables whose leaves map only memory of the guest, and the other bits of HCR_EL2
///   and the trap registers keep it from everything else.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn enter(guest: &mut General) -> u64 {
    naked_asm!(
        "stp x29, x30, [sp, #-112]!",
        "stp x19, x20, [sp, #16]",
        "stp x21, x22, [sp, #32]",
        "stp x23, x24, [sp, #48]",
        "stp x25, x26, [sp, #64]",
        "stp x27, x28, [sp, #80]",
        "mrs x1, daif",
        "str x1, [sp, #96]",
        "msr daifset, #0xf",
        "mov x1, sp",
        "mrs x2, tpidr_el0",
        "mrs x3, tpidr_el1",
        "stp x1, x2, [x0, #{kernel}]",
        "str x3, [x0, #{kernel} + 16]",
        "msr tpidr_el2, x0",
        // SP_EL0 can be written from SP_EL2 only.
        "msr spsel, #1",
        "ldp x1, x2, [x0, #{sp}]",
        "msr sp_el0, x1",
        "msr sp_el1, x2",
        "ldp x1, x2, [x0, #{thread}]",
        "ldr x3, [x0, #{thread} + 16]",
        "msr tpidr_el0, x1",
        "msr tpidrro_el0, x2",
        "msr tpidr_el1, x3",
        "ldp x1, x2, [x0, #{pc}]",
        "msr elr_el2, x1",
        "msr spsr_el2, x2",
        "mrs x1, hcr_el2",
        "bic x1, x1, #{tge}",
        "msr hcr_el2, x1",
        "isb",
        "ldp x2, x3, [x0, #16]",
        "ldp x4, x5, [x0, #32]",
        "ldp x6, x7, [x0, #48]",
        "ldp x8, x9, [x0, #64]",
        "ldp x10, x11, [x0, #80]",
        "ldp x12, x13, [x0, #96]",
        "ldp x14, x15, [x0, #112]",
        "ldp x16, x17, [x0, #128]",
        "ldp x18, x19, [x0, #144]",
        "ldp x20, x21, [x0, #160]",
        "ldp x22, x23, [x0, #176]",
        "ldp x24, x25, [x0, #192]",
        "ldp x26, x27, [x0, #208]",
        "ldp x28, x29, [x0, #224]",
        "ldr x30, [x0, #240]",
        "ldp x0, x1, [x0]",
        "eret",
        kernel = const offset_of!(General, kernel),
        sp = const offset_of!(General, sp),
        thread = const offset_of!(General, thread),
        pc = const offset_of!(General, pc),
        tge = const TGE,
    )
}

/// Where the vectors of a guest continue: on SP_EL2, x0 the guest's [`General`], x1 the vector's number, and its own
/// x0 and x1 on the stack.
///
/// # Safety
///
/// Only the vectors branch here, after [`enter`].
#[unsafe(naked)]
pub(super) unsafe extern "C" fn left_guest() {
    naked_asm!(
        "stp x2, x3, [x0, #16]",
        "stp x4, x5, [x0, #32]",
        "stp x6, x7, [x0, #48]",
        "stp x8, x9, [x0, #64]",
        "stp x10, x11, [x0, #80]",
        "stp x12, x13, [x0, #96]",
        "stp x14, x15, [x0, #112]",
        "stp x16, x17, [x0, #128]",
        "stp x18, x19, [x0, #144]",
        "stp x20, x21, [x0, #160]",
        "stp x22, x23, [x0, #176]",
        "stp x24, x25, [x0, #192]",
        "stp x26, x27, [x0, #208]",
        "stp x28, x29, [x0, #224]",
        "str x30, [x0, #240]",
        "ldp x2, x3, [sp], #16",
        "stp x2, x3, [x0]",
        "mrs x2, elr_el2",
        "mrs x3, spsr_el2",
        "stp x2, x3, [x0, #{pc}]",
        "mrs x2, sp_el0",
        "mrs x3, sp_el1",
        "stp x2, x3, [x0, #{sp}]",
        "mrs x2, tpidr_el0",
        "mrs x3, tpidrro_el0",
        "mrs x4, tpidr_el1",
        "stp x2, x3, [x0, #{thread}]",
        "str x4, [x0, #{thread} + 16]",
        "mrs x2, hcr_el2",
        "orr x2, x2, #{tge}",
        "msr hcr_el2, x2",
        "isb",
        "ldp x2, x3, [x0, #{kernel}]",
        "ldr x4, [x0, #{kernel} + 16]",
        "msr sp_el0, x2",
        "msr tpidr_el0, x3",
        "msr tpidr_el1, x4",
        "msr spsel, #0",
        "mov x0, x1",
        "ldr x1, [sp, #96]",
        "ldp x19, x20, [sp, #16]",
        "ldp x21, x22, [sp, #32]",
        "ldp x23, x24, [sp, #48]",
        "ldp x25, x26, [sp, #64]",
        "ldp x27, x28, [sp, #80]",
        "ldp x29, x30, [sp], #112",
        "msr daif, x1",
        "ret",
        kernel = const offset_of!(General, kernel),
        sp = const offset_of!(General, sp),
        thread = const offset_of!(General, thread),
        pc = const offset_of!(General, pc),
        tge = const TGE,
    )
}
