extern crate std;

use super::*;
use crate::addr::{VirtAddr, VirtRange};
use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicU64 as Word};
use std::vec::Vec;

type Cpus<const CPUS: usize> = Shootdown<CPUS>;

/// A CPU that records the flushes it is asked for, and the CPUs that it interrupts.
#[derive(Default)]
struct Notes {
    flushed: RefCell<Vec<Option<Vec<VirtRange>>>>,
    interrupted: RefCell<Vec<usize>>,
    /// The function that it calls while it waits.
    during: Option<&'static dyn Fn()>,
}

impl Local for Notes {
    fn flush(&self, ranges: Option<&[VirtRange]>) {
        self.flushed.borrow_mut().push(ranges.map(<[_]>::to_vec));
    }

    fn interrupt(&self, cpu: usize) {
        self.interrupted.borrow_mut().push(cpu);
    }

    fn relax(&self) {
        self.during.into_iter().for_each(|during| during());
    }
}

fn pages(numbers: &[u64]) -> Vec<VirtRange> {
    let page =
        |&number: &u64| VirtRange::new(VirtAddr::new(number << 12), 4096).unwrap_or_default();
    numbers.iter().map(page).collect()
}

#[test]
fn a_cpu_alone_flushes_itself_whether_it_takes_part_or_not() {
    let (cpus, local) = (Cpus::<4>::new(), Notes::default());
    assert_eq!(cpus.request(0, &pages(&[1]), &local, 0), Ok(()));
    cpus.join(0, &local);
    assert_eq!(cpus.request(0, &pages(&[2, 3]), &local, 0), Ok(()));
    let expected = [Some(pages(&[1])), None, Some(pages(&[2, 3]))];
    assert_eq!(*local.flushed.borrow(), expected);
    assert_eq!(*local.interrupted.borrow(), []);
}

#[test]
fn a_cpu_that_does_not_acknowledge_is_named_and_later_drops_everything() {
    let (cpus, local, other) = (Cpus::<4>::new(), Notes::default(), Notes::default());
    [0, 3].iter().for_each(|&cpu| cpus.join(cpu, &Notes::default()));
    let failed = Err(NotFlushed { cpu: 3 });
    assert_eq!(cpus.request(0, &pages(&[1]), &local, 5), failed);
    assert_eq!(*local.interrupted.borrow(), [3]);
    // The next one covers everything, since the ranges that CPU 3 missed are no longer known.
    assert_eq!(cpus.request(0, &pages(&[2]), &local, 5), failed);
    assert_eq!(*local.flushed.borrow(), [Some(pages(&[1])), None]);
    assert!(cpus.serve(3, &other) && !cpus.serve(3, &other));
    assert_eq!(*other.flushed.borrow(), [None]);
    // It acknowledges again, and requests have ranges again.
    let _failed = cpus.request(0, &pages(&[4]), &local, 5);
    assert!(cpus.serve(3, &other));
    assert_eq!(*other.flushed.borrow(), [None, Some(pages(&[4]))]);
    // No request waits for a CPU that left.
    cpus.leave(3);
    assert!(!cpus.takes_part(3) && cpus.takes_part(0));
    assert_eq!(cpus.request(0, &pages(&[5]), &local, 0), Ok(()));
}

#[test]
fn a_request_with_too_many_ranges_covers_everything() {
    let (cpus, local, other) = (Cpus::<2>::new(), Notes::default(), Notes::default());
    [0, 1].iter().for_each(|&cpu| cpus.join(cpu, &Notes::default()));
    assert!(cpus.request(0, &pages(&[1, 3, 5, 7, 9]), &local, 0).is_err());
    assert!(cpus.serve(1, &other));
    assert_eq!(*other.flushed.borrow(), [None]);
}

#[test]
fn a_turn_that_is_never_released_is_an_error_that_names_its_holder() {
    static CPUS: Cpus<2> = Cpus::new();
    static NESTED: AtomicBool = AtomicBool::new(false);
    CPUS.join(1, &Notes::default());
    let during = || {
        let nested = CPUS.request(1, &pages(&[2]), &Notes::default(), 3);
        NESTED.store(nested == Err(NotFlushed { cpu: 0 }), Ordering::SeqCst);
    };
    let local = Notes {
        during: Some(std::boxed::Box::leak(std::boxed::Box::new(during))),
        ..Notes::default()
    };
    // CPU 1 makes a request while CPU 0 waits for it: it acknowledges, and gives up its own request.
    assert_eq!(CPUS.request(0, &pages(&[1]), &local, 3), Ok(()));
    assert!(NESTED.load(Ordering::SeqCst));
}

/// A CPU of a storm: its cached translation of each page.
struct Cached<'s, const PAGES: usize>(&'s [Word; PAGES]);

impl<const PAGES: usize> Local for Cached<'_, PAGES> {
    fn flush(&self, ranges: Option<&[VirtRange]>) {
        for (page, cached) in self.0.iter().enumerate() {
            let at = VirtAddr::new((page as u64) << 12);
            if ranges.is_none_or(|ranges| ranges.iter().any(|range| range.contains(at))) {
                cached.store(0, Ordering::Relaxed);
            }
        }
    }

    fn interrupt(&self, _: usize) {}

    fn relax(&self) {
        std::thread::yield_now();
    }
}

/// Every CPU flushes as often as it can with interrupts off: it serves others only while it waits.
fn storm<const CPUS: usize>(rounds: u64) {
    let cpus = Cpus::<CPUS>::new();
    // The version of each page's entry, and each CPU's cached copy of it.
    let entries: [Word; CPUS] = core::array::from_fn(|_| Word::new(1));
    let cached: [[Word; CPUS]; CPUS] =
        core::array::from_fn(|_| core::array::from_fn(|_| Word::new(0)));
    let barrier = std::sync::Barrier::new(CPUS);
    std::thread::scope(|scope| {
        for cpu in 0..CPUS {
            let (cpus, entries, cached, barrier) = (&cpus, &entries, &cached, &barrier);
            scope.spawn(move || {
                let local = Cached(&cached[cpu]);
                cpus.join(cpu, &local);
                barrier.wait();
                for round in 0..rounds {
                    for (page, entry) in entries.iter().enumerate() {
                        cached[cpu][page].store(entry.load(Ordering::Relaxed), Ordering::Relaxed);
                    }
                    entries[cpu].store(0, Ordering::Release);
                    let ranges = pages(&[cpu as u64]);
                    assert_eq!(cpus.request(cpu, &ranges, &local, u64::MAX), Ok(()));
                    for (other, cached) in cached.iter().enumerate() {
                        assert_eq!(
                            cached[cpu].load(Ordering::Relaxed),
                            0,
                            "CPU {other} in round {round}"
                        );
                    }
                    entries[cpu].store(round + 2, Ordering::Release);
                }
                cpus.leave(cpu);
            });
        }
    });
}

#[test]
fn cpus_that_flush_at_once_with_interrupts_off_all_succeed_and_leave_nothing_stale() {
    storm::<2>(2000);
    storm::<4>(500);
    storm::<16>(50);
}
