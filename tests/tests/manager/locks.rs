//! The kernel provides the lock; the manager holds it for short times, and never while it calls other code.

use hotmem::paging::addr::VirtRange;
use hotmem::paging::shootdown::{Local, Shootdown};
use hotmem::testing::on_wait;
use hotmem::testing::{Bench, Holder, Setup, Tiny, locks_held, range};
use hotmem::{
    BlockId, Change, Event, Listen, Listener, News, NodeId, Order, Pfn, Placement, Removability,
    Request, TakeList, ZoneKind,
};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::thread;

const MIB: u64 = 1 << 20;

/// A listener that counts its notifications.
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
    // The kernel's metadata of unmovable pages is accessed without a lock, that of movable pages with one.
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

/// A flush that waits for other CPUs records this.
struct Flushes {
    count: AtomicUsize,
    /// The most locks that were held.
    locks: AtomicUsize,
    /// The block whose descriptors the next flush of a conversion moves; 0 if none runs.
    moving: AtomicU64,
}

static FLUSHES: Flushes =
    Flushes { count: AtomicUsize::new(0), locks: AtomicUsize::new(0), moving: AtomicU64::new(0) };

impl Flushes {
    /// Flushes since the last call, and the highest number of locks held in one.
    fn take(&self) -> (usize, usize) {
        (self.count.swap(0, Ordering::Relaxed), self.locks.swap(0, Ordering::Relaxed))
    }
}

/// A CPU that a flush waits for may be in the allocator or in a look-up with interrupts off, so the locks that these
/// need must be free then: here the flush itself calls them, and would wait for ever. A conversion holds off look-ups and
/// frees in one block; all others continue, and so do allocations.
#[test]
fn a_cpu_that_a_flush_waits_for_gets_through_the_allocator_and_through_look_ups() {
    let bench: &'static Bench<Tiny> = Box::leak(Box::new(Bench::new(&Setup {
        ram: [(0, 16 * MIB, 0)].into(),
        block: MIB,
        window: (64 * MIB, 8 * MIB),
        kernelcore: Some(8 * MIB),
    })));
    let (mm, dimm) = (&bench.mm, range(64 * MIB, 4 * MIB));
    bench.plug(dimm);
    mm.machine().mmu().on_flush(move || {
        FLUSHES.count.fetch_add(1, Ordering::Relaxed);
        FLUSHES.locks.fetch_max(locks_held(), Ordering::Relaxed);
        let pfn = mm.take_pages(Order::ZERO).unwrap();
        assert!(mm.page_info(pfn).is_some() && mm.block(BlockId::new(9)).is_some());
        let moving = FLUSHES.moving.load(Ordering::Relaxed);
        assert_eq!(mm.try_dump(&mut |_| ()).is_err(), moving > 0, "look-ups are held off");
        if moving > 0 {
            let others = (64..68).map(BlockId::new).filter(|id| id.get() != moving);
            assert!(others.into_iter().all(|id| mm.block(id).is_some()));
            FLUSHES.moving.store(moving - 1, Ordering::Relaxed);
        }
        mm.free_pages(pfn).unwrap();
    });
    for placement in Placement::ALL {
        bench.add(dimm, placement);
        bench.online(dimm);
        bench.offline(dimm);
        bench.remove(dimm);
        assert!(matches!(FLUSHES.take(), (1.., 0)), "a removal");
    }
    bench.unplug(dimm);
    mm.machine().plug_hollow(dimm);
    for placement in [Placement::PerBlock, Placement::PerRange] {
        assert!(mm.hot_add(dimm, NodeId::ZERO, placement).is_err(), "{placement}");
        assert!(matches!(FLUSHES.take(), (1.., 0)), "the undo of an add");
    }
    bench.unplug(dimm);
    bench.plug(dimm);
    mm.take_contig(NodeId::ZERO, 2 * MIB).unwrap();
    mm.offline(BlockId::new(15)).unwrap();
    mm.take(TakeList::parse("0:15").unwrap().pieces()).unwrap();
    assert!(matches!(FLUSHES.take(), (3.., 0)), "memory is taken");
    assert_eq!(mm.release(), Ok(3));

    // A conversion holds look-ups in one block off, the last one first, with a lock of its own that keeps handlers out.
    bench.add(dimm, Placement::PerRange);
    bench.online(dimm);
    FLUSHES.moving.store(67, Ordering::Relaxed);
    mm.convert(dimm).unwrap();
    assert_eq!((FLUSHES.take(), FLUSHES.moving.swap(0, Ordering::Relaxed)), ((3, 1), 64));
    let own = mm.take_pages(Order::ZERO).unwrap();
    assert!(mm.page_info(Pfn::new(own.get())).is_some());
    bench.check();
}

/// The CPUs of the conversion below: CPU 0 converts, CPU 1 has interrupts off in a call of the manager.
static CPUS: Shootdown<2> = Shootdown::new();
/// Whether CPU 1 should begin its call, and has begun.
static GO: AtomicBool = AtomicBool::new(false);
static BEGUN: AtomicBool = AtomicBool::new(false);
static OVER: AtomicBool = AtomicBool::new(false);
static ACKNOWLEDGED: AtomicUsize = AtomicUsize::new(0);
static UNACKNOWLEDGED: AtomicUsize = AtomicUsize::new(0);

/// A CPU with interrupts disabled.
struct Masked;

impl Local for Masked {
    fn flush(&self, _: Option<&[VirtRange]>) {}

    fn interrupt(&self, _: usize) {}

    fn relax(&self) {
        thread::yield_now();
    }
}

fn serve() {
    CPUS.serve(1, &Masked);
}

/// Converts while CPU 1 is in `call` with interrupts off from the first flush on: it acknowledges in its wait, or
/// never.
fn converts_while(bench: &'static Bench<Tiny>, call: &(dyn Fn() + Sync)) {
    let dimm = range(64 * MIB, 4 * MIB);
    bench.plug(dimm);
    bench.add(dimm, Placement::PerRange);
    bench.online(dimm);
    [&OVER, &GO, &BEGUN].iter().for_each(|flag| flag.store(false, Ordering::SeqCst));
    CPUS.join(0, &Masked);
    CPUS.join(1, &Masked);
    thread::scope(|scope| {
        scope.spawn(|| {
            on_wait(&serve);
            while !OVER.load(Ordering::SeqCst) {
                serve();
                if GO.load(Ordering::SeqCst) && !BEGUN.swap(true, Ordering::SeqCst) {
                    call();
                }
                thread::yield_now();
            }
            CPUS.leave(1);
        });
        let converted = bench.mm.convert(dimm);
        OVER.store(true, Ordering::SeqCst);
        assert_eq!(converted, Ok(4));
    });
    bench.offline(dimm);
    bench.blocks(dimm).into_iter().for_each(|id| _ = bench.remove(range(id.get() * MIB, MIB)));
    bench.unplug(dimm);
}

#[test]
fn a_cpu_in_the_allocator_or_a_look_up_with_interrupts_off_acknowledges_the_flushes_of_a_conversion()
 {
    let bench: &'static Bench<Tiny> = Box::leak(Box::new(Bench::new(&Setup {
        ram: [(0, 16 * MIB, 0)].into(),
        block: MIB,
        window: (64 * MIB, 4 * MIB),
        kernelcore: None,
    })));
    bench.mm.machine().mmu().on_flush(|| {
        if OVER.load(Ordering::SeqCst) {
            return;
        }
        GO.store(true, Ordering::SeqCst);
        while !BEGUN.load(Ordering::SeqCst) {
            thread::yield_now();
        }
        let result = CPUS.request(0, &[], &Masked, 1 << 16);
        let count = if result.is_ok() { &ACKNOWLEDGED } else { &UNACKNOWLEDGED };
        count.fetch_add(1, Ordering::SeqCst);
    });
    // Of the block that the first flush is for.
    let look = || _ = bench.mm.page_info(Pfn::new(67 * MIB / 4096));
    let alloc = || {
        let pfn = bench.alloc_movable_zone(Order::ZERO).unwrap();
        bench.mm.free_pages(pfn).unwrap();
    };
    let page = bench.mm.take_pages(Order::ZERO).unwrap();
    let free = || bench.mm.free_pages(page).unwrap();
    let list = || _ = bench.mm.block(BlockId::new(67));
    let calls: [&(dyn Fn() + Sync); 4] = [&look, &alloc, &free, &list];
    for (number, call) in calls.into_iter().enumerate() {
        converts_while(bench, call);
        let counts = [&ACKNOWLEDGED, &UNACKNOWLEDGED].map(|count| count.load(Ordering::SeqCst));
        assert_eq!(counts, [3 * (number + 1), 0]);
    }
    bench.check();
}
