//! The landing page: a page of low memory with code that takes another CPU from real mode to the kernel's own tables
//! (Intel SDM vol. 3A, 10.4; AMD APM vol. 2, 14.6).
//!
//! ```text
//!   start: real mode, CS = page << 8 --> protected mode --> long mode, on the kernel's tables,
//!          which show the page where it is --> begin, in the image: own stack, own area, set_up --> main
//! ```

// UNSAFETY: entry assembly, and the symbols around it.
#![expect(unsafe_code)]

use super::X86_64;
use crate::area::Launch;
use crate::contract::{Cpu, Cpus};
use core::arch::{global_asm, naked_asm};
use core::mem::offset_of;
use hotmem_paging::addr::PhysAddr;

unsafe extern "C" {
    static hotmem_landing: u8;
    static hotmem_landing_end: u8;
    static hotmem_landing_gdt: u8;
    static hotmem_landing_protected: u8;
    static hotmem_landing_long: u8;
    static hotmem_landing_values: u8;
}

/// The values that the code finds after itself. The assembly has the same fields.
#[repr(C)]
struct Values {
    /// The limit of the segments' table and its address.
    gdt: [u16; 3],
    /// The address where protected mode begins, and its code segment.
    protected: [u16; 3],
    /// The address where long mode begins, and its code segment.
    long: [u16; 3],
    _unused: [u16; 3],
    /// The root of the page tables.
    root: u64,
    begin: u64,
    launch: u64,
}

/// Bytes from the start of the code to `symbol`.
fn offset(symbol: *const u8) -> usize {
    symbol.addr() - (&raw const hotmem_landing).addr()
}

/// A 16-bit limit, then the address `at` in two words: the operand of LGDT.
const fn limit_and(at: u32, limit: u16) -> [u16; 3] {
    [limit, at as u16, (at >> 16) as u16]
}

/// The address `at` in two words, then a selector: the operand of a far jump.
const fn far(at: u32, selector: u16) -> [u16; 3] {
    [at as u16, (at >> 16) as u16, selector]
}

impl Values {
    /// The values for a page at `at`. Addresses have 32 bits, since the page is in low memory; the root must be
    /// below 4 GiB.
    fn new(at: u32, launch: &'static Launch) -> Self {
        let place = |symbol| at + offset(symbol) as u32;
        Self {
            gdt: limit_and(place(&raw const hotmem_landing_gdt), 4 * 8 - 1),
            protected: far(place(&raw const hotmem_landing_protected), 0x08),
            long: far(place(&raw const hotmem_landing_long), 0x18),
            _unused: [0; 3],
            root: launch.root.get(),
            begin: begin as *const () as u64,
            launch: core::ptr::from_ref(launch).expose_provenance() as u64,
        }
    }
}

impl Cpus for X86_64 {
    const LANDING_LIMIT: Option<PhysAddr> = Some(PhysAddr::new(1 << 20));

    fn fill_landing(
        page: &mut [u8],
        at: PhysAddr,
        launch: &'static Launch,
    ) -> Result<(), &'static str> {
        let low = at.get() < 1 << 20 && at.is_aligned(4096);
        if !low {
            return Err("its page is not in the first MiB");
        }
        if launch.root.get() > u32::MAX.into() {
            return Err("the root of the page tables is past 4 GiB");
        }
        let length = offset(&raw const hotmem_landing_end);
        // SAFETY: the assembly below puts the two symbols around bytes that are never written.
        let code = unsafe { core::slice::from_raw_parts(&raw const hotmem_landing, length) };
        let values = Values::new(at.get() as u32, launch);
        // SAFETY: the structure has no padding: four times six bytes, the last unused, then words of eight.
        let values = unsafe {
            core::slice::from_raw_parts((&raw const values).cast::<u8>(), size_of::<Values>())
        };
        let place = offset(&raw const hotmem_landing_values);
        let short = "its page is too small";
        page.get_mut(..length).ok_or(short)?.copy_from_slice(code);
        page.get_mut(place..place + values.len()).ok_or(short)?.copy_from_slice(values);
        Ok(())
    }
}

/// The first function in the image: switches to the stack of the launch.
#[unsafe(naked)]
extern "C" fn begin(_launch: &'static Launch) -> ! {
    naked_asm!(
        "mov rsp, [rdi + {top}]",
        "xor ebp, ebp",
        "call {arrived}",
        "ud2",
        top = const offset_of!(Launch, top),
        arrived = sym arrived,
    )
}

extern "C" fn arrived(launch: &'static Launch) -> ! {
    X86_64::enter(launch.area);
    X86_64::set_up();
    (launch.main)()
}

global_asm!(
    r#"
    .section .rodata.hotmem_landing, "a"
    .balign 16
    .global hotmem_landing, hotmem_landing_end, hotmem_landing_gdt
    .global hotmem_landing_protected, hotmem_landing_long, hotmem_landing_values
hotmem_landing:
    .code16
    cli
    cld
    movw %cs, %bx
    movw %bx, %ds
    movzwl %bx, %ebx
    shll $4, %ebx
    lgdtl hotmem_landing_values - hotmem_landing
    /* Protected mode; the caches on (a reset leaves them off). */
    movl %cr0, %eax
    andl $0x9fffffff, %eax
    orl $1, %eax
    movl %eax, %cr0
    ljmpl *(hotmem_landing_values - hotmem_landing + 6)

    .code32
hotmem_landing_protected:
    movw $0x10, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    xorl %eax, %eax
    movw %ax, %fs
    movw %ax, %gs
    /* PAE, then the tables, then long mode and pages without execution, then paging and write protection. */
    movl $0x20, %eax
    movl %eax, %cr4
    movl hotmem_landing_values - hotmem_landing + 24(%ebx), %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx
    rdmsr
    orl $0x900, %eax
    wrmsr
    movl %cr0, %eax
    orl $0x80010000, %eax
    movl %eax, %cr0
    ljmpl *(hotmem_landing_values - hotmem_landing + 12)(%ebx)

    .code64
hotmem_landing_long:
    movl %ebx, %ebx
    movq hotmem_landing_values - hotmem_landing + 40(%rbx), %rdi
    movq hotmem_landing_values - hotmem_landing + 32(%rbx), %rax
    jmpq *%rax

    .balign 8
hotmem_landing_gdt:
    /* All are marked as accessed: a CPU that loads a segment would do that, and once it uses the kernel's tables, this page
       is not writable. */
    .quad 0
    .quad 0x00cf9b000000ffff        /* 0x08: code, 32 bit */
    .quad 0x00cf93000000ffff        /* 0x10: data */
    .quad 0x00af9b000000ffff        /* 0x18: code, 64 bit */

    .balign 8
hotmem_landing_values:
    .skip 48
hotmem_landing_end:
"#,
    options(att_syntax)
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::area::CpuArea;
    use hotmem_paging::addr::VirtAddr;

    extern "C" fn nowhere() -> ! {
        panic!("no CPU is started")
    }

    static AREA: CpuArea = CpuArea::new(1);
    static HIGH: Launch = launch(1 << 32);
    static LOW: Launch = launch(0x1234_5000);

    const fn launch(root: u64) -> Launch {
        Launch::new(PhysAddr::new(root), VirtAddr::new(0), &AREA, nowhere)
    }

    #[test]
    fn a_landing_page_has_the_code_and_then_the_addresses() {
        let mut page = [0xcc; 4096];
        X86_64::fill_landing(&mut page, PhysAddr::new(0x8000), &LOW).unwrap();
        // CLI, CLD: CS is the page, and no other register has a known value.
        assert_eq!(page[..2], [0xfa, 0xfc]);
        let at = offset(&raw const hotmem_landing_values);
        let word = |offset: usize| {
            u64::from_le_bytes(page[at + offset..at + offset + 8].try_into().unwrap())
        };
        let table = (word(0) >> 16 & 0xffff_ffff) as usize - 0x8000;
        assert_eq!(word(0) & 0xffff, 31, "four segments");
        // Code, data, code: present, and accessed already, so that no CPU writes to the page.
        assert_eq!([1, 2, 3].map(|segment| page[table + segment * 8 + 5]), [0x9b, 0x93, 0x9b]);
        assert_eq!(word(24), 0x1234_5000);
        assert_eq!(word(40), (&raw const LOW).addr() as u64);
        assert_eq!(page[at + 48], 0xcc, "nothing is written after the values");
    }

    #[test]
    fn a_landing_page_or_a_root_out_of_reach_is_refused() {
        let fill = |page: &mut [u8], at, launch| {
            X86_64::fill_landing(page, PhysAddr::new(at), launch).unwrap_err()
        };
        assert_eq!(fill(&mut [0; 4096], 1 << 20, &LOW), "its page is not in the first MiB");
        assert_eq!(fill(&mut [0; 4096], 0x8010, &LOW), "its page is not in the first MiB");
        let root = "the root of the page tables is past 4 GiB";
        assert_eq!(fill(&mut [0; 4096], 0x8000, &HIGH), root);
        assert_eq!(fill(&mut [0; 16], 0x8000, &LOW), "its page is too small");
    }
}
