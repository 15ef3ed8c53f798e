//! Interrupts other CPUs, by the interrupt controllers once there are any.

use super::table::Entry;
use hotmem_arch::irq::{Call, NoCpu};
use spin::Once;

/// Interrupts a CPU, given its firmware id.
pub(crate) type Caller = fn(u64, Call) -> Result<(), NoCpu>;

static CALLER: Once<Caller> = Once::new();

/// Sets the function that interrupts CPUs. Only the first call counts.
pub(crate) fn set(caller: Caller) {
    CALLER.call_once(|| caller);
}

/// Interrupts a CPU that is up.
///
/// # Errors
///
/// [`NoCpu`] if that is not possible. The CPU was addressed before, when it was started, so only [`Call::Stop`] can
/// fail.
pub(crate) fn call(entry: &Entry, call: Call) -> Result<(), NoCpu> {
    let hardware = entry.hardware();
    CALLER.get().map_or(Err(NoCpu(hardware)), |caller| caller(hardware, call))
}

/// Has a CPU that is up check for work.
pub(crate) fn attend(entry: &Entry) {
    let _ = call(entry, Call::Attend);
}
