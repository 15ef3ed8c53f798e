//! The clock that measures operations.

use hotmem_arch::current::cpu;
use hotmem_hotplug::Clock;

/// Counts instructions with the CPU's counter, if the machine was started for that.
#[derive(Clone, Copy, Debug)]
pub struct InstructionClock {
    /// Whether the counter counts instructions (`-icount` of QEMU, and the option on the command line).
    pub counts: bool,
}

impl Clock for InstructionClock {
    fn instructions(&self) -> Option<u64> {
        self.counts.then(cpu::instructions)
    }
}
