//! The manager with locks that are granted in the order of requests.

mod storm;

use hotmem::lock::{Relax, TicketLock};

#[derive(Debug)]
struct Yield;

impl Relax for Yield {
    fn relax() {
        std::thread::yield_now();
    }
}

#[test]
fn threads_use_memory_that_comes_and_goes_with_ticket_locks() {
    storm::storm::<TicketLock<Yield>>();
}
