//! The translation caches of all CPUs, whether the hardware reaches them from one or not.

// UNSAFETY: vouches for what other CPUs drop.
#![expect(unsafe_code)]

use crate::cpus::shoot;
use crate::panic;
use hotmem::paging::Tlb;
use hotmem::{PhysAddr, VirtAddr, VirtRange};
use hotmem_arch::contract::CpuTlb as _;
use hotmem_arch::current::{CpuTlb, cpu};

/// What caches translations of the kernel's tables.
#[derive(Debug)]
pub struct KernelTlb(CpuTlb);

impl KernelTlb {
    /// The caches of all CPUs.
    ///
    /// # Safety
    ///
    /// `cpu::set_up` runs on each CPU before it loads the tables that the value is used for; all that have loaded
    /// them are [up](crate::cpus::table::State::Up), or drop everything once they are.
    pub(super) unsafe fn new() -> Self {
        // SAFETY: `flush` makes each flush on every other CPU that is up; the rest by the contract of this function.
        Self(unsafe { CpuTlb::new() })
    }
}

/// Drops what this CPU cached of `range`.
pub(crate) fn drop_own(range: VirtRange) {
    // SAFETY: the value is used for one flush on this CPU: dropping translations is never wrong.
    unsafe { CpuTlb::new() }.flush(range);
}

/// Drops everything that this CPU cached.
pub(crate) fn drop_all_own() {
    let upper_half = VirtRange::new(VirtAddr::new(1 << 63), 1 << 63).unwrap_or_default();
    drop_own(upper_half);
}

// SAFETY: each flush is made here, and then, unless that reached all, on every CPU that is up; one that does not answer
// ends the kernel.
unsafe impl Tlb for KernelTlb {
    #[inline]
    fn publish(&self) {
        self.0.publish();
    }

    #[inline]
    fn flush(&self, range: VirtRange) {
        self.0.flush(range);
        if !CpuTlb::REACHES_ALL
            && let Err(silent) = shoot::ask_others(range, drop_own)
        {
            panic::die(format_args!("{silent}"), None, cpu::frame_pointer());
        }
    }

    fn retire(&self, frame: PhysAddr, bytes: u64) {
        self.0.retire(frame, bytes);
    }
}
