//! Who is notified of operations, and how a task waits for events.

use core::pin::pin;
use core::sync::atomic::{AtomicUsize, Ordering};
use core::task::{Context, Poll, Waker};
use std::sync::Arc;
use std::task::Wake;

use super::*;
use crate::{Each, Latch, Operation, Quiet, Step};

/// Counts how often it was woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_function_is_called_with_each_operation_and_a_quiet_driver_calls_nothing() {
    let mut this = Fixture::new();
    let mut steps = Vec::new();
    this.script.insert(0, &this.pieces);
    let mut note = Each(|step: &Step<'_>| {
        steps.push(match step.operation {
            Operation::Add { .. } => ("add", step.range),
            Operation::Online => ("online", step.range),
            _ => ("other", None),
        });
    });
    while this.driver.run_one(&mut note) {}
    let [first, second] = this.pieces.map(Some);
    // The order of ranges is kept.
    steps.sort_by_key(|&(name, _)| name);
    assert_eq!(steps, [("add", first), ("add", second), ("online", first), ("online", second)]);
    this.script.eject(0);
    while this.driver.run_one(&mut Quiet) {}
    assert!(this.driver.plugged().is_empty());
    this.bench.check();
}

#[test]
fn a_task_that_waits_for_events_is_woken_by_an_interrupt_and_handles_what_there_is() {
    static LATCH: Latch = Latch::new();
    let mut this = Fixture::new();
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(woken.clone());
    let mut context = Context::from_waker(&waker);
    let count = || woken.0.load(Ordering::Relaxed);
    {
        let mut quiet = Quiet;
        let mut next = pin!(this.driver.run_next(&LATCH, &mut quiet));
        assert_eq!(next.as_mut().poll(&mut context), Poll::Pending);
        assert_eq!(count(), 0);
        this.script.insert(0, &this.pieces);
        LATCH.raise(0, 0);
        assert_eq!(count(), 1);
        // An interrupt that nothing waits for wakes nothing.
        LATCH.raise(0, 0);
        assert_eq!(count(), 1);
        assert_eq!(next.as_mut().poll(&mut context), Poll::Ready(()));
    }
    assert_eq!(this.states(), [ONLINE; 5]);
    // A future that was dropped while it waited loses no event.
    let dropped = pin!(this.driver.run_next(&LATCH, &mut Quiet)).as_mut().poll(&mut context);
    assert!(dropped.is_pending());
    this.script.eject(0);
    LATCH.raise(0, 0);
    assert_eq!(count(), 2);
    while pin!(this.driver.run_next(&LATCH, &mut Quiet)).as_mut().poll(&mut context).is_ready() {}
    assert!(this.driver.plugged().is_empty());
    this.bench.check();
}
