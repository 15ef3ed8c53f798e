//! From this program's addresses to the kernel's.
//!
//! A page of code is mapped right below the kernel. It changes to the tables without the lower half, to the segments that
//! the protocol describes and to the kernel's stack, and jumps to the kernel: at once on the first CPU; on others when it
//! has written where to.

use crate::memory::Memory;
use core::arch::{asm, global_asm};
use x86_64::structures::paging::PageTableFlags as Flags;

/// Where the code is for the kernel's tables.
const CODE: u64 = 0xffff_ffff_7fff_f000;
/// Null; code and data of 16 and of 32 bits; code (0x28) and data (0x30) of 64 bits.
const SEGMENTS: [u64; 7] = [
    0,
    0x0000_9b00_0000_ffff,
    0x0000_9300_0000_ffff,
    0x00cf_9b00_0000_ffff,
    0x00cf_9300_0000_ffff,
    0x00af_9b00_0000_ffff,
    0x00cf_9300_0000_ffff,
];

// RDI: the first argument of the kernel's function; RSI: the tables; RDX: the pointer to the segments; RCX: the stack;
// R8: where to go, or 0: then the CPU waits for that in the third word at RDI.
global_asm!(
    r#"
    .text
    .balign 4096
    .global enter_code
enter_code:
    movq %rsi, %cr3
    lgdt (%rdx)
    movq %rcx, %rsp
    pushq $0x28
    leaq 1f(%rip), %rax
    pushq %rax
    lretq
1:  movw $0x30, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %fs
    movw %ax, %gs
    movw %ax, %ss
2:  testq %r8, %r8
    jnz 3f
    pause
    movq 16(%rdi), %r8
    jmp 2b
3:  pushq $0
    xorl %ebp, %ebp
    jmpq *%r8
    .balign 4096
"#,
    options(att_syntax)
);

unsafe extern "C" {
    static enter_code: u8;
}

/// What the page of code needs.
pub struct Parked {
    /// The kernel's tables.
    pub root: u64,
    /// The kernel's address of the pointer to the segments.
    pub segments: u64,
}

impl Parked {
    /// The address of the code.
    pub const CODE: u64 = CODE;

    /// Maps the code, and makes the tables: to be called when all else is mapped.
    pub fn new(memory: &mut Memory) -> Self {
        memory.map(CODE, &raw const enter_code as u64, 4096, Flags::empty());
        let words = memory.words(16);
        words[..7].copy_from_slice(&SEGMENTS);
        let table = memory.high(words);
        // The limit in two bytes, then the address.
        let limit = size_of_val(&SEGMENTS) as u64 - 1;
        words[8] = limit | table << 16;
        words[9] = table >> 48;
        let segments = table + 64;
        Self { root: memory.high_root(), segments }
    }

    /// Enters the kernel on this CPU.
    pub fn enter(&self, entry: u64, stack: u64) -> ! {
        // SAFETY: the code is mapped in both tables, and all else of this program ends here.
        unsafe {
            asm!(
                "cli",
                "jmp {code}",
                code = in(reg) CODE,
                in("rdi") 0_u64,
                in("rsi") self.root,
                in("rdx") self.segments,
                in("rcx") stack,
                in("r8") entry,
                options(noreturn)
            );
        }
    }
}
