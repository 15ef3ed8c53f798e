//! CPUs that change a count, and its marks, beside one another: the gauge ends where the count is.

use crate::alloc::gauge::Gauge;
use crate::explore;
use crate::sync::{AtomicU64, AtomicUsize, Ordering};
use loom::sync::Arc;
use loom::thread;

/// A count, its gauge, and the crossings.
struct Rig {
    count: AtomicU64,
    gauge: Gauge,
    crossings: AtomicUsize,
}

impl Rig {
    /// A count of 10, with marks that it lies between.
    fn new() -> Arc<Self> {
        let gauge = Gauge::new();
        gauge.set(10, 10);
        Arc::new(Self { count: AtomicU64::new(10), gauge, crossings: AtomicUsize::new(0) })
    }

    fn follow(&self) {
        let count = || self.count.load(Ordering::Relaxed);
        self.gauge.follow(count, || _ = self.crossings.fetch_add(1, Ordering::Relaxed));
    }

    /// Changes the count by `more` (wrapping).
    fn change(&self, more: u64) {
        self.count.fetch_add(more, Ordering::Relaxed);
        self.follow();
    }

    /// The gauge is where it was, or on the other side: as often as it crossed.
    fn check(&self, low: bool) {
        assert_eq!(self.gauge.is_low(), low);
        assert_eq!(self.crossings.load(Ordering::Relaxed) % 2 == 1, low);
    }
}

fn run(threads: impl IntoIterator<Item = fn(&Rig)>, low: bool) {
    let rig = Rig::new();
    let spawn = |change: fn(&Rig)| {
        let rig = Arc::clone(&rig);
        thread::spawn(move || change(&rig))
    };
    let threads: Vec<_> = threads.into_iter().map(spawn).collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    rig.check(low);
}

#[test]
fn a_gauge_is_low_after_the_last_change_if_the_count_is() {
    // One takes more than the other gives.
    explore(None, || {
        run([|rig: &Rig| rig.change(4), |rig: &Rig| rig.change(8_u64.wrapping_neg())], true)
    });
}

#[test]
fn a_gauge_is_not_low_after_the_last_change_if_the_count_is_not() {
    explore(None, || {
        run([|rig: &Rig| rig.change(8), |rig: &Rig| rig.change(4_u64.wrapping_neg())], false)
    });
}

#[test]
fn three_cpus_leave_the_gauge_where_the_count_is() {
    let three: [fn(&Rig); 3] = [
        |rig| rig.change(4_u64.wrapping_neg()),
        |rig| rig.change(8),
        |rig| rig.change(8_u64.wrapping_neg()),
    ];
    explore(Some(2), move || run(three, true));
}

#[test]
fn other_marks_count_for_a_change_beside_them() {
    explore(None, || {
        run(
            [
                |rig: &Rig| rig.change(2_u64.wrapping_neg()),
                |rig: &Rig| {
                    rig.gauge.set(2, 4);
                    rig.follow();
                },
            ],
            false,
        )
    });
}
