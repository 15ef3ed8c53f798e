//! The CPU: interrupts, counters, features, and leaving the machine.

// UNSAFETY: privileged registers.
#![expect(unsafe_code)]

use super::switch::switch;
use super::{Aarch64, pmu, psci};
use crate::area::CpuArea;
use crate::common::cache::each_line;
use crate::contract::{Clock, Cpu, Cpus, Exit, Features, Layout};
use crate::machine_info::{MachineInfo, Psci};
use aarch64_cpu::asm::{self, barrier};
use aarch64_cpu::registers::{
    CNTFRQ_EL0, CNTVCT_EL0, CurrentEL, DAIF, ID_AA64MMFR0_EL1, ID_AA64PFR0_EL1, MAIR_EL1,
    MPIDR_EL1, Readable, TCR_EL1, TPIDR_EL0, Writeable,
};
use core::arch::asm;
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};
use hotmem_paging::addr::{PhysAddr, VirtAddr, VirtRange};

/// Attribute 0: memory, write-back; attribute 1: devices, nGnRnE.
const MAIR: u64 = 0xff;

/// Set by the first attempt to exit: an attempt that traps gets here again.
static LEAVING: AtomicBool = AtomicBool::new(false);

/// Stops this CPU.
pub(super) fn halt_forever() -> ! {
    loop {
        Aarch64::disable_interrupts();
        asm::wfi();
    }
}

/// The area of this CPU.
#[inline(always)]
pub(super) fn area() -> &'static CpuArea {
    let area = core::ptr::with_exposed_provenance::<CpuArea>(TPIDR_EL0.get() as usize);
    // SAFETY: `enter` stored a `'static` reference in the register.
    unsafe { &*area }
}

/// The MPIDR_EL1 of this CPU.
pub(super) fn mpidr() -> u64 {
    MPIDR_EL1.get()
}

/// The firmware's id of the CPU with this MPIDR_EL1: Aff3 and Aff2..Aff0.
pub(super) const fn affinity(mpidr: u64) -> u64 {
    mpidr & 0xff_00ff_ffff
}

/// Whether the CPU has system registers for a GIC.
pub(super) fn has_gic_registers() -> bool {
    ID_AA64PFR0_EL1.get() >> 24 & 0xf != 0
}

/// The mode that the CPU runs in, read from its registers.
#[derive(Clone, Copy)]
struct Mode {
    level: u64,
    has_el2: bool,
    granule: Option<TCR_EL1::TG1::Value>,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match (self.level, self.has_el2) {
            (2, _) => " (VHE)",
            (_, true) => ", since this CPU's EL2 has no VHE,",
            (_, false) => "",
        };
        use TCR_EL1::TG1::Value;
        let granule = match self.granule {
            Some(Value::KiB_16) => "16 KiB",
            Some(Value::KiB_4) => "4 KiB",
            Some(Value::KiB_64) => "64 KiB",
            None => "unknown",
        };
        write!(f, "EL{}{why} with a granule of {granule}", self.level)
    }
}

impl Cpu for Aarch64 {
    /// Turns the machine off by PSCI, which takes no code. Before firmware's tables say how it is called, as the level above
    /// is: that cannot do harm, since the machine is left.
    fn exit(_: Exit) -> ! {
        if !LEAVING.swap(true, Ordering::Relaxed) {
            let above = if CurrentEL.read(CurrentEL::EL) == 2 { Psci::Smc } else { Psci::Hvc };
            psci::system_off(MachineInfo::noted().psci.unwrap_or(above));
        }
        halt_forever()
    }

    fn halt() -> ! {
        halt_forever()
    }

    /// Stores the area in TPIDR_EL0: the kernel runs no user code that could read or write it.
    fn enter(area: &'static CpuArea) {
        TPIDR_EL0.set(core::ptr::from_ref(area).expose_provenance() as u64);
    }

    #[inline(always)]
    fn number() -> usize {
        area().number()
    }

    /// Not `spin_loop`, which is an ISB on aarch64: an ISB does not let another CPU run.
    #[inline(always)]
    fn relax() {
        // SAFETY: a hint.
        unsafe { asm!("yield", options(nomem, nostack, preserves_flags)) };
    }

    /// To the point of coherency (Arm ARM, DC CIVAC; line size: CTR_EL0.DminLine, log2 of words).
    fn clean_cache(range: VirtRange) {
        let caches: u64;
        // SAFETY: CTR_EL0 can be read at every exception level that the kernel runs at.
        unsafe {
            asm!("mrs {}, ctr_el0", out(reg) caches, options(nomem, nostack, preserves_flags))
        };
        each_line(range, 4 << (caches >> 16 & 0xf), |at| {
            // SAFETY: the line is mapped, as the caller says; cleaning it changes no content.
            unsafe { asm!("dc civac, {}", in(reg) at.get(), options(nostack, preserves_flags)) };
        });
        // The maintenance is complete on all observers before anything that follows.
        barrier::dsb(barrier::SY);
    }

    // Not by aarch64-cpu's DAIF: the compiler could move memory accesses across that.
    #[inline(always)]
    fn enable_interrupts() {
        // SAFETY: the vectors are in place before interrupts are enabled.
        unsafe { asm!("msr daifclr, #2", options(nostack, preserves_flags)) };
    }

    #[inline(always)]
    fn disable_interrupts() {
        // SAFETY: masking interrupts is always allowed.
        unsafe { asm!("msr daifset, #2", options(nostack, preserves_flags)) };
    }

    #[inline(always)]
    fn interrupts_are_enabled() -> bool {
        !DAIF.is_set(DAIF::I)
    }

    /// WFI wakes for an interrupt that is masked. Not by aarch64-cpu's `wfi`: the compiler could delay a store across
    /// that, which another CPU waits for.
    fn enable_interrupts_and_wait() {
        // SAFETY: waits.
        unsafe { asm!("wfi", options(nostack, preserves_flags)) };
        Self::enable_interrupts();
    }

    /// Arm ARM D17.2.64, ID_AA64MMFR0_EL1.
    fn features() -> Features {
        use ID_AA64MMFR0_EL1::{PARange, TGran4, TGran16, TGran64};
        // Compared with NotSupported, since more than one value means support.
        let lacks = |field| ID_AA64MMFR0_EL1.matches_all(field);
        let (lacks, what) = match Self::PAGE_SHIFT {
            14 => (lacks(TGran16::NotSupported), "pages of 16 KiB"),
            16 => (lacks(TGran64::NotSupported), "pages of 64 KiB"),
            _ => (lacks(TGran4::NotSupported), "pages of 4 KiB"),
        };
        // Addresses of more than 48 bits need another table format.
        let bits = match ID_AA64MMFR0_EL1.read(PARange) {
            0 => 32,
            1 => 36,
            2 => 40,
            3 => 42,
            4 => 44,
            _ => 48,
        };
        let missing = lacks.then_some(what);
        // The largest leaf that the format has.
        Features { largest_leaf: 1 << 47, phys_limit: PhysAddr::new(1 << bits), missing }
    }

    fn mode() -> impl fmt::Display {
        Mode {
            level: CurrentEL.read(CurrentEL::EL),
            has_el2: ID_AA64PFR0_EL1.get() >> 8 & 0xf != 0,
            granule: TCR_EL1.read_as_enum(TCR_EL1::TG1),
        }
    }

    /// Sets the memory types that the page tables refer to, and starts the counter of [`Clock::instructions`].
    fn set_up() {
        // The early tables use the same memory types.
        MAIR_EL1.set(MAIR);
        barrier::isb(barrier::SY);
        pmu::start();
    }

    unsafe fn switch(root: PhysAddr, top: VirtAddr, main: extern "C" fn() -> !) -> ! {
        // SAFETY: by the contract of this function.
        unsafe { switch(root, top, main) }
    }

    #[inline(always)]
    fn frame_pointer() -> u64 {
        let pointer;
        // SAFETY: copies a register.
        unsafe {
            asm!("mov {}, x29", out(reg) pointer, options(nomem, nostack, preserves_flags));
        }
        pointer
    }
}

impl Cpus for Aarch64 {}

impl Clock for Aarch64 {
    fn timestamp() -> u64 {
        // Without the barrier the CPU may read the counter early (Arm ARM D12.2.2).
        barrier::isb(barrier::SY);
        CNTVCT_EL0.get()
    }

    fn timestamp_hertz() -> u64 {
        CNTFRQ_EL0.get().max(1)
    }

    fn timestamp_is_known() -> bool {
        CNTFRQ_EL0.get() != 0
    }

    fn instructions() -> u64 {
        pmu::cycles()
    }
}
