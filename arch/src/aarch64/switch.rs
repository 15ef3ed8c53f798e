//! Switches from the early page tables to the kernel's own, which may have another granule.
//!
//! The granule of a table cannot change under the code that it translates. So the code changes it from the identity
//! map of TTBR0, whose granule stays, with the walks of TTBR1 turned off (Arm ARM D8.14.1: break, then make); at the
//! end it turns the walks of TTBR0 off, and the lower half faults.

// UNSAFETY: changes the page tables.
#![expect(unsafe_code)]

use super::Aarch64;
use crate::contract::Layout;
use aarch64_cpu::registers::TCR_EL1::{EPD0, EPD1, TG1};
use core::arch::naked_asm;
use hotmem_paging::addr::{PhysAddr, VirtAddr};

/// The kernel's page size.
const GRANULE: u64 = match Aarch64::PAGE_SHIFT {
    14 => TG1::KiB_16.value,
    12 => TG1::KiB_4.value,
    _ => TG1::KiB_64.value,
};
const GRANULE_MASK: u64 = TG1::KiB_64.mask();
const OFF1: u64 = EPD1::DisableTTBR1Walks.value;
const OFF0: u64 = EPD0::DisableTTBR0Walks.value;

/// [`Cpu::switch`](crate::contract::Cpu::switch), from early tables with an identity map.
///
/// # Safety
///
/// Those of [`Cpu::switch`](crate::contract::Cpu::switch).
#[unsafe(naked)]
pub(super) unsafe extern "C" fn switch(
    root: PhysAddr,
    top: VirtAddr,
    main: extern "C" fn() -> !,
) -> ! {
    naked_asm!(
        "ldr x9, ={base}",
        "adr x10, 2f",
        "sub x10, x10, x9",
        "br x10",
        // In the identity map: turn TTBR1 off, drop its translations, set the new root and granule.
        "2: mrs x11, tcr_el1",
        "orr x12, x11, #{off1}",
        "msr tcr_el1, x12",
        "isb",
        "tlbi vmalle1",
        "dsb nsh",
        "isb",
        "msr ttbr1_el1, x0",
        "bic x11, x11, #{granule_mask}",
        "mov x12, #{granule}",
        "orr x11, x11, x12",
        "orr x12, x11, #{off1}",
        "msr tcr_el1, x12",
        "isb",
        "msr tcr_el1, x11",
        "isb",
        "adr x10, 3f",
        "add x10, x10, x9",
        "br x10",
        // In the new tables: turn the lower half off.
        "3: orr x11, x11, #{off0}",
        "msr tcr_el1, x11",
        "msr ttbr0_el1, xzr",
        "isb",
        "tlbi vmalle1",
        "dsb nsh",
        "isb",
        "mov sp, x1",
        "mov x29, xzr",
        "mov x30, xzr",
        "br x2",
        ".ltorg",
        base = const Aarch64::KERNEL_BASE.get(),
        off1 = const OFF1,
        off0 = const OFF0,
        granule = const GRANULE,
        granule_mask = const GRANULE_MASK,
    )
}
