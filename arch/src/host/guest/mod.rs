//! Guests of the host: a virtual CPU in software, which caches translations until a flush drops them.
//!
//! A stale translation is used, as a CPU would use it, so a missing flush shows in what the guest computes, or as an
//! access to memory that was unplugged.

// UNSAFETY: implements a function with a safety contract, and accesses the machine's memory.
#![expect(unsafe_code)]
#![expect(clippy::panic, reason = "where a machine would misbehave, the test fails")]

mod interpreter;
mod payload;

pub use interpreter::{Bus, Interpreter, Op, instruction};

use super::Host;
use super::machine::own;
use super::memory::Memory;
use crate::contract::{
    Access, Clock, Devices, GuestExit, GuestSpace, Guests, Locked, NoGuests, StateMemory, Vcpu,
};
use crate::x86_64::pte::X86Pte4;
use core::fmt;
use hotmem_paging::addr::{GuestAddr, GuestRange};

/// Instructions between two interrupts of the host.
const SLICE: u64 = 20_000;

/// A virtual CPU of this machine.
#[derive(Clone, Debug)]
pub struct SoftVcpu(Interpreter);

/// The devices of a guest: a serial port with room for one byte, which its programs do not read.
#[derive(Clone, Debug, Default)]
pub struct SoftPort(Option<u8>);

impl Devices for SoftPort {
    fn new(_cpus: usize) -> Self {
        Self::default()
    }

    fn receive(&mut self, byte: u8) -> bool {
        let is_free = self.0.is_none();
        self.0.get_or_insert(byte);
        is_free
    }
}

/// The memory of the machine, through the tables of a space.
struct Through<'m> {
    memory: &'m mut Memory,
    space: GuestSpace,
}

impl Bus for Through<'_> {
    fn load(&mut self, at: GuestAddr, access: Access) -> Option<u64> {
        let word = self.memory.guest_word(&self.space, at, access)?;
        // SAFETY: the word is memory of the machine; a guest's memory has no other user that this could race with.
        Some(unsafe { word.read_volatile() })
    }

    fn store(&mut self, at: GuestAddr, value: u64) -> Option<()> {
        let word = self.memory.guest_word(&self.space, at, Access::Write)?;
        // SAFETY: as above.
        unsafe { word.write_volatile(value) };
        Some(())
    }

    fn time(&mut self) -> u64 {
        Host::timestamp()
    }
}

impl Vcpu for SoftVcpu {
    const STATE_BYTES: u64 = 0;
    type Devices = SoftPort;

    fn new(_state: StateMemory, entry: GuestAddr, arguments: [u64; 4]) -> Self {
        Self(Interpreter::new(entry, arguments))
    }

    unsafe fn run(&mut self, space: &GuestSpace, _devices: &impl Locked<SoftPort>) -> GuestExit {
        let machine = own();
        if !machine.guests_are_enabled() {
            panic!("a guest runs before guests are enabled");
        }
        let mut memory = machine.memory();
        self.0.run(&mut Through { memory: &mut memory, space: *space }, SLICE)
    }

    fn reply(&mut self, value: u64) {
        self.0.reply(value);
    }
}

impl fmt::Display for SoftVcpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Guests for Host {
    type GuestFormat = X86Pte4;
    type Vcpu = SoftVcpu;

    const GUEST_RAM: GuestAddr = GuestAddr::new(1 << 30);
    const GUEST_LIMIT: GuestAddr = GuestAddr::new(1 << 36);
    const GUEST_FLUSH_REACHES_ALL: bool = true;

    fn marks_writes() -> bool {
        true
    }

    fn enable_guests() -> Result<(), NoGuests> {
        own().enable_guests().map_err(NoGuests)
    }

    fn publish_guest_entries() {}

    fn drop_guest_translations(space: &GuestSpace, ranges: &[GuestRange]) {
        own().memory().flush_guest(space, ranges);
    }

    fn payload() -> &'static [u8] {
        &payload::BYTES
    }
}
