//! A hot-add must work when no memory is left: after the start, nothing on the way from an interrupt
//! to the firmware's answer may ask the heap for anything.

// UNSAFETY: counts what goes to the system's allocator, behind the trait that is unsafe.
#![expect(unsafe_code)]

use core::cell::Cell;
use core::fmt;
use std::alloc::{GlobalAlloc, Layout as Memory, System};
use std::boxed::Box;

use hotmem_aml::Limits;
use hotmem_aml_fakes::{Machine, compile, tables};

use super::board::Wire;
use super::firmware::RSDP;
use super::rig::{BLOCK, Still, WINDOW, bench, firmware, moved};
use crate::{AcpiSource, Tables};
use hotmem::testing::range;
use hotmem_hotplug::Latch;
use hotmem_hotplug::{Hotplug, Policy};

std::thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, with a count for each thread.
struct Counting;

// SAFETY: every call is passed on unchanged to the system's allocator, which keeps the promises.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Memory) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Memory) {
        // SAFETY: the caller's promises are passed on; `alloc` got it from the same allocator.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// In the first round the fake machine takes the memory that it needs.
const ROUNDS: usize = 2;

/// A console that only counts.
#[derive(Default)]
struct Count(usize);

impl fmt::Write for Count {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 += text.len();
        Ok(())
    }
}

/// Plugs and ejects every slot of a machine in rounds. Returns how often the heap was asked in the last one.
fn allocations(wire: &Wire, dsdt: &[u8], event: u8, slots: usize) -> u64 {
    let memory = firmware(dsdt, false);
    let tables = Tables::new(&memory, RSDP).unwrap();
    let latch: &'static Latch = Box::leak(Box::new(Latch::new()));
    let mut source = AcpiSource::new(&tables, wire.clone(), latch, Limits::DEFAULT).unwrap();
    source.arm().unwrap();
    let bench = bench();
    bench.plug(range(WINDOW, slots as u64 * BLOCK));
    let mut hotplug = Hotplug::new(source, &bench.mm, Still, Policy::default()).unwrap();
    // The model keeps a record of what happens to it; the record is none of the kernel's.
    wire.0.borrow_mut().reserve(1 << 22);

    let mut out = Count::default();
    let mut run = || {
        wire.0.borrow_mut().gpe_status |= 1 << event;
        while wire.interrupt(latch, 1) || hotplug.has_work() {
            while hotplug.run_one(&mut out) {}
        }
    };
    run();
    let mut asked = 0;
    for _ in 0..ROUNDS {
        let before = ALLOCATIONS.get();
        for slot in 0..slots {
            let at = WINDOW + slot as u64 * BLOCK;
            wire.0.borrow_mut().controller.plug(slot, at, BLOCK, 1);
        }
        run();
        for slot in 0..slots {
            wire.0.borrow_mut().controller.request_eject(slot);
        }
        run();
        asked = ALLOCATIONS.get() - before;
    }

    let board = wire.0.borrow();
    assert_eq!(board.controller.ejected.len(), ROUNDS * slots);
    assert_eq!(
        board.controller.reports.iter().filter(|report| report.status == 0).count(),
        ROUNDS * 2 * slots
    );
    assert!(out.0 > slots * 100);
    asked
}

#[test]
fn the_count_counts() {
    let before = ALLOCATIONS.get();
    drop(Box::new(7u64));
    assert!(ALLOCATIONS.get() > before);
}

#[test]
fn no_heap_is_used_between_the_interrupt_and_the_answer() {
    let wire = Wire::new(moved(), 4);
    assert_eq!(allocations(&wire, &compile("moved").unwrap(), 0x1B, 4), 0);
}

#[test]
fn no_heap_is_used_on_qemus_largest_machine() {
    use hotmem_aml::Space;
    use hotmem_aml_fakes::Layout;
    let found = tables(Machine::Q35, 256, &[]).unwrap();
    let wire = Wire::new(Layout::qemu(Space::SystemIo, 0xA00), 256);
    assert_eq!(allocations(&wire, &found.dsdt, 3, 48), 0);
}
