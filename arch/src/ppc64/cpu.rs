//! The CPU: interrupts, counters, features, page tables, and leaving the machine.

// UNSAFETY: privileged registers, hypercalls, and changing the page tables in use.
#![expect(unsafe_code)]

use super::hcall::{H_CEDE, H_CPPR, H_REGISTER_PROC_TBL, H_SUCCESS, hcall};
use super::pte::process_entry;
use super::{Ppc64, frame, own, rtas, timer, tlb};
use crate::area::CpuArea;
use crate::common::cache::each_line;
use crate::contract::{Clock, Cpu, Cpus, Exit, Features};
use crate::machine_info::MachineInfo;
use core::arch::asm;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};
use hotmem_paging::addr::{PhysAddr, VirtAddr, VirtRange};

/// MSR: external interrupts (book III, 3.2.1).
const EE: u64 = 1 << 15;
/// MSR: an interrupt can be returned from. Set as long as Rust code runs: by the entry code, and by that of the vectors
/// once it has saved the registers that an interrupt changes.
const RI: u64 = 1 << 1;
/// Ticks of the timebase in a second, if no device tree gives them: those of every POWER CPU since POWER6.
const TIMEBASE_HERTZ: u64 = 512_000_000;
/// Bytes of a cache line on POWER9 and POWER10.
const LINE: u64 = 128;
/// Modify, register, radix, and let the guest invalidate (LoPAR 14.14.7, H_REGISTER_PROC_TBL).
const NEW_RADIX_TABLE: u64 = 0x10 | 0x08 | 0x04 | 0x01;

/// The process table: 4 KiB. Process 0, the kernel, has the tables; process 1, which is used for quadrant 0, has
/// none, so that low addresses fault.
#[repr(align(4096))]
struct ProcessTable([AtomicU64; 512]);

static PROCESSES: ProcessTable = ProcessTable([const { AtomicU64::new(0) }; 512]);

/// Stops this CPU: it sleeps, and only the decrementer wakes it, every few seconds.
pub(super) fn halt_forever() -> ! {
    // SAFETY: the call sets this CPU's priority to the highest, so that devices no longer interrupt it.
    unsafe { hcall(H_CPPR, [0; 4]) };
    timer::stop();
    loop {
        Ppc64::disable_interrupts();
        if frame::is_set_up() {
            // SAFETY: the call enables interrupts, and the vectors are in place.
            unsafe { hcall(H_CEDE, [0; 4]) };
        }
    }
}

/// The machine state register.
fn msr() -> u64 {
    let value;
    // SAFETY: reads a register.
    unsafe { asm!("mfmsr {}", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// The mode that the CPU runs in, read from its registers.
#[derive(Clone, Copy, Debug)]
struct Mode {
    version: u64,
    msr: u64,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.version >> 16 {
            0x4e => "POWER9",
            0x80 => "POWER10",
            _ => "unknown CPU",
        };
        write!(f, "{name} (version {:#x}) with a radix MMU, MSR {:#x}", self.version, self.msr)
    }
}

impl Cpu for Ppc64 {
    fn exit(exit: Exit) -> ! {
        rtas::exit(exit);
        halt_forever()
    }

    fn halt() -> ! {
        halt_forever()
    }

    /// Stores the area in SPRG3, where the entry code of traps finds it, too.
    fn enter(area: &'static CpuArea) {
        let area = core::ptr::from_ref(area).expose_provenance();
        // SAFETY: the register is for the kernel's own use (book III, 4.3.4).
        unsafe { asm!("mtspr 275, {}", in(reg) area, options(nomem, nostack, preserves_flags)) };
    }

    #[inline(always)]
    fn number() -> usize {
        own::area().number()
    }

    /// Not `spin_loop`, which does nothing on ppc64. A lower priority is the hint for a wait (book II, 3.2; the
    /// instruction is an `or` that changes no register).
    #[inline(always)]
    fn relax() {
        // SAFETY: a hint.
        unsafe { asm!("or 27, 27, 27", options(nomem, nostack, preserves_flags)) };
    }

    fn clean_cache(range: VirtRange) {
        each_line(range, LINE, |at| {
            // SAFETY: the line is mapped, as the caller says; writing it back changes no content.
            unsafe { asm!("dcbf 0, {}", in(reg) at.get(), options(nostack, preserves_flags)) };
        });
        // SAFETY: a barrier: the lines are written back before later accesses.
        unsafe { asm!("sync", options(nostack, preserves_flags)) };
    }

    #[inline(always)]
    fn enable_interrupts() {
        // SAFETY: the vectors are in place before interrupts are enabled. Only EE changes: of all bits, which the shortest
        // constant has set, L = 1 takes EE and RI. Memory accesses are not moved across.
        unsafe { asm!("mtmsrd {}, 1", in(reg) u64::MAX, options(nostack, preserves_flags)) };
    }

    #[inline(always)]
    fn disable_interrupts() {
        // SAFETY: masking interrupts is always allowed. Only EE changes (L = 1). Memory accesses are not moved across.
        unsafe { asm!("mtmsrd {}, 1", in(reg) RI, options(nostack, preserves_flags)) };
    }

    #[inline(always)]
    fn interrupts_are_enabled() -> bool {
        msr() & EE != 0
    }

    /// Without a branch: each allocation and each free does this.
    #[inline(always)]
    fn restore_interrupts(were_on: bool) {
        debug_assert!(
            !Self::interrupts_are_enabled(),
            "interrupts are on before they are restored"
        );
        let msr = (u64::from(were_on) * EE) | RI;
        // SAFETY: as in both functions above: EE becomes what it was, and RI stays set.
        unsafe { asm!("mtmsrd {}, 1", in(reg) msr, options(nostack, preserves_flags)) };
    }

    /// The hypervisor enables interrupts and puts the CPU to sleep in one step.
    fn enable_interrupts_and_wait() {
        // SAFETY: the vectors are in place; the call returns when there is work.
        unsafe { hcall(H_CEDE, [0; 4]) };
        Self::enable_interrupts();
    }

    /// The abilities of every CPU with a radix MMU (POWER9 and POWER10 User's Manual, "Supported radix tree
    /// configurations"); the entry code refused all other CPUs.
    fn features() -> Features {
        Features { largest_leaf: 1 << 30, phys_limit: PhysAddr::new(1 << 51), missing: None }
    }

    fn mode() -> impl fmt::Display {
        let version;
        // SAFETY: the processor version register can be read by a guest.
        unsafe {
            asm!("mfspr {}, 287", out(reg) version, options(nomem, nostack, preserves_flags))
        };
        Mode { version, msr: msr() }
    }

    /// Nothing to do: the entry code did everything.
    fn set_up() {}

    unsafe fn switch(root: PhysAddr, top: VirtAddr, main: extern "C" fn() -> !) -> ! {
        // The hypervisor uses the entry code's process table until this call registers the new one.
        PROCESSES.0[0].store(process_entry(root), Ordering::Release);
        let table = rtas::physical(&raw const PROCESSES);
        // SAFETY: the table refers to the caller's tree, and is a static of 4 KiB, aligned, at this address.
        let result = unsafe { hcall(H_REGISTER_PROC_TBL, [NEW_RADIX_TABLE, table, 0, 0]) };
        if result.status != H_SUCCESS {
            // The old tables stay in use, so the kernel cannot continue.
            Self::exit(Exit::Panic);
        }
        tlb::drop_all();
        // SAFETY: by the contract of this function. The frame below the top is that of a first caller: a back chain
        // of zero (64-bit ELF V2 ABI, 2.3.3).
        unsafe {
            asm!(
                "addi 1, {top}, -64",
                "li 0, 0",
                "std 0, 0(1)",
                "std 0, 16(1)",
                "mr 12, {main}",
                "mtctr 12",
                "bctr",
                top = in(reg_nonzero) top.get(), main = in(reg_nonzero) main,
                options(noreturn),
            )
        }
    }

    #[inline(always)]
    fn frame_pointer() -> u64 {
        let pointer;
        // SAFETY: copies a register.
        unsafe { asm!("mr {}, 1", out(reg) pointer, options(nomem, nostack, preserves_flags)) };
        pointer
    }
}

impl Cpus for Ppc64 {}

impl Clock for Ppc64 {
    /// The timebase.
    fn timestamp() -> u64 {
        let ticks;
        // SAFETY: reads a register.
        unsafe { asm!("mftb {}", out(reg) ticks, options(nomem, nostack, preserves_flags)) };
        ticks
    }

    /// From the device tree.
    fn timestamp_hertz() -> u64 {
        MachineInfo::noted().timebase_hertz.unwrap_or(TIMEBASE_HERTZ)
    }

    fn timestamp_is_known() -> bool {
        MachineInfo::noted().timebase_hertz.is_some()
    }

    /// An instruction takes a nanosecond, and a tick of the timebase is 1000/512 of them, so this is exact to two.
    fn instructions() -> u64 {
        Self::timestamp().wrapping_mul(125) / 64
    }
}
