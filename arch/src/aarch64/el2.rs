//! Guests at EL1, under the kernel at EL2 with the virtualization host extensions (Arm ARM D8.1.4).
//!
//! The payload has memory, the general registers, exceptions of its own at EL1, and the virtual counter. It has no
//! translation of its own, floating point, timers, interrupts, performance counters or debug registers: they are
//! trapped, and end it. A Linux guest has, besides, translation, floating point, a virtual timer, interrupts, and the
//! devices of its [`board`]; what its CPU cannot do is hidden from it.
//!
//! HCR_EL2 is the same for the kernel and the guest that runs, except TGE, which makes every bit that concerns guests
//! void. So entering and leaving a guest drops no cached translation, and only [`Guests::drop_guest_translations`] does.
//!
//! The timer of a Linux guest interrupts the kernel, which lists the guest's interrupt; from then on it is masked by
//! priority, until the guest has ended it, which interrupts the kernel again.

// UNSAFETY: privileged registers, and the switch to a guest.
#![expect(unsafe_code)]

use super::board;
use super::board::system::IdRegisters;
use super::board::{Board, TIMER_LINE, Timer, acpi, psci};
use super::el2_switch::{General, TGE, enter};
use super::exits::{Cause, Next, decode};
use super::floats::Floats;
use super::gic_guest::{self, Interface};
use super::stage2::{GUEST_BITS, Stage2};
use super::{Aarch64, cpu, linux, payload, timer};
use crate::contract::{
    Clock, CpuReply, CpuSet, CpuStart, Described, GuestExit, GuestSpace, Guests, KernelStart,
    Layout, LinuxFiles, Locked, NoGuests, NoKernel, Put, StateMemory, Vcpu,
};
use aarch64_cpu::asm::barrier;
use aarch64_cpu::registers::{
    CurrentEL, ESR_EL1, FAR_EL1, HCR_EL2, HPFAR_EL2, ID_AA64ISAR0_EL1, ID_AA64ISAR1_EL1,
    ID_AA64MMFR0_EL1, ID_AA64MMFR1_EL1, ID_AA64MMFR2_EL1, ID_AA64PFR0_EL1, ID_AA64PFR1_EL1,
    MDCR_EL2, MIDR_EL1, Readable, VTCR_EL2, VTTBR_EL2, Writeable,
};
use core::arch::asm;
use core::fmt;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, Ordering};
use hotmem_paging::addr::{GuestAddr, GuestRange};

/// HCR_EL2 of all guests; the kernel's has TGE as well (Arm ARM D17.2.48).
const HCR: u64 = {
    let (vm, broadcast) = (1 << 0, 0b01 << 10 | 1 << 9);
    let interrupts = 1 << 3 | 1 << 4 | 1 << 5;
    // TWI, TSC, TIDCP, TACR, TSW: WFI, SMC, implementation-defined registers, auxiliary control, set/way maintenance.
    let traps = 1 << 13 | 1 << 19 | 1 << 20 | 1 << 21 | 1 << 22;
    // TERR, TEA: memory errors.
    let errors = 1 << 36 | 1 << 37;
    let (rw, e2h) = (1 << 31, 1 << 34);
    vm | broadcast | interrupts | traps | errors | rw | e2h
};
/// HCR_EL2 of the payload: TVM and DC, no translation of its own, so that all its memory is cached.
const HCR_PAYLOAD: u64 = HCR | 1 << 26 | 1 << 12;
/// HCR_EL2 of Linux: TID3, identification registers are trapped.
const HCR_LINUX: u64 = HCR | 1 << 18;
/// MDCR_EL2: TDA, TDOSA, TDRA, TPM, TPMCR.
const DEBUG_TRAPS: u64 = 1 << 9 | 1 << 10 | 1 << 11 | 1 << 6 | 1 << 5;
/// CPTR_EL2 with E2H: floating point, SVE and SME are trapped (FPEN, ZEN, SMEN 0), and trace registers (TTA).
const FEATURE_TRAPS: u64 = 1 << 28;
/// CPTR_EL2: FPEN, floating point is not trapped.
const FLOATS: u64 = 0b11 << 20;
/// CNTHCTL_EL2 with E2H: the physical counter and timer of a guest are trapped (EL1PCTEN, EL1PTEN 0).
const GUEST_TIMERS: u64 = 1 << 10 | 1 << 11;
/// MPIDR_EL1 of a guest's first CPU; that of another has its number in the lowest bits.
const GUEST_MPIDR: u64 = 1 << 31;
/// PSTATE at the start: EL1 on SP_EL1, everything masked.
const START: u64 = 0x3c5;
/// SCTLR_EL1 at the start: the bits that are one on every CPU.
const SCTLR: u64 = 0x30d0_0800;

/// The format of second-stage tables.
type Format = Stage2<{ Aarch64::PAGE_SHIFT }>;

/// Declares the registers of a guest at EL1 by the encodings of their names for EL2.
macro_rules! registers {
    ($($name:ident: $encoding:literal),* $(,)?) => {
        /// The system registers of a guest.
        #[derive(Clone, Copy, Debug, Default)]
        struct El1 {
            $($name: u64,)*
        }

        impl El1 {
            /// Loads them into the CPU.
            fn load(&self) {
                $(
                    // SAFETY: at EL2 with E2H and TGE these are a guest's registers, which the kernel does not use.
                    unsafe {
                        asm!(concat!("msr ", $encoding, ", {}"), in(reg) self.$name,
                            options(nomem, nostack, preserves_flags));
                    }
                )*
            }

            /// Keeps those of the CPU.
            fn save(&mut self) {
                $(
                    // SAFETY: reading them has no side effect.
                    unsafe {
                        asm!(concat!("mrs {}, ", $encoding), out(reg) self.$name,
                            options(nomem, nostack, preserves_flags));
                    }
                )*
            }
        }
    };
}

registers! {
    sctlr: "S3_5_C1_C0_0",
    cpacr: "S3_5_C1_C0_2",
    ttbr0: "S3_5_C2_C0_0",
    ttbr1: "S3_5_C2_C0_1",
    tcr: "S3_5_C2_C0_2",
    spsr: "S3_5_C4_C0_0",
    elr: "S3_5_C4_C0_1",
    afsr0: "S3_5_C5_C1_0",
    afsr1: "S3_5_C5_C1_1",
    esr: "S3_5_C5_C2_0",
    far: "S3_5_C6_C0_0",
    mair: "S3_5_C10_C2_0",
    amair: "S3_5_C10_C3_0",
    vbar: "S3_5_C12_C0_0",
    contextidr: "S3_5_C13_C0_1",
    cntkctl: "S3_5_C14_C1_0",
    cntv_ctl: "S3_5_C14_C3_1",
    cntv_cval: "S3_5_C14_C3_2",
    par: "par_el1",
    csselr: "csselr_el1",
}

/// The registers of a guest that does not run.
#[derive(Clone, Debug)]
pub struct Registers {
    /// The number of the CPU.
    number: u64,
    general: General,
    system: El1,
    /// What a Linux guest has besides.
    linux: Option<Linux>,
}

/// What a CPU of a guest with a board has besides its registers.
#[derive(Clone, Debug)]
struct Linux {
    number: usize,
    /// CPUs that it called: a bit for each.
    called: u64,
    interface: Interface,
    floats: Floats,
    ids: IdRegisters,
}

impl El1 {
    const fn timer(&self) -> Timer {
        Timer { control: self.cntv_ctl, at: self.cntv_cval }
    }
}

impl Linux {
    fn new(number: usize) -> Self {
        let (interface, floats) = (Interface::default(), Floats::default());
        Self { number, called: 0, interface, floats, ids: id_registers() }
    }

    /// Loads it into the CPU; the guest's timer has its state of `now`.
    fn load(&mut self, board: &mut Board, timer: Timer, now: u64) {
        board.update(self.number, timer, now);
        let gic = board.enter(self.number);
        self.interface.load(gic.lists);
        let is_due = timer.due().is_some_and(|due| due <= now);
        gic_guest::set_timer_masked(is_due || gic.is_listed(TIMER_LINE as usize));
        set_feature_traps(FEATURE_TRAPS | FLOATS);
        self.floats.load();
    }

    /// Keeps what the guest changed.
    fn save(&mut self, board: &mut Board) {
        self.floats.save();
        set_feature_traps(FEATURE_TRAPS);
        board.gic(self.number).leave(self.interface.save());
    }

    /// The exit that `cause` describes, and where the guest continues.
    fn exit(
        &mut self,
        board: &mut Board,
        cause: Cause,
        x: &mut [u64; 31],
        timer: Timer,
    ) -> (GuestExit, Next) {
        let exit = board.exit(self.number, cause, x, &self.ids);
        let (exit, next) = exit.unwrap_or_else(|| decode(cause, x));
        self.called |= board.take_called();
        if exit != GuestExit::Wait {
            return (exit, next);
        }
        board.update(self.number, timer, Aarch64::timestamp());
        (board.wait(self.number, timer), next)
    }
}

/// The identification registers that guests may see a part of.
fn id_registers() -> IdRegisters {
    IdRegisters {
        pfr0: ID_AA64PFR0_EL1.get(),
        pfr1: ID_AA64PFR1_EL1.get(),
        isar0: ID_AA64ISAR0_EL1.get(),
        isar1: ID_AA64ISAR1_EL1.get(),
        mmfr0: ID_AA64MMFR0_EL1.get(),
        mmfr1: ID_AA64MMFR1_EL1.get(),
        mmfr2: ID_AA64MMFR2_EL1.get(),
    }
}

/// Sets CPTR_EL2, which decides what is trapped in guests, and by E2H what the kernel may use.
fn set_feature_traps(word: u64) {
    // SAFETY: the kernel uses none of these features, but the functions that load and save a guest's floats.
    unsafe { asm!("msr cptr_el2, {}", "isb", in(reg) word, options(nostack, preserves_flags)) };
}

impl Vcpu for Registers {
    const STATE_BYTES: u64 = 0;
    type Devices = Board;

    fn new(_state: StateMemory, entry: GuestAddr, arguments: [u64; 4]) -> Self {
        let mut general = General::default();
        (general.pc, general.pstate) = (entry.get(), START);
        for (register, argument) in general.x.iter_mut().zip(arguments) {
            *register = argument;
        }
        Self { number: 0, general, system: El1 { sctlr: SCTLR, ..El1::default() }, linux: None }
    }

    fn started(state: StateMemory, number: usize, start: &CpuStart, has_board: bool) -> Self {
        let linux = has_board.then(|| Linux::new(number));
        let number = number as u64;
        Self { number, linux, ..Self::new(state, start.entry, [start.context, 0, 0, 0]) }
    }

    fn linux(state: StateMemory, start: &KernelStart) -> Self {
        Self { linux: Some(Linux::new(0)), ..Self::new(state, start.entry, start.arguments) }
    }

    unsafe fn run(&mut self, space: &GuestSpace, devices: &impl Locked<Board>) -> GuestExit {
        let has_gic = cpu::has_gic_registers();
        match &mut self.linux {
            Some(linux) => {
                HCR_EL2.set(HCR_LINUX | TGE);
                let timer = self.system.timer();
                devices.with(|board| linux.load(board, timer, Aarch64::timestamp()));
            }
            None => {
                HCR_EL2.set(HCR_PAYLOAD | TGE);
                if has_gic {
                    gic_guest::set_timer_masked(true);
                }
            }
        }
        load(space);
        set_affinity(GUEST_MPIDR | self.number);
        self.system.load();
        // SAFETY: `enable_guests` found the kernel at EL2 with E2H and set the traps, by the contract of this
        // function; the tables are those of `space`; a PSTATE comes from `new`, or from the CPU when it left EL1 or
        // EL0.
        let vector = unsafe { enter(&mut self.general) };
        self.system.save();
        let (syndrome, address, page) = (ESR_EL1.get(), FAR_EL1.get(), HPFAR_EL2.get());
        timer::stop_guests();
        if has_gic {
            gic_guest::set_timer_masked(false);
        }
        let cause = Cause { vector, syndrome, address, page };
        let (exit, next) = match &mut self.linux {
            Some(linux) => {
                let (x, timer) = (&mut self.general.x, self.system.timer());
                devices.with(|board| {
                    linux.save(board);
                    linux.exit(board, cause, x, timer)
                })
            }
            None => {
                let x = &mut self.general.x;
                psci::exit(cause, x).unwrap_or_else(|| decode(cause, x))
            }
        };
        if next == Next::Following {
            self.general.pc = self.general.pc.wrapping_add(4);
        }
        exit
    }

    fn take_called(&mut self) -> CpuSet {
        let called = self.linux.as_mut().map(|linux| core::mem::take(&mut linux.called));
        CpuSet::of_bits(called.unwrap_or(0))
    }

    fn reply(&mut self, value: u64) {
        let [first, ..] = &mut self.general.x;
        *first = value;
    }

    fn reply_to_request(&mut self, reply: CpuReply) {
        let [function, ..] = self.general.x;
        self.reply(psci::result(function, reply));
    }
}

impl fmt::Display for Registers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let General { x, pc, pstate, sp: [sp_el0, sp_el1], .. } = &self.general;
        write!(f, "pc {pc:016x} pstate {pstate:08x} sp_el0 {sp_el0:016x} sp_el1 {sp_el1:016x}")?;
        for (index, value) in x.iter().enumerate() {
            let gap = if index % 4 == 0 { "\n " } else { "" };
            write!(f, "{gap} x{index:<2} {value:016x}")?;
        }
        let El1 { esr, far, elr, spsr, vbar, .. } = self.system;
        write!(
            f,
            "\n  esr {esr:08x} far {far:016x} elr {elr:016x} spsr {spsr:08x} vbar {vbar:016x}"
        )
    }
}

/// Makes `space` the one that guests and maintenance of this CPU use.
fn load(space: &GuestSpace) {
    VTTBR_EL2.set(Format::base(space));
    barrier::isb(barrier::SY);
}

/// Sets what the CPU of a guest reads as MPIDR_EL1.
fn set_affinity(word: u64) {
    // SAFETY: the register concerns guests only.
    unsafe { asm!("msr vmpidr_el2, {}", in(reg) word, options(nostack, preserves_flags)) };
}

/// The feature that this machine lacks to run guests.
fn missing() -> Option<&'static str> {
    let level = CurrentEL.read(CurrentEL::EL);
    // PARange 1 is 36 bits.
    let small = ID_AA64MMFR0_EL1.read(ID_AA64MMFR0_EL1::PARange) == 0;
    match (level, small) {
        (2, false) => None,
        (2, true) => Some("physical addresses of 36 bits"),
        _ => Some("EL2 with the virtualization host extensions for the kernel"),
    }
}

/// A CPU on which guests were enabled does not mark what they write.
static LACKS_MARKS: AtomicBool = AtomicBool::new(false);

/// The bits of VTCR_EL2 by which this CPU marks leaves that a guest writes; 0 without FEAT_HAFDBS's second part.
fn marks() -> u64 {
    if ID_AA64MMFR1_EL1.read(ID_AA64MMFR1_EL1::HAFDBS) >= 2 { Format::MARKS_WRITES } else { 0 }
}

/// Sets everything that concerns guests except HCR_EL2.
fn set_traps() {
    // PS, at most 48 bits: the format has no more.
    let size = ID_AA64MMFR0_EL1.read(ID_AA64MMFR0_EL1::PARange).min(5);
    VTCR_EL2.set(Format::CONTROL | size << 16 | marks());
    LACKS_MARKS.fetch_or(marks() == 0, Ordering::Relaxed);
    MDCR_EL2.set(MDCR_EL2.get() | DEBUG_TRAPS);
    // SAFETY: these registers concern guests only; the kernel uses no floating point, and its own timer is not
    // one of a guest's.
    unsafe {
        asm!(
            "msr vpidr_el2, {midr}",
            "msr cntvoff_el2, xzr",
            "msr hstr_el2, xzr",
            "msr cptr_el2, {features}",
            "mrs {timers}, cnthctl_el2",
            "bic {timers}, {timers}, {guest_timers}",
            "msr cnthctl_el2, {timers}",
            midr = in(reg) MIDR_EL1.get(),
            features = in(reg) FEATURE_TRAPS,
            timers = out(reg) _,
            guest_timers = in(reg) GUEST_TIMERS,
            options(nostack, preserves_flags),
        );
    }
    if cpu::has_gic_registers() {
        gic_guest::trap();
    }
}

/// Refuses the board of a guest on a machine that has not what it needs.
fn board_is_possible() -> Result<(), NoKernel> {
    if !cpu::has_gic_registers() {
        return Err(NoKernel("this machine's interrupt controller is not a GICv3"));
    }
    gic_guest::missing().map_or(Ok(()), |what| Err(NoKernel(what)))
}

impl Guests for Aarch64 {
    type GuestFormat = Format;
    type Vcpu = Registers;

    const GUEST_RAM: GuestAddr = GuestAddr::new(0x4000_0000);
    const GUEST_LIMIT: GuestAddr = GuestAddr::new(1 << GUEST_BITS);
    const MOST_CPUS: usize = board::MOST_CPUS;
    const ELF_MACHINE: u16 = 183;
    const GUEST_FLUSH_REACHES_ALL: bool = true;

    fn marks_writes() -> bool {
        !LACKS_MARKS.load(Ordering::Relaxed)
    }

    fn enable_guests() -> Result<(), NoGuests> {
        if let Some(what) = missing() {
            return Err(NoGuests(what));
        }
        set_traps();
        HCR_EL2.set(HCR_PAYLOAD | TGE);
        barrier::isb(barrier::SY);
        Ok(())
    }

    /// A page that moved may hold instructions: those that were cached for its new frame are dropped as well.
    fn publish_guest_entries() {
        barrier::dsb(barrier::ISHST);
        // SAFETY: dropping cached instructions never makes a valid one wrong.
        unsafe { asm!("ic ialluis", options(nostack, preserves_flags)) };
        barrier::dsb(barrier::ISH);
    }

    /// All of the space, on all CPUs: VMALLS12E1IS names EL1&0 whatever TGE is, and the VMID of VTTBR_EL2. IPAS2E1IS
    /// would drop the second stage alone, not what CPUs combined of both stages.
    fn drop_guest_translations(space: &GuestSpace, _ranges: &[GuestRange]) {
        barrier::dsb(barrier::ISHST);
        load(space);
        // SAFETY: dropping cached translations never makes a valid one wrong.
        unsafe { asm!("tlbi vmalls12e1is", options(nostack, preserves_flags)) };
        barrier::dsb(barrier::ISH);
        barrier::isb(barrier::SY);
    }

    /// 128 bytes with 18 instructions.
    unsafe fn copy_guest_memory(from: NonNull<u8>, to: NonNull<u8>, bytes: usize) {
        // SAFETY: by the contract of this function; a page is a multiple of 128 bytes.
        unsafe {
            asm!(
                "add {end}, {from}, {bytes}",
                "2:",
                "ldp {a}, {b}, [{from}], #128",
                "ldp {c}, {d}, [{from}, #-112]",
                "stp {a}, {b}, [{to}], #128",
                "stp {c}, {d}, [{to}, #-112]",
                "ldp {a}, {b}, [{from}, #-96]",
                "ldp {c}, {d}, [{from}, #-80]",
                "stp {a}, {b}, [{to}, #-96]",
                "stp {c}, {d}, [{to}, #-80]",
                "ldp {a}, {b}, [{from}, #-64]",
                "ldp {c}, {d}, [{from}, #-48]",
                "stp {a}, {b}, [{to}, #-64]",
                "stp {c}, {d}, [{to}, #-48]",
                "ldp {a}, {b}, [{from}, #-32]",
                "ldp {c}, {d}, [{from}, #-16]",
                "stp {a}, {b}, [{to}, #-32]",
                "stp {c}, {d}, [{to}, #-16]",
                "cmp {from}, {end}",
                "b.lo 2b",
                from = inout(reg) from.as_ptr() => _,
                to = inout(reg) to.as_ptr() => _,
                bytes = in(reg) bytes,
                end = out(reg) _,
                a = out(reg) _,
                b = out(reg) _,
                c = out(reg) _,
                d = out(reg) _,
                options(nostack),
            );
        }
    }

    fn linux(
        files: &LinuxFiles<'_>,
        ram: GuestRange,
        cpus: usize,
        put: &mut Put<'_>,
    ) -> Result<KernelStart, NoKernel> {
        board_is_possible()?;
        linux::prepare(files, ram, cpus, put)
    }

    fn describe(ram: GuestRange, cpus: usize, put: &mut Put<'_>) -> Result<Described, NoKernel> {
        board_is_possible()?;
        acpi::describe(ram, cpus, put)
    }

    fn payload() -> &'static [u8] {
        payload::bytes()
    }
}
