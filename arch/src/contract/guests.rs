//! Guests: virtual CPUs, and the second stage of translation.
//!
//! ```text
//!   guest address --> second-stage tables (Guests::GuestFormat, root and tag in a GuestSpace) --> physical address
//!   Vcpu::run: from the host into the guest, until an Exit
//! ```
//!
//! A guest is the [payload](Guests::payload), which has no devices, a Linux kernel as distributions ship it, or this
//! kernel itself. [`Guests::linux`] and [`Guests::describe`] say how those begin, [`Vcpu::linux`] and [`Vcpu::own`] make
//! their CPU together with the devices of its board: an interrupt controller, a timer, a serial port, and a way to turn
//! itself off. They are emulated behind [`Vcpu::run`], and nothing but the exits below is seen of them.

// UNSAFETY: declares functions with safety contracts.
#![expect(unsafe_code)]

use super::kernels::{Described, KernelStart, LinuxFiles, NoKernel, Put};
use core::fmt;
use core::ptr::NonNull;
use hotmem_paging::PteFormat;
use hotmem_paging::addr::{GuestAddr, GuestRange, PhysAddr};

/// The reason why this machine runs no guests: the feature that is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoGuests(pub &'static str);

impl fmt::Display for NoGuests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "this machine runs no guests: it does not have {}", self.0)
    }
}

impl core::error::Error for NoGuests {}

/// The second-stage tables of a guest, as the hardware names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestSpace {
    root: PhysAddr,
    tag: u16,
}

impl GuestSpace {
    /// The tree at `root`, whose cached translations have `tag` (ASID, VMID, logical partition; 1 to 15).
    ///
    /// # Safety
    ///
    /// - `root` is a tree of [`Guests::GuestFormat`] whose leaves map only memory that the guest may access, for as
    ///   long as a virtual CPU runs in the space.
    /// - No other tree has had the tag since cached translations with it were last dropped.
    pub const unsafe fn new(root: PhysAddr, tag: u16) -> Self {
        Self { root, tag }
    }

    /// The root of the tree.
    pub const fn root(&self) -> PhysAddr {
        self.root
    }

    /// The tag of its cached translations.
    pub const fn tag(&self) -> u16 {
        self.tag
    }
}

/// Pages of the kernel that the hardware accesses: the state of a virtual CPU.
#[derive(Debug)]
pub struct StateMemory {
    at: PhysAddr,
    pointer: NonNull<u8>,
}

impl StateMemory {
    /// The memory at `at`, which `pointer` reaches.
    ///
    /// # Safety
    ///
    /// The memory is zeroed, has the size that the user of this value names, is aligned to a page, and has no other
    /// use for as long as this value exists.
    pub const unsafe fn new(at: PhysAddr, pointer: NonNull<u8>) -> Self {
        Self { at, pointer }
    }

    /// Its address.
    pub const fn at(&self) -> PhysAddr {
        self.at
    }

    /// A pointer to it.
    pub const fn pointer(&self) -> NonNull<u8> {
        self.pointer
    }
}

/// The kind of an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// A load.
    Read,
    /// A store.
    Write,
    /// An instruction fetch.
    Fetch,
}

/// A call of a guest: a number and arguments, in registers that the architecture names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestCall {
    /// The number of the function.
    pub number: u64,
    /// Its arguments.
    pub arguments: [u64; 5],
}

/// The reason why a virtual CPU stopped running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuestExit {
    /// An interrupt of the host: it is taken when the caller enables interrupts.
    Interrupt,
    /// No second-stage leaf allows the access. The instruction is repeated when the virtual CPU runs again.
    Fault {
        /// The address, exact at least to the page.
        at: GuestAddr,
        /// The kind of access.
        access: Access,
    },
    /// The guest calls the host. [`Vcpu::reply`] returns a value to it; it continues after the call.
    Call(GuestCall),
    /// The guest waits for an interrupt (HLT, WFI), and none will come. It continues after that instruction.
    Wait,
    /// The guest waits for an interrupt. Its timer has one when the [clock](super::Clock::timestamp) shows this value;
    /// it may run earlier.
    WaitUntil(u64),
    /// The guest waits for an interrupt that only another of its CPUs can send.
    WaitForCpus,
    /// A device of the guest was emulated. It continues after that instruction.
    Emulated,
    /// The guest wrote this byte to its serial port. It continues after that instruction.
    Console(u8),
    /// The guest requests that CPUs of its own start, stop or report their state. It continues after that instruction;
    /// [`Vcpu::reply_to_request`] returns the result to it.
    Cpus(CpuRequest),
    /// The guest turned its machine off.
    Off,
    /// The guest did what this host does not emulate, and cannot continue: the reason, and a code of the
    /// architecture with more about it.
    Stopped(&'static str, u64),
}

/// CPUs of a guest: a bit for each number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuSet(u64);

impl CpuSet {
    /// The CPU with this number; empty for a number that no CPU has.
    pub const fn one(number: u64) -> Self {
        Self(if number < u64::BITS as u64 { 1 << number } else { 0 })
    }

    /// The CPUs with these bits.
    pub const fn of_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// Whether the CPU with this number is in it.
    pub const fn contains(self, number: usize) -> bool {
        number < u64::BITS as usize && self.0 >> number & 1 != 0
    }

    /// Those of both.
    pub const fn with(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// All but `others`.
    pub const fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    /// Whether none is in it.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// All others.
    pub const fn complement(self) -> Self {
        Self(!self.0)
    }

    /// The numbers of the CPUs.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        (0..u64::BITS as usize).filter(move |number| self.0 >> number & 1 != 0)
    }
}

/// What a guest requests of its CPUs, which have numbers from 0 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CpuRequest {
    /// These CPUs are to run, if they are off.
    Start {
        /// The CPUs.
        cpus: CpuSet,
        /// Where each of them begins.
        start: CpuStart,
    },
    /// The CPU that requests this goes off, unless the request is refused.
    Stop,
    /// Whether this CPU is on.
    State(CpuSet),
    /// These CPUs are to be off, and to wait for a start.
    Reset(CpuSet),
}

/// Where a CPU of a guest begins that another started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuStart {
    /// Its first instruction.
    pub entry: GuestAddr,
    /// What it finds in its first register, if the architecture hands that on.
    pub context: u64,
}

/// The reply to a [`CpuRequest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CpuReply {
    /// It is carried out.
    Done,
    /// The guest has no such CPU.
    NoCpu,
    /// The CPU is on already.
    IsOn,
    /// It has been started, and does not run yet.
    IsStarting,
    /// It is off.
    IsOff,
    /// It cannot begin there.
    BadEntry,
    /// The last CPU that is on stays on.
    Denied,
}

/// The devices that the CPUs of a guest share.
pub trait Devices: Send + fmt::Debug {
    /// Those of a guest with so many CPUs, after a reset.
    fn new(cpus: usize) -> Self;

    /// The serial port receives a byte. Returns `false` if the port is full, or the guest lacks one.
    fn receive(&mut self, byte: u8) -> bool {
        let _ = byte;
        false
    }
}

/// No devices.
impl Devices for () {
    fn new(_cpus: usize) -> Self {}
}

/// Devices behind a lock of the host's.
pub trait Locked<D> {
    /// Calls `f` with the devices. It must not be called in `f`.
    fn with<R>(&self, f: impl FnOnce(&mut D) -> R) -> R;
}

/// A virtual CPU: the registers of a guest while it does not run.
///
/// Its `Display` lists the registers.
pub trait Vcpu: Sized + Send + fmt::Display + fmt::Debug {
    /// Bytes of [`StateMemory`] that one needs, a multiple of a page; 0 if none.
    const STATE_BYTES: u64;

    /// What it shares with the others of its guest.
    type Devices: Devices;

    /// One that begins at `entry` with `arguments` in the registers of a function call, and with translation of its
    /// own off, or flat. `state` has [`STATE_BYTES`](Self::STATE_BYTES), or is dangling if they are 0.
    fn new(state: StateMemory, entry: GuestAddr, arguments: [u64; 4]) -> Self;

    /// The CPU of a Linux kernel, with the devices of its board. Never called where [`Guests::linux`] refuses all of
    /// them.
    fn linux(state: StateMemory, start: &KernelStart) -> Self {
        Self::new(state, start.entry, start.arguments)
    }

    /// The CPU of this kernel as a guest, with the devices of its board: it begins at the entry with the address of a
    /// start info as its first argument. Never called where [`Guests::describe`] refuses all guests.
    fn own(state: StateMemory, start: &KernelStart) -> Self {
        Self::linux(state, start)
    }

    /// The CPU `number` of a guest, which another of its CPUs started; `has_board` if the first one was made by
    /// [`linux`](Self::linux) or [`own`](Self::own). Never called where [`Guests::MOST_CPUS`] is 1.
    fn started(state: StateMemory, number: usize, start: &CpuStart, has_board: bool) -> Self {
        let _ = (number, has_board);
        Self::new(state, start.entry, [start.context, 0, 0, 0])
    }

    /// Runs the guest in `space` until an exit. Interrupts of the host must be off; one that is pending ends the run,
    /// and so does the guest's timer if [`Guests::TIMER_ENDS_RUNS`].
    ///
    /// # Safety
    ///
    /// - [`Guests::enable_guests`] has run on this CPU.
    /// - The contract of [`GuestSpace::new`] holds for `space` during the run.
    unsafe fn run(&mut self, space: &GuestSpace, devices: &impl Locked<Self::Devices>)
    -> GuestExit;

    /// The CPUs of its guest that have to look at their interrupts, by what it did since the last call: the caller has
    /// them leave the guest, or wakes them.
    fn take_called(&mut self) -> CpuSet {
        CpuSet::of_bits(0)
    }

    /// Returns `value` to the guest from its last [call](GuestExit::Call).
    fn reply(&mut self, value: u64);

    /// Returns the result of its last [request](GuestExit::Cpus) to the guest, on an architecture that has one.
    fn reply_to_request(&mut self, reply: CpuReply) {
        let _ = reply;
    }
}

/// The virtualization of an architecture.
pub trait Guests {
    /// The format of second-stage tables. Its last level's leaves are base pages of the kernel.
    type GuestFormat: PteFormat;
    /// A virtual CPU.
    type Vcpu: Vcpu;

    /// The address of a guest's first byte of RAM.
    const GUEST_RAM: GuestAddr;

    /// One past the highest guest address that tables can translate.
    const GUEST_LIMIT: GuestAddr;

    /// The most virtual CPUs of a guest. A guest with several starts all but the first itself.
    const MOST_CPUS: usize = 1;

    /// The number by which an ELF file says that it is for this architecture (`e_machine`); 0 where no guest
    /// [begins](Self::describe) with one.
    const ELF_MACHINE: u16 = 0;

    /// Whether [`drop_guest_translations`](Self::drop_guest_translations) reaches every CPU. If not, it reaches the
    /// CPU that runs it; another CPU drops its cached translations of a space when it leaves a guest and enters one
    /// again.
    const GUEST_FLUSH_REACHES_ALL: bool;

    /// Whether the timer of a guest's board ends a run when it is due. If not, a run that begins later delivers it: so
    /// the caller interrupts the guest often.
    const TIMER_ENDS_RUNS: bool = true;

    /// Whether all CPUs on which virtualization is on mark leaves that guests write
    /// ([`PteFormat::WRITTEN`]). Where not, no mark is taken back.
    fn marks_writes() -> bool {
        false
    }

    /// Turns virtualization on, on the CPU that runs this.
    ///
    /// # Errors
    ///
    /// [`NoGuests`] with what this machine lacks; nothing has changed.
    fn enable_guests() -> Result<(), NoGuests>;

    /// Orders entries of second-stage tables that were stored before any walk that follows, on all CPUs.
    fn publish_guest_entries();

    /// Drops the cached translations of `ranges` in `space`, and the cached pointers to the tables that span them.
    fn drop_guest_translations(space: &GuestSpace, ranges: &[GuestRange]);

    /// Copies `bytes`, a multiple of a page, between two pages of guests: the time that takes may be a pause of the
    /// guest. A guest that stores to `from` meanwhile leaves any mix of old and new bytes in `to`.
    ///
    /// # Safety
    ///
    /// `from` can be read and `to` written for that many bytes; they do not overlap. No code of the kernel accesses
    /// them, and nothing at all accesses `to`.
    unsafe fn copy_guest_memory(from: NonNull<u8>, to: NonNull<u8>, bytes: usize) {
        // SAFETY: by the contract of this function.
        unsafe { core::ptr::copy_nonoverlapping(from.as_ptr(), to.as_ptr(), bytes) };
    }

    /// Prepares a Linux kernel in a guest with `cpus` CPUs and the memory `ram`, which is zero so far: hands `put` everything that the
    /// kernel finds there (itself, `files`, tables that describe its board), and returns where its CPU begins. An
    /// architecture that does not implement this refuses.
    ///
    /// # Errors
    ///
    /// [`NoKernel`]: the files are not what the architecture boots, or do not fit; or an error of `put`.
    fn linux(
        files: &LinuxFiles<'_>,
        ram: GuestRange,
        cpus: usize,
        put: &mut Put<'_>,
    ) -> Result<KernelStart, NoKernel> {
        let _ = (files, ram, cpus, put);
        Err(NoKernel("this kernel does so on other architectures only"))
    }

    /// Describes the board of a guest with `cpus` CPUs and the memory `ram` to a kernel that begins with a start info: hands `put` the
    /// tables that the kernel finds. An architecture that does not implement this refuses.
    ///
    /// # Errors
    ///
    /// [`NoKernel`], or an error of `put`.
    fn describe(ram: GuestRange, cpus: usize, put: &mut Put<'_>) -> Result<Described, NoKernel> {
        let _ = (ram, cpus, put);
        Err(NoKernel("this kernel is its own guest on other architectures only"))
    }

    /// The payload: a program for a guest without devices, position-independent, that begins at its first byte.
    ///
    /// Its arguments are: the address of the memory it works on, which ends where the guest's memory ends or before, the bytes
    /// of that memory (whole pages), the number of rounds (0: without end), and
    /// [`payload_kind`]. In each round it writes a word computed from address and round to every word of the memory, reads
    /// all of them back, and calls the host with number [`PAYLOAD_ROUND`] and the arguments: rounds done, words
    /// that were wrong so far, the checksum over all words read so far (rotate by one, then add), and the largest
    /// gap so far between two reads of the counter that [`Clock::timestamp`](super::Clock::timestamp) reads. After the
    /// last round it calls [`PAYLOAD_DONE`] with the same arguments.
    ///
    /// The first CPU starts the others. Each has a share of the memory, the first one also what is left over, and
    /// reports for itself. If one cannot be started, it calls [`PAYLOAD_ALONE`] with the architecture's error.
    fn payload() -> &'static [u8];
}

/// What the payload does after its first round, or before it, for tests of a host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u64)]
pub enum Misdeed {
    /// It goes on.
    #[default]
    None = 0,
    /// It stores to the first address behind its memory.
    Store = 1,
    /// It calls firmware, or runs another instruction that hosts do not emulate.
    Firmware = 2,
    /// It makes a call with an unknown number.
    Call = 3,
    /// It waits for an interrupt, for ever.
    Wait = 4,
    /// It continues at the first address behind its memory.
    Jump = 5,
    /// Before its first round it searches its memory, but for the first 64 bytes, which it may use: each word that is
    /// not zero counts as wrong.
    Search = 6,
    /// It runs an instruction that programs call an emulator or a debugger by (aarch64: semihosting), or an undefined one.
    Emulator = 7,
}

impl Misdeed {
    /// All of them, with their names.
    pub const ALL: [(&'static str, Self); 7] = [
        ("store", Self::Store),
        ("firmware", Self::Firmware),
        ("call", Self::Call),
        ("wait", Self::Wait),
        ("jump", Self::Jump),
        ("search", Self::Search),
        ("emulator", Self::Emulator),
    ];
}

/// The last argument of the payload: the [`Misdeed`] that its first CPU commits after the first round, or before it, and
/// how many other CPUs it has.
pub const fn payload_kind(misdeed: Misdeed, others: usize) -> u64 {
    misdeed as u64 | (others as u64) << 8
}

/// The number of the call with which the payload reports a round.
pub const PAYLOAD_ROUND: u64 = 0x686d_0001;
/// The number of the call with which the payload ends.
pub const PAYLOAD_DONE: u64 = 0x686d_0002;
/// The number of the call with which the payload reports that it could not start a CPU.
pub const PAYLOAD_ALONE: u64 = 0x686d_0003;
