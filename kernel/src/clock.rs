//! The clock that operations are measured by.

use hotmem_arch::current::cpu;
use hotmem_hotplug::Clock;

/// Counts instructions by the CPU's counter, where the machine was started so that it does.
#[derive(Clone, Copy, Debug)]
pub struct InstructionClock {
    /// Whether the counter counts instructions (`-icount` of QEMU, with the command line's word).
    pub counts: bool,
}

impl Clock for InstructionClock {
    fn instructions(&self) -> Option<u64> {
        self.counts.then(cpu::instructions)
    }
}
