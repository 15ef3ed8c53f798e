//! The translation caches of all CPUs, on hardware that flushes all of them from one CPU and on hardware that does
//! not.

// UNSAFETY: vouches for the translations that other CPUs drop.
#![expect(unsafe_code)]

use super::layout::CPUS;
use crate::cpus::{caller, table};
use core::sync::atomic::Ordering;
use hotmem::paging::shootdown::{Local, Shootdown};
use hotmem::paging::{NotFlushed, Tlb};
use hotmem::{PhysAddr, VirtAddr, VirtRange};
use hotmem_arch::contract::CpuTlb as _;
use hotmem_arch::current::{CpuTlb, cpu};

/// Poll limit of a wait for another CPU: it takes microseconds to acknowledge, on a busy host tenths of a second.
const MAX_TURNS: u64 = 1 << 24;

/// The flush requests between CPUs, for hardware that does not drop translations on all of them.
static SHOOTDOWN: Shootdown<CPUS> = Shootdown::new();

/// The TLB: caches translations of the kernel's tables.
#[derive(Debug)]
pub struct KernelTlb(CpuTlb);

impl KernelTlb {
    /// The caches of all CPUs.
    ///
    /// # Safety
    ///
    /// `cpu::set_up` runs on each CPU before the CPU loads the tables that the value is used for, and [`join`]
    /// before it uses memory that can be unplugged.
    pub(super) unsafe fn new() -> Self {
        // SAFETY: `flush` makes each flush on every other CPU that joined; the rest by the contract of this function.
        Self(unsafe { CpuTlb::new() })
    }
}

/// This CPU, as the receiver of requests.
struct Own;

impl Local for Own {
    fn flush(&self, ranges: Option<&[VirtRange]>) {
        let upper_half = [VirtRange::new(VirtAddr::new(1 << 63), 1 << 63).unwrap_or_default()];
        // SAFETY: the value is used for one flush on this CPU: dropping translations is never wrong.
        let tlb = unsafe { CpuTlb::new() };
        // A flush on one CPU waits for no other, so it does not fail.
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

/// From now on every flush waits for this CPU, too; translations that it cached before are dropped. The first CPU
/// joins before it starts others.
pub(crate) fn join() {
    if !CpuTlb::REACHES_ALL {
        SHOOTDOWN.join(cpu::number(), &Own);
    }
}

/// Whether CPUs have to send each other requests: others run only after the first CPU has joined.
fn asks() -> bool {
    !CpuTlb::REACHES_ALL && SHOOTDOWN.takes_part(0)
}

/// Serves the flush requests of other CPUs, if there are any.
pub(crate) fn serve() {
    if !asks() {
        return;
    }
    let own = table::own();
    if SHOOTDOWN.serve(own.number(), &Own) {
        own.flushes.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: each flush is made here and, unless that reached all, on every CPU that joined; if a CPU does not
// acknowledge, the flush fails and names it.
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
