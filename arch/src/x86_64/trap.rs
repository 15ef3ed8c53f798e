//! Traps: what the CPU pushes, the way to Rust, and the handler.
//!
//! ```text
//!   vector n: stub pushes [0 as error code] and n --> common saves all registers --> dispatch(frame)
//!      --> a probe that faults returns 0; anything else goes to the kernel's handler
//! ```

use super::frame::TrapFrame;
use super::{cpu, probe};
use crate::common::trap::HandlerSlot;
use core::arch::naked_asm;

/// The kernel's trap handler.
pub(super) static HANDLER: HandlerSlot<TrapFrame> = HandlerSlot::empty();

/// Called by the entry code with interrupts off.
extern "C" fn dispatch(frame: &mut TrapFrame) {
    if probe::resume(frame) {
        return;
    }
    if !HANDLER.call(frame) {
        cpu::halt_forever();
    }
}

/// Saves the registers that the CPU did not, calls [`dispatch`], restores, returns from the trap.
///
/// The CPU aligned the stack to 16 before it pushed 5 words; with error code, vector and 15 registers
/// that is 22 words, so `rsp` is a multiple of 16 again at the call.
#[unsafe(naked)]
extern "C" fn common() {
    naked_asm!(
        "push rax", "push rbx", "push rcx", "push rdx", "push rsi", "push rdi", "push rbp",
        "push r8", "push r9", "push r10", "push r11", "push r12", "push r13", "push r14", "push r15",
        "cld",
        "mov rdi, rsp",
        "call {dispatch}",
        "pop r15", "pop r14", "pop r13", "pop r12", "pop r11", "pop r10", "pop r9", "pop r8",
        "pop rbp", "pop rdi", "pop rsi", "pop rdx", "pop rcx", "pop rbx", "pop rax",
        "add rsp, 16",
        "iretq",
        dispatch = sym dispatch,
    )
}

/// The entry of vector `N`, for which the CPU pushes no error code.
#[unsafe(naked)]
extern "C" fn plain<const N: usize>() {
    naked_asm!("push 0", "push {vector}", "jmp {common}", vector = const N, common = sym common)
}

/// The entry of vector `N`, for which the CPU pushes an error code.
#[unsafe(naked)]
extern "C" fn with_error<const N: usize>() {
    naked_asm!("push {vector}", "jmp {common}", vector = const N, common = sym common)
}

/// A spurious interrupt: there is nothing to serve, and no end of interrupt is due (SDM vol. 3A 12.9).
#[unsafe(naked)]
extern "C" fn spurious() {
    naked_asm!("iretq")
}

/// Address of the entry code of [`SPURIOUS`](super::frame::SPURIOUS).
pub(super) fn spurious_entry() -> u64 {
    spurious as *const () as u64
}

macro_rules! entries {
    ($($kind:ident $($vector:literal)*;)*) => {
        /// The entry code of every vector below [`VECTORS`](super::frame::VECTORS), of [`TIMER`](super::frame::TIMER) and of
        /// [`CALL`](super::frame::CALL).
        pub(super) fn entries() -> impl Iterator<Item = (usize, u64)> {
            [$($(($vector, $kind::<$vector> as *const () as u64)),*),*].into_iter()
        }
    };
}

// Which exceptions push an error code: Intel SDM vol. 3A, table 7-1, and AMD APM vol. 2, table 8-1.
entries! {
    plain 0 1 2 3 4 5 6 7 9 15 16 18 19 20 22 23 24 25 26 27 28 31;
    with_error 8 10 11 12 13 14 17 21 29 30;
    plain 32 33 34 35 36 37 38 39 40 41 42 43 44 45 46 47;
    plain 239 240;
}
