//! The payload: a program for a guest without devices ([`Guests::payload`](crate::contract::Guests::payload)).
//!
//! ```text
//!   32-bit code: own page tables, which map the first 512 GiB where they are, and long mode --> 64-bit code: rounds
//!                                                              INIT, SIPI    |                        ^
//!   other CPUs:                                        16-bit code <---------/                        |
//!                                                          \--- the same tables, long mode, own number
//! ```
//!
//! It begins at a page below 1 MiB: the second page is where other CPUs begin, with what they need to know. Its page tables
//! are pages of the guest, behind its code; they move as all other pages do. The memory that it works on
//! begins below 4 GiB, is aligned to 64 bytes and a multiple of them long.

// UNSAFETY: the program, in assembly, and the symbols around it.
#![expect(unsafe_code)]

use crate::contract::{Misdeed, PAYLOAD_DONE, PAYLOAD_ROUND};
use core::arch::global_asm;

unsafe extern "C" {
    static hotmem_payload: u8;
    static hotmem_payload_end: u8;
}

/// The program.
pub(super) fn bytes() -> &'static [u8] {
    let begin = &raw const hotmem_payload;
    let length = (&raw const hotmem_payload_end).addr() - begin.addr();
    // SAFETY: the assembly below puts the two symbols around bytes that are never written.
    unsafe { core::slice::from_raw_parts(begin, length) }
}

global_asm!(
    r#"
    .section .rodata.hotmem_payload, "a"
    .balign 4096
    .global hotmem_payload, hotmem_payload_end

    /* Reads the counter, and keeps the largest gap since the last time in R14. Changes RAX, RDX, RBP. */
    .macro hotmem_payload_look
    rdtsc
    shlq $32, %rdx
    orq %rdx, %rax
    movq %rax, %rdx
    subq %rbp, %rdx
    movq %rax, %rbp
    cmpq %r14, %rdx
    cmovaq %rdx, %r14
    .endm

    /* Calls the host with a number and the figures. */
    .macro hotmem_payload_call number
    movl $\number, %eax
    movq %rbx, %rdi
    movq %r12, %rsi
    movq %r13, %rdx
    movq %r14, %rcx
    vmmcall
    .endm

    .code32
hotmem_payload:
    /* The memory to work on serves as a stack, once: the next instruction's address is needed. */
    leal 16(%edi), %esp
    pushl %ecx
    call 1f
1:  popl %ecx
    subl $(1b - hotmem_payload), %ecx
    popl hotmem_payload_values - hotmem_payload + 24(%ecx)
    movl %edi, hotmem_payload_values - hotmem_payload(%ecx)
    movl %eax, hotmem_payload_values - hotmem_payload + 4(%ecx)
    movl %esi, hotmem_payload_values - hotmem_payload + 8(%ecx)
    movl %ebx, hotmem_payload_values - hotmem_payload + 12(%ecx)
    movl %edx, hotmem_payload_values - hotmem_payload + 16(%ecx)
    movl %ebp, hotmem_payload_values - hotmem_payload + 20(%ecx)

    /* A root whose first entry is the next page, and there 512 leaves of 1 GiB. */
    leal hotmem_payload_tables - hotmem_payload(%ecx), %eax
    leal 0x1007(%eax), %ebx
    movl %ebx, (%eax)
    xorl %ebx, %ebx
2:  movl %ebx, %edx
    shll $30, %edx
    orl $0x83, %edx
    movl %edx, 0x1000(%eax, %ebx, 8)
    movl %ebx, %edx
    shrl $2, %edx
    movl %edx, 0x1004(%eax, %ebx, 8)
    incl %ebx
    cmpl $512, %ebx
    jne 2b
    movl %eax, %cr3

    leal hotmem_payload_gdt - hotmem_payload(%ecx), %eax
    movl %eax, hotmem_payload_gdt_register - hotmem_payload + 2(%ecx)
    lgdtl hotmem_payload_gdt_register - hotmem_payload(%ecx)
    leal hotmem_payload_long - hotmem_payload(%ecx), %eax
    movl %eax, hotmem_payload_far - hotmem_payload(%ecx)
    movl %cr0, %eax
    orl $0x80000000, %eax
    movl %eax, %cr0
    ljmpl *hotmem_payload_far - hotmem_payload(%ecx)

    .code64
hotmem_payload_long:
    /* A word is (address + round * C2) * C1, so the next one is R10 = 8 * C1 more. RBX rounds, R12 wrong words,
       R13 checksum, R14 largest gap, RBP counter, R15 C1, RSP and R9 the memory of this CPU and its end. */
    xorl %ebx, %ebx
    xorl %r12d, %r12d
    xorl %r13d, %r13d
    xorl %r14d, %r14d
    movabsq $0x7f4a7c159e3779b9, %r15
    leaq (, %r15, 8), %r10
    /* The count of other CPUs is in the byte above the misdeed. */
    movzbl hotmem_payload_values + 25(%rip), %edi
    movb $0, hotmem_payload_values + 25(%rip)
    cmpq ${search}, hotmem_payload_values + 24(%rip)
    jne 3f
    movq $0, hotmem_payload_values + 24(%rip)
    movq hotmem_payload_values(%rip), %r8
    movq hotmem_payload_values + 8(%rip), %r9
    addq %r8, %r9
    addq $64, %r8
2:  xorl %ecx, %ecx
    cmpq $0, (%r8)
    setne %cl
    addq %rcx, %r12
    addq $8, %r8
    cmpq %r9, %r8
    jb 2b

    /* Share the memory: each other CPU has whole pages, and this one what is left. */
3:  movq hotmem_payload_values(%rip), %rsp
    movq hotmem_payload_values + 8(%rip), %rax
    leaq (%rsp, %rax), %r9
    leal 1(%rdi), %esi
    xorl %edx, %edx
    divq %rsi
    andq $-4096, %rax
    movq %rax, hotmem_payload_share(%rip)
    imulq %rdi, %rax
    subq %rax, %r9
    movq %r9, hotmem_payload_others(%rip)
    movq %cr3, %rax
    movl %eax, hotmem_payload_root(%rip)
    leaq hotmem_payload_other_long(%rip), %rax
    movl %eax, hotmem_payload_far(%rip)

    /* Start them, the last one first: INIT, and the start-up interrupt for the page. */
    movl $0x830, %ecx
    leaq hotmem_payload_other(%rip), %rsi
    shrl $12, %esi
    orl $0x4600, %esi
    jmp 5f
4:  movl $0x4500, %eax
    movl %edi, %edx
    wrmsr
    movl %esi, %eax
    movl %edi, %edx
    wrmsr
    decl %edi
5:  testl %edi, %edi
    jnz 4b

hotmem_payload_rounds:
    rdtsc
    shlq $32, %rdx
    leaq (%rdx, %rax), %rbp

3:  incq %rbx
    movl $0xd1b59e37, %edi
    imulq %rbx, %rdi
    movq %rsp, %r8
    addq %r8, %rdi
    imulq %r15, %rdi
    movq %rdi, %r11
    jmp 5f
4:
    .irp at, 0, 8, 16, 24, 32, 40, 48, 56
    movq %r11, \at(%r8)
    addq %r10, %r11
    .endr
    hotmem_payload_look
    addq $64, %r8
5:  cmpq %r9, %r8
    jb 4b

    movq %rsp, %r8
    movq %rdi, %r11
    jmp 7f
6:
    .irp at, 0, 8, 16, 24, 32, 40, 48, 56
    movq \at(%r8), %rdx
    xorl %ecx, %ecx
    cmpq %r11, %rdx
    setne %cl
    addq %rcx, %r12
    rolq $1, %r13
    addq %rdx, %r13
    addq %r10, %r11
    .endr
    hotmem_payload_look
    addq $64, %r8
7:  cmpq %r9, %r8
    jb 6b

    hotmem_payload_call {round}
    cmpq hotmem_payload_values(%rip), %rsp
    jne 13f
    movq hotmem_payload_values + 24(%rip), %rax
    testq %rax, %rax
    jne 9f
13: /* Zero rounds have no end. */
    cmpq hotmem_payload_values + 16(%rip), %rbx
    jne 3b
    hotmem_payload_call {done}
8:  hlt
    jmp 8b

    /* Misdeeds; R9 is the end of all memory. */
9:  movq %rsp, %r9
    addq hotmem_payload_values + 8(%rip), %r9
    cmpq ${store}, %rax
    je 10f
    cmpq ${firmware}, %rax
    je 11f
    cmpq ${call}, %rax
    je 12f
    cmpq ${emulator}, %rax
    je 14f
    cmpq ${jump}, %rax
    jne 8b
    jmpq *%r9
10: movq %rax, (%r9)
    /* The port by which a PC enters its firmware (SMI). */
11: outb %al, $0xb2
12: movl $0xbad, %eax
    vmmcall
    jmp 12b
14: ud2

    .balign 4096
    .code16
hotmem_payload_other:
    movw %cs, %ax
    movw %ax, %ds
    lgdtl hotmem_payload_gdt_register - hotmem_payload_other
    /* PAE, MCE; LME; PG, NE, PE. */
    movl $0x60, %eax
    movl %eax, %cr4
    movl hotmem_payload_root - hotmem_payload_other, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx
    movl $0x100, %eax
    xorl %edx, %edx
    wrmsr
    movl $0x80000031, %eax
    movl %eax, %cr0
    ljmpl *(hotmem_payload_far - hotmem_payload_other)

    .code64
hotmem_payload_other_long:
    /* The number of this CPU. */
    movl $0x802, %ecx
    rdmsr
    decl %eax
    movq hotmem_payload_share(%rip), %r9
    imulq %r9, %rax
    addq hotmem_payload_others(%rip), %rax
    movq %rax, %rsp
    addq %rax, %r9
    xorl %ebx, %ebx
    xorl %r12d, %r12d
    xorl %r13d, %r13d
    xorl %r14d, %r14d
    movabsq $0x7f4a7c159e3779b9, %r15
    leaq (, %r15, 8), %r10
    jmp hotmem_payload_rounds

    .balign 8
hotmem_payload_gdt:
    .quad 0
    .quad 0x00af9a000000ffff        /* 0x08: code, 64 bit */
hotmem_payload_gdt_register:
    .short 2 * 8 - 1
    .long 0
    .short 0
hotmem_payload_far:
    .long 0
    .short 0x08
    .short 0
    .balign 8
hotmem_payload_values:
    .quad 0, 0, 0, 0
    /* Bytes of each other CPU, the first byte of the first of them, and the root of the tables. */
hotmem_payload_share:
    .quad 0
hotmem_payload_others:
    .quad 0
hotmem_payload_root:
    .long 0
    .balign 4096
hotmem_payload_tables:
    .skip 2 * 4096
hotmem_payload_end:
"#,
    round = const PAYLOAD_ROUND,
    done = const PAYLOAD_DONE,
    store = const Misdeed::Store as u64,
    firmware = const Misdeed::Firmware as u64,
    call = const Misdeed::Call as u64,
    jump = const Misdeed::Jump as u64,
    search = const Misdeed::Search as u64,
    emulator = const Misdeed::Emulator as u64,
    options(att_syntax)
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_payload_begins_with_its_code_and_ends_with_room_for_its_tables() {
        let bytes = bytes();
        // LEA ESP, [EDI + 16]; PUSH ECX; CALL the next instruction.
        assert_eq!(bytes[..9], [0x8d, 0x67, 0x10, 0x51, 0xe8, 0, 0, 0, 0]);
        let tables = 2 * 4096;
        assert!(bytes[bytes.len() - tables..].iter().all(|&byte| byte == 0));
        assert_eq!(bytes.len(), 4 * 4096);
        // Other CPUs begin at the second page: MOV AX, CS; MOV DS, AX.
        assert_eq!(bytes[4096..4100], [0x8c, 0xc8, 0x8e, 0xd8]);
    }
}
