//! RTAS by hypercall: an array of big-endian cells in memory below 4 GiB (LoPAR 7.2.7, and
//! `docs/specs/ppc-spapr-hcalls.rst` of QEMU). The machine lacks firmware code in memory that could be called.

// UNSAFETY: lets firmware write to memory.
#![expect(unsafe_code)]

use super::Ppc64;
use super::hcall::{H_SUCCESS, KVMPPC_H_RTAS, hcall};
use crate::contract::{self, Exit, NoRtas};
use crate::machine_info::MachineInfo;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, Ordering};
use hotmem_paging::addr::VirtAddr;

/// Bytes of the buffer through which calls exchange larger data: at least a work area of `ibm,configure-connector`.
const BUFFER_BYTES: usize = 4096;
/// Arguments and results of a call at most.
const CELLS: usize = 16;
/// Token, two counts, and the cells.
const ARRAY: usize = 3 + CELLS;

#[repr(align(4096))]
struct Memory<T>(UnsafeCell<T>);

// SAFETY: each static has one user at a time: the owner of the `Rtas`; or the CPU that starts another, one at
// a time; or the end of the kernel, when no other code runs any more.
unsafe impl<T> Sync for Memory<T> {}

static CALL: Memory<[u32; ARRAY]> = Memory(UnsafeCell::new([0; ARRAY]));
static START_CALL: Memory<[u32; ARRAY]> = Memory(UnsafeCell::new([0; ARRAY]));
static LAST_CALL: Memory<[u32; ARRAY]> = Memory(UnsafeCell::new([0; ARRAY]));
static BUFFER: Memory<[u8; BUFFER_BYTES]> = Memory(UnsafeCell::new([0; BUFFER_BYTES]));
/// The text that firmware shows the operator when the kernel fails.
static LAST_WORDS: [u8; 20] = *b"hotmem: kernel end\0\0";

static TAKEN: AtomicBool = AtomicBool::new(false);

/// The physical address of a static of the image, for the hypervisor or another CPU, which access it by that: so the
/// compiler must expect accesses by other pointers than its own.
pub(super) fn physical<T>(at: *const T) -> u64 {
    VirtAddr::new(at.expose_provenance() as u64).offset_from(Ppc64::KERNEL_BASE)
}

/// Makes a call with the array at `cells`.
///
/// # Safety
///
/// No other code uses `cells`, a static of the image; the call writes only to memory that the caller owns.
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
    // SAFETY: by this function's contract the call is allowed; it reads the array and writes the results to it.
    let result = unsafe { hcall(KVMPPC_H_RTAS, [physical(cells), 0, 0, 0]) };
    // SAFETY: as above.
    let array = unsafe { cells.read_volatile() };
    for (ret, cell) in rets.iter_mut().zip(array.iter().skip(3 + args.len())) {
        *ret = u32::from_be(*cell);
    }
    if result.status == H_SUCCESS { Ok(()) } else { Err(NoRtas) }
}

/// The firmware's functions. There is one value, since calls exchange data through one memory area.
#[derive(Debug)]
pub struct Rtas(());

impl contract::Rtas for Rtas {
    fn take() -> Option<Self> {
        (!TAKEN.swap(true, Ordering::Relaxed)).then_some(Self(()))
    }

    unsafe fn call(&mut self, token: u32, args: &[u32], rets: &mut [u32]) -> Result<(), NoRtas> {
        // SAFETY: there is one `Rtas`, and it is borrowed; the rest by the contract of this function.
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

/// Starts the CPU `server` at `entry` with `argument` in r3; returns whether firmware accepted.
///
/// # Safety
///
/// No other call of this function is under way. The code at `entry` is for a CPU that begins like that, with that
/// argument.
pub(super) unsafe fn start_cpu(token: u32, server: u32, entry: u32, argument: u32) -> bool {
    let (args, mut rets) = ([server, entry, argument], [u32::MAX]);
    // SAFETY: only this function uses the array, one call at a time; the call writes to nothing else. What the CPU
    // executes is covered by the contract of this function.
    let called = unsafe { call(START_CALL.0.get(), token, &args, &mut rets) };
    called.is_ok() && rets == [0]
}

/// Ends the machine as far as firmware can: `power-off` for success, `ibm,os-term` otherwise. Returns if firmware
/// cannot.
pub(super) fn exit(exit: Exit) {
    let words = physical(&raw const LAST_WORDS) as u32;
    let MachineInfo { power_off, os_term, .. } = MachineInfo::noted();
    let (token, args): (_, &[u32]) = match exit {
        Exit::Code(0) => (power_off, &[u32::MAX, u32::MAX]),
        _ => (os_term, &[words]),
    };
    if let Some(token) = token {
        // SAFETY: no other code runs any more, so only this call uses the array; neither function writes elsewhere.
        let _ = unsafe { call(LAST_CALL.0.get(), token, args, &mut [0]) };
    }
}
