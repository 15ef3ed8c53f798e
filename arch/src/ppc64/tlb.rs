//! Dropping stale translations on ppc64 (Power ISA 3.0B, book III, 5.9.3.3, `tlbie`, and 5.10).

// UNSAFETY: vouches for what the invalidation instructions do.
#![expect(unsafe_code)]

use super::invalidate::{BY_PROCESS, Stale, by_address, stale};
use super::layout::PAGE_SHIFT;
use core::arch::asm;
use hotmem::addr::VirtRange;
use hotmem::paging::Tlb;

/// The translation caches of every CPU of the partition.
#[derive(Debug)]
pub struct BroadcastTlb(());

impl BroadcastTlb {
    /// Vouches for who uses the tables.
    ///
    /// # Safety
    ///
    /// The tables are used by process 0 of this partition only, and the hypervisor lets the partition
    /// use `tlbie` (GTSE).
    pub const unsafe fn new() -> Self {
        Self(())
    }
}

/// Drops all translations of process 0, of whatever page size, and cached parts of its tables
/// (RIC = 2, PRS = 1, R = 1), on every CPU.
pub(super) fn drop_all() {
    // SAFETY: dropping cached translations never makes a right one wrong. The first PTESYNC orders the
    // stores that cleared entries, the rest waits until every CPU is done.
    unsafe {
        asm!(
            "ptesync",
            "tlbie {rb}, {rs}, 2, 1, 1",
            "eieio",
            "tlbsync",
            "ptesync",
            "isync",
            rb = in(reg_nonzero) BY_PROCESS, rs = in(reg_nonzero) 0_u64,
            options(nostack, preserves_flags),
        );
    }
}

/// Drops the translation of one page of process 0 (RIC = 0); `flush` waits for it.
fn drop_page(rb: u64) {
    // SAFETY: dropping a cached translation never makes a right one wrong.
    unsafe {
        asm!(
            "tlbie {rb}, {rs}, 0, 1, 1",
            rb = in(reg_nonzero) rb, rs = in(reg_nonzero) 0_u64,
            options(nostack, preserves_flags),
        );
    }
}

/// Drops what is cached of the tables of process 0, but no translation (RIC = 1), and waits until every
/// CPU is done with this and with all that was asked before.
fn drop_walks_and_wait() {
    // SAFETY: as above.
    unsafe {
        asm!(
            "tlbie {rb}, {rs}, 1, 1, 1",
            "eieio",
            "tlbsync",
            "ptesync",
            "isync",
            rb = in(reg_nonzero) BY_PROCESS, rs = in(reg_nonzero) 0_u64,
            options(nostack, preserves_flags),
        );
    }
}

// SAFETY: by `new`'s contract process 0 is all that uses the tables. No CPU is left with anything
// cached of what `stale` says, which holds every leaf that the range can have had and, since a table may
// have been detached, what was cached of tables.
unsafe impl Tlb for BroadcastTlb {
    fn publish(&self) {
        // SAFETY: a barrier: walks that follow see the stores before (book III, 5.10.1.2).
        unsafe { asm!("ptesync", "isync", options(nostack, preserves_flags)) };
    }

    fn flush(&self, range: VirtRange) {
        match stale(range, PAGE_SHIFT) {
            Stale::Process => drop_all(),
            Stale::Pages { first, count } => {
                // SAFETY: a barrier: the stores that cleared entries come before what follows.
                unsafe { asm!("ptesync", options(nostack, preserves_flags)) };
                for page in 0..count {
                    drop_page(by_address(first.add(page << PAGE_SHIFT), PAGE_SHIFT));
                }
                drop_walks_and_wait();
            }
        }
    }
}
