//! The translation caches of all CPUs, whether the hardware reaches them from one or not.

// UNSAFETY: vouches for what other CPUs drop.
#![expect(unsafe_code)]

use super::layout::CPUS;
use crate::cpus::{caller, table};
use core::sync::atomic::Ordering;
use hotmem::paging::shootdown::{Local, Shootdown};
use hotmem::paging::{NotFlushed, Tlb};
use hotmem::{PhysAddr, VirtAddr, VirtRange};
use hotmem_arch::contract::CpuTlb as _;
use hotmem_arch::current::{CpuTlb, cpu};

/// Turns of a wait for another CPU: it takes microseconds to answer, on a host with other work tenths of a second.
const MAX_TURNS: u64 = 1 << 24;

/// What the CPUs ask of each other, where the hardware does not drop translations on all of them.
static SHOOTDOWN: Shootdown<CPUS> = Shootdown::new();

/// What caches translations of the kernel's tables.
#[derive(Debug)]
pub struct KernelTlb(CpuTlb);

impl KernelTlb {
    /// The caches of all CPUs.
    ///
    /// # Safety
    ///
    /// `cpu::set_up` runs on each CPU before it loads the tables that the value is used for, and [`join`] before it
    /// uses memory that comes and goes.
    pub(super) unsafe fn new() -> Self {
        // SAFETY: `flush` makes each flush on every other CPU that joined; the rest by the contract of this function.
        Self(unsafe { CpuTlb::new() })
    }
}

/// This CPU, as one that is asked.
struct Own;

impl Local for Own {
    fn flush(&self, ranges: Option<&[VirtRange]>) {
        let upper_half = [VirtRange::new(VirtAddr::new(1 << 63), 1 << 63).unwrap_or_default()];
        // SAFETY: the value is used for one flush on this CPU: dropping translations is never wrong.
        let tlb = unsafe { CpuTlb::new() };
        // The flush of one CPU waits for nothing, so it does not fail.
        let _ = tlb.flush(ranges.unwrap_or(&upper_half));
    }

    fn interrupt(&self, number: usize) {
        if let Some(entry) = table::get(number) {
            caller::attend(entry);
        }
    }

    fn relax(&self) {
        cpu::relax();
    }
}

/// From now on every flush waits for this CPU, too; what it cached before is dropped. The first CPU joins before it
/// starts others.
pub(crate) fn join() {
    if !CpuTlb::REACHES_ALL {
        SHOOTDOWN.join(cpu::number(), &Own);
    }
}

/// Whether CPUs have to ask each other: others run only after the first CPU has joined.
fn asks() -> bool {
    !CpuTlb::REACHES_ALL && SHOOTDOWN.takes_part(0)
}

/// Drops what other CPUs ask this one to drop, if they do.
pub(crate) fn serve() {
    if !asks() {
        return;
    }
    let own = table::own();
    if SHOOTDOWN.serve(own.number(), &Own) {
        own.flushes.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: each flush is made here and, unless that reached all, on every CPU that joined; it fails by the name of one
// that does not answer.
unsafe impl Tlb for KernelTlb {
    #[inline]
    fn publish(&self) {
        self.0.publish();
    }

    #[inline]
    fn flush(&self, ranges: &[VirtRange]) -> Result<(), NotFlushed> {
        if asks() {
            SHOOTDOWN.request(cpu::number(), ranges, &Own, MAX_TURNS)
        } else {
            self.0.flush(ranges)
        }
    }

    fn retire(&self, frame: PhysAddr, bytes: u64) {
        self.0.retire(frame, bytes);
    }
}
