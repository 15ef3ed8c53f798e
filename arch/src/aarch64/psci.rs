//! The Power State Coordination Interface (Arm DEN 0022F), of which the kernel uses one call.

// UNSAFETY: calls the firmware.
#![expect(unsafe_code)]

use crate::machine_info::Psci;
use core::arch::asm;

/// SYSTEM_OFF, 32-bit calling convention (DEN 0022F 5.10).
const SYSTEM_OFF: u64 = 0x8400_0008;

/// Turns the machine off, the way firmware wants to be called; returns where that is not possible.
pub(super) fn system_off(way: Psci) {
    match way {
        // SAFETY: firmware said that it takes this call, which does not return, and what registers it
        // changes otherwise is named (Arm DEN 0028F 2.6).
        Psci::Hvc => unsafe {
            asm!("hvc #0", inout("x0") SYSTEM_OFF => _, clobber_abi("C"), options(nostack));
        },
        // SAFETY: as above.
        Psci::Smc => unsafe {
            asm!("smc #0", inout("x0") SYSTEM_OFF => _, clobber_abi("C"), options(nostack));
        },
    }
}
