//! The virtual machine control block: what an entry loads and an exit stores (AMD APM vol. 2, appendix B).

use core::mem::offset_of;

/// A segment register.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Segment {
    pub selector: u16,
    /// Bits 55:52 and 47:40 of a descriptor.
    pub attributes: u16,
    pub limit: u32,
    pub base: u64,
}

/// The first half: what is intercepted, and what an exit reports.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Control {
    /// A bit for each control register that is read, then for each that is written.
    pub control_registers: u32,
    /// The same for debug registers.
    pub debug_registers: u32,
    /// A bit for each vector.
    pub exceptions: u32,
    /// Events and instructions: see [`intercept`].
    pub first: u32,
    pub second: u32,
    pub third: u32,
    _reserved_18: [u8; 0x28],
    /// The physical address of the map of ports.
    pub port_map: u64,
    /// The physical address of the map of model-specific registers.
    pub register_map: u64,
    pub timestamp_offset: u64,
    pub asid: u32,
    /// What an entry drops: see [`flush`].
    pub flush: u8,
    _reserved_5d: [u8; 3],
    /// Virtual interrupts: see [`MASK_INTERRUPTS`].
    pub interrupts: u64,
    /// Bit 0: the guest is between STI, or a load of SS, and the end of the next instruction.
    pub shadow: u64,
    pub exit_code: u64,
    pub exit_info: [u64; 2],
    /// The event that was being delivered when the exit happened.
    pub exit_event: u64,
    /// Bit 0: nested paging.
    pub nested: u64,
    _reserved_98: [u8; 0x10],
    /// The event that the next entry delivers.
    pub event: u64,
    /// The physical address of the root of the nested tables.
    pub root: u64,
    pub branch_records: u64,
    /// The parts that have not changed since the last exit: none.
    pub clean: u64,
    /// The address of the next instruction, on CPUs that store it.
    pub next_rip: u64,
    _reserved_d0: [u8; 0x330],
}

/// The second half: registers of the guest. Those up to `es` to `ds`, `gdtr`, `idtr`, and from `cpl` to `rax`, belong to
/// VMRUN; the others to VMLOAD and VMSAVE.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Save {
    pub es: Segment,
    pub cs: Segment,
    pub ss: Segment,
    pub ds: Segment,
    pub fs: Segment,
    pub gs: Segment,
    pub gdtr: Segment,
    pub ldtr: Segment,
    pub idtr: Segment,
    pub tr: Segment,
    _reserved_a0: [u8; 0x2b],
    pub cpl: u8,
    _reserved_cc: [u8; 4],
    pub efer: u64,
    _reserved_d8: [u8; 0x70],
    pub cr4: u64,
    pub cr3: u64,
    pub cr0: u64,
    pub dr7: u64,
    pub dr6: u64,
    pub rflags: u64,
    pub rip: u64,
    _reserved_180: [u8; 0x58],
    pub rsp: u64,
    _reserved_1e0: [u8; 0x18],
    pub rax: u64,
    _system_calls: [u64; 8],
    pub cr2: u64,
    _reserved_248: [u8; 0x20],
    /// The guest's types of memory.
    pub pat: u64,
}

/// The block. It fills a page, of which the CPU may use the rest.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Vmcb {
    pub control: Control,
    pub save: Save,
}

/// Values of [`Control::interrupts`]: the guest's interrupt flag and task priority mask only its own interrupts.
pub(crate) const MASK_INTERRUPTS: u64 = 1 << 24;

/// The guest's vector `vector` waits, with a priority above the task's (V_IRQ, V_INTR_PRIO, V_IGN_TPR).
pub(crate) const fn window(vector: u8) -> u64 {
    1 << 8 | 0xf << 16 | 1 << 20 | (vector as u64) << 32
}

/// Values of [`Control::flush`].
pub(crate) mod flush {
    pub(crate) const NOTHING: u8 = 0;
    /// Everything, of the host and of all guests.
    pub(crate) const ALL: u8 = 1;
    /// Translations of the guest's ASID.
    pub(crate) const OWN: u8 = 3;
}

/// What a guest is intercepted at.
pub(crate) mod intercept {
    /// Writes of CR4: a guest keeps the one it started with.
    pub(crate) const CONTROL_REGISTERS: u32 = 1 << (16 + 4);
    /// All accesses: the CPU does not switch the addresses of breakpoints.
    pub(crate) const DEBUG_REGISTERS: u32 = u32::MAX;
    /// Debug exceptions and alignment checks, which a guest can make the CPU deliver for ever; machine checks, which
    /// are the host's.
    pub(crate) const EXCEPTIONS: u32 = 1 << 1 | 1 << 17 | 1 << 18;
    /// INTR, NMI, SMI, INIT; then RDPMC, CPUID, RSM, INVD, HLT, INVLPGA, accesses to ports, accesses to model-specific
    /// registers, task switches, a frozen FPU, shutdown.
    pub(crate) const FIRST: u32 = 0b1111
        | 1 << 15
        | 1 << 18
        | 1 << 19
        | 1 << 22
        | 1 << 24
        | 1 << 26
        | 1 << 27
        | 1 << 28
        | 1 << 29
        | 1 << 30
        | 1 << 31;
    /// In the first word: an interrupt of the guest that it can take.
    pub(crate) const WINDOW: u32 = 1 << 4;
    /// VMRUN, VMMCALL, VMLOAD, VMSAVE, STGI, CLGI, SKINIT, RDTSCP, ICEBP, WBINVD, MONITOR, MWAIT (both kinds), XSETBV,
    /// RDPRU.
    pub(crate) const SECOND: u32 = 0x7fff;
    /// INVLPGB (both kinds), INVPCID, MCOMMIT, TLBSYNC.
    pub(crate) const THIRD: u32 = 0x1f;
}

/// What a guest may set in CR4: bits 0 to 10 but VMXE and what is reserved; UMIP, FSGSBASE, SMEP, SMAP. It has no wider
/// addresses, PCIDs, XSAVE, protection keys, which have state that no switch saves.
pub(crate) const CR4_BITS: u64 = 0x7ff | 1 << 11 | 1 << 16 | 1 << 20 | 1 << 21;

/// Protected mode, and floating-point errors as exceptions. Bit 4 is always set.
const CR0: u64 = 1 << 5 | 1 << 4 | 1 << 0;
/// PAE, machine checks (which leave the guest; with the bit clear they would shut the CPU down), FXSAVE and SSE.
const CR4: u64 = 1 << 10 | 1 << 9 | 1 << 6 | 1 << 5;
/// SVME, which an entry demands, and LME: the guest is in long mode as soon as it enables paging.
const EFER: u64 = SVME | 1 << 8;
const SVME: u64 = 1 << 12;
/// CR0 after a reset: no caches (CD, NW), and bit 4.
const RESET: u64 = 1 << 30 | 1 << 29 | 1 << 4;
/// In CR0 and EFER: paging, and long mode is active.
const PAGING: u64 = 1 << 31;
const ACTIVE: u64 = 1 << 10;
/// The types of memory after a reset.
const PAT: u64 = 0x0007_0406_0007_0406;

/// Flat segments of 32-bit code: attributes are G, D, present, type.
const CODE: Segment = Segment { selector: 0x08, attributes: 0xc9b, limit: u32::MAX, base: 0 };
const DATA: Segment = Segment { selector: 0x10, attributes: 0xc93, limit: u32::MAX, base: 0 };
/// An empty table, and an empty task: both must be of the right type.
const NO_LDT: Segment = Segment { selector: 0, attributes: 0x82, limit: 0, base: 0 };
const NO_TASK: Segment = Segment { selector: 0, attributes: 0x8b, limit: 0, base: 0 };

impl Save {
    /// Whether the code segment is one of 64-bit code (attribute L), and long mode is active (EFER.LMA).
    pub(crate) const fn runs_64_bit_code(&self) -> bool {
        self.cs.attributes & 1 << 9 != 0 && self.efer & 1 << 10 != 0
    }
}

impl Vmcb {
    /// Fills a zeroed block for a guest that begins at `entry` in 32-bit code with flat segments and paging off.
    /// `port_map` and `register_map` are the physical addresses of maps with a bit for each port, and two for each
    /// model-specific register, that is intercepted.
    pub(crate) fn begin_at(&mut self, entry: u64, port_map: u64, register_map: u64) {
        let Self { control, save } = self;
        control.control_registers = intercept::CONTROL_REGISTERS;
        control.debug_registers = intercept::DEBUG_REGISTERS;
        control.exceptions = intercept::EXCEPTIONS;
        control.first = intercept::FIRST;
        control.second = intercept::SECOND;
        control.third = intercept::THIRD;
        control.port_map = port_map;
        control.register_map = register_map;
        control.interrupts = MASK_INTERRUPTS;
        control.nested = 1;
        save.cs = CODE;
        (save.es, save.ss, save.ds, save.fs, save.gs) = (DATA, DATA, DATA, DATA, DATA);
        (save.ldtr, save.tr) = (NO_LDT, NO_TASK);
        (save.cr0, save.cr4, save.efer, save.pat) = (CR0, CR4, EFER, PAT);
        // After a reset (APM vol. 2 14.1.3).
        (save.dr6, save.dr7, save.rflags) = (0xffff_0ff0, 0x400, 2);
        save.rip = entry;
    }

    /// Changes a block that was filled to that of a guest which begins in 64-bit code, with the segments 10h and 18h of
    /// the descriptors at `gdt`, and translation by `tables`. CR4 and the debug registers are its own.
    pub(crate) fn in_long_mode(&mut self, tables: u64, gdt: u64, gdt_bytes: u32) {
        self.with_own_registers();
        let Self { save, .. } = self;
        save.cs = Segment { selector: 0x10, attributes: 0xa9b, ..CODE };
        let data = Segment { selector: 0x18, ..DATA };
        (save.es, save.ss, save.ds, save.fs, save.gs) = (data, data, data, data, data);
        save.gdtr = Segment { limit: gdt_bytes - 1, base: gdt, ..Segment::default() };
        (save.cr0, save.cr3, save.efer) = (CR0 | PAGING, tables, EFER | ACTIVE);
    }

    /// Lets the guest have CR4 and the debug registers as its own.
    pub(crate) const fn with_own_registers(&mut self) {
        (self.control.control_registers, self.control.debug_registers) = (0, 0);
    }

    /// Changes a block that was filled to that of a CPU which a start-up interrupt wakes: in real mode, at the first byte
    /// of the page at `entry`, which is below 1 MiB (APM vol. 2 15.27.8, 14.1.3).
    pub(crate) fn in_real_mode(&mut self, entry: u64) {
        let Self { control, save } = self;
        control.control_registers = 0;
        let real = |attributes| Segment { attributes, limit: 0xffff, ..Segment::default() };
        save.cs = Segment { selector: (entry >> 4) as u16, base: entry, ..real(0x9b) };
        (save.es, save.ss, save.ds, save.fs, save.gs) =
            (real(0x93), real(0x93), real(0x93), real(0x93), real(0x93));
        (save.gdtr, save.idtr) = (real(0), real(0));
        (save.cr0, save.cr4, save.efer, save.rip) = (RESET, 0, SVME, 0);
    }

    /// Has the guest continue after its instruction, which has `bytes` unless the CPU `knows` better: prefixes count.
    pub(crate) const fn skip(&mut self, bytes: u64, knows: bool) {
        let by_length = self.save.rip.wrapping_add(bytes);
        self.continue_at(if knows { self.control.next_rip } else { by_length });
    }

    /// Has the guest continue at `next`, behind an instruction.
    pub(crate) const fn continue_at(&mut self, next: u64) {
        let Self { control, save } = self;
        save.rip = if save.runs_64_bit_code() { next } else { next & 0xffff_ffff };
        control.shadow = 0;
    }
}

/// Bytes of the page that a block needs.
pub(crate) const VMCB_BYTES: u64 = 4096;

const _: () = {
    assert!(offset_of!(Vmcb, save) == 0x400);
    assert!(size_of::<Vmcb>() as u64 <= VMCB_BYTES);
};

#[cfg(test)]
mod tests;
