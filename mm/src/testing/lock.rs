//! A lock like a kernel's own: it knows those of its kind that the thread holds, as one that masks interrupts would, and
//! counts the accesses of the thread under each.
//!
//! The fake machine checks by it which of them are held at a flush ([`check_flush`]) and in a wait ([`wait_for_cpus`]).

// UNSAFETY: vouches for the exclusion, which the spin lock inside provides.
#![expect(unsafe_code)]

use super::std::cell::{Cell, RefCell};
use super::std::thread_local;
use super::std::vec::Vec;
use crate::addr::VirtRange;
use crate::lock::SpinLock;
use crate::lock::lock_api::{GuardNoSend, RawMutex};
use core::panic::Location;
use core::sync::atomic::{AtomicBool, Ordering};

/// How long a lock was held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// The code that locked it.
    pub at: &'static Location<'static>,
    /// Descriptors, nodes and frames that the thread accessed meanwhile.
    pub accesses: u64,
}

/// A lock that this thread holds.
#[derive(Clone, Copy)]
struct Taken {
    lock: *const WatchedLock,
    /// Whether only the operation under way takes it.
    is_operations: bool,
    at: &'static Location<'static>,
    /// The value of [`ACCESSES`] when it was taken.
    since: u64,
}

/// Places of the manager's code that lock, at most.
const PLACES: usize = 128;

thread_local! {
    /// The locks that this thread holds, in the order of locking.
    static HELD: RefCell<Vec<Taken>> = const { RefCell::new(Vec::new()) };
    /// Accesses by this thread.
    static ACCESSES: Cell<u64> = const { Cell::new(0) };
    /// For each place that locks, the longest hold by this thread. An array: tests count the use of the heap.
    static HOLDS: RefCell<[Option<Hold>; PLACES]> = const { RefCell::new([None; PLACES]) };
    static WAITS: Cell<Option<&'static dyn Fn()>> = const { Cell::new(None) };
}

/// Has this thread call `turn` whenever it waits in the manager, as a CPU with interrupts off that serves flush
/// requests during the wait.
pub fn on_wait(turn: &'static dyn Fn()) {
    WAITS.set(Some(turn));
}

/// One iteration of a wait for a lock.
fn wait() {
    WAITS.get().into_iter().for_each(|turn| turn());
    crate::lock::relax();
}

/// The number of the manager's locks that this thread holds.
pub fn locks_held() -> usize {
    HELD.with_borrow(Vec::len)
}

/// The longest hold by this thread since the last call, for each place that locked.
pub fn take_holds() -> Vec<Hold> {
    HOLDS.replace([None; PLACES]).into_iter().flatten().collect()
}

/// Counts an access to a descriptor or a frame.
pub(super) fn note_access() {
    ACCESSES.set(ACCESSES.get() + 1);
}

/// One iteration of a wait for look-ups, looks or operations of other CPUs, which may need any of the manager's locks
/// before they end.
///
/// # Panics
///
/// If this thread holds such a lock: it and the other CPU would wait for each other.
pub(super) fn wait_for_cpus() {
    assert_others_take_all_locks("a wait");
    wait();
}

/// Fails unless this thread may flush `ranges`: it holds no lock that other CPUs wait for, since such a wait may serve no
/// flushes; and while it holds look-ups off, `ranges` are descriptors, which `is_memmap` decides.
pub(super) fn check_flush(
    mut ranges: &mut dyn Iterator<Item = VirtRange>,
    is_memmap: impl Fn(VirtRange) -> bool,
) {
    assert_others_take_all_locks("a flush");
    let holds_look_ups_off = locks_held() > 0;
    let memmap = Iterator::all(&mut ranges, is_memmap) || super::std::thread::panicking();
    let what = "a flush of other memory";
    assert!(memmap || !holds_look_ups_off, "{what} with look-ups held off");
}

/// Fails if this thread holds a lock that another CPU may wait for.
fn assert_others_take_all_locks(what: &str) {
    let held = HELD.with_borrow(|held| held.iter().any(|taken| !taken.is_operations));
    // A gather that is dropped by a panic flushes: a second failure would abort the program.
    assert!(!held || super::std::thread::panicking(), "{what} with a lock held");
}

/// A spin lock that counts, and must be released in the reverse order: one that masks interrupts restores the
/// previous state. A thread that waits for itself fails.
#[derive(Debug)]
pub struct WatchedLock {
    lock: SpinLock,
    /// Whether only the operation under way takes it.
    is_operations: AtomicBool,
}

impl WatchedLock {
    /// Only the operation under way takes this lock, to keep handlers out while it holds look-ups off: it may flush and
    /// wait with it.
    pub(super) fn only_for_operations(&self) {
        self.is_operations.store(true, Ordering::Relaxed);
    }

    fn note(&self, at: &'static Location<'static>) {
        let is_operations = self.is_operations.load(Ordering::Relaxed);
        let taken = Taken { lock: self, is_operations, at, since: ACCESSES.get() };
        HELD.with_borrow_mut(|held| held.push(taken));
    }
}

impl Taken {
    /// Notes how long it was held, if that is the longest time at its place.
    fn end(self) {
        let hold = Hold { at: self.at, accesses: ACCESSES.get() - self.since };
        let is_place = |slot: &&mut Option<Hold>| slot.is_none_or(|other| other.at == hold.at);
        HOLDS.with_borrow_mut(|holds| {
            let slot = holds.iter_mut().find(is_place);
            assert!(slot.is_some(), "the array has room for each place");
            if let Some(longest) = slot {
                let longest = longest.get_or_insert(hold);
                longest.accesses = longest.accesses.max(hold.accesses);
            }
        });
    }
}

// SAFETY: the lock inside excludes; counting does not affect that.
unsafe impl RawMutex for WatchedLock {
    const INIT: Self =
        Self { lock: <SpinLock as RawMutex>::INIT, is_operations: AtomicBool::new(false) };

    type GuardMarker = GuardNoSend;

    #[track_caller]
    fn lock(&self) {
        let is_own = |taken: &Taken| core::ptr::eq(taken.lock, self);
        let again = HELD.with_borrow(|held| held.iter().any(is_own));
        assert!(!again || super::std::thread::panicking(), "this thread has the lock, and waits");
        while !RawMutex::try_lock(&self.lock) {
            wait();
        }
        self.note(Location::caller());
    }

    #[track_caller]
    fn try_lock(&self) -> bool {
        let locked = RawMutex::try_lock(&self.lock);
        if locked {
            self.note(Location::caller());
        }
        locked
    }

    unsafe fn unlock(&self) {
        let last = HELD.with_borrow_mut(Vec::pop);
        let own = |last: &Taken| core::ptr::eq(last.lock, self);
        let is_last = last.as_ref().is_some_and(own);
        assert!(is_last || super::std::thread::panicking(), "not the last lock taken");
        last.into_iter().for_each(Taken::end);
        // SAFETY: by the contract of this function this thread holds the lock.
        unsafe { RawMutex::unlock(&self.lock) };
    }
}
