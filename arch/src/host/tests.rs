//! The fake machine follows the contract, and fails the test where a real machine would misbehave.

// UNSAFETY: calls functions of the contract that are unsafe.
#![expect(unsafe_code)]

use super::std::panic::catch_unwind;
use super::std::string::String;
use super::std::sync::{Arc, Mutex, mpsc};
use super::std::vec::Vec;
use super::*;
use crate::contract::{
    Addressing, Clock, Controllers as _, Cpu, CpuTlb, Exit, Io, Layout, Mmio, Port as _, Probe,
    Traps,
};
use crate::io::{IoError, Place};
use crate::irq::{Controller, Line, NoInput, Polarity, Registers, TakeError, Trigger};
use crate::x86_64::pte::X86Pte4;
use hotmem_paging::addr::{PhysAddr, PhysRange, VirtAddr, VirtRange};
use hotmem_paging::{Attr, Entry, PteFormat, Tlb};

const RAM: PhysAddr = PhysAddr::new(0x10_0000);
const PAGE: u64 = 4096;

fn range(start: u64, len: u64) -> PhysRange {
    PhysRange::new(PhysAddr::new(start), len).unwrap()
}

/// A machine with 1 MiB of RAM.
fn machine() -> Arc<Machine> {
    let machine = Machine::new();
    machine.plug(range(RAM.get(), 1 << 20));
    machine
}

/// Runs `program` on the CPU of `machine`; returns its result.
fn run<R: Send + 'static>(
    machine: &Arc<Machine>,
    program: impl FnOnce() -> R + Send + 'static,
) -> Result<R, mpsc::RecvError> {
    let (to, from) = mpsc::channel();
    machine.power_on(move || to.send(program()).unwrap());
    from.recv()
}

/// Writes tables that map the page `at` at `virt`: the root is the first page of RAM.
fn show(machine: &Machine, virt: VirtAddr, at: PhysAddr, attr: Attr) {
    for (level, here) in X86Pte4::LEVELS.iter().enumerate() {
        let table = RAM.add(level as u64 * PAGE);
        let last = level + 1 == X86Pte4::LEVELS.len();
        let entry = if last { Entry::Leaf(at, attr) } else { Entry::Table(table.add(PAGE)) };
        let word = table.add(8 * here.index(virt.get()) as u64);
        let memory = machine.memory();
        // SAFETY: the tables are read by the CPU only, with the memory locked.
        unsafe { memory.write(table, &[0; PAGE as usize]) };
        // SAFETY: as above.
        unsafe { memory.write(word, &X86Pte4::encode(entry, level).to_le_bytes()) };
    }
}

#[test]
fn early_tables_show_memory_in_the_linear_map() {
    let machine = machine();
    machine.write(RAM, &7u64.to_le_bytes());
    let at = Host::LINEAR_BASE.add(RAM.get());
    let mut word = 0;
    let read = run(&machine, move || {
        // SAFETY: the word belongs to this program.
        let done = unsafe { Host::load(at.get(), &raw mut word) };
        // SAFETY: no other code uses this memory.
        let stored = unsafe { Host::store(at.get(), 8) };
        // SAFETY: as for `word`.
        let below = unsafe { Host::load(at.get() - 8, &raw mut word) };
        let pointer = Host::pointer(at).cast::<u64>();
        // SAFETY: the pointer points to memory of the machine.
        (done, word, stored, below, unsafe { pointer.read_volatile() })
    });
    assert_eq!(read, Ok((1, 7, 1, 0, 8)));
}

#[test]
fn only_the_program_writes_to_memory_once_the_cpu_runs() {
    let machine = machine();
    machine.write(RAM, &[1]);
    run(&machine, || ()).unwrap();
    assert!(catch_unwind(|| machine.write(RAM, &[2])).is_err());
}

#[test]
fn a_probe_fails_where_the_tables_do_not_allow_the_access() {
    let machine = machine();
    let (virt, page) = (VirtAddr::new(0x7000), RAM.add(0x1_0000));
    show(&machine, virt, page, Attr::empty());
    let tried = run(&machine, move || {
        super::machine::own().memory().load_root(RAM);
        let mut word = 0;
        // SAFETY: the word belongs to this program.
        let load = unsafe { Host::load(virt.get(), &raw mut word) };
        // SAFETY: no other code uses this memory.
        let store = unsafe { Host::store(virt.get(), 1) };
        // SAFETY: on the host a probe executes the function itself only.
        let execute = unsafe { Host::execute(virt.get(), Host::FETCHING) };
        let outside = Host::bytes(VirtRange::new(virt, 2 * PAGE).unwrap());
        (load, store, execute, outside.is_none())
    });
    assert_eq!(tried, Ok((1, 0, 0, true)));
}

#[test]
fn a_stale_translation_is_found_and_a_flush_drops_it() {
    for flushes in [true, false] {
        let machine = machine();
        let (virt, pages) = (VirtAddr::new(0x7000), [0x1_0000, 0x2_0000].map(|at| RAM.add(at)));
        show(&machine, virt, pages[0], Attr::WRITE);
        let other = Arc::clone(&machine);
        let found = run(&machine, move || {
            super::machine::own().memory().load_root(RAM);
            let before = Host::pointer(virt);
            show(&other, virt, pages[1], Attr::WRITE);
            // SAFETY: only this CPU uses the tables.
            let tlb = unsafe { HostTlb::new() };
            if flushes {
                tlb.flush(&[VirtRange::new(virt, PAGE).unwrap()]).unwrap();
            }
            Host::pointer(virt) != before
        });
        assert_eq!(found, if flushes { Ok(true) } else { Err(mpsc::RecvError) });
    }
}

#[test]
fn memory_that_is_still_translated_to_cannot_be_unplugged() {
    let machine = machine();
    let dimm = range(0x100_0000, 0x1_0000);
    machine.plug(dimm);
    let virt = Host::LINEAR_BASE.add(dimm.start().get());
    run(&machine, move || Host::pointer(virt).addr()).unwrap();
    assert!(catch_unwind(|| machine.unplug(dimm)).is_err());
    machine.memory().flush(VirtRange::new(virt, dimm.len()).unwrap());
    machine.unplug(dimm);
    machine.plug(dimm);
}

/// Lines that the handler claimed, in order.
static CLAIMED: Mutex<Vec<u32>> = Mutex::new(Vec::new());

struct NoRegisters;

impl Registers for NoRegisters {
    fn read(&self, _offset: usize) -> u32 {
        0
    }

    fn write(&self, _offset: usize, _value: u32) {}
}

const IO_APIC: Controller = Controller::IoApic { at: PhysAddr::new(0xfec0_0000), first: 0 };

fn line(gsi: u32, trigger: Trigger) -> Line {
    Line { gsi, trigger, polarity: Polarity::ActiveHigh }
}

fn take(described: &[Controller]) -> Result<Controllers<NoRegisters>, TakeError<()>> {
    Controllers::take(described.iter().copied(), |_| Ok(NoRegisters))
}

#[test]
fn interrupts_are_restored_to_what_they_were_and_are_off_until_then() {
    let states = run(&machine(), || {
        let mut states = Vec::new();
        for on in [true, false] {
            if on {
                Host::enable_interrupts()
            } else {
                Host::disable_interrupts()
            }
            let outer = Host::mask_interrupts();
            let inner = Host::mask_interrupts();
            assert!(!Host::interrupts_are_enabled());
            Host::restore_interrupts(inner);
            assert!(!Host::interrupts_are_enabled(), "the outer one is masked");
            Host::restore_interrupts(outer);
            states.push(Host::interrupts_are_enabled());
        }
        states
    });
    assert_eq!(states, Ok([true, false].to_vec()));
    // In the wrong order architectures would do different things: no caller may.
    let wrong = run(&machine(), || {
        Host::enable_interrupts();
        Host::restore_interrupts(false);
    });
    assert!(wrong.is_err(), "interrupts were on before they were restored");
}

#[test]
fn a_line_interrupts_when_it_is_connected_and_interrupts_are_enabled() {
    let machine = machine();
    let other = Arc::clone(&machine);
    // The handler masks a level line, as a kernel has to.
    Host::set_handler(|frame| {
        let controllers = take(&[IO_APIC]).unwrap();
        if let Some(claim) = controllers.claim(frame) {
            controllers.set_masked(line(claim.id, Trigger::Level), claim.id == 9);
            CLAIMED.lock().unwrap().push(claim.id);
        }
    });
    let seen = run(&machine, move || {
        let mut seen = Vec::new();
        let look = |seen: &mut Vec<_>| seen.push(core::mem::take(&mut *CLAIMED.lock().unwrap()));
        let mut controllers = take(&[IO_APIC]).unwrap();
        other.set_line(9, true);
        Host::enable_interrupts();
        look(&mut seen); // not connected
        controllers.connect(0, line(9, Trigger::Level)).unwrap();
        controllers.connect(1, line(5, Trigger::Edge)).unwrap();
        look(&mut seen); // connected, but interrupts were not enabled since
        Host::enable_interrupts();
        look(&mut seen); // still active, and masked by the handler
        controllers.set_masked(line(9, Trigger::Level), false);
        other.set_line(5, true);
        Host::enable_interrupts_and_wait();
        look(&mut seen); // both, once
        Host::enable_interrupts();
        look(&mut seen);
        assert!(Host::interrupts_are_enabled());
        seen
    });
    assert_eq!(seen.unwrap(), [&[][..], &[], &[9], &[5, 9], &[]]);
}

#[test]
fn errors_name_a_missing_controller_and_a_missing_input() {
    let machine = machine();
    let named = run(&machine, || {
        let missing = take(&[Controller::Presentation]).err();
        (missing, take(&[IO_APIC]).unwrap().connect(0, line(64, Trigger::Edge)))
    });
    let wanted = (Some(TakeError::Missing("I/O APIC")), Err(NoInput));
    assert_eq!(named, Ok(wanted));
}

#[test]
fn typed_bytes_are_received_and_sent_bytes_are_seen() {
    let machine = machine();
    machine.power_on(|| {
        // SAFETY: the only value that drives the port.
        let mut port = unsafe { Port::open() };
        "ready\n".bytes().for_each(|byte| port.send(byte));
        while !port.has_input() {
            super::std::thread::yield_now();
        }
        let typed: Vec<u8> = core::iter::from_fn(|| port.receive()).collect();
        typed.iter().rev().for_each(|&byte| port.send(byte));
        Host::exit(Exit::Code(3))
    });
    assert_eq!(machine.wait_for("ready\n"), "ready\n");
    machine.type_in("x");
    assert_eq!(machine.wait_for_exit(), Exit::Code(3));
    assert_eq!(machine.written(), "ready\nx");
}

#[test]
fn a_failed_wait_reports_what_the_kernel_wrote() {
    let machine = machine();
    machine.power_on(|| {
        // SAFETY: the only value that drives the port.
        let mut port = unsafe { Port::open() };
        "last words".bytes().for_each(|byte| port.send(byte));
        Host::exit(Exit::Panic)
    });
    machine.wait_for_exit();
    let story = catch_unwind(|| machine.wait_for("ready")).unwrap_err();
    let story = story.downcast_ref::<String>().unwrap();
    assert!(story.contains("ended by Some(Panic) and wrote:\nlast words"), "{story}");
}

struct Counter(u64);

impl Device for Counter {
    fn read(&mut self, place: Place, _bytes: u32) -> Result<u64, IoError> {
        if place == Place::Port(1) { Ok(self.0) } else { Err(IoError::Unsupported) }
    }

    fn write(&mut self, _place: Place, _bytes: u32, value: u64) -> Result<(), IoError> {
        self.0 = value;
        Ok(())
    }

    fn load(&mut self, at: PhysAddr, bytes: u32) -> u64 {
        at.get() << 8 | u64::from(bytes)
    }

    fn store(&mut self, at: PhysAddr, bytes: u32, value: u64) {
        self.0 = at.get() << 32 | u64::from(bytes) << 24 | value;
    }

    fn line(&self) -> (u32, bool) {
        (3, self.0 != 0)
    }
}

#[test]
fn a_device_is_accessed_by_its_place_and_without_a_device_accesses_fail() {
    let machine = machine();
    let read = || Host::read(Place::Port(1), 4);
    assert_eq!(run(&machine, read), Ok(Err(IoError::Unsupported)));
    machine.attach(&Arc::new(Mutex::new(Counter(5))));
    assert_eq!(run(&machine, read), Ok(Ok(5)));
    let elsewhere = run(&machine, || Host::read(Place::Port(2), 4));
    assert_eq!(elsewhere, Ok(Err(IoError::Unsupported)));
}

#[test]
fn registers_are_accessed_in_the_device_and_memory_directly() {
    let machine = machine();
    let registers = range(0x20_0000, PAGE);
    machine.plug_registers(registers);
    let counter = Arc::new(Mutex::new(Counter(0)));
    machine.attach(&counter);
    let at = Host::DEVICE_BASE.add(registers.start().get() + 4);
    let read = run(&machine, move || {
        let pointer = Host::pointer(at);
        // SAFETY: the register belongs to this program.
        let byte = unsafe { Host::load_register(pointer.cast::<u8>().as_ptr()) };
        // SAFETY: as above.
        let long = unsafe { Host::load_register(pointer.cast::<u64>().as_ptr()) };
        // SAFETY: as above.
        unsafe { Host::store_register(pointer.cast::<u16>().as_ptr(), 7) };
        let word = Host::pointer(Host::LINEAR_BASE.add(RAM.get())).cast::<u16>();
        // SAFETY: no other code uses this memory.
        unsafe { Host::store_register(word.as_ptr(), 9) };
        // SAFETY: as above.
        (byte, long, unsafe { Host::load_register(word.as_ptr()) })
    });
    assert_eq!(read, Ok((1, 0x2000_0408, 9)));
    assert_eq!(counter.lock().unwrap().0, 0x0020_0004_0200_0007);
}

#[test]
fn the_clock_advances_and_a_cpu_reports_what_it_lacks() {
    let machine = machine();
    machine.lack("a page table");
    let seen = run(&machine, || (Host::timestamp() < Host::timestamp(), Host::features().missing));
    assert_eq!(seen, Ok((true, Some("a page table"))));
}
