//! Each wait of the crate serves the flushes of other CPUs, by the machine's hook.

extern crate std;

use super::within;
use crate::addr::VirtRange;
use crate::alloc::Waits;
use crate::operations::Stepped;
use crate::paging::shootdown::{Local, Shootdown};
use crate::testing::{Bench, Setup, Tiny, on_wait, range};
use crate::{Pfn, PhysRange, Placement};
use core::cell::Cell;
use core::sync::atomic::{AtomicBool, Ordering};
use std::boxed::Box;
use std::thread;

const MIB: u64 = 1 << 20;
const WINDOW: u64 = 64 * MIB;

/// Turns until a test gives up on another thread.
const TURNS: u64 = 1 << 20;

/// A CPU with interrupts off, or one that has nothing cached.
struct Masked;

impl Local for Masked {
    fn flush(&self, _: Option<&[VirtRange]>) {}

    fn interrupt(&self, _: usize) {}

    fn relax(&self) {
        thread::yield_now();
    }
}

/// CPU 0 flushes, CPU 1 waits.
struct Cpus {
    shootdown: Shootdown<2>,
    waits: AtomicBool,
    served: AtomicBool,
}

impl Cpus {
    fn new() -> &'static Self {
        let cpus: &'static Self = Box::leak(Box::new(Self {
            shootdown: Shootdown::new(),
            waits: AtomicBool::new(false),
            served: AtomicBool::new(false),
        }));
        cpus.shootdown.join(0, &Masked);
        cpus.shootdown.join(1, &Masked);
        cpus
    }

    /// The first turn of a wait of CPU 1 lasts until it has served.
    fn serve(&self) {
        if self.waits.swap(true, Ordering::SeqCst) {
            return;
        }
        let served = within(TURNS, &thread::yield_now, || self.shootdown.serve(1, &Masked));
        self.served.store(served, Ordering::SeqCst);
    }

    /// Has CPU 1 make `call`, which waits until `guard` is dropped, while CPU 0 flushes.
    fn flush_while<G>(&'static self, guard: G, call: impl FnOnce() + Send) {
        thread::scope(|scope| {
            scope.spawn(move || {
                on_wait(Box::leak(Box::new(|| self.serve())));
                call();
            });
            let waits = || self.waits.load(Ordering::SeqCst);
            let waits = within(TURNS, &thread::yield_now, waits);
            let flushed = waits.then(|| self.shootdown.request(0, &[], &Masked, TURNS));
            drop(guard);
            assert_eq!(flushed, Some(Ok(())), "the CPU that waits does not serve");
        });
        assert!(self.served.load(Ordering::SeqCst));
    }
}

fn bench() -> (Bench<Tiny>, PhysRange) {
    let bench = Bench::new(&Setup {
        ram: [(0, 4 * MIB, 0)].into(),
        block: MIB,
        window: (WINDOW, 4 * MIB),
        kernelcore: None,
    });
    let dimm = range(WINDOW, 4 * MIB);
    bench.plug(dimm);
    bench.add(dimm, Placement::PerRange);
    (bench, dimm)
}

#[test]
fn a_wait_ends_when_it_holds_or_at_its_bound() {
    let turns = Cell::new(0);
    let relax = || turns.set(turns.get() + 1);
    assert!(within(0, &relax, || true) && within(5, &relax, || turns.get() == 3));
    assert!(!within(5, &relax, || false));
    assert_eq!(turns.get(), 8);
    super::until(&relax, || turns.get() == 10);
}

#[test]
fn a_look_that_waits_for_an_operation_serves_flushes() {
    let (bench, _) = bench();
    let operation = bench.mm.allocator().operation().unwrap();
    Cpus::new().flush_while(operation, || bench.mm.verify().unwrap());
}

#[test]
fn an_operation_that_waits_for_a_look_serves_flushes() {
    let (bench, dimm) = bench();
    let look = Waits::of(bench.mm.allocator()).look();
    Cpus::new().flush_while(look, || bench.mm.remove(dimm).map(drop).unwrap());
}

#[test]
fn an_operation_that_waits_for_a_look_after_a_call_outside_serves_flushes() {
    let (bench, _) = bench();
    let allocator = bench.mm.allocator();
    let operation = allocator.operation().unwrap();
    let (calls, looks) = (AtomicBool::new(false), AtomicBool::new(false));
    let until = |flag: &AtomicBool| {
        assert!(within(TURNS, &thread::yield_now, || flag.load(Ordering::SeqCst)));
    };
    thread::scope(|scope| {
        let look = scope.spawn(|| {
            until(&calls);
            let look = Waits::of(allocator).look();
            looks.store(true, Ordering::SeqCst);
            look
        });
        Cpus::new().flush_while(look, || {
            Waits::of(allocator).call(|| {
                calls.store(true, Ordering::SeqCst);
                until(&looks);
            });
        });
    });
    drop(operation);
}

#[test]
fn a_step_of_an_offline_that_waits_for_its_turn_serves_flushes() {
    let (bench, dimm) = bench();
    bench.online(dimm);
    let offline = bench.mm.start_offline(bench.blocks(dimm)[3]).unwrap();
    let moment = bench.mm.allocator().moment().unwrap();
    Cpus::new().flush_while(moment, || {
        assert!(matches!(offline.step(u64::MAX), Ok(Stepped::Done)));
    });
}

#[test]
fn operations_that_wait_for_look_ups_and_look_ups_that_are_held_off_serve_flushes() {
    let (bench, dimm) = bench();
    let reader = bench.mm.allocator().memmap.read(Pfn::new(WINDOW / 4096));
    // It may give up before the reader leaves.
    Cpus::new().flush_while(reader, || _ = bench.mm.remove(dimm));
    let (bench, dimm) = self::bench();
    let reader = bench.mm.allocator().memmap.read(Pfn::new(WINDOW / 4096));
    Cpus::new().flush_while(reader, || _ = bench.mm.convert(dimm));
    let gate = bench.mm.allocator().memmap.hold_off_readers(bench.blocks(dimm)[0]).unwrap();
    Cpus::new().flush_while(gate, || _ = bench.mm.page_info(Pfn::new(WINDOW / 4096)));
}
