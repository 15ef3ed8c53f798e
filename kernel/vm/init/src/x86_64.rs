//! System calls on x86_64: the number in RAX, arguments in RDI, RSI, RDX, R10, R8 and R9.

// UNSAFETY: system calls, and the entry.
#![expect(unsafe_code)]

use core::arch::{asm, naked_asm};

/// The numbers of system calls.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Number(u64);

impl Number {
    pub(crate) const WRITE: Self = Self(1);
    pub(crate) const MMAP: Self = Self(9);
    pub(crate) const EXIT: Self = Self(60);
    pub(crate) const SET_AFFINITY: Self = Self(203);
    pub(crate) const GET_AFFINITY: Self = Self(204);
    pub(crate) const REBOOT: Self = Self(169);
    pub(crate) const OPEN_AT: Self = Self(257);
    pub(crate) const GET_CPU: Self = Self(309);
}

/// Calls the kernel.
///
/// # Safety
///
/// What the kernel does with the words harms nothing.
pub(crate) unsafe fn call(number: Number, [a, b, c, d, e, f]: [u64; 6]) -> u64 {
    let result;
    // SAFETY: by the contract of this function; the instruction itself changes RCX and R11.
    unsafe {
        asm!("syscall", inlateout("rax") number.0 => result, in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d,
            in("r8") e, in("r9") f, lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result
}

/// The first instruction, with the arguments on the stack.
#[unsafe(no_mangle)]
#[unsafe(naked)]
extern "C" fn _start() -> ! {
    naked_asm!("mov rdi, rsp", "xor ebp, ebp", "and rsp, -16", "call {}", "ud2", sym super::system::begin)
}
