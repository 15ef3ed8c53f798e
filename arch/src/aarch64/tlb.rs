//! Dropping stale translations on aarch64 (Arm ARM D8.14, "TLB maintenance").
//!
//! Entries only change from invalid to valid and from valid to invalid, with a flush in between, as
//! break-before-make demands (Arm ARM D8.14.1): the walker refuses to map over a leaf.

// UNSAFETY: vouches for what the invalidation instructions do.
#![expect(unsafe_code)]

use super::Aarch64;
use crate::contract::{CpuTlb, Layout};
use aarch64_cpu::asm::barrier;
use core::arch::asm;
use hotmem_paging::addr::VirtRange;
use hotmem_paging::{NotFlushed, Tlb, few_pages};

/// Bytes of the smallest page.
const PAGE: u64 = 1 << Aarch64::PAGE_SHIFT;

/// The translation caches of every CPU in the inner shareable domain.
#[derive(Debug)]
pub struct BroadcastTlb(());

impl CpuTlb for BroadcastTlb {
    const REACHES_ALL: bool = true;

    unsafe fn new() -> Self {
        Self(())
    }
}

// SAFETY: by `new`'s contract the inner shareable domain contains every cache of these tables. VAAE1IS drops, for
// any ASID, the leaf of its address at every level and the cached tables that lead to it, in EL1&0 or, with E2H and
// TGE set, in EL2&0 (Arm ARM C5.5); VMALLE1IS drops everything. The DSB before orders the stores that cleared
// entries; the DSB after waits until every CPU is done.
unsafe impl Tlb for BroadcastTlb {
    fn publish(&self) {
        barrier::dsb(barrier::ISHST);
        // Without this barrier, this CPU's next access may have been translated before the stores (Arm ARM D8.14.2).
        barrier::isb(barrier::SY);
    }

    fn flush(&self, ranges: &[VirtRange]) -> Result<(), NotFlushed> {
        barrier::dsb(barrier::ISHST);
        match few_pages(ranges, PAGE) {
            // SAFETY: dropping cached translations never makes a valid one wrong.
            None => unsafe { asm!("tlbi vmalle1is", options(nostack, preserves_flags)) },
            Some(pages) => pages.for_each(|page| {
                // Bits 43..0 are bits 55..12 of the address, whatever the granule.
                let operand = page.get() >> 12 & ((1 << 44) - 1);
                // SAFETY: as above.
                unsafe {
                    asm!("tlbi vaae1is, {}", in(reg) operand, options(nostack, preserves_flags))
                };
            }),
        }
        barrier::dsb(barrier::ISH);
        barrier::isb(barrier::SY);
        Ok(())
    }
}
