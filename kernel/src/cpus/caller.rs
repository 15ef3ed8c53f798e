//! How a CPU is called: by the interrupt controllers, once there are some.

use super::table::Entry;
use hotmem_arch::irq::{Call, NoCpu};
use spin::Once;

/// Calls a CPU by what firmware calls it.
pub(crate) type Caller = fn(u64, Call) -> Result<(), NoCpu>;

static CALLER: Once<Caller> = Once::new();

/// Has CPUs called by `caller`. The first one counts.
pub(crate) fn set(caller: Caller) {
    CALLER.call_once(|| caller);
}

/// Interrupts a CPU that is up.
///
/// # Errors
///
/// [`NoCpu`] if that cannot be: it was addressed before, when it was started, so but for [`Call::Stop`] it can.
pub(crate) fn call(entry: &Entry, call: Call) -> Result<(), NoCpu> {
    let hardware = entry.hardware();
    CALLER.get().map_or(Err(NoCpu(hardware)), |caller| caller(hardware, call))
}

/// Has a CPU that is up look what there is for it to do.
pub(crate) fn attend(entry: &Entry) {
    let _ = call(entry, Call::Attend);
}
