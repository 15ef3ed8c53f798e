//! Copies pages of guests, which wait meanwhile: sixteen bytes an instruction.

// UNSAFETY: assembly that accesses memory.
#![expect(unsafe_code)]

use core::arch::asm;
use core::ptr::NonNull;

/// Bytes of a turn of the loop.
const TURN: usize = 128;

/// Copies `bytes`, a multiple of a page.
///
/// # Safety
///
/// `from` can be read and `to` written for that many bytes; they do not overlap, and nothing else accesses them.
pub(super) unsafe fn copy(from: NonNull<u8>, to: NonNull<u8>, bytes: usize) {
    if bytes < TURN {
        return;
    }
    // SAFETY: by the contract of this function. The registers of floating point are the lower halves of those that
    // are used.
    unsafe {
        asm!(
            "mtctr {turns}",
            "2:",
            "lxv 0, 0({from})",
            "lxv 1, 16({from})",
            "lxv 2, 32({from})",
            "lxv 3, 48({from})",
            "lxv 4, 64({from})",
            "lxv 5, 80({from})",
            "lxv 6, 96({from})",
            "lxv 7, 112({from})",
            "stxv 0, 0({to})",
            "stxv 1, 16({to})",
            "stxv 2, 32({to})",
            "stxv 3, 48({to})",
            "stxv 4, 64({to})",
            "stxv 5, 80({to})",
            "stxv 6, 96({to})",
            "stxv 7, 112({to})",
            "addi {from}, {from}, 128",
            "addi {to}, {to}, 128",
            "bdnz 2b",
            turns = in(reg) bytes / TURN,
            from = inout(reg_nonzero) from.as_ptr() => _,
            to = inout(reg_nonzero) to.as_ptr() => _,
            out("ctr") _,
            out("f0") _, out("f1") _, out("f2") _, out("f3") _,
            out("f4") _, out("f5") _, out("f6") _, out("f7") _,
            options(nostack, preserves_flags),
        );
    }
}
