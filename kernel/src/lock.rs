//! The kernel's spin locks: who waits lets the holder run, the way this architecture has for that.

use hotmem_arch::current::cpu;
use spin::RelaxStrategy;

/// Data that one CPU at a time has.
pub(crate) type Mutex<T> = spin::mutex::Mutex<T, Relax>;

/// A turn of a wait is the architecture's.
#[derive(Clone, Copy, Debug)]
pub struct Relax;

impl RelaxStrategy for Relax {
    #[inline(always)]
    fn relax() {
        cpu::relax();
    }
}
