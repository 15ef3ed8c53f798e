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
pub(crate) fn call(entry: &Entry, call: Call) {
    // It was addressed before, when it was started.
    let _ = CALLER.get().map(|caller| caller(entry.hardware(), call));
}
