//! The test of the other CPUs: they use memory that came, and drop its translations when it goes.

use crate::boot::BootInfo;
use crate::events::Events;
use crate::memory::{Machine, SERVED};
use crate::{cpus, println};
use core::sync::atomic::{AtomicU64, Ordering};
use hotmem::{Geometry, Mm, Order, ZoneKind};
use spin::Once;

/// Pages that each CPU takes.
const PAGES: usize = 16;

static MM: Once<&'static Mm<Machine>> = Once::new();
/// Where memory is that the CPUs are to have taken: start and bytes; and how many pages of it they had.
static ADDED: [AtomicU64; 2] = [AtomicU64::new(0), AtomicU64::new(0)];
static USED: AtomicU64 = AtomicU64::new(0);

/// Whether memory is there, and what each CPU had served when it was used.
pub struct Work {
    mm: &'static Mm<Machine>,
    used: bool,
    served: [u64; cpus::MOST],
}

impl Work {
    /// Nothing was added yet.
    pub fn new(mm: &'static Mm<Machine>) -> Self {
        MM.call_once(|| mm);
        Self { mm, used: false, served: [0; cpus::MOST] }
    }

    /// Has the others use memory that has come. When it has gone, each of them has dropped its translations.
    pub fn after_events(&mut self, boot: &BootInfo, events: &Events) {
        let others = || {
            let all = boot.others.iter().map(|cpu| cpu.lapic_id as usize);
            all.filter(|&cpu| cpu != cpus::current())
        };
        let served = || core::array::from_fn(|cpu| SERVED[cpu].load(Ordering::Relaxed));
        let mut zones = self.mm.zones();
        let online = zones.any(|zone| zone.kind == ZoneKind::Normal && zone.counts.present > 0);
        if online && !self.used {
            let added = events.plugged().first().expect("a device").range;
            ADDED[0].store(added.start().get(), Ordering::Relaxed);
            ADDED[1].store(added.len(), Ordering::Relaxed);
            USED.store(0, Ordering::Relaxed);
            cpus::run(boot);
            let expected = (others().count() * PAGES) as u64;
            assert_eq!(USED.load(Ordering::Relaxed), expected, "pages of the added memory");
            println!("{} other CPUs used the added memory", others().count());
            self.served = served();
        }
        if self.used && !online && events.plugged().is_empty() {
            let now: [u64; cpus::MOST] = served();
            let flushed = others().all(|cpu| now[cpu] > self.served[cpu]);
            assert!(flushed, "CPUs kept translations: {:?}, then {now:?}", self.served);
        }
        self.used = online;
    }
}

/// What each other CPU does.
pub fn job() {
    let mm = MM.get().expect("set before");
    let [start, len] = [0, 1].map(|at: usize| ADDED[at].load(Ordering::Relaxed));
    let pages: [_; PAGES] = core::array::from_fn(|_| mm.alloc(Order::ZERO).expect("a page"));
    let value = |page: usize| (cpus::current() << 32 | page) as u64;
    for (number, page) in pages.iter().enumerate() {
        let added = Machine::address(page.pfn()).get().wrapping_sub(start) < len;
        USED.fetch_add(u64::from(added), Ordering::Relaxed);
        let words = page.words(0).expect("its words");
        words.iter().for_each(|word| word.store(value(number), Ordering::Relaxed));
    }
    for (number, page) in pages.iter().enumerate() {
        let words = page.words(0).expect("its words");
        let kept = words.iter().all(|word| word.load(Ordering::Relaxed) == value(number));
        assert!(kept, "a page has the words of another CPU");
    }
}
