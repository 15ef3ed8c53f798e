//! The kernel chooses the lock; the manager holds it for short, and never while others' code runs.

use hotmem::testing::{Bench, Holder, Setup, Tiny, locks_held, range};
use hotmem::{
    Change, Event, Listen, Listener, News, Order, Placement, Removability, Request, ZoneKind,
};
use std::sync::atomic::{AtomicU32, Ordering};

const MIB: u64 = 1 << 20;

/// A listener that counts what it hears.
struct Ear(AtomicU32);

static EAR: Ear = Ear(AtomicU32::new(0));
static LISTENER: Listener = Listener::new("ear", 0, &EAR);

impl Ear {
    fn hears(&self) {
        assert_eq!(locks_held(), 0);
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Listen for Ear {
    fn notify(&self, _: Event, _: &Change) -> Result<(), &'static str> {
        self.hears();
        Ok(())
    }

    fn heard(&self, _: &News) {
        self.hears();
    }
}

#[test]
fn no_lock_is_held_while_a_listener_an_owner_or_a_sink_is_called() {
    let bench: Bench<Tiny> = Bench::new(&Setup {
        ram: [(0, 4 * MIB, 0)].into(),
        block: MIB,
        window: (64 * MIB, 4 * MIB),
        kernelcore: None,
    });
    let holder = Holder::register(&bench);
    bench.mm.listen(&LISTENER).unwrap();
    let dimm = range(64 * MIB, 4 * MIB);
    bench.plug(dimm);
    bench.add(dimm, Placement::PerRange);
    for id in bench.blocks(dimm) {
        bench.mm.online(id, ZoneKind::Movable).unwrap();
    }
    while holder.take_in_zone(&bench, Order::ZERO).is_some() && holder.handles().len() < 600 {}
    bench.mm.convert(dimm).unwrap();
    let pages = bench.mm.alloc(Request::from(Order::ZERO).with_meta_of_each()).unwrap();
    // The kernel's own data of pages that stay are shown without a lock, those of pages that move with one.
    assert_eq!(pages.with_meta(0, |_| locks_held()), Ok(0));
    let (pfn, _) = holder.at(holder.handles()[0]).unwrap();
    assert_eq!(bench.mm.with_meta(pfn, 0, holder.mover(), |_| locks_held()), Ok(1));
    for id in bench.blocks(dimm) {
        assert!(!matches!(bench.mm.explain_offline(id), Removability::Blocked(_)));
    }
    bench.mm.snapshot(&mut |_| assert_eq!(locks_held(), 0));
    let half = bench.blocks(dimm);
    bench.mm.offline(half[3]).unwrap();
    bench.remove(range(67 * MIB, MIB));
    assert!(holder.moves().0 > 0);
    assert!(EAR.0.load(Ordering::Relaxed) >= 10);
    drop(pages);
    bench.check();
}
