//! The CPU: a thread of the host.

// UNSAFETY: implements the fake TLB, and writes where probes point.
#![expect(unsafe_code)]

use super::Host;
use super::machine::own;
use super::std::thread;
use super::std::thread_local;
use super::traps::{HANDLER, Trap, TrapFrame};
use crate::area::CpuArea;
use crate::contract::{Addressing, Clock, Cpu, CpuTlb, Cpus, Exit, Features, Io, Mmio, Probe};
use crate::io::{IoError, Place};
use crate::mmio::Register;
use core::cell::Cell;
use core::fmt;
use core::ptr::NonNull;
use hotmem_paging::Attr;
use hotmem_paging::addr::{PhysAddr, PhysRange, VirtAddr, VirtRange};
use hotmem_paging::{NotFlushed, Tlb};

thread_local! {
    /// Whether this CPU has interrupts enabled.
    static ENABLED: Cell<bool> = const { Cell::new(false) };
    /// This CPU's number.
    static NUMBER: Cell<usize> = const { Cell::new(0) };
}

/// Ticks of the clock in a second.
const HERTZ: u64 = 1_000_000_000;
/// Ticks that pass between two reads of the clock.
const STEP: u64 = 1000;

/// Takes a trap as a CPU does, with interrupts off.
fn take(trap: Trap) {
    ENABLED.set(false);
    HANDLER.call(&mut TrapFrame(trap));
}

impl Cpu for Host {
    fn exit(exit: Exit) -> ! {
        own().change(|board| board.ended = board.ended.or(Some(exit)));
        Self::halt()
    }

    fn halt() -> ! {
        loop {
            thread::park();
        }
    }

    fn enter(area: &'static CpuArea) {
        NUMBER.set(area.number());
    }

    fn number() -> usize {
        NUMBER.get()
    }

    fn relax() {
        thread::yield_now();
    }

    /// The host's caches are coherent with every reader of its memory.
    fn clean_cache(_range: VirtRange) {}

    fn enable_interrupts() {
        let machine = own();
        loop {
            let trap = machine.board().next_trap();
            let Some(trap) = trap else { break };
            take(trap);
        }
        ENABLED.set(true);
    }

    fn disable_interrupts() {
        ENABLED.set(false);
    }

    fn interrupts_are_enabled() -> bool {
        ENABLED.get()
    }

    fn enable_interrupts_and_wait() {
        take(own().wait_for_trap());
        Self::enable_interrupts();
    }

    fn features() -> Features {
        Features {
            largest_leaf: 1 << 30,
            phys_limit: PhysAddr::new(1 << 46),
            missing: own().missing(),
        }
    }

    fn mode() -> impl fmt::Display {
        "a thread of the host, four-level page tables of 4 KiB pages"
    }

    fn set_up() {}

    unsafe fn switch(root: PhysAddr, top: VirtAddr, main: extern "C" fn() -> !) -> ! {
        own().memory().load_root(root);
        let stack = own().memory().translate(VirtAddr::new(top.get() - 8));
        assert!(stack.is_some_and(|(_, attr)| attr.contains(Attr::WRITE)), "no stack below {top}");
        main()
    }

    fn frame_pointer() -> u64 {
        0
    }
}

/// The machine has one CPU.
impl Cpus for Host {}

impl Addressing for Host {
    fn pointer(at: VirtAddr) -> NonNull<u8> {
        own().memory().pointer(at)
    }

    fn pointer_in(base: VirtAddr, offset: u64) -> NonNull<u8> {
        Self::pointer(base.add(offset))
    }

    fn bytes(range: VirtRange) -> Option<NonNull<u8>> {
        own().memory().bytes(range)
    }
}

/// Accesses registers through the device, and memory directly: firmware's byte code also uses memory that it calls
/// registers.
impl Mmio for Host {
    unsafe fn load_register<T: Register>(at: *const T) -> T {
        let (machine, bytes) = (own(), size_of::<T>() as u32);
        let register = machine.memory().register(at.cast());
        let Some(register) = register else {
            // SAFETY: by the contract of this function.
            return unsafe { at.read_volatile() };
        };
        T::from_bits(machine.access(|device| Ok(device.load(register, bytes))).unwrap_or(u64::MAX))
    }

    unsafe fn store_register<T: Register>(at: *mut T, value: T) {
        let (machine, bytes) = (own(), size_of::<T>() as u32);
        let register = machine.memory().register(at.cast());
        let Some(register) = register else {
            // SAFETY: by the contract of this function.
            return unsafe { at.write_volatile(value) };
        };
        // Without a device the store has no effect.
        let _ = machine.access(|device| {
            device.store(register, bytes, value.bits());
            Ok(())
        });
    }
}

impl Clock for Host {
    fn timestamp() -> u64 {
        own().tick(STEP)
    }

    fn timestamp_hertz() -> u64 {
        HERTZ
    }

    fn timestamp_is_known() -> bool {
        true
    }

    fn instructions() -> u64 {
        Self::timestamp()
    }
}

impl Io for Host {
    fn read(place: Place, bytes: u32) -> Result<u64, IoError> {
        own().access(|device| device.read(place, bytes))
    }

    fn write(place: Place, bytes: u32, value: u64) -> Result<(), IoError> {
        own().access(|device| device.write(place, bytes, value))
    }
}

/// The word at `address`, if the tables allow accesses with `attr`.
fn word(address: u64, attr: Attr) -> Option<NonNull<u64>> {
    let word = VirtRange::new(VirtAddr::new(address), 8)?;
    let machine = own();
    let mut memory = machine.memory();
    let (_, allowed) = memory.translate(word.start())?;
    let word = memory.bytes(word)?.cast();
    (allowed.contains(attr) && word.is_aligned()).then_some(word)
}

impl Probe for Host {
    unsafe extern "C" fn load(address: u64, value: *mut u64) -> u64 {
        let Some(word) = word(address, Attr::empty()) else { return 0 };
        // SAFETY: the word is memory of the machine.
        let found = unsafe { word.read_volatile() };
        // SAFETY: by the contract of this function `value` can be written.
        unsafe { value.write(found) };
        1
    }

    unsafe extern "C" fn store(address: u64, value: u64) -> u64 {
        let Some(word) = word(address, Attr::WRITE) else { return 0 };
        // SAFETY: the word is memory of the machine, and by the contract of this function the value may be stored
        // there.
        unsafe { word.write_volatile(value) };
        1
    }

    unsafe extern "C" fn execute(address: u64, _fetching: u64) -> u64 {
        let own_code = address == Self::executed as *const () as u64;
        if own_code || word(address, Attr::EXECUTE).is_some() { Self::executed() } else { 0 }
    }

    extern "C" fn executed() -> u64 {
        1
    }
}

/// The translations that a host's CPU caches.
#[derive(Debug)]
pub struct HostTlb(());

impl CpuTlb for HostTlb {
    const REACHES_ALL: bool = true;

    unsafe fn new() -> Self {
        Self(())
    }
}

// SAFETY: there is one CPU, and it drops its cached translations of the range at once.
unsafe impl Tlb for HostTlb {
    fn publish(&self) {}

    fn flush(&self, ranges: &[VirtRange]) -> Result<(), NotFlushed> {
        ranges.iter().for_each(|&range| own().memory().flush(range));
        Ok(())
    }

    fn retire(&self, frame: PhysAddr, bytes: u64) {
        let range = PhysRange::new(frame, bytes).unwrap_or_default();
        own().memory().retire(range);
    }
}
