//! The test of this kernel: it uses memory that came, sees it go, and ends when something is typed.

use crate::events::Events;
use crate::memory::Machine;
use crate::serial::typed;
use crate::{exit, println};
use alloc::string::ToString;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use hotmem::{AutoOnline, Geometry, Mm, OnlineAs, Order, PhysRange, ZoneInfo, ZoneKind};

/// Words that the heap takes: a MiB.
const HEAP_WORDS: u64 = 1 << 17;

/// What was there at boot.
pub struct Check {
    mm: &'static Mm<Machine>,
    free_at_boot: u64,
    came: bool,
    rounds: usize,
}

/// Free pages.
fn free(mm: &Mm<Machine>) -> u64 {
    mm.drain_caches();
    mm.zones().map(|zone| zone.counts.free).sum()
}

impl Check {
    /// The state after boot. Added memory is for the kernel: this one has no movable memory.
    pub fn new(mm: &'static Mm<Machine>) -> Self {
        mm.set_auto_online(AutoOnline::Online(OnlineAs::Kernel));
        mm.verify().expect("the manager's invariants");
        Self { mm, free_at_boot: free(mm), came: false, rounds: 0 }
    }

    /// After events: uses memory that has come, and compares with boot when it has gone.
    pub fn after_events(&mut self, events: &Events) {
        let added = |zone: &ZoneInfo| zone.kind == ZoneKind::Normal && zone.counts.present > 0;
        let online = self.mm.zones().any(|zone| added(&zone));
        if online && !self.came {
            self.came = true;
            self.mm.verify().expect("the manager's invariants");
            println!("free: {} pages, before {}", free(self.mm), self.free_at_boot);
            let added = events.plugged().first().expect("a device").range;
            self.use_pages(added);
            self.use_the_heap(added);
        }
        if self.came && !online && events.plugged().is_empty() {
            self.mm.verify().expect("the manager's invariants");
            assert_eq!(free(self.mm), self.free_at_boot, "free pages, after memory came and went");
            println!("round {}: gone, as at boot", self.rounds);
            self.came = false;
            self.rounds += 1;
        }
        if typed() {
            assert!(!self.came && self.rounds > 0, "memory has not come and gone");
            exit(0x10);
        }
    }

    /// Writes and reads pages of the added memory, which comes first.
    fn use_pages(&self, added: PhysRange) {
        let pages: [_; 64] = core::array::from_fn(|_| self.mm.alloc(Order::ZERO).expect("a page"));
        for (value, page) in pages.iter().enumerate() {
            let at = Machine::address(page.pfn());
            assert!(added.contains(at), "{at} is not added memory");
            let words = page.words(0).expect("its words");
            words.iter().for_each(|word| word.store(value as u64, Ordering::Relaxed));
        }
        for (value, page) in pages.iter().enumerate() {
            let words = page.words(0).expect("its words");
            let kept = words.iter().all(|word| word.load(Ordering::Relaxed) == value as u64);
            assert!(kept, "a page of the added memory lost its content");
        }
        println!("round {}: used 64 pages of the added memory", self.rounds);
    }

    /// Has the heap take added memory, which then cannot go.
    fn use_the_heap(&self, added: PhysRange) {
        let words: Vec<u64> = (0..HEAP_WORDS).collect();
        let reason = self.mm.explain_remove(added).to_string();
        assert!(reason.contains("is held by heap"), "{reason}");
        assert!(words.iter().copied().eq(0..HEAP_WORDS), "the heap lost its content");
        drop(words);
        let reason = self.mm.explain_remove(added).to_string();
        assert_eq!(reason, "removable now");
        println!("round {}: the heap grew and shrank", self.rounds);
    }
}
