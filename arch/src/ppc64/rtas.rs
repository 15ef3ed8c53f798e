//! RTAS by hypercall: an array of big-endian cells in memory below 4 GiB (LoPAR 7.2.7, and
//! `docs/specs/ppc-spapr-hcalls.rst` of QEMU). Firmware leaves no code in memory that would have to be
//! called.

// UNSAFETY: gives memory to firmware.
#![expect(unsafe_code)]

use super::Ppc64;
use super::hcall::{H_SUCCESS, KVMPPC_H_RTAS, hcall};
use crate::contract::{self, Exit, NoRtas};
use crate::machine_info::MachineInfo;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, Ordering};
use hotmem_paging::addr::VirtAddr;

/// Bytes of the memory that calls exchange larger things by, a work area of `ibm,configure-connector` at least.
const BUFFER_BYTES: usize = 4096;
/// Arguments and results of a call, at the most.
const CELLS: usize = 16;
/// Token, two counts, and the cells.
const ARRAY: usize = 3 + CELLS;

#[repr(align(4096))]
struct Memory<T>(UnsafeCell<T>);

// SAFETY: each static is used by the one who holds the `Rtas`, or by the one who starts CPUs, with the lock of the
// controllers; or by the end of the kernel, after which nobody else runs.
unsafe impl<T> Sync for Memory<T> {}

static CALL: Memory<[u32; ARRAY]> = Memory(UnsafeCell::new([0; ARRAY]));
static START_CALL: Memory<[u32; ARRAY]> = Memory(UnsafeCell::new([0; ARRAY]));
static LAST_CALL: Memory<[u32; ARRAY]> = Memory(UnsafeCell::new([0; ARRAY]));
static BUFFER: Memory<[u8; BUFFER_BYTES]> = Memory(UnsafeCell::new([0; BUFFER_BYTES]));
/// What firmware shows the operator when the kernel gives up.
static LAST_WORDS: [u8; 20] = *b"hotmem: kernel end\0\0";

static TAKEN: AtomicBool = AtomicBool::new(false);

/// Where a static of the image lies.
pub(super) fn physical<T>(at: *const T) -> u64 {
    VirtAddr::new(at.addr() as u64).offset_from(Ppc64::KERNEL_BASE)
}

/// Makes a call by the array at `cells`.
///
/// # Safety
///
/// Nobody else uses `cells`, a static of the image; the call writes to memory that the caller owns only.
unsafe fn call(
    cells: *mut [u32; ARRAY],
    token: u32,
    args: &[u32],
    rets: &mut [u32],
) -> Result<(), NoRtas> {
    if args.len() + rets.len() > CELLS {
        return Err(NoRtas);
    }
    let mut array = [0; ARRAY];
    let header = [token, args.len() as u32, rets.len() as u32];
    for (cell, value) in array.iter_mut().zip(header.iter().chain(args)) {
        *cell = value.to_be();
    }
    // SAFETY: the caller owns the array.
    unsafe { cells.write_volatile(array) };
    // SAFETY: the caller vouches for the call; the array is read and its results written.
    let answer = unsafe { hcall(KVMPPC_H_RTAS, [physical(cells), 0, 0, 0]) };
    // SAFETY: as above.
    let array = unsafe { cells.read_volatile() };
    for (ret, cell) in rets.iter_mut().zip(array.iter().skip(3 + args.len())) {
        *ret = u32::from_be(*cell);
    }
    if answer.status == H_SUCCESS { Ok(()) } else { Err(NoRtas) }
}

/// The firmware's functions. There is one value: calls exchange data by memory of their own.
#[derive(Debug)]
pub struct Rtas(());

impl contract::Rtas for Rtas {
    fn take() -> Option<Self> {
        (!TAKEN.swap(true, Ordering::Relaxed)).then_some(Self(()))
    }

    fn call(&mut self, token: u32, args: &[u32], rets: &mut [u32]) -> Result<(), NoRtas> {
        // SAFETY: there is one `Rtas`, and it is borrowed; the functions that a kernel calls write to
        // the buffer whose address they are given, which is `BUFFER` or nothing that Rust owns.
        unsafe { call(CALL.0.get(), token, args, rets) }
    }

    fn buffer(&mut self) -> &mut [u8] {
        // SAFETY: there is one `Rtas`, and it is borrowed; firmware writes during calls only.
        unsafe { &mut *BUFFER.0.get() }
    }

    fn buffer_address(&self) -> u32 {
        // The image is loaded below 4 GiB.
        physical(BUFFER.0.get()) as u32
    }
}

/// Has the CPU `server` begin at `entry` with `argument` in r3; returns whether firmware does. To be called with the lock
/// of the controllers.
pub(super) fn start_cpu(token: u32, server: u32, entry: u32, argument: u32) -> bool {
    let (args, mut rets) = ([server, entry, argument], [u32::MAX]);
    // SAFETY: the array is this function's, of which there is one call at a time; the call writes to nothing else, and
    // the CPU begins with code that is made for that.
    let called = unsafe { call(START_CALL.0.get(), token, &args, &mut rets) };
    called.is_ok() && rets == [0]
}

/// Ends the machine as far as firmware can: `power-off` for success, `ibm,os-term` for the rest.
/// Returns where it cannot.
pub(super) fn exit(exit: Exit) {
    let words = physical(&raw const LAST_WORDS) as u32;
    let MachineInfo { power_off, os_term, .. } = MachineInfo::noted();
    let (token, args): (_, &[u32]) = match exit {
        Exit::Code(0) => (power_off, &[u32::MAX, u32::MAX]),
        _ => (os_term, &[words]),
    };
    if let Some(token) = token {
        // SAFETY: nothing else runs any more, so the array is ours; neither call writes elsewhere.
        let _ = unsafe { call(LAST_CALL.0.get(), token, args, &mut [0]) };
    }
}
