//! How long the memory manager's locks are held, in instructions: for each place that locks, the longest time. For an
//! image with the feature `holds`; in any other the manager has the kernel's lock alone.

// UNSAFETY: vouches for the exclusion of a lock, which the lock inside provides.
#![expect(unsafe_code)]

use core::fmt;
use core::panic::Location;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use hotmem::lock::RawLock;
use hotmem::lock::lock_api::RawMutex;
use hotmem_arch::current::cpu;
use hotmem_lab::monitor::Hold;

/// A place in the code.
type Place = Location<'static>;

/// Places that are recorded: more than lock in the manager.
const PLACES: usize = 128;

/// The holds that began at one place.
struct Record {
    /// Null for a record that is not in use yet. Never changes again.
    place: AtomicPtr<Place>,
    times: AtomicU64,
    longest: AtomicU64,
}

static RECORDS: [Record; PLACES] = [const {
    Record {
        place: AtomicPtr::new(ptr::null_mut()),
        times: AtomicU64::new(0),
        longest: AtomicU64::new(0),
    }
}; PLACES];

/// A lock, with the time since when it is held.
pub struct TimedLock<L> {
    lock: L,
    since: AtomicU64,
    by: AtomicPtr<Place>,
}

impl<L: fmt::Debug> fmt::Debug for TimedLock<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lock.fmt(f)
    }
}

impl<L> TimedLock<L> {
    /// The lock was taken, by code at `place`.
    fn begin(&self, place: &'static Place) {
        self.by.store(ptr::from_ref(place).cast_mut(), Ordering::Relaxed);
        self.since.store(cpu::instructions(), Ordering::Relaxed);
    }

    /// The lock is about to be released.
    fn end(&self) {
        let held = cpu::instructions().wrapping_sub(self.since.load(Ordering::Relaxed));
        let place = self.by.load(Ordering::Relaxed);
        if let Some(record) = record_of(place) {
            record.times.fetch_add(1, Ordering::Relaxed);
            record.longest.fetch_max(held, Ordering::Relaxed);
        }
    }
}

/// The record of a place, if there is room for it.
fn record_of(place: *mut Place) -> Option<&'static Record> {
    // Locations lie close together, and each has 24 bytes.
    let first = place.addr() / size_of::<Place>();
    (first..first + PLACES).map(|index| &RECORDS[index % PLACES]).find(|record| {
        let (free, set) = (ptr::null_mut(), Ordering::Relaxed);
        match record.place.load(Ordering::Relaxed) {
            there if there == place => true,
            there if there.is_null() => {
                match record.place.compare_exchange(free, place, set, set) {
                    Ok(_) => true,
                    Err(other) => other == place,
                }
            }
            _ => false,
        }
    })
}

// SAFETY: the lock inside excludes; what is recorded does not affect that.
unsafe impl<L: RawLock> RawMutex for TimedLock<L> {
    const INIT: Self =
        Self { lock: L::INIT, since: AtomicU64::new(0), by: AtomicPtr::new(ptr::null_mut()) };

    type GuardMarker = L::GuardMarker;

    #[track_caller]
    fn lock(&self) {
        self.lock.lock();
        self.begin(Location::caller());
    }

    #[track_caller]
    fn try_lock(&self) -> bool {
        let taken = self.lock.try_lock();
        if taken {
            self.begin(Location::caller());
        }
        taken
    }

    unsafe fn unlock(&self) {
        self.end();
        // SAFETY: by the contract of this function this CPU holds the lock.
        unsafe { self.lock.unlock() };
    }
}

/// The longest hold of each place, since the machine started.
pub(crate) fn longest() -> impl Iterator<Item = Hold> {
    RECORDS.iter().filter_map(|record| {
        let place = record.place.load(Ordering::Relaxed);
        // SAFETY: it is null, or `begin` stored it: a reference to a place in the code, which lives as long as the image.
        let place: &Place = unsafe { place.as_ref() }?;
        Some(Hold {
            file: place.file(),
            line: place.line(),
            times: record.times.load(Ordering::Relaxed),
            longest: record.longest.load(Ordering::Relaxed),
        })
    })
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use crate::lock::MaskingLock;
    use hotmem::lock::lock_api::Mutex;
    use hotmem_arch::host::Machine;

    #[test]
    fn each_place_that_locks_has_its_number_of_holds_and_the_longest() {
        let (done, ended) = std::sync::mpsc::channel();
        Machine::new().power_on(move || {
            let lock = Mutex::<TimedLock<MaskingLock>, u8>::new(0);
            (0..3).for_each(|_| drop(lock.lock()));
            let first = line!() - 1;
            let held = lock.lock();
            assert!(lock.try_lock().is_none());
            let before = cpu::instructions();
            while cpu::instructions().wrapping_sub(before) < 1000 {}
            drop(held);
            let here: Vec<_> = longest().filter(|hold| hold.file == file!()).collect();
            let at = |line| here.iter().find(|hold| hold.line == line).copied();
            assert_eq!(at(first).map(|hold| hold.times), Some(3));
            assert!(at(first + 2).is_some_and(|hold| hold.times == 1 && hold.longest >= 1000));
            assert_eq!(here.len(), 2);
            done.send(()).unwrap();
        });
        ended.recv().expect("the CPU has not panicked");
    }
}
