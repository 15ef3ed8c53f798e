//! The suites of threads once more, on the flat machine: only the manager orders their accesses to memory, so ThreadSanitizer
//! sees what it forgets (`cargo xtask ci races`).

#![expect(clippy::duplicate_mod, reason = "the same tests, on another machine")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use hotmem::testing::{Flat as Tiny, range};
use hotmem::{NodeId, Placement, VirtAddr};
use hotmem_tests::memory::{MIB, TINY_WINDOW, small};

#[path = "offline_threads.rs"]
mod offline_threads;
#[path = "storm_threads.rs"]
mod storm_threads;
#[path = "threads.rs"]
mod threads;

/// The word by which a CPU hears of the memory orders nothing: so the CPU may miss that it is mapped.
#[test]
#[ignore = "a use of memory that nothing orders after its mapping, on purpose: for `cargo xtask ci races`"]
fn planted_use_of_memory_that_is_not_published() {
    let bench = small::<Tiny>(MIB);
    let dimm = range(TINY_WINDOW, MIB);
    bench.plug(dimm);
    let published = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !published.load(Ordering::Relaxed) {
                thread::yield_now();
            }
            bench.mm.machine().mmu().load(VirtAddr::new(dimm.start().get()));
        });
        let added = bench.mm.hot_add(dimm, NodeId::ZERO, Placement::PerBlock);
        published.store(true, Ordering::Relaxed);
        assert!(added.is_ok(), "{added:?}");
    });
}
