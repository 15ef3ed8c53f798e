//! System calls on aarch64: the number in x8, arguments in x0 to x5.

// UNSAFETY: system calls, and the entry.
#![expect(unsafe_code)]

use core::arch::{asm, naked_asm};

/// The numbers of system calls.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Number(u64);

impl Number {
    pub(crate) const OPEN_AT: Self = Self(56);
    pub(crate) const WRITE: Self = Self(64);
    pub(crate) const EXIT: Self = Self(93);
    pub(crate) const SET_AFFINITY: Self = Self(122);
    pub(crate) const GET_AFFINITY: Self = Self(123);
    pub(crate) const REBOOT: Self = Self(142);
    pub(crate) const GET_CPU: Self = Self(168);
    pub(crate) const MMAP: Self = Self(222);
}

/// Calls the kernel.
///
/// # Safety
///
/// What the kernel does with the words harms nothing.
pub(crate) unsafe fn call(number: Number, [a, b, c, d, e, f]: [u64; 6]) -> u64 {
    let result;
    // SAFETY: by the contract of this function; the kernel changes x0 alone.
    unsafe {
        asm!("svc #0", in("x8") number.0, inlateout("x0") a => result, in("x1") b, in("x2") c, in("x3") d,
            in("x4") e, in("x5") f, options(nostack));
    }
    result
}

/// The first instruction, with the arguments on the stack.
#[unsafe(no_mangle)]
#[unsafe(naked)]
extern "C" fn _start() -> ! {
    naked_asm!("mov x0, sp", "mov x29, xzr", "mov x30, xzr", "b {}", sym super::system::begin)
}
