//! Calls to whoever emulates the CPU (Arm, Semihosting for AArch32 and AArch64, 3 and 5.4).

// UNSAFETY: a call in assembly.
#![expect(unsafe_code)]

use super::frame::TrapFrame;
use super::syndrome::{self, UNKNOWN};
use core::arch::naked_asm;

/// SYS_EXIT, with a reason and a code on 64-bit machines.
const SYS_EXIT: u64 = 0x18;
/// ADP_Stopped_ApplicationExit.
const APPLICATION_EXIT: u64 = 0x2_0026;

/// Makes the call. Its first instruction is the one that traps where there is no semihosting.
///
/// # Safety
///
/// `_parameters` is what the operation wants.
#[unsafe(naked)]
unsafe extern "C" fn call(_operation: u64, _parameters: *const u64) -> u64 {
    naked_asm!("hlt #0xf000", "ret")
}

/// Ends the emulation with `code`; returns where that is not possible.
pub(super) fn exit(code: u64) {
    let parameters = [APPLICATION_EXIT, code];
    // SAFETY: SYS_EXIT wants these two words, and does not return; if the instruction traps instead,
    // `resume` goes on behind it.
    unsafe { call(SYS_EXIT, parameters.as_ptr()) };
}

/// Goes on behind a call that nobody took; answers whether it was one.
pub(super) fn resume(frame: &mut TrapFrame) -> bool {
    let ours = syndrome::class(frame.syndrome) == UNKNOWN && frame.elr == call as *const () as u64;
    if ours {
        frame.skip();
    }
    ours
}
