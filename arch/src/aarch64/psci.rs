//! The Power State Coordination Interface (Arm DEN 0022F): the kernel uses two calls.

// UNSAFETY: calls the firmware.
#![expect(unsafe_code)]

use crate::machine_info::Psci;
use core::arch::asm;
use hotmem_paging::addr::PhysAddr;

/// SYSTEM_OFF, 32-bit calling convention (DEN 0022F 5.10).
const SYSTEM_OFF: u64 = 0x8400_0008;
/// CPU_ON, 64-bit calling convention (5.6).
const CPU_ON: u64 = 0xc400_0003;

/// Calls firmware by the given conduit.
///
/// # Safety
///
/// The preconditions of the function that is called.
unsafe fn call(way: Psci, function: u64, [first, second, third]: [u64; 3]) -> i64 {
    let result: u64;
    match way {
        // SAFETY: the operands list the registers that the call changes (Arm DEN 0028F 2.6), and it traps if no firmware
        // takes this kind of call; the rest holds by the contract of this function.
        Psci::Hvc => unsafe {
            asm!("hvc #0", inout("x0") function => result, in("x1") first, in("x2") second, in("x3") third,
                clobber_abi("C"), options(nostack));
        },
        // SAFETY: as above.
        Psci::Smc => unsafe {
            asm!("smc #0", inout("x0") function => result, in("x1") first, in("x2") second, in("x3") third,
                clobber_abi("C"), options(nostack));
        },
    }
    result as i64
}

/// Turns the machine off; returns if that is not possible, or traps if nothing takes such calls.
pub(super) fn system_off(way: Psci) {
    // SAFETY: the call does not return, does nothing, or traps.
    unsafe { call(way, SYSTEM_OFF, [0; 3]) };
}

/// Starts the CPU with this affinity at `entry`, with `context` in its first register; returns whether firmware
/// accepted.
///
/// # Safety
///
/// The code at `entry` is for a CPU that begins without translation, with that context.
pub(super) unsafe fn cpu_on(way: Psci, affinity: u64, entry: PhysAddr, context: u64) -> bool {
    // SAFETY: by the contract of this function.
    unsafe { call(way, CPU_ON, [affinity, entry.get(), context]) == 0 }
}
