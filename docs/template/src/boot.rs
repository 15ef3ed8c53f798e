//! From QEMU's PVH entry to Rust: the start of long mode, and the machine's description.
//!
//! The CPU comes in 32-bit mode with EBX = the address of the start info. The first tables map the first GiB to itself.

use core::arch::global_asm;
use x86_64::{PhysAddr, VirtAddr};

global_asm!(
    r#"
    .section .note.pvh, "a", @note
    .balign 4
    .long 4, 8, 18
    .asciz "Xen"
    .quad pvh_entry

    .section .bss
    .global stack_bottom, stack_top
    .balign 4096
p4: .skip 4096
p3: .skip 4096
p2: .skip 4096
stack_bottom: .skip 0x80000
stack_top:

    .section .boot.text, "ax"
    .balign 8
gdt:
    .quad 0, 0x00af9a000000ffff, 0x00cf92000000ffff
gdt_pointer:
    .word 23
    .quad gdt
    .code32
    .global pvh_entry
pvh_entry:
    cli
    cld
    movl $stack_top, %esp
    movl $(p3 + 3), p4
    movl $(p2 + 3), p3
    movl $p2, %edi
    movl $0x83, %eax
1:  movl %eax, (%edi)
    addl $0x200000, %eax
    addl $8, %edi
    cmpl $(p2 + 4096), %edi
    jne 1b
    /* PAE and PGE; CR3; long mode and no-execute; paging and write protection. */
    movl $0xa0, %eax
    movl %eax, %cr4
    movl $p4, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx
    rdmsr
    orl $0x900, %eax
    wrmsr
    movl $0x80010011, %eax
    movl %eax, %cr0
    lgdt gdt_pointer
    ljmp $0x08, $2f
    .code64
2:  movw $0x10, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movl %ebx, %edi
    call kernel_main
3:  hlt
    jmp 3b
"#,
    options(att_syntax)
);

unsafe extern "C" {
    static __kernel_end: u8;
}

/// RAM, as firmware describes it.
const RAM: u32 = 1;
/// Ranges of RAM that the kernel uses.
pub const MOST: usize = 16;

/// The machine's description by the loader (`docs/misc/pvh.pandoc` of Xen).
#[derive(Debug)]
pub struct BootInfo {
    /// Ranges of RAM, ascending: start and bytes.
    pub ram: [(u64, u64); MOST],
    /// How many.
    pub ranges: usize,
    /// The root pointer of ACPI.
    pub rsdp: PhysAddr,
    /// The first byte of RAM behind what is in use: the kernel.
    pub first_free: u64,
    /// Where the first tables map physical memory.
    pub offset: VirtAddr,
}

#[repr(C)]
struct StartInfo {
    magic: u32,
    version: u32,
    flags: u32,
    modules: u32,
    module_list: u64,
    command_line: u64,
    rsdp: u64,
    map: u64,
    entries: u32,
}

#[repr(C)]
struct Entry {
    at: u64,
    len: u64,
    kind: u32,
    reserved: u32,
}

impl BootInfo {
    /// Reads the description at `at`.
    ///
    /// # Safety
    ///
    /// That is what the loader passed, and the first GiB is mapped to itself.
    pub unsafe fn read(at: u32) -> Self {
        let info = unsafe { &*(at as usize as *const StartInfo) };
        let entries =
            unsafe { core::slice::from_raw_parts(info.map as *const Entry, info.entries as usize) };
        let mut boot = Self {
            ram: [(0, 0); MOST],
            ranges: 0,
            rsdp: PhysAddr::new(info.rsdp),
            first_free: &raw const __kernel_end as u64,
            offset: VirtAddr::zero(),
        };
        for entry in entries.iter().filter(|entry| entry.kind == RAM).take(MOST) {
            boot.ram[boot.ranges] = (entry.at, entry.len);
            boot.ranges += 1;
        }
        boot
    }

    /// The end of RAM, up to the next 2 MiB: firmware keeps its tables there.
    pub fn end(&self) -> u64 {
        let end = self.ram[..self.ranges].iter().map(|&(at, len)| at + len).max();
        end.unwrap_or(0).next_multiple_of(2 << 20)
    }
}
