//! A hot-add must work when no memory is left: after the start, nothing between an interrupt and the reply
//! to firmware may allocate from the heap.

// UNSAFETY: counts what goes to the system's allocator, behind the trait that is unsafe.
#![expect(unsafe_code)]

use core::cell::Cell;
use core::fmt;
use core::ops::Range;
use std::alloc::{GlobalAlloc, Layout as Memory, System};
use std::boxed::Box;
use std::format;
use std::string::String;
use std::vec;
use std::vec::Vec;

use hotmem::{PhysAddr, PhysRange};
use hotmem_aml::Limits;
use hotmem_aml_fakes::{Machine, compile, compile_with, tables};

use super::board::Wire;
use super::firmware::{Memory as Pieces, RSDP, affinity, fix, put, table};
use super::nvdimm::writer;
use super::rig::{BLOCK, Still, WINDOW, bench, firmware, firmware_beside, moved, reduced};
use super::tables::machine;
use crate::{AcpiSource, BridgeError, Srat, Tables};
use hotmem::testing::range;
use hotmem_hotplug::Latch;
use hotmem_hotplug::{Hotplug, HotplugSource, MAX_RANGES, Policy};

std::thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    /// Bytes that the thread may still take.
    static ROOM: Cell<usize> = const { Cell::new(AMPLE) };
}

/// More than a test takes.
const AMPLE: usize = usize::MAX / 2;

/// The system's allocator, with a count and a bound for each thread.
struct Counting;

// SAFETY: every call is passed on unchanged to the system's allocator, which keeps the promises, or is refused.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Memory) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        let Some(room) = ROOM.get().checked_sub(layout.size()) else {
            return core::ptr::null_mut();
        };
        ROOM.set(room);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Memory) {
        ROOM.set(ROOM.get().wrapping_add(layout.size()));
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
    // The model records what happens to it; that memory is not the kernel's.
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

/// A manager that boots with the window may be the heap itself.
#[test]
fn where_memory_may_be_plugged_is_known_without_a_heap() {
    let memory = machine(2);
    ROOM.set(0);
    let window = Tables::new(&memory, RSDP).map(|tables| Srat::window(&tables));
    ROOM.set(AMPLE);
    assert_eq!(window.unwrap().as_slice(), [range(1 << 32, 8 << 30)]);

    let near = (0..20).map(|n| affinity(0, n << 40, 1 << 30, 3)).collect::<Vec<_>>();
    let many = super::firmware::memory(2, &[super::firmware::srat(2, &near)]);
    let tables = Tables::new(&many, RSDP).unwrap();
    let kept = Srat::window(&tables);
    assert_eq!(kept.as_slice().len(), MAX_RANGES);
    assert_eq!(kept.as_slice()[1], range(1 << 40, 1 << 30));
}

/// Of a machine with bridges to PCI.
fn with_bridges() -> AcpiSource<Wire> {
    let memory = firmware(&compile_with("bridges", &[]).unwrap(), true);
    let tables = Tables::new(&memory, RSDP).unwrap();
    let latch: &'static Latch = Box::leak(Box::new(Latch::new()));
    AcpiSource::new(&tables, Wire::new(reduced(), 1), latch, Limits::DEFAULT).unwrap()
}

#[test]
fn addresses_of_pci_that_the_heap_has_no_room_for_are_an_error_and_none_is_returned_without_the_others()
 {
    let mut source = with_bridges();
    let windows = source.pci_windows().unwrap();
    let mainboard = source.mainboard().unwrap();
    assert!(windows.len() > 1 && mainboard.len() > 1);
    let mut failures = [0; 2];
    for room in (0..=8).map(|ranges| ranges * size_of::<PhysRange>()) {
        ROOM.set(room);
        let found = [source.pci_windows(), source.mainboard()];
        ROOM.set(AMPLE);
        for ((found, all), failures) in
            found.into_iter().zip([&windows, &mainboard]).zip(&mut failures)
        {
            match found {
                Ok(found) => assert_eq!(found, *all),
                Err(error) => {
                    assert_eq!(error, BridgeError::NoRoom);
                    *failures += 1;
                }
            }
        }
    }
    assert!(failures.into_iter().all(|count| (1..9).contains(&count)), "{failures:?}");
}

#[test]
fn persistent_memory_is_found_whole_or_not_at_all_however_little_heap_there_is() {
    let body = [[0; 4].to_vec(), writer::range(1, WINDOW, BLOCK), writer::part(1, 1, BLOCK)];
    let nfit = super::firmware::table(b"NFIT", 1, &body.concat());
    let memory = firmware_beside(&compile("moved").unwrap(), false, &[], &[nfit]);
    let tables = Tables::new(&memory, RSDP).unwrap();
    let latch: &'static Latch = Box::leak(Box::new(Latch::new()));
    let (mut failures, mut room) = (0, 0);
    loop {
        let wire = Wire::new(moved(), 4);
        let mut source = AcpiSource::new(&tables, wire, latch, Limits::DEFAULT).unwrap();
        ROOM.set(room);
        let found = source.find_pmem(&tables, &[range(0, BLOCK)], PhysAddr::new(1 << 40));
        let kept = found.and_then(|()| source.keep_out([range(2 * WINDOW, BLOCK)].into_iter()));
        ROOM.set(AMPLE);
        if kept.is_ok() {
            assert_eq!(source.persistent_count(), 1);
            break;
        }
        assert_eq!(source.persistent_count(), usize::from(found.is_ok()));
        (failures, room) = (failures + 1, room + 16);
    }
    assert!(failures > 4, "{failures}");
}

#[test]
fn no_heap_is_used_between_the_interrupt_and_the_reply() {
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

/// An SSDT with these names, each of a package that takes its 255 places many times over.
fn packages(names: Range<u16>, more: &[u8]) -> Vec<u8> {
    let zeros = [&[0x12, 0x42, 0x10, 255][..], &[0; 255]].concat();
    let name = |n: u16| [format!("\u{8}L{n:03}").as_bytes(), &zeros].concat();
    table(b"SSDT", 2, &[&names.flat_map(name).collect::<Vec<_>>(), more].concat())
}

/// A machine with SSDTs beside its DSDT.
fn with_ssdts(ssdts: Vec<Vec<u8>>) -> Pieces {
    let mut memory = firmware(&compile("moved").unwrap(), false);
    let (_, xsdt) = memory.pieces.iter_mut().find(|(_, it)| it.starts_with(b"XSDT")).unwrap();
    let placed: Vec<_> = (1u64..).map(|n| n << 40).zip(ssdts).collect();
    placed.iter().for_each(|(at, _)| xsdt.extend(at.to_le_bytes()));
    let length = xsdt.len() as u64;
    put(xsdt, 4, 4, length);
    fix(xsdt, 9);
    memory.pieces.extend(placed);
    memory
}

/// Starts with so much heap. Returns which of three names there are, the number of memory devices, and how many
/// tables the monitor says were left out for want of heap.
fn start(memory: &Pieces, heap: usize) -> ([bool; 3], usize, usize) {
    let tables = Tables::new(memory, RSDP).unwrap();
    let latch: &'static Latch = Box::leak(Box::new(Latch::new()));
    let wire = Wire::new(moved(), 4);
    ROOM.set(heap);
    let source = AcpiSource::new(&tables, wire, latch, Limits::DEFAULT);
    ROOM.set(AMPLE);
    let source = source.unwrap();
    let mut text = String::new();
    source.write_firmware(false, &mut text).unwrap();
    let reported = text.matches("left out: the kernel heap has no room for SSDT at ").count();
    let found = ["L000", "SMLL", "L699"].map(|name| source.aml().find(name).is_some());
    (found, source.device_count(), reported)
}

#[test]
fn tables_that_the_heap_has_no_room_for_are_left_out_the_largest_first() {
    let small = table(b"SSDT", 2, b"\x08SMLL\x01");
    let memory = with_ssdts(vec![packages(0..300, b""), small, packages(300..700, b"")]);
    assert_eq!(start(&memory, AMPLE), ([true, true, true], 4, 0));
    assert_eq!(start(&memory, 6 << 20), ([true, true, false], 4, 1));
    assert_eq!(start(&memory, 2 << 20), ([false, true, false], 4, 2));
}

#[test]
fn a_table_that_describes_memory_is_left_out_last_however_large() {
    // Device (MEMX) { Name (_HID, EisaId ("PNP0C80")) }
    let device = b"\x5B\x82\x0FMEMX\x08_HID\x0C\x41\xD0\x0C\x80";
    let small = table(b"SSDT", 2, b"\x08SMLL\x01");
    let memory = with_ssdts(vec![packages(0..300, b""), small, packages(300..700, device)]);
    assert_eq!(start(&memory, AMPLE), ([true, true, true], 5, 0));
    assert_eq!(start(&memory, 6 << 20), ([false, true, true], 5, 1));
    assert_eq!(start(&memory, 2 << 20), ([false, false, false], 4, 3));
}

#[test]
fn a_dsdt_that_leaves_less_than_the_rest_of_the_kernel_was_to_have_is_loaded_all_the_same() {
    let memory = with_ssdts(vec![table(b"SSDT", 2, b"\x08SMLL\x01")]);
    assert_eq!(start(&memory, 768 << 10), ([false, false, false], 4, 1));
}
