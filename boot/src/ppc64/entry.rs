//! The first instructions: from Open Firmware, big-endian and without translation, to Rust in the
//! higher half.
//!
//! Firmware enters with 32-bit big-endian instructions, whatever the byte order of the image, and its
//! client interface (r5, IEEE 1275-1994) wants to be called so. The first part is therefore words, each
//! with its bytes turned round by the macro `be`. It asks for the command line and for the services that
//! end the machine, so that no later failure hangs, and changes the byte order. The second part negotiates
//! with the hypervisor (client architecture support, LoPAR B.5.4.1, by QEMU's call 0xf002, which returns
//! a device tree), builds the early tables and turns translation on. Both parts run at one address: at any
//! other one the first instructions copy them there, and all that they do then is to say so. One table of
//! 1 GiB leaves is used twice:
//!
//! ```text
//!   0xc000_0000_0000_0000  linear map      0xc00f_0000_0000_0000  the image      each: 4 GiB
//! ```
//!
//! Quadrant 0 is translated for process 1, which has no tables: low addresses fault.

// UNSAFETY: entry assembly, the symbols it calls, and reading physical memory.
#![expect(unsafe_code)]

use super::handoff::{self, Found, TREE_BYTES, TREE_OFFSET};
use super::layout::{KERNEL_BASE, LINEAR_BASE};
use crate::exits::{self, Exits};
use crate::image;
use crate::info::{BootInfo, COMMAND_LINE_BYTES, HandoffError};
use crate::main_entry::hotmem_kernel_main;
use core::arch::global_asm;
use hotmem_paging::addr::{PhysAddr, PhysRange};

/// Room for the command line: one byte more than is kept shows whether it was cut.
const ARGUMENTS: usize = 0x900;

const _: () = assert!(ARGUMENTS > COMMAND_LINE_BYTES);

unsafe extern "C" {
    static hotmem_ppc_arguments: [u8; ARGUMENTS];
    static hotmem_ppc_power_off: u32;
    static hotmem_ppc_os_term: u32;
}

/// Where the early tables show `len` bytes of low memory.
fn early<T>(at: PhysAddr) -> *const T {
    core::ptr::with_exposed_provenance(LINEAR_BASE.add(at.get()).get() as usize)
}

/// Where the early tables show a datum of the entry code, which is linked where it was loaded.
fn linked<T>(symbol: *const T) -> *const T {
    early(PhysAddr::new(symbol.addr() as u64))
}

/// The services that Open Firmware named: big-endian, and 0 where it did not.
fn read_exits() -> Exits {
    let token = |symbol: *const u32| {
        // SAFETY: the early tables show the entry code's data; nothing else runs.
        let token = unsafe { linked(symbol).read() };
        Some(u32::from_be(token)).filter(|&token| token != 0)
    };
    let power_off = token(&raw const hotmem_ppc_power_off);
    Exits { power_off, os_term: token(&raw const hotmem_ppc_os_term) }
}

fn read_handoff() -> Result<BootInfo, HandoffError> {
    let arguments = linked(&raw const hotmem_ppc_arguments);
    // SAFETY: the early tables show the entry code's data; nothing else runs.
    let command_line: &[u8; ARGUMENTS] = unsafe { &*arguments };

    let start = PhysAddr::new(image::phys().end().get());
    let memory = PhysRange::new(start, TREE_BYTES).ok_or(HandoffError::NoRam)?;
    let tree = early::<u8>(start.add(TREE_OFFSET));
    // SAFETY: the entry code had the tree put behind the image, where the early tables map RAM that
    // nothing else uses.
    let tree = unsafe { core::slice::from_raw_parts(tree, (TREE_BYTES - TREE_OFFSET) as usize) };
    handoff::read(&Found { image: image::phys(), memory, tree, command_line })
}

/// Entered from the assembly below, on the early stack, translation on.
#[unsafe(no_mangle)]
extern "C" fn hotmem_boot_main() -> ! {
    exits::note(read_exits());
    hotmem_kernel_main(read_handoff())
}

const _: () = assert!(KERNEL_BASE.get() == 0xc00f_0000_0000_0000);

// The image is loaded at 0x400000; offsets into the entry part are fixed by .org.
global_asm!(
    r#"
    .macro be word
    .long ((\word & 0xff) << 24) | ((\word & 0xff00) << 8) | ((\word >> 8) & 0xff00) | ((\word >> 24) & 0xff)
    .endm

    /* A cell of the client interface's arrays. */
    .macro cell word
    be \word
    .endm

    /* Calls the client interface with the array at 0x400000 + offset. */
    .macro open_firmware offset
    be 0x3c600040             /* lis r3, 0x40 */
    be (0x60630000 + \offset) /* ori r3, r3, offset */
    be 0x3c800040             /* lis r4, 0x40 */
    be 0x80840200             /* lwz r4, 0x200(r4) */
    be 0x7c8903a6             /* mtctr r4 */
    be 0x4e800421             /* bctrl */
    .endm

    .macro load64 reg, symbol
    lis \reg, \symbol@highest
    ori \reg, \reg, \symbol@higher
    rldicr \reg, \reg, 32, 31
    oris \reg, \reg, \symbol@high
    ori \reg, \reg, \symbol@l
    .endm

    /* The low 32 bits of an address: where it is without translation. */
    .macro load32 reg, symbol
    lis \reg, \symbol@high
    ori \reg, \reg, \symbol@l
    .endm

    .section .boot.bss, "aw", @nobits
    .balign 65536
hotmem_early_root: .space 65536
hotmem_early_gib: .space 4096
hotmem_early_processes: .space 4096

    .section .boot.text, "awx"
    .global hotmem_ppc_entry
hotmem_ppc_entry:
    be 0x429f0005 /* bcl 20, 31, the next one: LR = where that is */
    be 0x7d0802a6 /* mflr r8 */
    be 0x3928fffc /* addi r9, r8, -4: where the image is */
    be 0x3c800040 /* lis r4, 0x40 */
    be 0x7c092040 /* cmplw r9, r4 */
    be 0x4082012c /* bne to "elsewhere" */
    be 0x2c050000 /* cmpwi r5, 0: no client interface */
    be 0x418200c0 /* beq to "change the byte order" */
    be 0x3c800040 /* lis r4, 0x40 */
    be 0x90a40200 /* stw r5, 0x200(r4) */
    be 0x3c200040 /* lis r1, 0x40 */
    be 0x60213f00 /* ori r1, r1, 0x3f00 */
    open_firmware 0x210
    be 0x3c800040 /* lis r4, 0x40 */
    be 0x80a40220 /* lwz r5, 0x220(r4): the handle of /chosen */
    be 0x90a4023c /* stw r5, 0x23c(r4) */
    open_firmware 0x230
    open_firmware 0x320
    be 0x3c800040 /* lis r4, 0x40 */
    be 0x80a40330 /* lwz r5, 0x330(r4): the handle of /rtas */
    be 0x90a40344 /* stw r5, 0x344(r4) */
    be 0x90a40364 /* stw r5, 0x364(r4) */
    open_firmware 0x338
    open_firmware 0x358
    open_firmware 0x258

    /* Change the byte order: 64 bits, MSR[LE]. */
    be 0x7c8000a6 /* mfmsr r4 */
    be 0x68840001 /* xori r4, r4, 1 */
    be 0x38c00001 /* li r6, 1 */
    be 0x78c6f806 /* rldicr r6, r6, 63, 0 */
    be 0x7c843378 /* or r4, r4, r6 */
    be 0x3ca00040 /* lis r5, 0x40 */
    be 0x60a50400 /* ori r5, r5, 0x400 */
    be 0x7cba03a6 /* mtsrr0 r5 */
    be 0x7c9b03a6 /* mtsrr1 r4 */
    be 0x4c000024 /* rfid */

    /* Elsewhere (QEMU: kernel-addr=). The entry part is copied to where it can run, to say so: the memory
       there is of no use to a machine that does not start. */
    .org 0x140
    be 0x38e01000 /* li r7, 0x1000: up to the arguments */
    be 0x7ce903a6 /* mtctr r7 */
    be 0x38c00000 /* li r6, 0 */
    be 0x7ce930ae /* lbzx r7, r9, r6 */
    be 0x7ce431ae /* stbx r7, r4, r6 */
    be 0x38c60001 /* addi r6, r6, 1 */
    be 0x4200fff4 /* bdnz to lbzx */
    be 0x90840204 /* stw r4, 0x204(r4) */
    be 0x7c0004ac /* sync */
    be 0x7c0027ac /* icbi 0, r4 */
    be 0x4c00012c /* isync */
    be 0x38840018 /* addi r4, r4, 0x18: "no client interface?" */
    be 0x7c8903a6 /* mtctr r4 */
    be 0x4e800420 /* bctr */

    .org 0x200
    .long 0       /* 0x200: the client interface */
    .long 0       /* 0x204: not 0 if the image is elsewhere */
    .org 0x210
    cell 0x400280 /* finddevice: 1 argument, 1 result */
    cell 1
    cell 1
    cell 0x4002a0
    cell 0
    .org 0x230
    cell 0x400290 /* getprop: 4 arguments, 1 result */
    cell 4
    cell 1
    cell 0
    cell 0x4002b0
    cell 0x401000
    cell 0x8ff
    cell 0
    .org 0x258
    cell 0x4002c0 /* quiesce */
    cell 0
    cell 0
    .org 0x280
    .asciz "finddevice"
    .org 0x290
    .asciz "getprop"
    .org 0x2a0
    .asciz "/chosen"
    .org 0x2b0
    .asciz "bootargs"
    .org 0x2c0
    .asciz "quiesce"

    .org 0x2c8
    .asciz "/rtas"

    /* What the kernel supports (LoPAR B.5.4.1). */
    .org 0x2d0
    cell 0xffff0000 /* POWER9 */
    cell 0x004e0000
    cell 0xffff0000 /* POWER10 */
    cell 0x00800000
    cell 0xffffffff /* architecture 3.00 */
    cell 0x0f000005
    cell 0x00000000
    cell 0xffffffff
    .byte 4                     /* five vectors follow */
    .byte 2, 0x00, 0xde, 0x80   /* 1: architectures, 3.00 among them */
    .byte 0, 0, 0, 0, 0, 0      /* 2, 3, 4 */
    .byte 25                    /* 5: 26 bytes */
    .byte 0, 0x20, 0, 0         /* byte 2: dynamic memory */
    .byte 0x80, 0x04, 0, 0      /* byte 5: affinity, form 1; byte 6: hotplug events */
    .byte 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
    .byte 0x80, 0x00, 0x40, 0   /* 22: memory, version 2; 23: XICS; 24: radix */
    .byte 0x40                  /* 26: the guest invalidates translations */

    .org 0x320
    cell 0x400280 /* finddevice */
    cell 1
    cell 1
    cell 0x4002c8
    cell 0
    .org 0x338
    cell 0x400290 /* getprop */
    cell 4
    cell 1
    cell 0
    cell 0x400380
    cell 0x4003a0
    cell 4
    cell 0
    .org 0x358
    cell 0x400290 /* getprop */
    cell 4
    cell 1
    cell 0
    cell 0x400390
    cell 0x4003b8
    cell 4
    cell 0
    .org 0x380
    .asciz "ibm,os-term"
    .org 0x390
    .asciz "power-off"

    /* A call of RTAS, complete but for its token, which getprop puts there: 1 argument, 1 result. */
    .org 0x3a0
    .global hotmem_ppc_os_term
hotmem_ppc_os_term:
    .long 0
    cell 1
    cell 1
    cell 0x4003c0
    cell 0
    .org 0x3b8
    .global hotmem_ppc_power_off
hotmem_ppc_power_off:
    .long 0
    .org 0x3c0
    .asciz "hotmem: kernel end"

    .org 0x400
    lis 4, 0x40
    lwz 3, 0x204(4)
    cmpwi 3, 0
    bne misplaced

    /* Negotiate; the device tree goes behind the image. */
    li 3, 0
    ori 3, 3, 0xf002
    lis 4, 0x40
    ori 4, 4, 0x2d0
    load32 5, __device_tree
    addi 5, 5, 4
    lis 6, {tree_bytes} >> 16
    addi 6, 6, -4
    sc 1
    cmpdi 3, 0
    bne refuse

    /* H_SET_MODE: interrupts are little-endian. */
    li 3, 0x31c
    li 4, 1
    li 5, 4
    li 6, 0
    li 7, 0
    sc 1

    /* No firmware promises that this memory is clear. */
    load32 4, hotmem_early_root
    li 5, (65536 + 2 * 4096) / 8
    mtctr 5
    li 0, 0
1:  std 0, 0(4)
    addi 4, 4, 8
    bdnz 1b
    load32 4, __bss_start
    load32 5, __bss_end
    subf 5, 4, 5
    srdi 5, 5, 3
    mtctr 5
2:  std 0, 0(4)
    addi 4, 4, 8
    bdnz 2b

    /* Four leaves of 1 GiB: valid, leaf, R, C, privileged, read, write, execute. */
    load32 8, hotmem_early_gib
    li 6, 3
    rldicr 6, 6, 62, 1
    ori 6, 6, 0x18f
    lis 7, 0x4000
    li 5, 4
    mtctr 5
    mr 4, 8
3:  stdbrx 6, 0, 4
    add 6, 6, 7
    addi 4, 4, 8
    bdnz 3b

    /* The root: the same directory of 2^9 entries for indices 0 and 0x1e00. */
    load32 4, hotmem_early_root
    li 6, 1
    rldicr 6, 6, 63, 0
    or 6, 6, 8
    ori 6, 6, 9
    stdbrx 6, 0, 4
    ori 5, 4, 0xf000
    stdbrx 6, 0, 5

    /* Process 0: 52 bits of address, a root of 2^13 entries. */
    li 6, 1
    rldicr 6, 6, 62, 1
    or 6, 6, 4
    ori 6, 6, 0xad
    load32 5, hotmem_early_processes
    stdbrx 6, 0, 5

    /* H_REGISTER_PROC_TBL: modify, register, radix, the guest invalidates. */
    li 3, 0x37c
    li 4, 0x1d
    li 6, 0
    li 7, 0
    sc 1
    cmpdi 3, 0
    bne refuse
    li 3, 1
    mtspr 48, 3
    isync

    load64 1, __early_stack_top
    addi 1, 1, -64
    load64 2, .TOC.
    load64 12, hotmem_boot_main
    mtspr 26, 12
    /* MSR: 64 bits, vectors, VSX, floating point, machine checks, translation, RI, little-endian. */
    li 3, 1
    rldicr 3, 3, 63, 0
    oris 3, 3, 0x0280
    ori 3, 3, 0x3033
    mtspr 27, 3
    /* The last frame: stored where the stack is without translation. */
    clrldi 4, 1, 32
    std 0, 0(4)
    std 0, 16(4)
    rfid

misplaced:
    lis 31, 0x40
    ori 31, 31, 0xd00
    b 4f
refuse:
    lis 31, 0x40
    ori 31, 31, 0xc00
4:  li 3, 0x58
    li 4, 0
    li 5, 16
    ldbrx 6, 0, 31
    addi 8, 31, 8
    ldbrx 7, 0, 8
    sc 1
    cmpdi 3, 1
    beq 4b
    addi 31, 31, 16
    lbz 3, 0(31)
    cmpdi 3, 0
    bne 4b
    /* KVMPPC_H_RTAS, ibm,os-term: it returns if firmware does not have the service. */
    lis 4, 0x40
    ori 4, 4, 0x3a0
    lwz 5, 0(4)
    cmpwi 5, 0
    beq 5f
    li 3, 0
    ori 3, 3, 0xf000
    sc 1
5:  b 5b

    /* Multiples of 16 bytes, as many as one call sends. */
    .org 0xc00
    .ascii "hotmem: cannot start: the hypervisor agrees to no POWER9 or newer with a radix MMU."
    .ascii " Pass QEMU -cpu power9 or -cpu power10, and no max-cpu-compat below POWER9.\r\n"
    .ascii "hotmem: exit 1\r\n"
    .byte 0

    .org 0xd00
    .ascii "hotmem: cannot start: the image was linked for the address 0x400000, and is at another one."
    .ascii " Start QEMU without kernel-addr=...\r\n"
    .ascii "hotmem: exit 1\r\n"
    .byte 0

    .org 0x1000
    .global hotmem_ppc_arguments
hotmem_ppc_arguments:
    .zero {arguments}
    .org 0x4000
"#,
    arguments = const ARGUMENTS,
    tree_bytes = const TREE_BYTES,
);
