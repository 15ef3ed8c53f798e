//! From the first instruction to Rust: tables that map devices and RAM to themselves, and the machine's description.
//!
//! The CPU comes at EL1, with the MMU off. The board has 1 GiB of devices, then RAM, and the configuration space of PCI in the
//! GiB at 256 GiB.

use core::arch::global_asm;
use core::ptr::NonNull;
use fdt::Fdt;

global_asm!(
    r#"
    .section .bss
    .balign 4096
stack_bottom: .skip 0x40000
stack_top:

    .section .rodata
    .balign 4096
    /* Blocks of 1 GiB: devices have memory type 0, and are not executed; RAM has 3, and is inner shareable. */
identity:
    .quad 0x0060000000000401
    .quad 0x000000004000070d, 0x000000008000070d, 0x00000000c000070d
    .skip 252 * 8
    .quad 0x0060004000000401
    .skip 255 * 8

    .section .boot.text, "ax"
    .global kernel_entry
kernel_entry:
    msr daifset, #0xf
    adrp x0, stack_top
    mov sp, x0
    /* Type 0 is Device-nGnRE, 3 write-back. */
    ldr x0, =0xff000004
    msr mair_el1, x0
    /* The lower half has 39 bits, the upper half nothing yet: T0SZ, walks by write-back accesses, EPD1, 44 bits. */
    ldr x0, =0x400803519
    msr tcr_el1, x0
    adrp x0, identity
    msr ttbr0_el1, x0
    dsb ish
    tlbi vmalle1
    dsb ish
    isb
    mrs x0, sctlr_el1
    mov x1, #0x1005
    orr x0, x0, x1
    msr sctlr_el1, x0
    isb
    bl kernel_main
1:  wfi
    b 1b
"#
);

unsafe extern "C" {
    static __kernel_end: u8;
}

/// Where QEMU leaves the device tree of a kernel that is not a Linux image: at the start of RAM.
const TREE: usize = 0x4000_0000;

/// The machine's description.
///
/// # Safety
///
/// The machine is QEMU's board `virt`, started with this kernel.
pub unsafe fn tree() -> Fdt<'static> {
    // SAFETY: it is there, and the first tables map it; nothing writes it, for RAM begins behind the kernel (`ram`).
    unsafe { Fdt::from_ptr(TREE as *const u8) }.expect("a device tree at the start of RAM")
}

/// RAM behind the kernel: start and bytes.
pub fn ram<'a>(tree: &'a Fdt<'_>) -> impl Iterator<Item = (u64, u64)> + 'a {
    let used = &raw const __kernel_end as u64;
    // The list borrows what `memory` returns.
    let memory = tree.find_all_nodes("/memory").filter_map(fdt::node::FdtNode::reg).flatten();
    memory.filter_map(move |region| {
        let start = region.starting_address as u64;
        let end = start + region.size? as u64;
        let start = start.max(used);
        (start < end).then(|| (start, end - start))
    })
}

/// PCI as the tree describes it.
pub struct Pci {
    /// Its configuration space, which the first tables map.
    pub space: NonNull<u8>,
    /// Its bytes.
    pub space_bytes: usize,
    /// What its host bridge forwards below 4 GiB: start and bytes.
    pub window: (u64, u64),
}

impl Pci {
    /// The bridge of the board.
    pub fn new(tree: &Fdt<'_>) -> Option<Self> {
        let node = tree.find_compatible(&["pci-host-ecam-generic"])?;
        let space = node.reg()?.next()?;
        let ranges = node.property("ranges")?.value.chunks_exact(4);
        let mut cells =
            ranges.map(|cell| cell.iter().fold(0, |word, &byte| word << 8 | u64::from(byte)));
        // A range: flags, the address on the bus, that of the CPU, bytes (PCI Bus Binding to Open Firmware, 2.2).
        let mut ranges = core::iter::from_fn(|| {
            let mut next = || cells.next();
            let (flags, _, _) = (next()?, next()?, next()?);
            let mut pair = || Some(next()? << 32 | next()?);
            Some((flags, pair()?, pair()?))
        });
        let (_, start, bytes) = ranges.find(|(flags, ..)| flags >> 24 & 3 == 2)?;
        Some(Self {
            space: NonNull::new(space.starting_address.cast_mut())?,
            space_bytes: space.size?,
            window: (start, bytes),
        })
    }
}
