//! What an architecture gives.
//!
//! The type of each architecture ([`X86_64`](crate::x86_64::X86_64) and so on) implements these traits, and its
//! file `current.rs` says that it is an [`Architecture`]. An item that is missing is a compile error that names
//! it:
//!
//! ```compile_fail,E0046
//! use hotmem_arch::contract::Clock;
//!
//! struct Mine;
//!
//! impl Clock for Mine {
//!     fn timestamp() -> u64 { 0 }
//!     fn timestamp_hertz() -> u64 { 1 }
//!     fn timestamp_is_known() -> bool { false }
//! }
//! ```
//!
//! ```
//! # use hotmem_arch::contract::Clock;
//! # struct Mine;
//! impl Clock for Mine {
//!     fn timestamp() -> u64 { 0 }
//!     fn timestamp_hertz() -> u64 { 1 }
//!     fn timestamp_is_known() -> bool { false }
//!     fn instructions() -> u64 { 0 }
//! }
//! ```
//!
//! The kernel asks [`current`](crate::current): the architecture of this build, with the functions that it calls
//! most by short names.

// UNSAFETY: declares functions whose callers promise something.
#![expect(unsafe_code)]

mod rtas;

use crate::area::{CpuArea, Launch};
use crate::io::{IoError, Place};
use crate::irq::{Call, Claim, Controller, Line, NoCpu, NoInput, Registers, TakeError};
use crate::mmio::Register;
use core::fmt;
use core::ptr::NonNull;
use hotmem_paging::addr::{PhysAddr, PhysRange, VirtAddr, VirtRange};
use hotmem_paging::{PteFormat, Tlb};

pub use rtas::{NoRtas, Rtas};

/// All that an architecture gives.
pub trait Architecture:
    Layout + Addressing + Mmio + Cpu + Cpus + Clock + Traps + Probe + Io
{
    /// The format of the kernel's tables.
    type Format: PteFormat;
    /// What caches translations of the kernel's tables.
    type CpuTlb: CpuTlb;
    /// The serial port that is the console.
    type Port: Port;
    /// The interrupt controllers of a machine, with registers in windows `R`.
    type Controllers<R: Registers>: Controllers<R, Self::TrapFrame>;
    /// The firmware functions that a device tree names.
    type Rtas: Rtas;
}

/// The kernel's address space, and the sizes it is compiled for.
pub trait Layout {
    /// Log2 of a base page's bytes.
    const PAGE_SHIFT: u32;
    /// Log2 of a section's bytes.
    const SECTION_SHIFT: u32;
    /// Log2 of the bytes of a memory block, unless the command line says otherwise.
    const BLOCK_SHIFT: u32 = Self::SECTION_SHIFT;
    /// Where physical address 0 is in the linear map.
    const LINEAR_BASE: VirtAddr;
    /// Where the descriptor of pfn 0 is.
    const VMEMMAP_BASE: VirtAddr;
    /// Where device registers are mapped.
    const DEVICE_BASE: VirtAddr;
    /// Where firmware's tables are mapped.
    const FIRMWARE_BASE: VirtAddr;
    /// Where the stacks are.
    const STACK_BASE: VirtAddr;
    /// One past the highest physical address that the linear map and the memmap have room for.
    const PHYS_LIMIT: PhysAddr;
    /// From a stack frame's address to its return address.
    const RETURN_ADDRESS: u64;
    /// The names of the stacks of traps, in the order of [`Traps::TrapStacks`].
    const TRAP_STACKS: &'static [&'static str];
}

/// How code gets from an address that the kernel's tables translate to a pointer. On a real machine they are the
/// same, and an architecture says no more than `impl Addressing`.
pub trait Addressing {
    /// A pointer to the byte at `at`, good up to the end of its page, or of the page table there.
    #[inline(always)]
    fn pointer(at: VirtAddr) -> NonNull<u8> {
        hotmem_paging::pointer_to(at)
    }

    /// A pointer to the bytes of `range`, which the tables show; `None` if nothing is there.
    #[inline(always)]
    fn bytes(range: VirtRange) -> Option<NonNull<u8>> {
        Some(Self::pointer(range.start()))
    }
}

/// Accesses to device registers in memory. An architecture where what the compiler makes of a volatile access will do
/// says no more than `impl Mmio`.
pub trait Mmio {
    /// Loads the register at `at`.
    ///
    /// # Safety
    ///
    /// A register of that size is mapped there, and reading it does what the caller wants of the device.
    #[inline(always)]
    unsafe fn load_register<T: Register>(at: *const T) -> T {
        // SAFETY: by the contract of this function.
        unsafe { at.read_volatile() }
    }

    /// Stores `value` in the register at `at`.
    ///
    /// # Safety
    ///
    /// A register of that size is mapped there, and storing the value does what the caller wants of the device.
    #[inline(always)]
    unsafe fn store_register<T: Register>(at: *mut T, value: T) {
        // SAFETY: by the contract of this function.
        unsafe { at.write_volatile(value) }
    }
}

/// How the kernel leaves the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// With a code the operator chose, 0 to 100.
    Code(u8),
    /// After a panic.
    Panic,
}

/// What a CPU can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// Bytes of the largest leaf.
    pub largest_leaf: u64,
    /// One past the highest physical address.
    pub phys_limit: PhysAddr,
    /// What the kernel cannot do without and this CPU does not have.
    pub missing: Option<&'static str>,
}

/// Interrupts, stacks, caches, and leaving the machine.
pub trait Cpu {
    /// Ends the machine, or halts for good where that is not possible.
    fn exit(exit: Exit) -> !;

    /// Stops this CPU for good, with interrupts off.
    fn halt() -> !;

    /// Makes `area` this CPU's own, for good. To be called once on each CPU, before anything asks for its number.
    fn enter(area: &'static CpuArea);

    /// The number of this CPU. It must have [entered](Self::enter) an area.
    fn number() -> usize;

    /// One turn of a wait for another CPU: lets that one run where both share one, as threads of a core or CPUs of a
    /// virtual machine do.
    fn relax();

    /// Writes back what the caches hold of `range`, which is mapped, and forgets it: memory holds what was
    /// written last.
    fn clean_cache(range: VirtRange);

    /// Lets interrupts in.
    fn enable_interrupts();

    /// Keeps interrupts out.
    fn disable_interrupts();

    /// Whether interrupts are let in.
    fn interrupts_are_enabled() -> bool;

    /// Sleeps until an interrupt, and lets it in. Interrupts must be off: one that arrives after the last look at
    /// its flag is not slept through.
    fn enable_interrupts_and_wait();

    /// What this CPU can do.
    fn features() -> Features;

    /// How the CPU is used, as its registers say.
    fn mode() -> impl fmt::Display;

    /// Turns on what the kernel's own page tables rely on. [`Features::missing`] must be `None`.
    fn set_up();

    /// Makes the tree at `root` the page tables in use, dropping every cached translation, and continues in
    /// `main` with an empty stack that ends at `top`. One function does both, because the old stack may have no
    /// translation in the new tables.
    ///
    /// # Safety
    ///
    /// - `root` is a tree of [`Architecture::Format`] that translates the code that runs, and what that refers
    ///   to, as the tables before did; those are the early ones.
    /// - [`set_up`](Self::set_up) has run.
    /// - `top` is a multiple of 16 and, in these tables, the end of writable memory of no other use, enough for
    ///   what `main` does.
    unsafe fn switch(root: PhysAddr, top: VirtAddr, main: extern "C" fn() -> !) -> !;

    /// The frame pointer of the function that this is inlined into.
    fn frame_pointer() -> u64;
}

/// CPUs beside the first.
pub trait Cpus {
    /// Where the page ends, at the latest, in which a CPU begins; `None` where one can begin in the kernel itself.
    const LANDING_LIMIT: Option<PhysAddr> = None;

    /// Fills a landing page with the code that a CPU begins with, which brings it to `launch`.
    ///
    /// # Errors
    ///
    /// What is in the way, of the page or the launch.
    fn fill_landing(
        page: &mut [u8],
        at: PhysAddr,
        launch: &'static Launch,
    ) -> Result<(), &'static str> {
        let _ = (page, at, launch);
        Err("no CPU of this architecture lands in a page")
    }
}

/// Counters.
pub trait Clock {
    /// A counter that ticks at a fixed rate.
    fn timestamp() -> u64;

    /// Ticks of [`timestamp`](Self::timestamp) in a second.
    fn timestamp_hertz() -> u64;

    /// Whether [`timestamp_hertz`](Self::timestamp_hertz) is told or measured, not guessed.
    fn timestamp_is_known() -> bool;

    /// The counter that counts instructions on a machine started with `-icount shift=0`.
    fn instructions() -> u64;
}

/// How traps get to the kernel.
pub trait Traps {
    /// The registers of what was interrupted.
    type TrapFrame: TrapFrame;
    /// The tops of the stacks for traps.
    type TrapStacks: Copy + fmt::Debug;
    /// What a CPU needs to take traps.
    type CpuTables: CpuTables<Self::TrapStacks>;

    /// Has `handler` called at every trap from now on. When it returns, what was interrupted goes on.
    fn set_handler(handler: fn(&mut Self::TrapFrame));
}

/// What a CPU needs to take traps. It may be too large for a stack.
pub trait CpuTables<Stacks>: Default {
    /// Fills in the tables and loads them, for good. From here on traps reach the handler of
    /// [`Traps::set_handler`].
    ///
    /// With `stacks` absent they run on the stack that they interrupt, or one of the entry code.
    ///
    /// # Safety
    ///
    /// The stacks are mapped, writable and of no other use, for as long as the kernel runs. The call without them
    /// comes first, while the early tables show low memory, which has no other use then.
    unsafe fn load(&'static mut self, stacks: Option<Stacks>);
}

/// The registers of what was interrupted, as the entry code saved them.
pub trait TrapFrame: fmt::Display {
    /// Whether the CPU raised it because of the instruction at [`instruction`](Self::instruction), or something
    /// broke, rather than a device interrupted.
    fn is_exception(&self) -> bool;

    /// Where the interrupted code was.
    fn instruction(&self) -> u64;

    /// The interrupted code's frame pointer: its frame begins with the caller's.
    fn frame_pointer(&self) -> u64;

    /// The address whose access faulted, if the trap is such a fault.
    fn fault_address(&self) -> Option<VirtAddr>;

    /// If the trap tells of bad memory, passes each address to `told`, which says whether that can be dealt with.
    /// Returns whether what was interrupted can go on. Where no trap tells of it, this is all.
    fn takes_bad_memory(&mut self, told: &mut dyn FnMut(PhysAddr) -> bool) -> bool {
        let _ = told;
        false
    }
}

/// Accesses that may fault.
///
/// Each of them is a function whose *first* instruction is the access, so that the trap code knows one that
/// faulted by its address, and resumes it at a second function, which returns 0. The stack and the return
/// address are then as they were at the call. A fetch that faulted is known by its registers: the first
/// argument is where it was, the second [`FETCHING`](Self::FETCHING).
pub trait Probe {
    /// What the second argument of [`execute`](Self::execute) is.
    const FETCHING: u64 = 0x6665_7463_6869_6e67;

    /// Loads from `address` into `*value`, and returns 1.
    ///
    /// # Safety
    ///
    /// Reading the address has no side effect, and `value` can be written.
    unsafe extern "C" fn load(address: u64, value: *mut u64) -> u64;

    /// Stores `value` to `address`, and returns 1.
    ///
    /// # Safety
    ///
    /// If the address is writable, the value may be there.
    unsafe extern "C" fn store(address: u64, value: u64) -> u64;

    /// Continues at `address`.
    ///
    /// # Safety
    ///
    /// `address` translates to [`executed`](Self::executed), or faults.
    unsafe extern "C" fn execute(address: u64, fetching: u64) -> u64;

    /// What [`execute`](Self::execute) is sent to: returns 1.
    extern "C" fn executed() -> u64;
}

/// Address spaces beside memory, for firmware's byte code. An architecture where there are none, or this kernel
/// does not reach them, says no more than `impl Io`.
pub trait Io {
    /// Reads `bytes` bytes at `place`.
    ///
    /// # Errors
    ///
    /// [`IoError`]
    fn read(place: Place, bytes: u32) -> Result<u64, IoError> {
        let _ = (place, bytes);
        Err(IoError::Unsupported)
    }

    /// Writes the low `bytes` bytes of `value` to `place`.
    ///
    /// # Errors
    ///
    /// [`IoError`]
    fn write(place: Place, bytes: u32, value: u64) -> Result<(), IoError> {
        let _ = (place, bytes, value);
        Err(IoError::Unsupported)
    }
}

/// What caches translations of the kernel's tables.
pub trait CpuTlb: Tlb {
    /// Whether a flush reaches every CPU; else it reaches the one that it is made on.
    const REACHES_ALL: bool;

    /// Vouches for who uses the tables.
    ///
    /// # Safety
    ///
    /// [`Cpu::set_up`] runs on each CPU before it loads the tables that the value is used for. Unless a flush
    /// [reaches all](Self::REACHES_ALL), the caller makes the same flush on each other CPU that has loaded them,
    /// before it relies on it.
    unsafe fn new() -> Self;
}

/// A serial port.
pub trait Port: Sized {
    /// Its ISA interrupt, for machines whose firmware does not name the console's line.
    const ISA_IRQ: Option<u8>;

    /// The registers that it needs mapped in the device window.
    fn registers() -> Option<PhysRange>;

    /// Sets up the port.
    ///
    /// # Safety
    ///
    /// The port is where this kind of machine has it, or nothing is there; [`registers`](Self::registers) are
    /// mapped from now on, and no other value drives them.
    unsafe fn open() -> Self;

    /// Sends one byte, waiting for room; gives up on a port that never has any.
    fn send(&mut self, byte: u8);

    /// Whether a byte was received.
    fn has_input(&self) -> bool;

    /// The next received byte, if there is one.
    fn receive(&mut self) -> Option<u8>;

    /// Lets the port interrupt when a byte arrives.
    fn interrupt_on_receive(&mut self);
}

/// The interrupt controllers of a machine.
pub trait Controllers<R, Frame>: Sized {
    /// Lines that can be connected.
    const SLOTS: usize;

    /// Takes over the controllers that are `described`, with everything masked; `map` makes their registers
    /// reachable.
    ///
    /// # Errors
    ///
    /// [`TakeError`] if one that is needed is not described, or registers cannot be mapped.
    fn take<E>(
        described: impl Iterator<Item = Controller>,
        map: impl FnMut(PhysRange) -> Result<R, E>,
    ) -> Result<Self, TakeError<E>>;

    /// Lets `line` interrupt, and be known by `slot` (less than [`SLOTS`](Self::SLOTS)).
    ///
    /// # Errors
    ///
    /// [`NoInput`] if no controller has an input for it.
    fn connect(&mut self, slot: usize, line: Line) -> Result<(), NoInput>;

    /// What firmware calls the CPU that runs.
    fn own_hardware(&self) -> u64;

    /// Lets interrupts come to this CPU, another than the one that took the controllers over: those of
    /// [`call`](Self::call) for a start.
    ///
    /// # Errors
    ///
    /// [`NoCpu`] if the controllers have no part for it.
    fn join(&self) -> Result<(), NoCpu>;

    /// Interrupts the CPU that firmware calls `hardware`.
    ///
    /// # Errors
    ///
    /// [`NoCpu`] if the controllers cannot address it.
    fn call(&self, hardware: u64, call: Call) -> Result<(), NoCpu>;

    /// Has the CPU that firmware calls `hardware` begin, on its way to `launch`: in the landing page, where there is
    /// [one](Cpus::LANDING_LIMIT).
    ///
    /// # Safety
    ///
    /// The launch is for this CPU alone. If there has to be a landing page, what [`Cpus::fill_landing`] wrote is there,
    /// and executable at that address, until the CPU has left it or was [reset](Self::reset).
    ///
    /// # Errors
    ///
    /// [`NoCpu`] if no such CPU exists, or it cannot be started.
    unsafe fn start(
        &self,
        hardware: u64,
        landing: Option<PhysAddr>,
        launch: &'static Launch,
    ) -> Result<(), NoCpu> {
        let _ = (landing, launch);
        Err(NoCpu(hardware))
    }

    /// Has a CPU that was started and did not come stay away, where the controllers can do that. Returns whether it
    /// never comes any more.
    fn reset(&self, hardware: u64) -> bool {
        let _ = hardware;
        false
    }

    /// Has the timer of the CPU that runs interrupt it so many times in a second, 1 at the least, from now on
    /// ([`Source::Timer`](crate::irq::Source::Timer)). The CPU takes interrupts.
    fn start_timer(&self, hertz: u64);

    /// Ends that. An interrupt that the timer has asked for already may still come.
    fn stop_timer(&self);

    /// The interrupt that a trap stands for; `None` if it went away before it was taken.
    fn claim(&self, frame: &Frame) -> Option<Claim>;

    /// Says that an interrupt was served.
    fn finish(&self, claim: Claim);

    /// Masks `line` or unmasks it.
    fn set_masked(&self, line: Line, masked: bool);
}
