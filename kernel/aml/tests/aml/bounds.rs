//! What the evaluator takes: no heap once it is loaded, little stack however deep tables nest,
//! and pools that are as large as its documentation says.
#![expect(clippy::panic, reason = "a suite fails by a panic")]
#![expect(clippy::expect_used, reason = "a test that cannot be set up has failed")]
// UNSAFETY: an allocator that counts has to implement `GlobalAlloc`, which is unsafe to do.
#![expect(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout as Memory, System};
use std::cell::Cell;

use hotmem_aml::{Aml, Arg, ErrorKind, Host, HostError, Io, Limits, NodeId, Space, Width};
use hotmem_aml_fakes::{self as fakes, Controller, Layout, Machine};

/// The system's allocator, which counts for each thread and refuses where the test chose.
struct Counting;

thread_local! {
    /// Bytes this thread took less those it gave back, be they another's.
    static HELD: Cell<isize> = const { Cell::new(0) };
    /// The most it ever held since it was last set.
    static PEAK: Cell<isize> = const { Cell::new(0) };
    /// Allocations made.
    static CALLS: Cell<usize> = const { Cell::new(0) };
    /// Allocations after which all fail.
    static LEFT: Cell<usize> = const { Cell::new(usize::MAX) };
}

// SAFETY: every call goes on to the system's allocator unchanged, or is refused with null,
// which `GlobalAlloc` allows at any time; the counters allocate nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Memory) -> *mut u8 {
        CALLS.set(CALLS.get() + 1);
        if LEFT.get() == 0 {
            return std::ptr::null_mut();
        }
        LEFT.set(LEFT.get() - 1);
        HELD.set(HELD.get() + layout.size() as isize);
        PEAK.set(PEAK.get().max(HELD.get()));
        // SAFETY: the caller's promises about the layout are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Memory) {
        HELD.set(HELD.get() - layout.size() as isize);
        // SAFETY: the pointer came from `alloc` above with this layout, as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// QEMU's q35 with 256 slots, and its controller.
fn boot() -> (Vec<u8>, Controller) {
    let tables = fakes::tables(Machine::Q35, 256, &[]).expect("QEMU's tables");
    let layout = Layout::qemu(Space::SystemIo, 0x0A00);
    (tables.dsdt, Controller::new(layout, 256))
}

#[test]
fn a_hot_add_and_remove_take_no_heap_at_all() {
    let (dsdt, mut host) = boot();
    let mut aml = Aml::load(&mut host, &[&dsdt], Limits::DEFAULT).expect("loads");
    aml.init(&mut host);
    let event = aml.find("\\_GPE._E03").expect("the memory event");
    let device = aml.find("\\_SB.MHPC.MPFF").expect("the last slot");
    let method = |name| aml.child(device, name).expect("a method");
    let [sta, crs, pxm, ost, eject] = ["_STA", "_CRS", "_PXM", "_OST", "_EJ0"].map(method);
    // The model of the controller keeps logs; it gets its room before.
    host.accesses.reserve(1 << 16);
    host.notices.reserve(1 << 10);
    host.reports.reserve(16);
    host.ejected.reserve(16);
    host.plug(255, 4 << 30, 1 << 30, 1);

    let calls = CALLS.get();
    for _ in 0..4 {
        aml.evaluate(&mut host, event, &[]).expect("event");
        assert_eq!(aml.integer(&mut host, sta, &[]), Ok(0x0F));
        assert!(aml.evaluate(&mut host, crs, &[]).expect("_CRS").buffer().is_some());
        assert_eq!(aml.integer(&mut host, pxm, &[]), Ok(1));
        let args = [Arg::Integer(1), Arg::Integer(0), Arg::Buffer(&[0; 16])];
        aml.evaluate(&mut host, ost, &args).expect("_OST");
    }
    aml.evaluate(&mut host, eject, &[Arg::Integer(1)]).expect("_EJ0");
    assert!(aml.evaluate(&mut host, eject, &[]).is_err(), "nor does an error");
    assert_eq!(CALLS.get() - calls, 0, "allocations");
}

#[test]
fn loading_256_slots_takes_the_heap_that_is_documented() {
    let (dsdt, mut host) = boot();
    let before = HELD.get();
    PEAK.set(before);
    let mut aml = Aml::load(&mut host, &[&dsdt], Limits::DEFAULT).expect("loads");
    let (held, peak) = (HELD.get() - before, PEAK.get() - before);
    let event = aml.find("\\_GPE._E03").expect("the memory event");
    (0..256).for_each(|slot| host.plug(slot, (slot as u64 + 4) << 30, 1 << 30, 0));
    aml.evaluate(&mut host, event, &[]).expect("the event method");
    println!("held {held}, peak {peak}, {:?}", aml.usage());
    assert!(held < 336 << 10, "{held} bytes held");
    assert!(peak < 344 << 10, "{peak} bytes while loading");
    let usage = aml.usage();
    assert_eq!(usage.heap as isize, held);
    assert!((2_000..2_500).contains(&usage.nodes), "{usage:?}");
    assert!(usage.peak_bytes < 1024 && usage.peak_names < 32, "{usage:?}");
}

#[test]
fn loading_fails_cleanly_wherever_the_heap_ends() {
    let (dsdt, mut host) = boot();
    for allocations in 0.. {
        LEFT.set(allocations);
        let held = HELD.get();
        let result = Aml::load(&mut host, &[&dsdt], Limits::DEFAULT).map(drop);
        LEFT.set(usize::MAX);
        assert_eq!(HELD.get(), held, "after {allocations} allocations something is left");
        match result {
            Ok(()) => {
                assert!(allocations > 10, "only {allocations} allocations");
                return;
            }
            Err(error) => assert_eq!(error.kind, ErrorKind::OutOfHeap),
        }
    }
}

/// Tells how deep the stack is when a register is read.
struct Depth {
    top: usize,
    deepest: usize,
}

impl Io for Depth {
    fn read(&mut self, _: Space, _: u64, _: Width) -> Result<u64, HostError> {
        let here = 0u8;
        self.deepest = self.deepest.max(self.top - (&raw const here).addr());
        Ok(1)
    }

    fn write(&mut self, _: Space, _: u64, _: Width, _: u64) -> Result<(), HostError> {
        Ok(())
    }

    fn stall(&mut self, _: u64) {}

    fn sleep(&mut self, _: u64) {}

    fn timer(&mut self) -> u64 {
        0
    }
}

impl Host for Depth {
    fn io(&mut self) -> &mut dyn Io {
        self
    }

    fn notify(&mut self, _: NodeId, _: u64) {}
}

/// A table with `body` behind a field `REG_` of one byte in I/O space.
fn table(body: &[u8]) -> Vec<u8> {
    let mut table = vec![0; 36];
    table[..4].copy_from_slice(b"DSDT");
    table[8] = 2;
    // OperationRegion (PORT, SystemIO, 0x80, 1) Field (PORT, ByteAcc) { REG_, 8 }
    table.extend(b"\x5B\x80PORT\x01\x0A\x80\x01");
    table.extend(b"\x5B\x81\x0BPORT\x01REG_\x08");
    table.extend(body);
    let length = (table.len() as u32).to_le_bytes();
    table[4..8].copy_from_slice(&length);
    table
}

/// A term in a package of its own: opcode, length, contents.
fn package(opcode: &[u8], contents: &[u8]) -> Vec<u8> {
    let length = contents.len() as u32 + 4;
    let mut term = opcode.to_vec();
    term.push(0xC0 | (length & 0x0F) as u8);
    term.extend(&(length >> 4).to_le_bytes()[..3]);
    term.extend(contents);
    term
}

/// Wraps more and more levels around `inner` until a table with the result is too deep, and
/// gives the stack used at the deepest read there was.
fn deepest(
    inner: &[u8],
    wrap: impl Fn(&[u8], usize) -> Vec<u8>,
    whole: impl Fn(&[u8]) -> Vec<u8>,
) -> usize {
    let here = 0u8;
    let mut host = Depth { top: (&raw const here).addr(), deepest: 0 };
    let mut body = inner.to_vec();
    for level in 0..1000 {
        let table = table(&whole(&body));
        let result = Aml::load(&mut host, &[&table], Limits::DEFAULT).and_then(|mut aml| {
            if let Some(skipped) = aml.load_report().skipped().first() {
                return Err(skipped.error);
            }
            let test = aml.find("TEST").expect("something to evaluate");
            aml.evaluate(&mut host, test, &[]).map(drop)
        });
        match result.map_err(|error| error.kind) {
            Ok(()) => body = wrap(&body, level),
            Err(ErrorKind::TooDeep) => {
                assert!(host.deepest > 0, "the register was never read");
                return host.deepest;
            }
            Err(other) => panic!("level {level}: {other}"),
        }
    }
    panic!("nothing is too deep");
}

/// A method with a body.
fn method(body: &[u8]) -> Vec<u8> {
    package(&[0x14], &[b"TEST\x00", body].concat())
}

/// `IndexField (REG_, before) { name, 8 }`.
fn index_field(before: &[u8], name: &[u8]) -> Vec<u8> {
    package(&[0x5B, 0x86], &[b"REG_", before, b"\x01", name, b"\x08"].concat())
}

#[test]
fn the_deepest_tables_take_a_bounded_stack() {
    let enclose = |opcode: &[u8], inner: &[u8]| package(opcode, &[&[0x01], inner].concat());
    let operand = |opcode: u8, inner: &[u8]| [&[opcode, 0x01], inner, &[0x00]].concat();
    let recursive = [b"REG_TEST".as_slice()].concat();
    let uses = [
        ("Add", deepest(b"\x72REG_\x01\x00", |inner, _| operand(0x72, inner), method)),
        ("LNot", deepest(b"\x92REG_", |inner, _| [b"\x92", inner].concat(), method)),
        ("LAnd", deepest(b"\x90REG_\x01", |inner, _| [b"\x90\x01", inner].concat(), method)),
        ("Concatenate", deepest(b"REG_", |inner, _| operand(0x73, inner), method)),
        ("If", deepest(b"REG_", |inner, _| enclose(&[0xA0], inner), method)),
        (
            "While",
            deepest(b"REG_", |inner, _| enclose(&[0xA2], &[inner, &[0xA5]].concat()), method),
        ),
        ("Package", deepest(b"\x72REG_\x00\x00", |inner, _| enclose(&[0x12], inner), method)),
        (
            "Device",
            deepest(
                b"\x08\\TEST\x72REG_\x00\x00",
                |inner, _| package(&[0x5B, 0x82], &[b"DEVX", inner].concat()),
                <[u8]>::to_vec,
            ),
        ),
        ("call", deepest(&recursive, |inner, _| inner.to_vec(), method)),
        (
            "IndexField",
            deepest(
                b"",
                |inner, level| {
                    let name = |level| format!("F{level:03}");
                    let before = level.checked_sub(1).map_or("REG_".into(), name);
                    [inner, &index_field(before.as_bytes(), name(level).as_bytes())].concat()
                },
                |body| {
                    let last = body.len() / 22;
                    let name =
                        last.checked_sub(1).map_or("REG_".into(), |last| format!("F{last:03}"));
                    [body, &method(name.as_bytes())].concat()
                },
            ),
        ),
    ];
    println!("{uses:?}");
    let most = uses.iter().map(|(_, bytes)| *bytes).max().unwrap_or_default();
    let level = most / usize::from(Limits::DEFAULT.depth);
    assert!(level < 1024, "{level} bytes of stack for one level");
}
