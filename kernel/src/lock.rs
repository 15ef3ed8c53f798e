//! The kernel's spin locks: a CPU that waits lets the holder run, and drops the translations that others ask it to drop.

use crate::memory::tlb;
use hotmem_arch::current::cpu;
use spin::RelaxStrategy;

/// Data that one CPU at a time has.
pub(crate) type Mutex<T> = spin::mutex::Mutex<T, Relax>;

/// A turn of a wait.
#[derive(Clone, Copy, Debug)]
pub struct Relax;

impl RelaxStrategy for Relax {
    #[inline(always)]
    fn relax() {
        cpu::relax();
        tlb::serve();
    }
}
