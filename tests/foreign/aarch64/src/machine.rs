//! The CPU.

use core::arch::asm;

use crate::println;

/// Masks all interrupts, for ever.
pub fn mask_interrupts() {
    // SAFETY: nothing waits for one.
    unsafe { asm!("msr daifset, #0xf", options(nomem, nostack)) };
}

/// The counter of the generic timer.
#[cfg(feature = "hotmem")]
pub fn ticks() -> u64 {
    let ticks;
    // SAFETY: a counter.
    unsafe { asm!("isb", "mrs {}, cntvct_el0", out(reg) ticks, options(nomem, nostack)) };
    ticks
}

/// Its frequency.
#[cfg(feature = "hotmem")]
pub fn hertz() -> u64 {
    let hertz;
    // SAFETY: a constant.
    unsafe { asm!("mrs {}, cntfrq_el0", out(reg) hertz, options(nomem, nostack)) };
    hertz
}

/// What the code of a success is on x86_64, too.
const SUCCESS: u64 = 0x10;

/// Says that the kernel leaves with exit code `code`, and has firmware turn the machine off (PSCI SYSTEM_OFF), which takes
/// none.
pub fn exit(code: u64) -> ! {
    const SYSTEM_OFF: u64 = 0x8400_0008;
    const EL2: u64 = 2 << 2;
    println!("hotmem: exit {}", code.wrapping_sub(SUCCESS));
    let level: u64;
    // SAFETY: reads a register. Firmware is at the level above: it ends the machine.
    unsafe {
        asm!("mrs {}, CurrentEL", out(reg) level, options(nomem, nostack));
        match level {
            EL2 => asm!("smc #0", in("x0") SYSTEM_OFF, options(nostack)),
            _ => asm!("hvc #0", in("x0") SYSTEM_OFF, options(nostack)),
        }
    }
    loop {
        core::hint::spin_loop();
    }
}
