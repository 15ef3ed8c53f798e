//! A flat machine: accesses take no lock and cache nothing, so that threads are ordered by the code under test alone.
//!
//! ```text
//!   access    walk the tables, in any order     read the page's witness
//!   map       store entries                     write the witnesses of the pages
//!   flush     clear entries                     write the witnesses of the pages without a translation
//! ```
//!
//! A *witness* is a plain byte for each page of the addresses. As hardware does not wait for a program's order, the walk is
//! Relaxed and orders nothing; so unless a mapping happens before the access, and the access before the flush, there is
//! a data race on the witness, which ThreadSanitizer and Miri report.

// UNSAFETY: the witnesses are accessed without order, on purpose.
#![expect(unsafe_code)]

use super::super::FakeRam;
use super::super::std::boxed::Box;
use super::super::std::sync::Arc;
use super::SoftMmu;
use super::walk::first;
use crate::addr::{PhysAddr, VirtAddr, VirtRange};
use crate::{Attr, Entry, PteFormat};
use core::cell::UnsafeCell;
use core::sync::atomic::Ordering;

/// The witnesses of a range of addresses, by page.
pub(super) struct Flat {
    start: VirtAddr,
    page: u64,
    witnesses: Box<[UnsafeCell<u8>]>,
}

// SAFETY: it is not shared soundly if the code under test orders too little: then this is the race that a sanitizer is to
// report. No value of a witness matters, and a byte has no torn ones.
unsafe impl Sync for Flat {}

impl Flat {
    pub(super) fn new(range: VirtRange, page: u64) -> Self {
        let witnesses = (0..range.len() / page).map(|_| UnsafeCell::new(0)).collect();
        Self { start: range.start(), page, witnesses }
    }

    fn witness(&self, at: u64) -> Option<&UnsafeCell<u8>> {
        self.witnesses.get((at.wrapping_sub(self.start.get()) / self.page) as usize)
    }

    /// Notes an access to the page of `at`.
    fn accessed(&self, at: u64) {
        if let Some(witness) = self.witness(at) {
            // SAFETY: see `Sync`; volatile, since the value is not used.
            unsafe { witness.get().read_volatile() };
        }
    }

    /// Notes that the translation of the page of `at` changes.
    fn changed(&self, at: u64) {
        if let Some(witness) = self.witness(at) {
            // SAFETY: see `Sync`; volatile, since the value is not used.
            unsafe { witness.get().write_volatile(0) };
        }
    }
}

impl<F: PteFormat> SoftMmu<F> {
    /// A machine whose accesses take no lock and cache nothing, over RAM of the same kind: [`FakeRam::flat`]. A sanitizer
    /// finds accesses to pages of `watched` that are not ordered behind their mapping, or before the flush of it.
    pub fn flat(ram: FakeRam, root: PhysAddr, watched: VirtRange) -> Arc<Self> {
        Self::with(ram, root, Some(Flat::new(watched, Self::PAGE)))
    }

    /// The order of a test's own accesses to memory.
    pub(super) fn order(&self) -> Ordering {
        if self.flat.is_some() { Ordering::Relaxed } else { Ordering::SeqCst }
    }

    /// The hardware's walk on a flat machine: no load of an entry orders anything.
    fn walk_flat(&self, at: u64) -> Option<(PhysAddr, Attr)> {
        let mut frame = self.root;
        for (level, here) in F::LEVELS.iter().enumerate() {
            let slot = self.word(frame.add(8 * here.index(at) as u64));
            match F::decode(slot.load(Ordering::Relaxed), level) {
                Entry::Absent => return None,
                Entry::Table(next) => frame = next,
                Entry::Leaf(phys, attr) => return Some((phys.add(at - first(here, at)), attr)),
            }
        }
        None
    }

    /// The target of an access to `at`.
    pub(super) fn access_flat(&self, flat: &Flat, at: u64) -> (PhysAddr, Attr) {
        let Some(reached) = self.walk_flat(at) else {
            panic!("page fault at {at:#x}");
        };
        flat.accessed(at);
        reached
    }

    /// On a flat machine, notes that `len` bytes from `at` have been mapped.
    pub fn note_mapped(&self, at: VirtAddr, len: u64) {
        let Some(flat) = &self.flat else { return };
        for offset in (0..len).step_by(flat.page as usize) {
            flat.changed(at.get() + offset);
        }
    }

    /// On a flat machine, notes that what has no translation in the `len` bytes from `at` may not be accessed any more.
    pub(super) fn note_flushed(&self, at: u64, len: u64) {
        let Some(flat) = &self.flat else { return };
        let all = flat.page * flat.witnesses.len() as u64;
        let (low, high) = (at.max(flat.start.get()), at.saturating_add(len));
        let end = high.min(flat.start.get().saturating_add(all));
        for page in (low..end).step_by(flat.page as usize) {
            if self.walk_flat(page).is_none() {
                flat.changed(page);
            }
        }
    }
}
