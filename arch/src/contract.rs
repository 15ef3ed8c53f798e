//! The traits that every architecture implements.
//!
//! The type of each architecture ([`X86_64`](crate::x86_64::X86_64) and so on) implements these traits, and its file
//! `current.rs` declares it an [`Architecture`]. A missing item is a compile error that names the item:
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
//! The kernel calls [`current`](crate::current): the architecture of this build, with short names for the functions
//! that are called most.

// UNSAFETY: declares functions with safety contracts.
#![expect(unsafe_code)]

mod controllers;
mod guests;
mod kernels;
mod rtas;

use crate::area::{CpuArea, Launch};
use crate::io::{IoError, Place};
use crate::irq::Registers;
use crate::mmio::Register;
use core::fmt;
use core::ptr::NonNull;
use hotmem_paging::addr::{PhysAddr, PhysRange, VirtAddr, VirtRange};
use hotmem_paging::{PteFormat, Tlb};

pub use controllers::Controllers;
pub use guests::{
    Access, CpuReply, CpuRequest, CpuSet, CpuStart, Devices, GuestCall, GuestExit, GuestSpace,
    Guests, Locked, Misdeed, NoGuests, PAYLOAD_ALONE, PAYLOAD_DONE, PAYLOAD_ROUND, StateMemory,
    Vcpu, payload_kind,
};
pub use kernels::{Described, KernelStart, LinuxFiles, NoKernel, Put};
pub use rtas::{NoRtas, Rtas};

/// All traits of an architecture together.
pub trait Architecture:
    Layout + Addressing + Mmio + Cpu + Cpus + Clock + Traps + Probe + Io + Guests
{
    /// The format of the kernel's page tables.
    type Format: PteFormat;
    /// The TLB: caches translations of the kernel's page tables.
    type CpuTlb: CpuTlb;
    /// The serial port that serves as console.
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
    /// Log2 of the bytes of a memory block, unless the command line gives another size.
    const BLOCK_SHIFT: u32 = Self::SECTION_SHIFT;
    /// The address of physical address 0 in the linear map.
    const LINEAR_BASE: VirtAddr;
    /// The address of pfn 0's descriptor.
    const VMEMMAP_BASE: VirtAddr;
    /// The base of the window for device registers.
    const DEVICE_BASE: VirtAddr;
    /// The base of the window for firmware tables.
    const FIRMWARE_BASE: VirtAddr;
    /// The base of the window for stacks.
    const STACK_BASE: VirtAddr;
    /// One past the highest physical address that fits the linear map and the memmap.
    const PHYS_LIMIT: PhysAddr;
    /// The offset from a stack frame's address to its return address.
    const RETURN_ADDRESS: u64;
    /// The names of the stacks of traps, in the order of [`Traps::TrapStacks`].
    const TRAP_STACKS: &'static [&'static str];
}

/// Turns an address that the kernel's tables translate into a pointer. On a real machine both are the same number,
/// and an architecture writes only `impl Addressing`.
pub trait Addressing {
    /// A pointer to the byte at `at`, valid up to the end of its page, or of the page table there.
    #[inline(always)]
    fn pointer(at: VirtAddr) -> NonNull<u8> {
        hotmem_paging::pointer_to(at)
    }

    /// The same for the byte `offset` bytes into a window at `base`: see [`pointer_in`](hotmem_paging::pointer_in).
    #[inline(always)]
    fn pointer_in(base: VirtAddr, offset: u64) -> NonNull<u8> {
        hotmem_paging::pointer_in(base, offset)
    }

    /// A pointer to the bytes of `range`, which the tables map; `None` if there is no memory.
    #[inline(always)]
    fn bytes(range: VirtRange) -> Option<NonNull<u8>> {
        Some(Self::pointer(range.start()))
    }
}

/// Accesses to device registers in memory. An architecture on which the compiler's volatile accesses suffice writes
/// only `impl Mmio`.
pub trait Mmio {
    /// Loads the register at `at`.
    ///
    /// # Safety
    ///
    /// A register of that size is mapped there, and the caller intends what reading it makes the device do.
    #[inline(always)]
    unsafe fn load_register<T: Register>(at: *const T) -> T {
        // SAFETY: by the contract of this function.
        unsafe { at.read_volatile() }
    }

    /// Stores `value` in the register at `at`.
    ///
    /// # Safety
    ///
    /// A register of that size is mapped there, and the caller intends what storing the value makes the device do.
    #[inline(always)]
    unsafe fn store_register<T: Register>(at: *mut T, value: T) {
        // SAFETY: by the contract of this function.
        unsafe { at.write_volatile(value) }
    }
}

/// How the kernel leaves the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// With a code that the operator chose, 0 to 100.
    Code(u8),
    /// After a panic.
    Panic,
}

/// The abilities of a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// Bytes of the largest leaf.
    pub largest_leaf: u64,
    /// One past the highest physical address.
    pub phys_limit: PhysAddr,
    /// A feature that the kernel needs and this CPU lacks.
    pub missing: Option<&'static str>,
}

/// Interrupts, stacks, caches, and leaving the machine.
pub trait Cpu {
    /// Ends the machine, or halts for ever if that is not possible.
    fn exit(exit: Exit) -> !;

    /// Stops this CPU for ever, with interrupts off.
    fn halt() -> !;

    /// Makes `area` this CPU's own, for ever. Called once on each CPU, before any call of [`number`](Self::number).
    fn enter(area: &'static CpuArea);

    /// The number of this CPU. It must have [entered](Self::enter) an area.
    fn number() -> usize;

    /// One iteration of a loop that waits for another CPU: lets that CPU run if both share a core, as hardware
    /// threads or CPUs of a virtual machine do.
    fn relax();

    /// Writes back what the caches hold of `range`, which is mapped, and forgets it: memory holds what was
    /// written last.
    fn clean_cache(range: VirtRange);

    /// Enables interrupts.
    fn enable_interrupts();

    /// Disables interrupts.
    fn disable_interrupts();

    /// Whether interrupts are enabled.
    fn interrupts_are_enabled() -> bool;

    /// Disables interrupts. Returns whether they were enabled.
    #[inline(always)]
    fn mask_interrupts() -> bool {
        let were_on = Self::interrupts_are_enabled();
        Self::disable_interrupts();
        were_on
    }

    /// Enables interrupts again if they were enabled before [`mask_interrupts`](Self::mask_interrupts). They are off until then:
    /// afterwards they are on if, and only if, they `were_on`. An architecture may enable or disable them whatever they are,
    /// so a caller with interrupts on is wrong, and is stopped where debug assertions are on.
    #[inline(always)]
    fn restore_interrupts(were_on: bool) {
        debug_assert!(
            !Self::interrupts_are_enabled(),
            "interrupts are on before they are restored"
        );
        if were_on {
            Self::enable_interrupts();
        }
    }

    /// Enables interrupts and sleeps until one arrives. Interrupts must be off: an interrupt that arrives after the
    /// caller's last check is not slept through.
    fn enable_interrupts_and_wait();

    /// The abilities of this CPU.
    fn features() -> Features;

    /// The mode that the CPU runs in, read from its registers.
    fn mode() -> impl fmt::Display;

    /// Turns on the features that the kernel's own page tables rely on. [`Features::missing`] must be `None`.
    fn set_up();

    /// Makes the tree at `root` the page tables in use, drops every cached translation, and continues in `main` with
    /// an empty stack that ends at `top`. One function does both, because the new tables may not translate the old
    /// stack.
    ///
    /// # Safety
    ///
    /// - `root` is a tree of [`Architecture::Format`] that translates the running code and everything that code
    ///   refers to as the current tables do; the current tables are the early ones.
    /// - [`set_up`](Self::set_up) has run.
    /// - `top` is a multiple of 16 and, in these tables, the end of writable memory of no other use, large enough
    ///   for `main`.
    unsafe fn switch(root: PhysAddr, top: VirtAddr, main: extern "C" fn() -> !) -> !;

    /// The frame pointer of the function that this call is inlined into.
    fn frame_pointer() -> u64;
}

/// CPUs other than the first.
pub trait Cpus {
    /// The limit below which the page must end in which a CPU begins; `None` if CPUs begin in the kernel itself.
    const LANDING_LIMIT: Option<PhysAddr> = None;

    /// Fills a landing page with the code that a CPU begins with, which leads to `launch`.
    ///
    /// # Errors
    ///
    /// The property of the page or of the launch that prevents this.
    fn fill_landing(
        page: &mut [u8],
        at: PhysAddr,
        launch: &'static Launch,
    ) -> Result<(), &'static str> {
        let _ = (page, at, launch);
        Err("CPUs of this architecture do not begin in a landing page")
    }
}

/// Counters.
pub trait Clock {
    /// A counter that ticks at a fixed rate.
    fn timestamp() -> u64;

    /// Ticks of [`timestamp`](Self::timestamp) in a second.
    fn timestamp_hertz() -> u64;

    /// Whether [`timestamp_hertz`](Self::timestamp_hertz) was given or measured, not guessed.
    fn timestamp_is_known() -> bool;

    /// The counter that counts instructions on a machine started with `-icount shift=0`.
    fn instructions() -> u64;
}

/// The way of traps into the kernel.
pub trait Traps {
    /// The registers of the interrupted code.
    type TrapFrame: TrapFrame;
    /// The tops of the stacks for traps.
    type TrapStacks: Copy + fmt::Debug;
    /// What a CPU needs to take traps.
    type CpuTables: CpuTables<Self::TrapStacks>;

    /// Has `handler` called at every trap from now on. When it returns, the interrupted code continues.
    fn set_handler(handler: fn(&mut Self::TrapFrame));
}

/// The tables that a CPU needs to take traps. They may be too large for a stack.
pub trait CpuTables<Stacks>: Default {
    /// Fills in the tables and loads them, for ever. From now on traps reach the handler of [`Traps::set_handler`].
    ///
    /// Without `stacks`, traps run on the stack that they interrupt, or on one of the entry code.
    ///
    /// # Safety
    ///
    /// The stacks are mapped, writable and of no other use, for as long as the kernel runs. The call without stacks
    /// comes first, while the early tables map low memory, and low memory has no other use then.
    unsafe fn load(&'static mut self, stacks: Option<Stacks>);
}

/// The registers of the interrupted code, as the entry code saved them.
pub trait TrapFrame: fmt::Display {
    /// Whether the cause is the instruction at [`instruction`](Self::instruction) or a hardware error, not an
    /// interrupt of a device.
    fn is_exception(&self) -> bool;

    /// The address of the interrupted instruction.
    fn instruction(&self) -> u64;

    /// The frame pointer of the interrupted code: its frame begins with the frame pointer of its caller.
    fn frame_pointer(&self) -> u64;

    /// The address whose access faulted, if the trap is such a fault.
    fn fault_address(&self) -> Option<VirtAddr>;

    /// If the trap is one that an operator causes from outside (an NMI), and the interrupted code can continue, has this
    /// code leave its wait, and returns `true`. This default is for architectures without such traps.
    fn takes_nmi(&mut self) -> bool {
        false
    }

    /// If the trap reports bad memory, passes each address to `report`, which returns whether the kernel can handle
    /// it. Returns whether the interrupted code can continue. This default is for architectures whose traps report
    /// no bad memory.
    fn takes_bad_memory(&mut self, report: &mut dyn FnMut(PhysAddr) -> bool) -> bool {
        let _ = report;
        false
    }
}

/// Accesses that may fault.
///
/// Each access is a function whose *first* instruction is the access: the trap code recognises a probe that faulted
/// by the address of that instruction, and resumes it in a second function, which returns 0. The stack and the
/// return address are then the same as at the call. The trap code recognises a fetch that faulted by its registers:
/// the first argument is the address, the second [`FETCHING`](Self::FETCHING).
pub trait Probe {
    /// The second argument of [`execute`](Self::execute).
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
    /// If the address is writable, storing the value there is harmless.
    unsafe extern "C" fn store(address: u64, value: u64) -> u64;

    /// Continues at `address`.
    ///
    /// # Safety
    ///
    /// `address` translates to [`executed`](Self::executed), or faults.
    unsafe extern "C" fn execute(address: u64, fetching: u64) -> u64;

    /// The target of [`execute`](Self::execute): returns 1.
    extern "C" fn executed() -> u64;
}

/// Address spaces other than memory, for firmware's byte code. An architecture without them, or whose address spaces
/// this kernel does not reach, writes only `impl Io`.
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

/// The TLB: caches translations of the kernel's page tables.
pub trait CpuTlb: Tlb {
    /// Whether a flush reaches every CPU; if not, it reaches only the CPU that runs it.
    const REACHES_ALL: bool;

    /// Creates the value for tables whose users the caller knows.
    ///
    /// # Safety
    ///
    /// [`Cpu::set_up`] runs on each CPU before the CPU loads the tables that the value is used for. Unless a flush
    /// [reaches all CPUs](Self::REACHES_ALL), the caller makes the same flush on every other CPU that has loaded
    /// them, before it relies on the flush.
    unsafe fn new() -> Self;
}

/// A serial port.
pub trait Port: Sized {
    /// Its ISA interrupt, for machines whose firmware does not name the console's line.
    const ISA_IRQ: Option<u8>;

    /// The registers that must be mapped in the device window.
    fn registers() -> Option<PhysRange>;

    /// Sets up the port.
    ///
    /// # Safety
    ///
    /// The port is at the address where this kind of machine has it, or no device is there;
    /// [`registers`](Self::registers) are mapped from now on, and no other value drives them.
    unsafe fn open() -> Self;

    /// Sends one byte, after waiting for room; drops the byte if the port never has room.
    fn send(&mut self, byte: u8);

    /// Whether a byte was received.
    fn has_input(&self) -> bool;

    /// The next received byte, if there is one.
    fn receive(&mut self) -> Option<u8>;

    /// Enables the port's interrupt on a received byte.
    fn interrupt_on_receive(&mut self);
}
