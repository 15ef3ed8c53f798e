//! Dropping stale translations on x86_64.

// UNSAFETY: vouches for what the invalidation instructions do.
#![expect(unsafe_code)]

use crate::contract::CpuTlb;
use ::x86_64::VirtAddr as CpuAddr;
use ::x86_64::instructions::tlb;
use core::sync::atomic::{Ordering, compiler_fence};
use hotmem_paging::addr::VirtRange;
use hotmem_paging::{NotFlushed, Tlb, few_pages};

/// Bytes one INVLPG is used for.
const PAGE: u64 = 4096;

/// The translation caches of the CPU that runs this.
#[derive(Debug)]
pub struct LocalTlb(());

impl CpuTlb for LocalTlb {
    const REACHES_ALL: bool = false;

    unsafe fn new() -> Self {
        Self(())
    }
}

// SAFETY: by `new`'s contract the same flush is made on every other CPU. Without PCIDs and global entries,
// a CR3 reload drops all of them; INVLPG drops the leaf entries of its address, of whatever size,
// and all paging-structure caches (SDM vol. 3A 4.10.4.1).
unsafe impl Tlb for LocalTlb {
    fn publish(&self) {
        // Absent entries are never cached (SDM vol. 3A 4.10.2.3), and walks of any CPU see stores in their order
        // (8.2.2): only the compiler must not reorder them.
        compiler_fence(Ordering::SeqCst);
    }

    fn flush(&self, ranges: &[VirtRange]) -> Result<(), NotFlushed> {
        compiler_fence(Ordering::SeqCst);
        match few_pages(ranges, PAGE) {
            None => tlb::flush_all(),
            Some(pages) => pages.for_each(|page| tlb::flush(CpuAddr::new_truncate(page.get()))),
        }
        compiler_fence(Ordering::SeqCst);
        Ok(())
    }
}
