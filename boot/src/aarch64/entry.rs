//! The first instructions: from an MMU that is off to Rust in the higher half.
//!
//! In X0 there is the physical address of a start info, if a loader has made one, else 0.
//!
//! A type-1 hypervisor belongs at EL2, and there the kernel stays if the CPU has the virtualization
//! host extensions: with HCR_EL2.{E2H, TGE} set, EL2 has two address ranges, and the names `*_EL1`
//! reach EL2's own registers (Arm ARM D8.1.4, "Virtualization Host Extensions"). On any other CPU EL2
//! has no upper half, so the entry goes down to EL1.
//!
//! The early tables have 4 KiB granules and 1 GiB blocks, whatever the kernel's own will have. One
//! table of them is used four times:
//!
//! ```text
//!   0x0000_0000_0000_0000  identity: the entry code itself runs there, and `switch` later
//!   0xffff_0000_0000_0000  linear map        0xffff_a000_0000_0000  devices
//!   0xffff_c000_0000_0000  the image         each: 1 GiB of devices, 3 GiB of memory
//! ```

// UNSAFETY: entry assembly, the symbols it calls, and reading physical memory.
#![expect(unsafe_code)]

use super::handoff::{self, TABLE_BYTES};
use super::layout::{self, RAM_BASE};
use super::registers::FwCfg;
use super::table_loader::Arena;
use crate::image;
use crate::info::{BootInfo, HandoffError};
use crate::main_entry::hotmem_kernel_main;
use crate::start_info;
use crate::tree;
use core::arch::global_asm;
use core::ptr::NonNull;
use hotmem_paging::ReadPhys;
use hotmem_paging::addr::{PhysAddr, PhysRange};

/// Where the early tables show `range`, if they do.
fn early(range: PhysRange) -> Result<NonNull<u8>, HandoffError> {
    let unreachable =
        HandoffError::Unreachable { address: range.start().get(), bytes: range.len() };
    let at = layout::early(range).ok_or(unreachable)?.get() as usize;
    NonNull::new(core::ptr::with_exposed_provenance_mut(at)).ok_or(unreachable)
}

/// The device tree that the machine left at the start of RAM.
fn device_tree() -> Result<&'static [u8], HandoffError> {
    let bytes = |len| {
        let range = PhysRange::new(RAM_BASE, len).ok_or(HandoffError::NoRam)?;
        let pointer = early(range)?;
        // SAFETY: the early tables show these bytes, which are below the image; nothing runs beside us
        // and nothing writes there while the tree is read.
        Ok(unsafe { core::slice::from_raw_parts(pointer.as_ptr(), range.len() as usize) })
    };
    bytes(tree::total_bytes(bytes(tree::HEADER_BYTES)?)?)
}

fn read_handoff() -> Result<BootInfo, HandoffError> {
    let machine = tree::read(device_tree()?, image::phys())?;
    let at = machine.fw_cfg.ok_or(HandoffError::NoFwCfg)?;
    // SAFETY: the entry code has turned the early tables on, and the tree says what is at `at`.
    let mut device = unsafe { FwCfg::new(at)? };

    let range = handoff::table_range(&machine, image::phys())?;
    let place = early(range)?;
    // SAFETY: the early tables map the range, which is RAM behind the image that nothing else uses yet.
    unsafe { place.write_bytes(0, TABLE_BYTES as usize) };
    // SAFETY: as above, and its bytes are initialised now.
    let bytes = unsafe { core::slice::from_raw_parts_mut(place.as_ptr(), TABLE_BYTES as usize) };
    handoff::read(&machine, &mut device, Arena { bytes, at: range.start() })
}

struct EarlyMemory;

impl ReadPhys for EarlyMemory {
    fn bytes(&self, range: PhysRange) -> Option<&[u8]> {
        let pointer = early(range).ok()?;
        // SAFETY: the early tables show these bytes; nothing runs beside us, so they do not change
        // while they are copied.
        Some(unsafe { core::slice::from_raw_parts(pointer.as_ptr(), range.len() as usize) })
    }
}

/// Called by the assembly below, once, on the early stack. If `start_info` is 0, the machine started the image
/// directly, without `hotmem-uefi`.
#[unsafe(no_mangle)]
extern "C" fn hotmem_boot_main(start_info: u64) -> ! {
    hotmem_kernel_main(match start_info {
        0 => read_handoff(),
        at => start_info::parse(&EarlyMemory, PhysAddr::new(at)),
    })
}

global_asm!(
    r#"
    .section .boot.bss, "aw", @nobits
    .balign 4096
early_root:  .skip 4096
early_gib:   .skip 4096

    .section .boot.text, "ax"
    .global hotmem_arm_entry
hotmem_arm_entry:
    msr daifset, #0xf
    mov x20, x0
    mrs x0, CurrentEL
    cmp x0, #(2 << 2)
    b.lo at_el1
    b.hi at_el3

    /* EL2. If there are system registers for the GIC, let them be used (ICC_SRE_EL2: SRE, Enable). */
    mrs x0, id_aa64pfr0_el1
    ubfx x0, x0, #24, #4
    cbz x0, 1f
    mrs x0, S3_4_C12_C9_5
    orr x0, x0, #1
    orr x0, x0, #8
    msr S3_4_C12_C9_5, x0
    isb
1:  mrs x0, id_aa64mmfr1_el1
    ubfx x0, x0, #8, #4
    cbz x0, drop_to_el1

    /* HCR_EL2: RW, TGE, E2H. The MMU is off, so the new meaning of TCR_EL2 has no effect yet. */
    mov x0, #(1 << 31)
    orr x0, x0, #(1 << 27)
    orr x0, x0, #(1 << 34)
    mrs x1, sctlr_el2
    bic x1, x1, #1
    bic x1, x1, #4
    msr sctlr_el2, x1
    isb
    msr hcr_el2, x0
    isb
    /* Cycles count at EL2 as well: MDCR_EL2.HCCD (bit 23) and HPMD (bit 17) clear. */
    mrs x0, mdcr_el2
    bic x0, x0, #(1 << 23)
    bic x0, x0, #(1 << 17)
    msr mdcr_el2, x0
    b at_el1

drop_to_el1:
    mov x0, #(1 << 31)
    msr hcr_el2, x0
    msr vttbr_el2, xzr
    msr hstr_el2, xzr
    msr cntvoff_el2, xzr
    mov x0, #3
    msr cnthctl_el2, x0
    mov x0, #0x33ff
    msr cptr_el2, x0
    mrs x0, midr_el1
    msr vpidr_el2, x0
    mrs x0, mpidr_el1
    msr vmpidr_el2, x0
    /* Every event counter is EL1's: MDCR_EL2.HPMN = PMCR_EL0.N, nothing trapped. */
    mrs x0, pmcr_el0
    ubfx x0, x0, #11, #5
    msr mdcr_el2, x0
    mov x0, #0x3c5
    msr spsr_el2, x0
    adr x0, at_el1
    msr elr_el2, x0
    ldr x0, =0x30d00800
    msr sctlr_el1, x0
    eret

at_el1:
    /* Tables: cleared by hand, because no other code clears .boot.bss. */
    adrp x1, early_root
    mov x2, #(2 * 4096 / 8)
    mov x3, x1
2:  str xzr, [x3], #8
    subs x2, x2, #1
    b.ne 2b

    /* Blocks of 1 GiB: 0 is devices (AttrIndx 1, never executed), 1 to 3 memory. AF is set. */
    adrp x2, early_gib
    ldr x0, =0x0060000000000405
    str x0, [x2]
    ldr x0, =0x40000701
    mov x4, #0x40000000
    str x0, [x2, #8]
    add x0, x0, x4
    str x0, [x2, #16]
    add x0, x0, x4
    str x0, [x2, #24]
    orr x0, x2, #3
    str x0, [x1]
    mov x3, #(320 * 8)
    str x0, [x1, x3]
    mov x3, #(384 * 8)
    str x0, [x1, x3]

    /* MAIR: 0 memory, write-back; 1 devices, nGnRnE. */
    mov x0, #0xff
    msr mair_el1, x0
    /* TCR: 48 bits each, 4 KiB granules, write-back, inner shareable; IPS as the CPU has it. */
    ldr x0, =0xb5103510
    mrs x3, id_aa64mmfr0_el1
    and x3, x3, #0xf
    mov x4, #5
    cmp x3, x4
    csel x3, x3, x4, lo
    orr x0, x0, x3, lsl #32
    msr tcr_el1, x0
    msr ttbr0_el1, x1
    msr ttbr1_el1, x1
    dsb sy
    isb
    tlbi vmalle1
    ic iallu
    dsb sy
    isb
    ldr x0, =0x30d01805
    msr sctlr_el1, x0
    isb

    /* Traps run on SP_ELx, everything else on SP_EL0. */
    msr spsel, #1
    ldr x0, =__early_trap_stack_top
    mov sp, x0
    msr spsel, #0
    ldr x0, =__early_stack_top
    mov sp, x0

    ldr x0, =__bss_start
    ldr x1, =__bss_end
3:  cmp x0, x1
    b.hs 4f
    stp xzr, xzr, [x0], #16
    b 3b
4:  mov x29, xzr
    mov x30, xzr
    mov x0, x20
    ldr x1, =hotmem_boot_main
    blr x1
    b stop

    /* EL3 belongs to secure firmware, which sets the interrupt controller up for the levels below. Say so on
       the PL011 of QEMU's virt machine (the FLAGS register, 0x18, bit 5: transmit FIFO full), and stop. */
at_el3:
    adrp x0, stop_vectors
    add x0, x0, :lo12:stop_vectors
    msr vbar_el3, x0
    isb
    mov x1, #0x09000000
    mov x2, #0x301
    str w2, [x1, #0x30]
    adrp x0, el3_text
    add x0, x0, :lo12:el3_text
5:  ldrb w2, [x0], #1
    cbz w2, stop
    mov x4, #0x10000
6:  ldr w3, [x1, #0x18]
    sub x4, x4, #1
    cbz x4, stop
    tbnz w3, #5, 6b
    str w2, [x1]
    b 5b
stop:
    wfe
    b stop
    .ltorg

    /* Synchronous exceptions of the current level, with either stack pointer. */
    .balign 2048
stop_vectors:
    b stop
    .balign 512
    b stop
    .balign 8
el3_text:
    .asciz "hotmem: cannot start: the CPU is at EL3, and the kernel needs EL2 or EL1 (QEMU: secure=off)\r\n"
    .balign 4
"#
);
