//! The CPU.

use core::arch::asm;

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

/// Ends QEMU by semihosting (SYS_EXIT_EXTENDED) with exit code `code`.
pub fn exit(code: u64) -> ! {
    /// The application has ended.
    const APPLICATION_EXIT: u64 = 0x20026;
    let block = [APPLICATION_EXIT, code];
    // SAFETY: the emulator ends here.
    unsafe { asm!("hlt #0xf000", in("w0") 0x20, in("x1") block.as_ptr(), options(nostack)) };
    loop {
        core::hint::spin_loop();
    }
}
