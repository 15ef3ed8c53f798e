//! CPUs that allocate from their caches and free into them, beside an operation that keeps a range out of all caches.
//!
//! Lists, links and what is closed are the manager's own. A zone is a list of pages behind a lock.

// UNSAFETY: vouches for the holder of a cache's lock, and for the holder of a page.
#![expect(unsafe_code)]

use crate::addr::{Order, Pfn, PfnRange};
use crate::alloc::class::Class;
use crate::alloc::closing::Closing;
use crate::alloc::list::List;
use crate::explore;
use crate::machine::{DESCRIPTORS, Tiny, memmap};
use crate::memmap::Memmap;
use crate::memmap::seen::Seen;
use loom::cell::UnsafeCell;
use loom::sync::{Arc, Mutex, MutexGuard};
use loom::thread;

const CPUS: usize = 2;
/// The page that the operations empty, and one that stays.
const GOES: Pfn = Pfn::new(0);
const STAYS: Pfn = Pfn::new(1);

fn range(pfn: Pfn) -> PfnRange {
    PfnRange::new(pfn, 1)
}

struct Cache {
    list: List,
    is_used: bool,
}

struct Zone {
    free: Vec<Pfn>,
    isolated: Vec<Pfn>,
    isolating: PfnRange,
}

impl Zone {
    fn give(&mut self, pfn: Pfn) {
        let list = if self.isolating.contains(pfn) { &mut self.isolated } else { &mut self.free };
        list.push(pfn);
    }
}

struct Pages {
    memmap: Memmap<Tiny>,
    closing: Closing,
    caches: [Mutex<Cache>; CPUS],
    zone: Mutex<Zone>,
    /// Whether a user has the page. Loom finds two that have it at once.
    held: [UnsafeCell<bool>; DESCRIPTORS],
}

// SAFETY: loom checks that pages are held by one user at a time; it is what the models are for.
unsafe impl Sync for Pages {}

impl Pages {
    /// Some pages, free in their zone.
    fn new(free: &[Pfn]) -> Self {
        let memmap = memmap();
        free.iter().for_each(|&pfn| memmap.machine.map(pfn, true));
        let zone = Zone { free: free.to_vec(), isolated: Vec::new(), isolating: PfnRange::EMPTY };
        Self {
            memmap,
            closing: Closing::new(),
            caches: core::array::from_fn(|_| {
                Mutex::new(Cache { list: List::EMPTY, is_used: false })
            }),
            zone: Mutex::new(zone),
            held: core::array::from_fn(|_| UnsafeCell::new(false)),
        }
    }

    fn cache(&self, cpu: usize) -> MutexGuard<'_, Cache> {
        self.caches[cpu].lock().unwrap()
    }

    /// The memmap, while a cache is locked.
    fn seen(&self, _cache: &MutexGuard<'_, Cache>) -> Seen<'_, Tiny> {
        // SAFETY: the caller holds the lock until it returns, and accesses the pages in the cache, and its own: none of
        // them is removed before it unlocks.
        unsafe { Seen::vouched(&self.memmap) }
    }

    fn hold(&self, pfn: Pfn, held: bool) {
        self.held[pfn.get() as usize].with_mut(|word| {
            // SAFETY: loom reports an error unless the user before has freed it.
            let before = unsafe { word.replace(held) };
            assert_ne!(before, held, "{pfn} is given out, or freed, twice");
        });
    }

    /// As `alloc_cached` and `alloc_refilled` do.
    fn alloc(&self, cpu: usize) -> Option<Pfn> {
        let mut cache = self.cache(cpu);
        if !cache.is_used {
            self.closing.note_used(cpu);
            cache.is_used = true;
        }
        let memmap = self.seen(&cache);
        let cached = cache.list.pop(memmap);
        let pfn = cached.or_else(|| {
            self.refill(memmap, &mut cache.list);
            cache.list.pop(memmap)
        })?;
        self.hold(pfn, true);
        Some(pfn)
    }

    /// Takes a batch: all that may be cached.
    fn refill(&self, memmap: Seen<'_, Tiny>, list: &mut List) {
        let mut zone = self.zone.lock().unwrap();
        let free = core::mem::take(&mut zone.free).into_iter();
        let (open, closed) = free.partition(|&pfn| !self.closing.is_closed(pfn, Order::ZERO));
        zone.free = closed;
        <Vec<Pfn>>::into_iter(open).for_each(|pfn| list.push(memmap, pfn));
    }

    /// As `free_hot` does; whether the cache takes the page.
    fn free_hot(&self, cpu: usize, pfn: Pfn) -> bool {
        let mut cache = self.cache(cpu);
        let is_open = !self.closing.is_closed(pfn, Order::ZERO);
        if is_open {
            self.hold(pfn, false);
            let memmap = self.seen(&cache);
            cache.list.push(memmap, pfn);
        }
        is_open
    }

    fn free(&self, cpu: usize, pfn: Pfn) {
        if !self.free_hot(cpu, pfn) {
            self.hold(pfn, false);
            self.zone.lock().unwrap().give(pfn);
        }
    }

    /// As `drain_cpu` does.
    fn drain(&self, cpu: usize) {
        let mut cache = self.cache(cpu);
        let taken = cache.list.take();
        let memmap = self.seen(&cache);
        let mut zone = self.zone.lock().unwrap();
        taken.iter(memmap).for_each(|pfn| zone.give(pfn));
    }

    /// The pages in all caches.
    fn cached(&self) -> Vec<Pfn> {
        let class = Class::of::<Tiny>(Order::ZERO).unwrap();
        let mut pfns = Vec::new();
        for cpu in 0..CPUS {
            let cache = self.cache(cpu);
            let memmap = self.seen(&cache);
            for part in 0..List::PARTS {
                let whole = cache.list.visit(memmap, class, part, &mut |pfn| {
                    pfns.push(pfn);
                    true
                });
                assert!(whole);
            }
        }
        pfns
    }

    /// As an offline does, to its end: what is empty then loses its descriptor.
    fn empty(&self) -> bool {
        self.zone.lock().unwrap().isolating = range(GOES);
        self.closing.close_and_drain(range(GOES), |cpu| self.drain(cpu));
        assert!(!self.cached().contains(&GOES), "it is closed, and in a cache");
        let mut zone = self.zone.lock().unwrap();
        let (goes, stays) = zone.free.iter().partition(|&&pfn| pfn == GOES);
        zone.free = stays;
        zone.isolated.extend::<Vec<_>>(goes);
        let is_empty = !zone.isolated.is_empty();
        if is_empty {
            self.memmap.machine.map(GOES, false);
        }
        is_empty
    }

    /// As an offline that is given up: what was isolated is free again.
    fn empty_and_reopen(&self) {
        if self.empty() {
            self.memmap.machine.map(GOES, true);
        }
        self.closing.close(PfnRange::EMPTY);
        let mut zone = self.zone.lock().unwrap();
        zone.isolating = PfnRange::EMPTY;
        let isolated = core::mem::take(&mut zone.isolated);
        zone.free.extend(isolated);
    }

    /// As a conversion does, which also holds look-ups off: no cache holds a page while descriptors move.
    fn move_descriptors(&self) {
        let before = self.closing.close(PfnRange { start: Pfn::new(0), end: Pfn::new(u64::MAX) });
        (0..CPUS).for_each(|cpu| self.drain(cpu));
        self.memmap.machine.map(GOES, false);
        self.memmap.machine.map(GOES, true);
        self.closing.reopen(before, 0..CPUS, |cpu| drop(self.cache(cpu)));
    }

    /// As a snapshot does, which takes facts one after the other: no page enters a cache between them.
    fn take_facts(&self) {
        self.closing.close_all();
        self.closing.used().for_each(|cpu| self.drain(cpu));
        for _fact in 0..2 {
            assert!(self.cached().is_empty(), "a page is in a cache during a snapshot");
        }
        self.closing.open_all();
    }

    /// Checks that each page is in one place.
    fn check(&self, pfns: &[Pfn]) {
        let mut places = self.cached();
        let zone = self.zone.lock().unwrap();
        places.extend(zone.free.iter().chain(&zone.isolated));
        for &pfn in pfns {
            let is_held = self.held[pfn.get() as usize].with(|word| {
                // SAFETY: loom reports an error unless all users have ended.
                unsafe { *word }
            });
            let elsewhere = places.iter().filter(|&&place| place == pfn).count();
            assert_eq!(elsewhere + usize::from(is_held), 1, "the places of {pfn}");
        }
    }
}

/// Runs `act` beside `cpu` on CPU 0, and on CPU 1 if there are two.
fn beside(
    bound: Option<usize>,
    (cpus, pfns): (usize, &'static [Pfn]),
    start: fn(&Pages),
    cpu: fn(&Pages, usize),
    act: fn(&Pages),
) {
    explore(bound, move || {
        let pages = Arc::new(Pages::new(pfns));
        start(&pages);
        let run = |number| {
            let pages = Arc::clone(&pages);
            thread::spawn(move || cpu(&pages, number))
        };
        let threads: Vec<_> = (0..cpus).map(run).collect();
        act(&pages);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        pages.check(pfns);
    });
}

const ONE: (usize, &[Pfn]) = (1, &[GOES]);
const TWO: (usize, &[Pfn]) = (1, &[GOES, STAYS]);

fn alloc_and_free(pages: &Pages, cpu: usize) {
    if let Some(pfn) = pages.alloc(cpu) {
        pages.free(cpu, pfn);
    }
}

fn alloc_two_and_free(pages: &Pages, cpu: usize) {
    let pfns = [pages.alloc(cpu), pages.alloc(cpu)];
    pfns.into_iter().flatten().for_each(|pfn| pages.free(cpu, pfn));
}

fn hold(pages: &Pages) {
    assert_eq!(pages.alloc(0), Some(GOES));
}

fn stock(pages: &Pages) {
    alloc_two_and_free(pages, 0);
}

#[test]
fn a_cache_that_is_first_used_while_a_range_goes_is_drained_or_sees_what_is_closed() {
    beside(None, ONE, |_| (), alloc_and_free, |pages| _ = pages.empty());
}

#[test]
fn a_batch_that_a_cache_takes_first_while_a_range_goes_is_drained_or_leaves_the_range_out() {
    beside(None, TWO, |_| (), alloc_and_free, |pages| _ = pages.empty());
}

#[test]
fn a_page_that_is_freed_while_its_range_goes_is_drained_or_isolated() {
    let free = |pages: &Pages, cpu| {
        pages.free(cpu, GOES);
        alloc_and_free(pages, cpu);
    };
    beside(None, ONE, hold, free, |pages| _ = pages.empty());
}

#[test]
fn what_a_cache_holds_of_a_range_that_goes_is_drained_or_given_out_before() {
    beside(None, TWO, stock, alloc_two_and_free, |pages| _ = pages.empty());
}

#[test]
fn a_range_that_does_not_go_after_all_is_cached_again() {
    beside(None, ONE, stock, alloc_and_free, Pages::empty_and_reopen);
}

#[test]
fn no_cpu_uses_a_descriptor_of_its_cache_while_descriptors_move() {
    let free_and_alloc = |pages: &Pages, cpu| {
        if pages.free_hot(cpu, GOES) && pages.alloc(cpu).is_some() {
            pages.free_hot(cpu, GOES);
        }
    };
    beside(None, ONE, hold, free_and_alloc, Pages::move_descriptors);
}

#[test]
fn no_page_enters_a_cache_while_a_snapshot_is_taken() {
    beside(None, ONE, |_| (), alloc_and_free, Pages::take_facts);
    beside(None, ONE, stock, alloc_and_free, Pages::take_facts);
}

#[test]
fn two_cpus_allocate_and_free_while_a_range_goes() {
    beside(Some(3), (CPUS, &[GOES, STAYS]), |_| (), alloc_and_free, |pages| _ = pages.empty());
}
