//! Memory accesses that may fault: the answer is then an error, not a dead kernel.
//!
//! Each probe is a function whose *first* instruction is the access, so the trap code knows a
//! faulting probe by its address alone and resumes it at a second function, which answers "fault".
//! The stack and the return address are then as they were at the call. (A probe that executes is
//! known by its registers.)

// UNSAFETY: deliberate accesses to arbitrary addresses, in assembly.
#![expect(unsafe_code)]

use super::syndrome::{self, DATA_ABORT, INSTRUCTION_ABORT};
use super::trap::TrapFrame;
use core::arch::naked_asm;
use hotmem_paging::addr::VirtAddr;

/// The access was not allowed, or there is no translation, or nothing answers there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault;

/// Loads from `x0` into `*x1`, and answers 1.
///
/// # Safety
///
/// Reading the address has no side effect, and `x1` can be written.
#[unsafe(naked)]
unsafe extern "C" fn load(_address: u64, _value: *mut u64) -> u64 {
    naked_asm!("ldr x2, [x0]", "str x2, [x1]", "mov x0, #1", "ret")
}

/// Stores `x1` to `x0`, and answers 1.
///
/// # Safety
///
/// If the address is writable, the value may be there.
#[unsafe(naked)]
unsafe extern "C" fn store(_address: u64, _value: u64) -> u64 {
    naked_asm!("str x1, [x0]", "mov x0, #1", "ret")
}

/// What `x1` holds while [`execute`] fetches from `x0`.
const FETCHING: u64 = 0x6665_7463_6869_6e67;

/// Continues at `x0`, another address of [`executed`], with [`FETCHING`] in `x1`.
///
/// # Safety
///
/// `x0` translates to [`executed`], or faults.
#[unsafe(naked)]
unsafe extern "C" fn execute(_address: u64, _fetching: u64) -> u64 {
    naked_asm!("br x0")
}

/// What [`execute`] is sent to: it answers 1.
#[unsafe(naked)]
extern "C" fn executed() -> u64 {
    naked_asm!("mov x0, #1", "ret")
}

/// Where a faulting probe continues: it answers 0.
#[unsafe(naked)]
extern "C" fn faulted() -> u64 {
    naked_asm!("mov x0, #0", "ret")
}

/// Resumes a probe that faulted; answers whether it was one.
pub(super) fn resume(frame: &mut TrapFrame) -> bool {
    let probes = [load as *const () as u64, store as *const () as u64];
    let ours = match syndrome::class(frame.syndrome) {
        DATA_ABORT => probes.contains(&frame.instruction()),
        INSTRUCTION_ABORT => frame.x[1] == FETCHING && frame.instruction() == frame.x[0],
        _ => false,
    };
    if ours {
        frame.resume_at(faulted as *const () as u64);
    }
    ours
}

/// The eight bytes at `address`.
///
/// # Errors
///
/// [`Fault`] if they cannot be read.
pub fn probe_read(address: VirtAddr) -> Result<u64, Fault> {
    let mut value = 0;
    // SAFETY: a load changes nothing; if it faults, `resume` turns that into the answer 0. Device
    // registers are mapped in a window of their own, which no caller probes.
    let done = unsafe { load(address.get(), &raw mut value) };
    if done == 1 { Ok(value) } else { Err(Fault) }
}

/// Tries to write the eight bytes at `address`.
///
/// # Safety
///
/// If the address is writable, `value` may be there: it is what the memory holds already, or nobody
/// else uses it.
///
/// # Errors
///
/// [`Fault`] if they cannot be written.
pub unsafe fn probe_write(address: VirtAddr, value: u64) -> Result<(), Fault> {
    // SAFETY: the caller vouches for the store; if it faults, `resume` turns that into the answer 0.
    let done = unsafe { store(address.get(), value) };
    if done == 1 { Ok(()) } else { Err(Fault) }
}

/// The address of the function that [`probe_execute`] may be sent to by another address.
pub fn executable() -> VirtAddr {
    VirtAddr::new(executed as *const () as u64)
}

/// Tries to execute the code at `address`.
///
/// # Safety
///
/// `address` translates to the same memory as [`executable`], or faults.
///
/// # Errors
///
/// [`Fault`] if it cannot be executed.
pub unsafe fn probe_execute(address: VirtAddr) -> Result<(), Fault> {
    // SAFETY: what is executed, if anything, is `executed`; if the fetch faults, `resume` turns that
    // into the answer 0.
    let done = unsafe { execute(address.get(), FETCHING) };
    if done == 1 { Ok(()) } else { Err(Fault) }
}
