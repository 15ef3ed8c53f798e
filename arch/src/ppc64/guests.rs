//! Guests by nested HV: three calls of the hypervisor, which are not in LoPAR (Linux, `arch/powerpc/kvm`,
//! `book3s_hv_nested.c`; QEMU, `cap-nested-hv=on`).
//!
//! ```text
//!   H_SET_PARTITION_TABLE  the table that names the second-stage tables of each partition
//!   H_ENTER_NESTED         runs a guest until an exit; the result is the interrupt that the host gets
//!   H_TLB_INVALIDATE       drops cached translations of a partition
//! ```

// UNSAFETY: hypercalls, and state that the hypervisor writes.
#![expect(unsafe_code)]

use super::hcall::{H_FUNCTION, H_SET_PARTITION_TABLE, H_SUCCESS, H_TLB_INVALIDATE, hcall};
use super::nested::decode;
use super::partition::{GUEST_BITS, PARTITIONS, Partition, partition_entry};
use super::switch::{self, State};
use super::{Ppc64, copy, payload, rtas, timer};
use crate::contract::{
    Clock, GuestExit, GuestSpace, Guests, Layout, Locked, NoGuests, StateMemory, Vcpu,
};
use core::arch::asm;
use core::fmt;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use hotmem_paging::addr::{GuestAddr, GuestRange};

/// The partition table: an entry of two doublewords for each number.
#[repr(align(4096))]
struct PartitionTable([[AtomicU64; 2]; PARTITIONS]);

static GUESTS: PartitionTable =
    PartitionTable([const { [const { AtomicU64::new(0) }; 2] }; PARTITIONS]);

/// The hypervisor did not drop translations when it was asked to. No guest runs from then on.
static STALE: AtomicBool = AtomicBool::new(false);

/// Runs end this often in a second, so that one never waits for long for an interrupt that does not come.
const RUNS_PER_SECOND: u64 = 100;

/// H_TLB_INVALIDATE: the instruction fields RIC = 2, PRS = 0, R = 1 in r4, RB with IS = 2 in r6: everything of the
/// partition that r5 names, and what is cached of its tables.
const EVERYTHING: u64 = 2 << 18 | 1 << 16;
const BY_PARTITION: u64 = 0b10 << 10;

/// A virtual CPU.
#[derive(Debug)]
pub struct NestedCpu {
    memory: StateMemory,
    /// The guest's decrementer goes below zero at this value of the timebase.
    decrementer: u64,
}

// SAFETY: the memory has no other use, so the holder of the value may access it.
unsafe impl Send for NestedCpu {}

impl NestedCpu {
    fn state(&self) -> &State {
        // SAFETY: by the contract of `StateMemory` the bytes, `STATE_BYTES` of them, were zeroed, have the alignment
        // of a page and no other use. Every bit pattern is a `State`.
        unsafe { self.memory.pointer().cast().as_ref() }
    }

    fn state_mut(&mut self) -> &mut State {
        // SAFETY: as above; this value is borrowed for the time.
        unsafe { self.memory.pointer().cast().as_mut() }
    }
}

impl fmt::Display for NestedCpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.state().nested.fmt(f)
    }
}

impl Vcpu for NestedCpu {
    const STATE_BYTES: u64 = 1 << Ppc64::PAGE_SHIFT;
    type Devices = ();

    fn new(memory: StateMemory, entry: GuestAddr, arguments: [u64; 4]) -> Self {
        let decrementer = Ppc64::timestamp().wrapping_add(timer::FAR);
        let mut cpu = Self { memory, decrementer };
        cpu.state_mut().nested.start(entry.get(), arguments);
        cpu
    }

    unsafe fn run(&mut self, space: &GuestSpace, _devices: &impl Locked<()>) -> GuestExit {
        if STALE.load(Ordering::Acquire) {
            return GuestExit::Stopped("the hypervisor kept translations that it was to drop", 0);
        }
        let Some(entry) = GUESTS.0.get(usize::from(space.tag())).filter(|_| space.tag() != 0)
        else {
            return GuestExit::Stopped(
                "the hypervisor has no partition with its number",
                space.tag().into(),
            );
        };
        let host = timer::deadline();
        let now = Ppc64::timestamp();
        let slice = Ppc64::timestamp_hertz() / RUNS_PER_SECOND;
        let end = host.min(now.wrapping_add(slice));
        if end <= now {
            return GuestExit::Interrupt;
        }
        entry[0].store(partition_entry(space.root()), Ordering::Release);
        timer::set_deadline(self.decrementer);
        let at = self.memory.at().get();
        let state = self.state_mut();
        state.nested.prepare(space.tag().into(), end);
        // SAFETY: interrupts are off, and the tables map only memory of the guest, by the contract of this function.
        let result = unsafe { switch::enter(state, at) };
        let exit = decode(result, &state.nested);
        if exit == GuestExit::Wait {
            state.nested.cede();
        }
        self.decrementer = timer::deadline();
        timer::set_deadline(host);
        exit
    }

    fn reply(&mut self, value: u64) {
        self.state_mut().nested.registers.gpr[3] = value;
    }
}

const _: () = assert!(size_of::<State>() <= 4096);

impl Guests for Ppc64 {
    type GuestFormat = Partition<{ Self::PAGE_SHIFT }>;
    type Vcpu = NestedCpu;

    const GUEST_RAM: GuestAddr = GuestAddr::new(0);

    const GUEST_LIMIT: GuestAddr = GuestAddr::new(1 << GUEST_BITS);

    /// A call of one CPU does not reach another that is in a guest: QEMU drops translations when a CPU enters or
    /// leaves one.
    const GUEST_FLUSH_REACHES_ALL: bool = false;

    /// The table is the same for all CPUs, and naming it again changes nothing.
    fn enable_guests() -> Result<(), NoGuests> {
        // A decrementer that was never set may be below zero without an interrupt, and a run ends before it begins.
        timer::go_on();
        // 2^(12 + 0) bytes.
        let table = rtas::physical(&raw const GUESTS);
        // SAFETY: the table is a static of 4 KiB, aligned, and its entries are zero or name the tables of guests.
        match unsafe { hcall(H_SET_PARTITION_TABLE, [table, 0, 0, 0]) }.status {
            H_SUCCESS => Ok(()),
            H_FUNCTION => Err(NoGuests("nested HV (cap-nested-hv=on)")),
            _ => Err(NoGuests("a hypervisor that accepts a partition table")),
        }
    }

    fn publish_guest_entries() {
        // SAFETY: a barrier: later walks see the earlier stores (book III, 5.10.1.2).
        unsafe { asm!("ptesync", options(nostack, preserves_flags)) };
    }

    /// Drops everything of the partition: that is one call, and the only one that is right for leaves of all sizes.
    fn drop_guest_translations(space: &GuestSpace, _ranges: &[GuestRange]) {
        Self::publish_guest_entries();
        let args = [EVERYTHING, space.tag().into(), BY_PARTITION, 0];
        // SAFETY: dropping cached translations never makes a valid one wrong.
        if unsafe { hcall(H_TLB_INVALIDATE, args) }.status != H_SUCCESS {
            STALE.store(true, Ordering::Release);
        }
    }

    unsafe fn copy_guest_memory(from: NonNull<u8>, to: NonNull<u8>, bytes: usize) {
        // SAFETY: by the contract of this function.
        unsafe { copy::copy(from, to, bytes) };
    }

    fn payload() -> &'static [u8] {
        payload::payload()
    }
}
