//! The CPU: interrupts, counters, features, stacks, and leaving the machine.

// UNSAFETY: privileged instructions.
#![expect(unsafe_code)]

use super::clock::measure_timestamp_hertz;
use super::{X86_64, machine_check, port};
use crate::area::CpuArea;
use crate::common::cache::each_line;
use crate::contract::{Clock, Cpu, Exit, Features};
use crate::machine_info::MachineInfo;
use ::x86_64::VirtAddr as CpuAddr;
use ::x86_64::instructions::interrupts;
use ::x86_64::registers::control::{Cr0, Cr0Flags, Cr4, Cr4Flags};
use ::x86_64::registers::model_specific::{Efer, EferFlags, GsBase};
use core::arch::x86_64::{__cpuid, __cpuid_count, _rdtsc};
use core::arch::{asm, naked_asm};
use core::fmt;
use core::mem::offset_of;
use core::sync::atomic::{AtomicU64, Ordering};
use hotmem_paging::addr::{PhysAddr, VirtAddr, VirtRange};

/// QEMU's isa-debug-exit device: a value written ends the process with `value << 1 | 1`.
const DEBUG_EXIT: u16 = 0xf4;
/// The exit value for exit code 0.
const EXIT_BASE: u32 = 0x10;
/// The exit value after a panic.
const EXIT_PANIC: u32 = 0x7f;

/// Stops this CPU.
pub(super) fn halt_forever() -> ! {
    loop {
        interrupts::disable();
        ::x86_64::instructions::hlt();
    }
}

/// Bytes from the start of [`wait_unless_woken`] that hold all of its code, and no other.
const WAIT_BYTES: u64 = 16;

/// Enables interrupts and sleeps until one arrives, unless this CPU was woken. A machine check between the check of
/// `woken` and the halt would be slept through, so its handler restarts the function: see [`wake`]. The function
/// changes no register.
#[unsafe(naked)]
extern "C" fn wait_unless_woken() {
    naked_asm!(
        "cmp byte ptr gs:[{woken}], 0",
        "jne 2f",
        "sti",
        "hlt",
        "2: sti",
        "ret",
        ".fill 16, 1, 0xcc", // nothing else within `WAIT_BYTES`
        woken = const offset_of!(CpuArea, woken),
    )
}

/// Stores in the area of this CPU whether it was woken.
fn set_woken(woken: bool) {
    // SAFETY: stores a byte of the area that GS points to since `enter`, all of whose uses are such single accesses.
    unsafe {
        asm!("mov byte ptr gs:[{offset}], {woken}", woken = in(reg_byte) u8::from(woken),
             offset = const offset_of!(CpuArea, woken), options(nostack, preserves_flags));
    }
}

/// Called in a machine check or an NMI, which no CPU can mask, that interrupted `instruction`: the current wait, or the next
/// one, ends at once. Returns the address to continue at.
pub(super) fn wake(instruction: u64) -> u64 {
    set_woken(true);
    let begins = wait_unless_woken as *const () as u64;
    if (begins..begins + WAIT_BYTES).contains(&instruction) { begins } else { instruction }
}

/// Ticks of the time stamp counter in a second, after the first use.
static TIMESTAMP_HERTZ: AtomicU64 = AtomicU64::new(0);
/// Used if no source gives the frequency.
const GUESSED_HERTZ: u64 = 1_000_000_000;

/// Bytes that CLFLUSH flushes, once they were asked for.
static LINE_BYTES: AtomicU64 = AtomicU64::new(0);

/// Asked once: under a hypervisor, CPUID leaves the guest.
fn line_bytes() -> u64 {
    match LINE_BYTES.load(Ordering::Relaxed) {
        0 => ask_line_bytes(),
        bytes => bytes,
    }
}

/// Intel SDM vol. 2A, CPUID leaf 1: EBX bits 15:8, in units of 8 bytes. What is not a power of two cannot be true.
#[cold]
fn ask_line_bytes() -> u64 {
    let bytes = u64::from(__cpuid(1).ebx >> 8 & 0xff) * 8;
    let bytes = if bytes.is_power_of_two() { bytes } else { 64 };
    LINE_BYTES.store(bytes, Ordering::Relaxed);
    bytes
}

fn known_hertz() -> Option<u64> {
    crystal_hertz().or_else(hypervisor_hertz).or_else(|| measure_timestamp_hertz(X86_64::timestamp))
}

/// Leaf 15h: the counter's frequency as a ratio to the crystal's.
fn crystal_hertz() -> Option<u64> {
    if __cpuid(0).eax < 0x15 {
        return None;
    }
    let leaf = __cpuid_count(0x15, 0);
    let (denominator, numerator, crystal) = (leaf.eax, leaf.ebx, leaf.ecx);
    let hertz = u64::from(crystal).checked_mul(u64::from(numerator))?;
    hertz.checked_div(u64::from(denominator)).filter(|&hertz| hertz != 0)
}

/// Leaf 4000_0010h of a hypervisor: the counter's frequency in kHz (VMware's leaf, which QEMU, KVM and others have,
/// too).
fn hypervisor_hertz() -> Option<u64> {
    const LAST_LEAF: u32 = 0x4000_0000;
    const TIMING: u32 = 0x4000_0010;
    let is_guest = __cpuid(1).ecx & 1 << 31 != 0;
    // A hypervisor has few leaves: a CPU without any returns a larger number.
    let has_leaf = is_guest && (TIMING..=TIMING + 0xffff).contains(&__cpuid(LAST_LEAF).eax);
    let kilohertz = if has_leaf { __cpuid(TIMING).eax } else { 0 };
    (kilohertz != 0).then_some(u64::from(kilohertz) * 1000)
}

/// The mode that the CPU runs in, read from its registers.
#[derive(Clone, Copy, Debug)]
struct Mode {
    cr4: Cr4Flags,
    no_execute: bool,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Intel SDM vol. 3A, 4.1.1: CR4.LA57 adds a level.
        let levels = if self.cr4.contains(Cr4Flags::L5_PAGING) { "five" } else { "four" };
        let execute = if self.no_execute { "" } else { ", all of it executable" };
        write!(f, "{levels}-level page tables of 4 KiB pages{execute}")
    }
}

/// [`Cpu::switch`].
///
/// # Safety
///
/// Those of [`Cpu::switch`].
#[unsafe(naked)]
unsafe extern "C" fn switch(_root: PhysAddr, _top: VirtAddr, _main: extern "C" fn() -> !) -> ! {
    naked_asm!("mov cr3, rdi", "mov rsp, rsi", "xor ebp, ebp", "call rdx", "ud2")
}

impl Cpu for X86_64 {
    fn exit(exit: Exit) -> ! {
        let value = match exit {
            Exit::Code(code) => EXIT_BASE + u32::from(code),
            Exit::Panic => EXIT_PANIC,
        };
        // SAFETY: with isa-debug-exit the machine ends; on any other PC no device decodes the port.
        unsafe { port::write_u32(DEBUG_EXIT, value) };
        halt_forever()
    }

    fn halt() -> ! {
        halt_forever()
    }

    fn enter(area: &'static CpuArea) {
        GsBase::write(CpuAddr::from_ptr(area));
    }

    #[inline(always)]
    fn number() -> usize {
        let number;
        // SAFETY: reads a field of the area that GS points to since `enter`, which is never written.
        unsafe {
            asm!("mov {}, gs:[{offset}]", out(reg) number, offset = const offset_of!(CpuArea, number),
                 options(pure, readonly, nostack, preserves_flags));
        }
        number
    }

    #[inline(always)]
    fn relax() {
        core::hint::spin_loop();
    }

    /// Intel SDM vol. 2A, CLFLUSH.
    fn clean_cache(range: VirtRange) {
        each_line(range, line_bytes(), |at| {
            // SAFETY: the line is mapped, as the caller says; flushing it changes no content.
            unsafe { asm!("clflush [{}]", in(reg) at.get(), options(nostack, preserves_flags)) };
        });
        // SAFETY: a fence; the flushes are done before anything that follows (CLFLUSH is ordered by it).
        unsafe { asm!("mfence", options(nostack, preserves_flags)) };
    }

    #[inline(always)]
    fn enable_interrupts() {
        // SAFETY: the handlers are in place before interrupts are enabled. Memory accesses are not moved across.
        unsafe { asm!("sti", options(nostack, preserves_flags)) };
    }

    #[inline(always)]
    fn disable_interrupts() {
        interrupts::disable();
    }

    #[inline(always)]
    fn interrupts_are_enabled() -> bool {
        interrupts::are_enabled()
    }

    fn enable_interrupts_and_wait() {
        wait_unless_woken();
        set_woken(false);
    }

    /// Intel SDM vol. 2A CPUID; AMD APM vol. 3 appendix E.
    fn features() -> Features {
        let extended = __cpuid(0x8000_0000).eax;
        let flags = if extended >= 0x8000_0001 { __cpuid(0x8000_0001).edx } else { 0 };
        let bits = if extended >= 0x8000_0008 { __cpuid(0x8000_0008).eax & 0xff } else { 36 };
        let needed = [
            (flags & 1 << 20 != 0, "pages that are not executable"),
            (__cpuid(1).edx & 1 << 9 != 0, "a local APIC (CPUID.1:EDX.APIC)"),
        ];
        Features {
            largest_leaf: if flags & 1 << 26 != 0 { 1 << 30 } else { 2 << 20 },
            phys_limit: PhysAddr::new(1 << bits.clamp(32, 52)),
            missing: needed.into_iter().find_map(|(there, what)| (!there).then_some(what)),
        }
    }

    fn mode() -> impl fmt::Display {
        Mode { cr4: Cr4::read(), no_execute: Efer::read().contains(EferFlags::NO_EXECUTE_ENABLE) }
    }

    fn set_up() {
        // SAFETY: NXE gives bit 63 of an entry its meaning; the early tables never set it.
        unsafe { Efer::update(|efer| efer.insert(EferFlags::NO_EXECUTE_ENABLE)) };
        // SAFETY: the early tables map everything writable, so write protection refuses no access yet.
        unsafe { Cr0::update(|cr0| cr0.insert(Cr0Flags::WRITE_PROTECT)) };
        // SAFETY: no early entry is global, and without PCIDs a CR3 reload drops everything.
        unsafe { Cr4::update(|cr4| cr4.remove(Cr4Flags::PAGE_GLOBAL | Cr4Flags::PCID)) };
        machine_check::set_up();
    }

    unsafe fn switch(root: PhysAddr, top: VirtAddr, main: extern "C" fn() -> !) -> ! {
        // SAFETY: by the contract of this function.
        unsafe { switch(root, top, main) }
    }

    #[inline(always)]
    fn frame_pointer() -> u64 {
        let pointer;
        // SAFETY: copies a register.
        unsafe { asm!("mov {}, rbp", out(reg) pointer, options(nomem, nostack, preserves_flags)) };
        pointer
    }
}

impl Clock for X86_64 {
    /// The time stamp counter: under `-icount shift=0` the number of instructions executed.
    fn timestamp() -> u64 {
        // SAFETY: every 64-bit CPU has a time stamp counter, and CR4.TSD binds user code only.
        unsafe { _rdtsc() }
    }

    /// The frequency that firmware or a driver gave ([`MachineInfo`]), else that of the CPU or its hypervisor, else
    /// one measured here, else a guess of 1 GHz.
    fn timestamp_hertz() -> u64 {
        if let Some(hertz) = MachineInfo::noted().timebase_hertz {
            return hertz;
        }
        match TIMESTAMP_HERTZ.load(Ordering::Relaxed) {
            0 => {
                let hertz = known_hertz().unwrap_or(GUESSED_HERTZ);
                TIMESTAMP_HERTZ.store(hertz, Ordering::Relaxed);
                hertz
            }
            hertz => hertz,
        }
    }

    fn timestamp_is_known() -> bool {
        MachineInfo::noted().timebase_hertz.is_some()
            || Self::timestamp_hertz() != GUESSED_HERTZ
            || known_hertz().is_some()
    }

    fn instructions() -> u64 {
        Self::timestamp()
    }
}
