//! Starts another CPU by PSCI (Arm DEN 0022F, 5.6 and 6.4): from no translation to the kernel's own tables.
//!
//! ```text
//!   enter: MMU off, EL2 or EL1, x0 = physical address of the launch
//!     --> the level and the registers of the CPU that started it --> MMU on
//!     --> the next instruction has no translation: the fault leads to landed, in the upper half
//! ```
//!
//! So no memory has to be identity-mapped.

// UNSAFETY: entry assembly.
#![expect(unsafe_code)]

use super::{Aarch64, cpu, psci};
use crate::area::Launch;
use crate::contract::Cpu;
use crate::machine_info::MachineInfo;
use aarch64_cpu::registers::{
    CurrentEL, HCR_EL2, MAIR_EL1, MDCR_EL2, Readable, SCTLR_EL1, TCR_EL1,
};
use core::arch::global_asm;
use core::mem::offset_of;
use core::sync::atomic::Ordering;
use hotmem_paging::addr::{PhysAddr, VirtAddr, VirtRange};

unsafe extern "C" {
    static hotmem_enter: u8;
}

/// The physical address of the image's byte at `at`.
fn physical(at: VirtAddr) -> PhysAddr {
    PhysAddr::new(at.offset_from(Aarch64::KERNEL_BASE))
}

/// The words of [`Launch::early`], in the order of the assembly.
fn early_words() -> [u64; 6] {
    // A CPU at EL1 may lack EL2, whose registers cannot be read then.
    let at_el2 = CurrentEL.read(CurrentEL::EL) == 2;
    let (hcr, mdcr) = if at_el2 { (HCR_EL2.get(), MDCR_EL2.get()) } else { (0, 0) };
    let launch_base = Aarch64::KERNEL_BASE.get();
    [SCTLR_EL1.get(), TCR_EL1.get(), MAIR_EL1.get(), hcr, mdcr, launch_base]
}

/// Starts the CPU with this affinity; returns whether firmware accepted.
///
/// # Safety
///
/// The launch is for this CPU alone.
pub(super) unsafe fn start(mpidr: u64, launch: &'static Launch) -> bool {
    let Some(conduit) = MachineInfo::noted().psci else { return false };
    for (word, value) in launch.early.iter().zip(early_words()) {
        word.store(value, Ordering::Relaxed);
    }
    let at = VirtAddr::new(core::ptr::from_ref(launch).expose_provenance() as u64);
    // The started CPU reads the launch without caches.
    if let Some(bytes) = VirtRange::new(at, size_of::<Launch>() as u64) {
        Aarch64::clean_cache(bytes);
    }
    let enter = physical(VirtAddr::new((&raw const hotmem_enter).addr() as u64));
    // SAFETY: the entry code below expects a launch, which is this CPU's own.
    unsafe { psci::cpu_on(conduit, cpu::affinity(mpidr), enter, physical(at).get()) }
}

/// Runs on the CPU's own stack.
extern "C" fn arrived(launch: &'static Launch) -> ! {
    Aarch64::enter(launch.area);
    Aarch64::set_up();
    (launch.main)()
}

global_asm!(
    r#"
    .section .text.hotmem_enter, "ax"
    .balign 2048
hotmem_landed:
    /* The vector of a synchronous exception of this level is 0x200 behind. */
    .balign 512
    .skip 512
    mov x0, x20
    ldr x1, [x0, #{top}]
    msr spsel, #0
    mov sp, x1
    mov x29, xzr
    mov x30, xzr
    b {arrived}

    .balign 16
    .global hotmem_enter
hotmem_enter:
    msr daifset, #0xf
    mov x20, x0
    mrs x1, CurrentEL
    cmp x1, #(1 << 2)
    b.eq 3f
    /* EL2. The system registers of a GIC, if there are some (ICC_SRE_EL2: SRE, Enable). */
    mrs x1, id_aa64pfr0_el1
    ubfx x1, x1, #24, #4
    cbz x1, 1f
    mov x1, #9
    msr S3_4_C12_C9_5, x1
    isb
1:  ldr x1, [x20, #{early} + 24]
    cbz x1, 2f
    /* The first CPU stays here. */
    msr hcr_el2, x1
    isb
    ldr x1, [x20, #{early} + 32]
    msr mdcr_el2, x1
    b 3f
    /* The first CPU is at EL1. */
2:  mov x1, #(1 << 31)
    msr hcr_el2, x1
    msr vttbr_el2, xzr
    msr hstr_el2, xzr
    msr cntvoff_el2, xzr
    mov x1, #3
    msr cnthctl_el2, x1
    mov x1, #0x33ff
    msr cptr_el2, x1
    mrs x1, midr_el1
    msr vpidr_el2, x1
    mrs x1, mpidr_el1
    msr vmpidr_el2, x1
    mrs x1, pmcr_el0
    ubfx x1, x1, #11, #5
    msr mdcr_el2, x1
    mov x1, #0x3c5
    msr spsr_el2, x1
    adr x1, 3f
    msr elr_el2, x1
    ldr x1, =0x30d00800
    msr sctlr_el1, x1
    eret

3:  ldr x1, [x20, #{early} + 16]
    msr mair_el1, x1
    ldr x1, [x20, #{early} + 8]
    msr tcr_el1, x1
    ldr x1, [x20, #{root}]
    msr ttbr1_el1, x1
    msr ttbr0_el1, xzr
    ldr x1, [x20, #{early} + 40]
    adrp x2, hotmem_landed
    add x2, x2, :lo12:hotmem_landed
    add x2, x2, x1
    msr vbar_el1, x2
    ldr x2, [x20, #{early}]
    add x20, x20, x1
    isb
    tlbi vmalle1
    ic iallu
    dsb sy
    isb
    msr sctlr_el1, x2
    isb
4:  wfe
    b 4b
    .ltorg
"#,
    top = const offset_of!(Launch, top),
    root = const offset_of!(Launch, root),
    early = const offset_of!(Launch, early),
    arrived = sym arrived,
);
