//! The translation caches of a machine with one CPU.

// UNSAFETY: vouches for what the invalidation instructions do.
#![expect(unsafe_code)]

use crate::addr::VirtRange;
use crate::{NotFlushed, Tlb, few_pages};

use ::x86_64::VirtAddr;
use ::x86_64::instructions::tlb;
use ::x86_64::registers::control::{Cr4, Cr4Flags};
use core::sync::atomic::{Ordering, compiler_fence};

/// Bytes that one INVLPG is used for.
const PAGE: u64 = 4096;

/// The translation caches of the CPU that runs this: a [`Tlb`] for a kernel that runs on one CPU.
///
/// With several CPUs, each of them has to do this: see [`shootdown`](crate::shootdown).
#[derive(Debug)]
pub struct LocalTlb(());

impl LocalTlb {
    /// The translation caches of this CPU.
    ///
    /// # Safety
    ///
    /// No other CPU uses the same tables, and this one runs at privilege level 0, without process-context identifiers
    /// (CR4.PCIDE).
    pub const unsafe fn new() -> Self {
        Self(())
    }
}

// SAFETY: by `new`'s contract there is no other CPU, and there are no PCIDs. INVLPG drops the leaf entries of its
// address, global ones, too, and all paging-structure caches (Intel SDM vol. 3A 4.10.4.1); a change of CR4.PGE drops
// everything, and so does a reload of CR3 where no entry is global.
unsafe impl Tlb for LocalTlb {
    fn publish(&self) {
        // Absent entries are never cached (SDM vol. 3A 4.10.2.3), and walks see stores in their order (8.2.2): only
        // the compiler must not reorder them.
        compiler_fence(Ordering::SeqCst);
    }

    fn flush(&self, ranges: &[VirtRange]) -> Result<(), NotFlushed> {
        compiler_fence(Ordering::SeqCst);
        match few_pages(ranges, PAGE) {
            None => flush_all(),
            Some(pages) => pages.for_each(|page| tlb::flush(VirtAddr::new_truncate(page.get()))),
        }
        compiler_fence(Ordering::SeqCst);
        Ok(())
    }
}

/// Drops all entries. A loader's mappings may be global.
fn flush_all() {
    let flags = Cr4::read();
    if !flags.contains(Cr4Flags::PAGE_GLOBAL) {
        return tlb::flush_all();
    }
    // SAFETY: the CPU just loses its cached translations.
    unsafe { Cr4::write(flags - Cr4Flags::PAGE_GLOBAL) };
    // SAFETY: the value that was there.
    unsafe { Cr4::write(flags) };
}
