//! Calls to the emulator or debugger of the CPU (Arm, Semihosting for AArch32 and AArch64, 3 and 5.4).

// UNSAFETY: a call in assembly.
#![expect(unsafe_code)]

use super::frame::TrapFrame;
use super::syndrome::{self, UNKNOWN};
use core::arch::naked_asm;

/// SYS_EXIT, which takes a reason and a code on 64-bit machines.
const SYS_EXIT: u64 = 0x18;
/// ADP_Stopped_ApplicationExit.
const APPLICATION_EXIT: u64 = 0x2_0026;

/// Makes the call. Its first instruction traps on a machine without semihosting.
///
/// # Safety
///
/// `_parameters` points to the parameters that the operation expects.
#[unsafe(naked)]
unsafe extern "C" fn call(_operation: u64, _parameters: *const u64) -> u64 {
    naked_asm!("hlt #0xf000", "ret")
}

/// Ends the emulation with `code`; returns if that is not possible.
pub(super) fn exit(code: u64) {
    let parameters = [APPLICATION_EXIT, code];
    // SAFETY: SYS_EXIT expects these two words, and does not return; if the instruction traps instead, `resume`
    // continues after it.
    unsafe { call(SYS_EXIT, parameters.as_ptr()) };
}

/// Continues after a call that trapped; returns whether the trap came from such a call.
pub(super) fn resume(frame: &mut TrapFrame) -> bool {
    let ours = syndrome::class(frame.syndrome) == UNKNOWN && frame.elr == call as *const () as u64;
    if ours {
        frame.skip();
    }
    ours
}
