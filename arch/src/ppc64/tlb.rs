//! Dropping stale translations on ppc64 (Power ISA 3.0B, book III, 5.9.3.3, `tlbie`, and 5.10).
//!
//! ```text
//!   RB  by process   |                0                  | IS = 1 |        0         |
//!                     0                               51 52     53 54               63
//!   RS  process number (0: the kernel's) | partition number, which a guest leaves 0
//! ```
//!
//! Pages cannot be dropped one at a time, by address (IS = 0): that is defined for addresses of quadrant 0 only, and
//! the kernel is in quadrant 3. So a flush of any range drops everything of the process, as Linux does for kernel
//! addresses.

// UNSAFETY: vouches for what the invalidation instructions do.
#![expect(unsafe_code)]

use crate::contract::CpuTlb;
use core::arch::asm;
use hotmem_paging::addr::VirtRange;
use hotmem_paging::{NotFlushed, Tlb};

/// RB: invalidate by process (IS = 1); RS names process 0, the kernel's.
const BY_PROCESS: u64 = 0b01 << 10;

/// The translation caches of every CPU of the partition.
#[derive(Debug)]
pub struct BroadcastTlb(());

impl CpuTlb for BroadcastTlb {
    const REACHES_ALL: bool = true;

    unsafe fn new() -> Self {
        Self(())
    }
}

/// Drops all translations of process 0, of whatever page size, and cached parts of its tables
/// (RIC = 2, PRS = 1, R = 1), on every CPU: a table may have been detached.
pub(super) fn drop_all() {
    // SAFETY: dropping cached translations never makes a valid one wrong. The first PTESYNC orders the stores that
    // cleared entries, the rest waits until every CPU is done.
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

// SAFETY: by `new`'s contract only process 0 uses the tables, and `drop_all` leaves no CPU with anything cached of
// it.
unsafe impl Tlb for BroadcastTlb {
    fn publish(&self) {
        // SAFETY: a barrier: later walks see the earlier stores (book III, 5.10.1.2).
        unsafe { asm!("ptesync", "isync", options(nostack, preserves_flags)) };
    }

    fn flush(&self, _ranges: &[VirtRange]) -> Result<(), NotFlushed> {
        drop_all();
        Ok(())
    }
}
