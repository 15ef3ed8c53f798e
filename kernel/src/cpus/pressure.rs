//! Memory pressure wakes the first CPU, which has memory devices plug more.

use super::{caller, table};
use hotmem::{Pressure, Watch};
use hotmem_arch::current::cpu;

/// The watch of memory devices.
pub(crate) static PRESSURE: Watch = Watch::new(&Wake);

/// Wakes the first CPU.
struct Wake;

impl Pressure for Wake {
    /// The first CPU looks at the watch before it sleeps, with interrupts off, and an interrupt ends the sleep: its own, or
    /// one by another CPU. A handler that allocates may send one, too, so they are off meanwhile.
    fn crossed(&self, _: &'static Watch) {
        if cpu::number() != 0
            && let Some(first) = table::get(0)
        {
            let on = cpu::interrupts_are_enabled();
            cpu::disable_interrupts();
            caller::attend(first);
            if on {
                cpu::enable_interrupts();
            }
        }
    }
}
