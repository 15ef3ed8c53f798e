//! Caches written back, and the MMU off.

// UNSAFETY: turns the MMU off under its own feet.
#![expect(unsafe_code)]

use core::arch::naked_asm;

/// Bytes of code that [`enter`] takes at most.
const ENTER_BYTES: u64 = 256;

/// The way to the kernel's entry.
#[derive(Debug)]
pub(crate) struct Way;

impl Way {
    /// Needs no memory.
    pub(crate) fn new<E>(_allocate: impl FnOnce(usize) -> Result<u64, E>) -> Result<Self, E> {
        Ok(Self)
    }

    /// Continues at the physical address `entry` with `start_info` for the kernel. `ours` is all that it reads.
    ///
    /// # Safety
    ///
    /// Boot services have ended. The kernel's code is at `entry`, and `ours` is mapped.
    pub(crate) unsafe fn take(self, entry: u64, start_info: u64, ours: &[(u64, u64)]) -> ! {
        let code = enter as *const () as u64;
        for &(start, end) in ours.iter().chain([&(code, code + ENTER_BYTES)]) {
            // SAFETY: mapped, by the contract, and as code that runs.
            unsafe { write_back(start, end) };
        }
        // SAFETY: boot services have ended, everything was written back, and UEFI runs at physical addresses.
        unsafe { enter(entry, start_info) }
    }
}

/// Writes the caches of `start..end` back to memory.
///
/// # Safety
///
/// The range is mapped.
#[unsafe(naked)]
unsafe extern "C" fn write_back(_start: u64, _end: u64) {
    // CTR_EL0.DminLine: log2 of the words of the smallest line (Arm ARM D17.2.34).
    naked_asm!(
        "mrs x2, ctr_el0",
        "ubfx x2, x2, #16, #4",
        "mov x3, #4",
        "lsl x3, x3, x2",
        "sub x4, x3, #1",
        "bic x0, x0, x4",
        "2: dc civac, x0",
        "add x0, x0, x3",
        "cmp x0, x1",
        "b.lo 2b",
        "dsb sy",
        "ret",
    )
}

/// Turns MMU and data cache off and continues at the physical address `_entry` with `_start_info` in
/// X0.
///
/// # Safety
///
/// Boot services have ended. The code at `_entry`, what is at `_start_info`, and this function were
/// [written back](write_back), and this runs at an address that is its physical one, as all of UEFI
/// does.
#[unsafe(naked)]
unsafe extern "C" fn enter(_entry: u64, _start_info: u64) -> ! {
    naked_asm!(
        "msr daifset, #0xf",
        "mov x9, x0",
        "mov x0, x1",
        "mrs x2, CurrentEL",
        "cmp x2, #(2 << 2)",
        "b.eq 2f",
        "mrs x3, sctlr_el1",
        "bic x3, x3, #1",
        "bic x3, x3, #4",
        "msr sctlr_el1, x3",
        "b 3f",
        "2: mrs x3, sctlr_el2",
        "bic x3, x3, #1",
        "bic x3, x3, #4",
        "msr sctlr_el2, x3",
        "3: isb",
        "ic iallu",
        "dsb sy",
        "isb",
        "br x9",
    )
}
