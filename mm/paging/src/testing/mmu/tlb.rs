//! The software MMU as memory and TLB of the walker and the manager.

// UNSAFETY: vouches for the pointers and the TLB of the fake machine.
#![expect(unsafe_code)]

use super::super::std;
use super::SoftMmu;
use crate::addr::{Address, AddressRange, PhysAddr, Space, VirtAddr, VirtRange};
use crate::seam::refer;
use crate::{NotFlushed, PhysMem, PteFormat, Tlb};
use core::fmt;
use core::ptr::NonNull;
use core::sync::atomic::Ordering;
use std::sync::Arc;

// SAFETY: pointers come from the RAM's own allocations, valid up to the next multiple of 64 KiB, and only the fake
// machine's users refer to them.
unsafe impl<F: PteFormat> PhysMem for SoftMmu<F> {
    fn linear_base(&self) -> VirtAddr {
        self.linear.get().copied().unwrap_or_default()
    }

    fn pointer(&self, at: PhysAddr) -> NonNull<u8> {
        if let Some(base) = self.linear.get() {
            let (target, _) = self.access(base.add(at.get()));
            assert_eq!(target, at, "the linear map has a wrong target");
        }
        self.give_way();
        self.ram.pointer(at)
    }
}

// SAFETY: `flush` removes every page of the ranges, and every pointer to a table that spans a byte of them, from the
// caches of each CPU, unless a test asked for a broken machine.
unsafe impl<F: PteFormat, I: Space> Tlb<I> for SoftMmu<F> {
    fn publish(&self) {}

    fn flush(&self, ranges: &[AddressRange<I>]) -> Result<(), NotFlushed> {
        self.flushes.fetch_add(1, Ordering::SeqCst);
        if let Some(check) = self.before_flush.get() {
            let virt = |range: &AddressRange<I>| {
                VirtRange::new(VirtAddr::new(range.start().get()), range.len())
            };
            check(&mut ranges.iter().filter_map(virt));
        }
        self.on_flush.get().into_iter().for_each(|hook| hook());
        if self.skips_flushes.load(Ordering::SeqCst) {
            return Ok(());
        }
        ranges.iter().for_each(|range| self.note_flushed(range.start().get(), range.len()));
        let touched = |at, len| {
            AddressRange::new(Address::new(at), len)
                .is_some_and(|page| ranges.iter().any(|range| range.overlaps(page)))
        };
        let [silent, missed] =
            [&self.silent, &self.missed].map(|cpu| cpu.load(Ordering::SeqCst).checked_sub(1));
        let mut result = Ok(());
        for (cpu, mut caches) in self.running().enumerate() {
            if silent == Some(cpu) {
                result = Err(NotFlushed { cpu });
            } else if missed != Some(cpu) {
                caches.pages.retain(|&at, _| !touched(at, Self::PAGE));
                let span = |level: usize| F::LEVELS[level - 1].span();
                caches.tables.retain(|&(level, base), _| !touched(base, span(level)));
            }
        }
        self.begin_epoch();
        result
    }

    fn retire(&self, frame: PhysAddr, bytes: u64) {
        // A gather that is dropped by a panic flushes: a second failure would abort the program.
        if std::thread::panicking() {
            return;
        }
        for caches in self.running() {
            let walked = caches.tables.values().any(|table| *table == frame);
            assert!(!walked, "table {frame} freed before flush");
            // Only a machine with a linear map can distinguish the translations that may stay.
            let Some(linear) = self.linear.get() else { continue };
            let reached = caches.pages.iter().find(|&(&at, (target, _))| {
                target.offset_from(frame) < bytes && at != linear.add(target.get()).get()
            });
            assert!(reached.is_none(), "{frame} freed before flush: a TLB entry goes there");
        }
    }
}

refer!(T: Arc<T>);

impl<F: PteFormat> fmt::Debug for SoftMmu<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SoftMmu")
            .field("ram", &self.ram)
            .field("root", &self.root)
            .finish_non_exhaustive()
    }
}
