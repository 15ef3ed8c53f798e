//! From long mode to the entry of a PVH kernel: 32-bit protected mode, with paging off.

// UNSAFETY: copies code, and turns paging off under its feet.
#![expect(unsafe_code)]

use core::arch::naked_asm;

/// Bytes of code that [`enter`] takes at most.
const ENTER_BYTES: usize = 256;

/// The way to the kernel's entry.
#[derive(Debug)]
pub(crate) struct Way {
    /// A copy of [`enter`] below 4 GiB, which 32 bits reach; UEFI may have loaded the program above.
    code: u64,
}

impl Way {
    /// Copies the code for it to memory that `allocate` finds below 4 GiB, and for code.
    pub(crate) fn new<E>(allocate: impl FnOnce(usize) -> Result<u64, E>) -> Result<Self, E> {
        let code = allocate(ENTER_BYTES)?;
        let from = enter as *const u8;
        // SAFETY: the memory was just allocated, and UEFI maps it at its physical address. What is behind `enter` is code or
        // data of this program, too, whose sections are whole pages.
        unsafe { from.copy_to_nonoverlapping(code as *mut u8, ENTER_BYTES) };
        Ok(Self { code })
    }

    /// Continues at the physical address `entry` with `start_info` for the kernel.
    ///
    /// # Safety
    ///
    /// Boot services have ended. The kernel's code is at `entry`, below 4 GiB as the start info is.
    pub(crate) unsafe fn take(self, entry: u64, start_info: u64, _ours: &[(u64, u64)]) -> ! {
        type Enter = unsafe extern "sysv64" fn(u64, u64) -> !;
        // SAFETY: a copy of `enter`, which depends on no address.
        let enter = unsafe { core::mem::transmute::<*const (), Enter>(self.code as *const ()) };
        // SAFETY: boot services have ended, and the copy is at its physical address.
        unsafe { enter(entry, start_info) }
    }
}

/// Leaves long mode and continues at the physical address `_entry` with `_start_info` in EBX.
///
/// # Safety
///
/// This runs at an address below 4 GiB that is its physical one, and nothing else of this world is used any more.
#[unsafe(naked)]
unsafe extern "sysv64" fn enter(_entry: u64, _start_info: u64) -> ! {
    // AMD APM vol. 2, 14.7: a 32-bit code segment, paging off, EFER.LME off. The rest of CR0 and CR4 is as after reset, which
    // turns five-level paging off. CR4's PCIDE and CET go first: paging and write protection cannot go before them.
    naked_asm!(
        "cli",
        "movl %esi, %ebx",
        "movq %cr4, %rax",
        "andl $0xff7dffff, %eax",
        "movq %rax, %cr4",
        "leaq 4f(%rip), %rax",
        "subq $16, %rsp",
        "movw $23, (%rsp)",
        "movq %rax, 2(%rsp)",
        "lgdt (%rsp)",
        "leaq 3f(%rip), %rax",
        "pushq $8",
        "pushq %rax",
        "lretq",
        ".code32",
        "3: movl $16, %eax",
        "movl %eax, %ds",
        "movl %eax, %es",
        "movl %eax, %ss",
        "movl $0x11, %eax",
        "movl %eax, %cr0",
        "movl $0xc0000080, %ecx",
        "rdmsr",
        "andl $0xfffffeff, %eax",
        "wrmsr",
        "xorl %eax, %eax",
        "movl %eax, %cr4",
        "jmp *%edi",
        ".code64",
        ".balign 8",
        "4: .quad 0, 0x00cf9a000000ffff, 0x00cf92000000ffff",
        options(att_syntax)
    )
}
