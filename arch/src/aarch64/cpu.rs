//! The CPU: interrupts, counters, features, and leaving the machine.

// UNSAFETY: privileged registers.
#![expect(unsafe_code)]

use super::layout::PAGE_SHIFT;
use super::{pmu, psci, semihosting};
use crate::machine_info::MachineInfo;
use aarch64_cpu::asm::{self, barrier};
use aarch64_cpu::registers::{
    CNTFRQ_EL0, CNTVCT_EL0, CurrentEL, DAIF, ID_AA64MMFR0_EL1, ID_AA64PFR0_EL1, MAIR_EL1,
    MPIDR_EL1, Readable, TCR_EL1, Writeable,
};
use core::arch::asm;
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};
use hotmem_paging::addr::{PhysAddr, VirtRange};

pub use super::switch::switch;
pub use crate::exit::Exit;

/// The process's exit code of code 0.
const EXIT_BASE: u64 = 0x10;
/// The process's exit code of a panic.
const EXIT_PANIC: u64 = 0xff;
/// Attribute 0: memory, write-back; attribute 1: devices, nGnRnE.
const MAIR: u64 = 0xff;

/// Set by the first way out: one that traps ends here again.
static LEAVING: AtomicBool = AtomicBool::new(false);

/// Ends the virtual machine with a code; where nobody emulates it, turns it off; else halts for good.
pub fn exit(exit: Exit) -> ! {
    if !LEAVING.swap(true, Ordering::Relaxed) {
        semihosting::exit(match exit {
            Exit::Code(code) => EXIT_BASE + u64::from(code),
            Exit::Panic => EXIT_PANIC,
        });
        if let Some(conduit) = MachineInfo::noted().psci {
            psci::system_off(conduit);
        }
    }
    halt_forever()
}

/// Writes back what the caches hold of `range`, which is mapped, and forgets it, to the point of
/// coherency (Arm ARM, DC CIVAC; line size: CTR_EL0.DminLine, log2 of words).
pub fn clean_cache(range: VirtRange) {
    let caches: u64;
    // SAFETY: CTR_EL0 can be read at every exception level that the kernel runs at.
    unsafe { asm!("mrs {}, ctr_el0", out(reg) caches, options(nomem, nostack, preserves_flags)) };
    let line = 4 << (caches >> 16 & 0xf);
    for at in (0..range.len()).step_by(line) {
        let at = range.start().add(at).get();
        // SAFETY: the line is mapped, as the caller says; cleaning it changes no content.
        unsafe { asm!("dc civac, {}", in(reg) at, options(nostack, preserves_flags)) };
    }
    // The maintenance is complete on all observers before anything that follows.
    barrier::dsb(barrier::SY);
}

/// Stops this CPU.
pub fn halt_forever() -> ! {
    loop {
        disable_interrupts();
        asm::wfi();
    }
}

/// Lets interrupts in.
pub fn enable_interrupts() {
    // SAFETY: the vectors are in place before anyone lets interrupts in. Memory accesses are not moved
    // across.
    unsafe { core::arch::asm!("msr daifclr, #2", options(nostack, preserves_flags)) };
}

/// Keeps interrupts out.
pub fn disable_interrupts() {
    // SAFETY: masking interrupts is always allowed. Memory accesses are not moved across.
    unsafe { core::arch::asm!("msr daifset, #2", options(nostack, preserves_flags)) };
}

/// Runs `f` with interrupts off, and leaves them as they were.
pub fn without_interrupts<R>(f: impl FnOnce() -> R) -> R {
    let were_on = !DAIF.is_set(DAIF::I);
    disable_interrupts();
    let result = f();
    if were_on {
        enable_interrupts();
    }
    result
}

/// Sleeps until an interrupt. Interrupts must be off: WFI wakes for one that is masked, so that one
/// that arrives after the last look at its flag is not slept through.
pub fn enable_interrupts_and_wait() {
    asm::wfi();
    enable_interrupts();
}

/// The virtual counter, which ticks at a fixed rate.
pub fn timestamp() -> u64 {
    // The counter may be read early (Arm ARM D12.2.2).
    asm::barrier::isb(asm::barrier::SY);
    CNTVCT_EL0.get()
}

/// Ticks of [`timestamp`] in a second.
pub fn timestamp_hertz() -> u64 {
    CNTFRQ_EL0.get().max(1)
}

/// Whether firmware set the counter's frequency (CNTFRQ_EL0).
pub fn timestamp_is_known() -> bool {
    CNTFRQ_EL0.get() != 0
}

/// The counter that counts instructions on a machine started with `-icount shift=0`.
pub fn instructions() -> u64 {
    pmu::cycles()
}

/// Which CPU this is.
pub(super) fn mpidr() -> u64 {
    MPIDR_EL1.get()
}

/// Whether the CPU has system registers for a GIC.
pub(super) fn has_gic_registers() -> bool {
    ID_AA64PFR0_EL1.get() >> 24 & 0xf != 0
}

/// What this CPU can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// Bytes of the largest leaf: any that the format has.
    pub largest_leaf: u64,
    /// One past the highest physical address.
    pub phys_limit: PhysAddr,
    /// Whether there are pages of the kernel's size.
    granule: bool,
}

impl Features {
    /// Asks the CPU (Arm ARM D17.2.64, ID_AA64MMFR0_EL1).
    pub fn detect() -> Self {
        let id = ID_AA64MMFR0_EL1.get();
        let (gran16, gran64, gran4) = (id >> 20 & 0xf, id >> 24 & 0xf, id >> 28 & 0xf);
        let granule = match PAGE_SHIFT {
            14 => gran16 != 0,
            16 => gran64 == 0,
            _ => gran4 != 0xf,
        };
        // What is past 48 bits needs tables of another format.
        let bits = match id & 0xf {
            0 => 32,
            1 => 36,
            2 => 40,
            3 => 42,
            4 => 44,
            _ => 48,
        };
        Self { largest_leaf: 1 << 47, phys_limit: PhysAddr::new(1 << bits), granule }
    }

    /// What the kernel cannot do without and this CPU does not have.
    pub fn missing(&self) -> Option<&'static str> {
        let what = match PAGE_SHIFT {
            14 => "pages of 16 KiB",
            16 => "pages of 64 KiB",
            _ => "pages of 4 KiB",
        };
        (!self.granule).then_some(what)
    }
}

/// How the CPU is used, as its registers say.
#[derive(Clone, Copy, Debug)]
pub struct Mode {
    level: u64,
    has_el2: bool,
    tcr: u64,
}

/// Asks the CPU how it is used.
pub fn mode() -> Mode {
    Mode {
        level: CurrentEL.get() >> 2 & 3,
        has_el2: ID_AA64PFR0_EL1.get() >> 8 & 0xf != 0,
        tcr: TCR_EL1.get(),
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match (self.level, self.has_el2) {
            (2, _) => " (VHE)",
            (_, true) => ", since this CPU's EL2 has no VHE,",
            (_, false) => "",
        };
        // TCR_ELx.TG1.
        let granule = match self.tcr >> 30 & 3 {
            1 => "16 KiB",
            2 => "4 KiB",
            3 => "64 KiB",
            _ => "unknown",
        };
        write!(f, "EL{}{why} with a granule of {granule}", self.level)
    }
}

/// Turns on what the kernel relies on: the memory types that its page tables name, and the counter of
/// [`instructions`].
pub fn set_up() {
    // The early tables name the same types.
    MAIR_EL1.set(MAIR);
    asm::barrier::isb(asm::barrier::SY);
    pmu::start();
}

/// The frame pointer of whoever this is inlined into.
#[inline(always)]
pub fn frame_pointer() -> u64 {
    let pointer;
    // SAFETY: copies a register.
    unsafe {
        core::arch::asm!("mov {}, x29", out(reg) pointer, options(nomem, nostack, preserves_flags));
    }
    pointer
}
