//! What each thread translated lately, with the entries that it read: as long as these are the same, so is the result of
//! the walk, and no cache has to be locked. Most accesses of a suite end here.

// UNSAFETY: reads entries by pointers that it keeps.
#![expect(unsafe_code)]

use super::super::cpu::cpu;
use super::super::std;
use super::SoftMmu;
use super::walk::MAX_LEVELS;
use crate::addr::PhysAddr;
use crate::{Attr, Entry, PteFormat};
use core::cell::RefCell;
use core::ptr::null;
use core::sync::atomic::{AtomicU64, Ordering};

/// Translations that a thread keeps; a page has one place.
const KEPT: usize = 64;

/// The translation of a page that the caches of a CPU hold.
struct Used {
    /// The state of the machine's caches and RAM, and the CPU; no machine has epoch 0.
    epoch: u64,
    generation: u64,
    cpu: usize,
    page: u64,
    target: PhysAddr,
    attr: Attr,
    /// The entries from the root on, with what they held.
    entries: [(*const AtomicU64, u64); MAX_LEVELS],
    levels: usize,
}

impl Used {
    const NOTHING: Self = Self {
        epoch: 0,
        generation: 0,
        cpu: 0,
        page: 0,
        target: PhysAddr::new(0),
        attr: Attr::empty(),
        entries: [(null(), 0); MAX_LEVELS],
        levels: 0,
    };

    /// Are the entries still what they were?
    fn is_same(&self) -> bool {
        self.entries.iter().take(self.levels).all(|&(entry, word)| {
            // SAFETY: the entry was in plugged RAM when the RAM's generation was this one, which the caller has compared:
            // nothing was unplugged since.
            unsafe { &*entry }.load(Ordering::SeqCst) == word
        })
    }
}

std::thread_local! {
    static USED: RefCell<[Used; KEPT]> = const { RefCell::new([const { Used::NOTHING }; KEPT]) };
}

/// A number that no machine has had before, and not 0.
pub(super) fn next_epoch() -> u64 {
    static EPOCHS: AtomicU64 = AtomicU64::new(1);
    EPOCHS.fetch_add(1, Ordering::SeqCst)
}

impl<F: PteFormat> SoftMmu<F> {
    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }

    /// Called after caches have dropped entries: every thread caches what it uses again.
    pub(super) fn begin_epoch(&self) {
        self.epoch.store(next_epoch(), Ordering::SeqCst);
    }

    fn place(at: u64) -> (u64, usize) {
        let page = at & !(Self::PAGE - 1);
        (page, (page / Self::PAGE) as usize % KEPT)
    }

    /// The target of an access to `at` and the allowed accesses, if this thread has cached them as this CPU and the tables
    /// still say so.
    pub(super) fn used(&self, at: u64) -> Option<(PhysAddr, Attr)> {
        let (page, place) = Self::place(at);
        USED.with_borrow(|used| {
            let used = &used[place];
            let holds = used.page == page
                && used.epoch == self.epoch()
                && used.generation == self.ram.generation()
                && used.cpu == cpu()
                && used.is_same();
            holds.then(|| (used.target.add(at - page), used.attr))
        })
    }

    /// Keeps the translation of `at`, which the caches of this CPU got in `epoch`, unless the tables have changed meanwhile.
    pub(super) fn note_used(&self, at: u64, (target, attr): (PhysAddr, Attr), epoch: u64) {
        let (page, place) = Self::place(at);
        let generation = self.ram.generation();
        let mut used = Used { epoch, generation, cpu: cpu(), page, ..Used::NOTHING };
        let mut frame = self.root;
        for (level, here) in F::LEVELS.iter().enumerate() {
            let entry = self.word(frame.add(8 * here.index(at) as u64));
            let word = entry.load(Ordering::SeqCst);
            used.entries[level] = (entry, word);
            used.levels = level + 1;
            match F::decode(word, level) {
                Entry::Absent => return,
                Entry::Table(next) => frame = next,
                Entry::Leaf(phys, allowed) => {
                    used.target = phys.add(page & (here.span() - 1));
                    used.attr = allowed;
                    if (used.target.add(at - page), allowed) == (target, attr) {
                        USED.with_borrow_mut(|all| all[place] = used);
                    }
                    return;
                }
            }
        }
    }
}
