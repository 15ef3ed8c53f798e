//! Hypercalls (LoPAR, chapter 14).

// UNSAFETY: a call in assembly.
#![expect(unsafe_code)]

use core::arch::asm;

/// Function numbers (LoPAR, table 153), and QEMU's own (`docs/specs/ppc-spapr-hcalls.rst`).
pub(super) const H_GET_TERM_CHAR: u64 = 0x54;
pub(super) const H_PUT_TERM_CHAR: u64 = 0x58;
pub(super) const H_EOI: u64 = 0x64;
pub(super) const H_CPPR: u64 = 0x68;
pub(super) const H_IPI: u64 = 0x6c;
pub(super) const H_XIRR: u64 = 0x74;
pub(super) const H_CEDE: u64 = 0xe0;
pub(super) const H_VIO_SIGNAL: u64 = 0x104;
pub(super) const H_REGISTER_PROC_TBL: u64 = 0x37c;
pub(super) const KVMPPC_H_RTAS: u64 = 0xf000;
/// Those of nested HV (Linux, `arch/powerpc/include/asm/hvcall.h`).
pub(super) const H_SET_PARTITION_TABLE: u64 = 0xf800;
pub(super) const H_TLB_INVALIDATE: u64 = 0xf808;

/// The call was made.
pub(super) const H_SUCCESS: i64 = 0;
/// The call must be repeated.
pub(super) const H_BUSY: i64 = 1;
/// The hypervisor lacks the call.
pub(super) const H_FUNCTION: i64 = -2;

/// The results of a call: its status, and the first output values.
pub(super) struct HcallResult {
    pub(super) status: i64,
    pub(super) results: [u64; 3],
}

/// Makes the call `number`.
///
/// # Safety
///
/// With these arguments, the documented effect of the call breaks no guarantee: in particular it writes to no memory
/// that other Rust code owns.
pub(super) unsafe fn hcall(number: u64, args: [u64; 4]) -> HcallResult {
    let [mut r4, mut r5, mut r6, r7] = args;
    let mut r3 = number;
    // SAFETY: by this function's contract the effect is allowed; the clobbers are those of the calling convention
    // (LoPAR 14.5.3: r0, r3 to r12, CTR, XER, CR0, CR1, CR5 to CR7).
    unsafe {
        asm!(
            "sc 1",
            inlateout("r3") r3, inlateout("r4") r4, inlateout("r5") r5, inlateout("r6") r6,
            inlateout("r7") r7 => _,
            lateout("r0") _, lateout("r8") _, lateout("r9") _, lateout("r10") _, lateout("r11") _,
            lateout("r12") _, lateout("ctr") _, lateout("xer") _, lateout("cr0") _,
            lateout("cr1") _, lateout("cr5") _, lateout("cr6") _, lateout("cr7") _,
        );
    }
    HcallResult { status: r3.cast_signed(), results: [r4, r5, r6] }
}
