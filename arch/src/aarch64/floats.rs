//! The floating-point and vector registers of a guest: the kernel uses none, but another guest on this CPU may.

// UNSAFETY: assembly that accesses memory and the registers.
#![expect(unsafe_code)]

use core::arch::global_asm;
use core::mem::offset_of;

/// FPCR and FPSR, and V0 to V31.
#[derive(Clone, Debug, Default)]
#[repr(C, align(16))]
pub(super) struct Floats {
    control: [u64; 2],
    vectors: [[u64; 2]; 32],
}

unsafe extern "C" {
    fn hotmem_floats_load(floats: *const Floats);
    fn hotmem_floats_save(floats: *mut Floats);
}

impl Floats {
    /// Loads them into the CPU, on which they must not be trapped.
    pub(super) fn load(&self) {
        // SAFETY: the assembly reads this value, and changes registers that no code of the kernel uses.
        unsafe { hotmem_floats_load(self) }
    }

    /// Keeps those of the CPU, on which they must not be trapped.
    pub(super) fn save(&mut self) {
        // SAFETY: the assembly writes this value alone.
        unsafe { hotmem_floats_save(self) }
    }
}

global_asm!(
    r#"
    .arch_extension fp
    .arch_extension simd
    .section .text.hotmem_floats, "ax"
    .balign 4
    .global hotmem_floats_load
hotmem_floats_load:
    ldp q0, q1, [x0, #16]
    ldp q2, q3, [x0, #48]
    ldp q4, q5, [x0, #80]
    ldp q6, q7, [x0, #112]
    ldp q8, q9, [x0, #144]
    ldp q10, q11, [x0, #176]
    ldp q12, q13, [x0, #208]
    ldp q14, q15, [x0, #240]
    ldp q16, q17, [x0, #272]
    ldp q18, q19, [x0, #304]
    ldp q20, q21, [x0, #336]
    ldp q22, q23, [x0, #368]
    ldp q24, q25, [x0, #400]
    ldp q26, q27, [x0, #432]
    ldp q28, q29, [x0, #464]
    ldp q30, q31, [x0, #496]
    ldp x1, x2, [x0, #{control}]
    msr fpcr, x1
    msr fpsr, x2
    ret
    .global hotmem_floats_save
hotmem_floats_save:
    stp q0, q1, [x0, #16]
    stp q2, q3, [x0, #48]
    stp q4, q5, [x0, #80]
    stp q6, q7, [x0, #112]
    stp q8, q9, [x0, #144]
    stp q10, q11, [x0, #176]
    stp q12, q13, [x0, #208]
    stp q14, q15, [x0, #240]
    stp q16, q17, [x0, #272]
    stp q18, q19, [x0, #304]
    stp q20, q21, [x0, #336]
    stp q22, q23, [x0, #368]
    stp q24, q25, [x0, #400]
    stp q26, q27, [x0, #432]
    stp q28, q29, [x0, #464]
    stp q30, q31, [x0, #496]
    mrs x1, fpcr
    mrs x2, fpsr
    stp x1, x2, [x0, #{control}]
    ret
"#,
    control = const offset_of!(Floats, control),
);
