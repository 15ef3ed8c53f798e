//! The first instructions: from 32-bit protected mode with paging off to Rust in the higher half.
//!
//! The loader enters with flat segments and EBX = physical address of the start info (PVH boot ABI,
//! `docs/misc/pvh.pandoc` of Xen). The early tables show the first 4 GiB of physical memory three
//! times, with 2 MiB leaves:
//!
//! ```text
//!   0x0000_0000_0000_0000   identity: the entry code itself runs there
//!   0xffff_8000_0000_0000   the linear map, where the kernel's own tables will have it too
//!   0xffff_ffff_8000_0000   the image (first GiB only)
//! ```
//!
//! The kernel replaces them by tables with real permissions as soon as it knows its memory.

// UNSAFETY: entry assembly, the symbols it calls, and reading physical memory.
#![expect(unsafe_code)]

use super::layout::{EARLY_LIMIT, LINEAR_BASE};
use crate::main_entry::hotmem_kernel_main;
use crate::start_info;
use core::arch::global_asm;
use hotmem_paging::ReadPhys;
use hotmem_paging::addr::{PhysAddr, PhysRange};

struct EarlyMemory;

impl ReadPhys for EarlyMemory {
    fn bytes(&self, range: PhysRange) -> Option<&[u8]> {
        let end = range.start().get().checked_add(range.len())?;
        if range.start().get() == 0 || end > EARLY_LIMIT.get() {
            return None;
        }
        let at = LINEAR_BASE.add(range.start().get()).get() as usize;
        let pointer = core::ptr::with_exposed_provenance(at);
        // SAFETY: the early tables show all physical memory below `EARLY_LIMIT` from `LINEAR_BASE`
        // on; nothing runs beside us, so the bytes do not change while they are copied.
        Some(unsafe { core::slice::from_raw_parts(pointer, range.len() as usize) })
    }
}

/// Called by the assembly below, once, on the early stack.
#[unsafe(no_mangle)]
extern "C" fn hotmem_boot_main(at: u64) -> ! {
    hotmem_kernel_main(start_info::parse(&EarlyMemory, PhysAddr::new(at)))
}

// Note: type 18 is XEN_ELFNOTE_PHYS32_ENTRY. QEMU reads its descriptor as 8 bytes, and needs the
// segment's alignment to be 4 (`.balign 4`).
global_asm!(
    r#"
    .section .note.pvh, "a", @note
    .balign 4
    .long 4, 8, 18
    .asciz "Xen"
    .quad hotmem_pvh_entry

    .section .boot.bss, "aw", @nobits
    .balign 4096
early_pml4:      .skip 4096
early_pdpt:      .skip 4096
early_pdpt_top:  .skip 4096
early_pd:        .skip 4 * 4096
    .global __early_stack, __early_stack_top
__early_stack:   .skip 64 * 1024
__early_stack_top:

    .section .boot.text, "ax"
    .balign 8
early_gdt:
    .quad 0
    .quad 0x00af9a000000ffff        /* 0x08: code, 64 bit */
    .quad 0x00cf92000000ffff        /* 0x10: data */
early_gdt_pointer:
    .word 23
    .quad early_gdt
no_long_mode_text:
    .asciz "hotmem: this CPU has no 64-bit mode\r\n"

    .code32
    .global hotmem_pvh_entry
hotmem_pvh_entry:
    cli
    cld
    movl $__early_stack_top, %esp
    movl %ebx, %esi

    /* CPUID 8000_0001h EDX bit 29: long mode (AMD APM vol. 3, appendix E). */
    movl $0x80000000, %eax
    cpuid
    cmpl $0x80000001, %eax
    jb no_long_mode
    movl $0x80000001, %eax
    cpuid
    btl $29, %edx
    jnc no_long_mode

    /* Tables: cleared by hand, because no other code clears .boot.bss. */
    movl $early_pml4, %edi
    movl $(7 * 4096 / 4), %ecx
    xorl %eax, %eax
    rep stosl
    movl $(early_pdpt + 3), early_pml4
    movl $(early_pdpt + 3), early_pml4 + 8 * 256
    movl $(early_pdpt_top + 3), early_pml4 + 8 * 511
    movl $(early_pd + 3), early_pdpt_top + 8 * 510
    movl $(early_pd + 3), early_pdpt
    movl $(early_pd + 0x1003), early_pdpt + 8
    movl $(early_pd + 0x2003), early_pdpt + 16
    movl $(early_pd + 0x3003), early_pdpt + 24

    /* 2048 leaves of 2 MiB: present, writable, large. */
    movl $early_pd, %edi
    movl $0x83, %eax
    movl $2048, %ecx
1:  movl %eax, (%edi)
    addl $0x200000, %eax
    addl $8, %edi
    decl %ecx
    jnz 1b

    /* AMD APM vol. 2, 14.6: PAE, CR3, EFER.LME, then paging. */
    movl %cr4, %eax
    orl $0x20, %eax
    movl %eax, %cr4
    movl $early_pml4, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx
    rdmsr
    orl $0x100, %eax
    wrmsr
    movl %cr0, %eax
    orl $0x80010001, %eax
    movl %eax, %cr0
    lgdt early_gdt_pointer
    ljmp $0x08, $long_entry

no_long_mode:
    movl $no_long_mode_text, %esi
    movw $0x3f8, %dx
2:  lodsb
    testb %al, %al
    jz 3f
    outb %al, %dx
    jmp 2b
3:  movl $0x7f, %eax
    movw $0xf4, %dx
    outl %eax, %dx
4:  hlt
    jmp 4b

    .code64
long_entry:
    movw $0x10, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    xorl %eax, %eax
    movw %ax, %fs
    movw %ax, %gs
    movl %esi, %ebx
    movq $__bss_start, %rdi
    movq $__bss_end, %rcx
    subq %rdi, %rcx
    shrq $3, %rcx
    xorl %eax, %eax
    rep stosq
    movl %ebx, %edi
    movabsq $__early_stack_top, %rsp
    xorl %ebp, %ebp
    movabsq $hotmem_boot_main, %rax
    callq *%rax
5:  hlt
    jmp 5b
"#,
    options(att_syntax)
);
