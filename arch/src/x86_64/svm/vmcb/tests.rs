//! The offsets of the manual, and the state in which a guest begins.

// UNSAFETY: makes a block of zeros, as memory of the kernel is when it becomes one.
#![expect(unsafe_code)]

use super::*;

macro_rules! offsets {
    ($($part:ident.$field:ident: $offset:literal,)*) => {
        $(assert_eq!(
            offset_of!(Vmcb, $part.$field), $offset, concat!(stringify!($part), ".", stringify!($field)),
        );)*
    };
}

// AMD APM vol. 2, tables B-1 and B-2: the save area begins at 0x400.
#[test]
fn fields_are_where_the_manual_has_them() {
    offsets! {
        control.control_registers: 0x00, control.debug_registers: 0x04, control.exceptions: 0x08,
        control.first: 0x0c, control.second: 0x10, control.third: 0x14, control.port_map: 0x40,
        control.register_map: 0x48, control.timestamp_offset: 0x50, control.asid: 0x58, control.flush: 0x5c,
        control.interrupts: 0x60, control.shadow: 0x68, control.exit_code: 0x70, control.exit_info: 0x78,
        control.exit_event: 0x88, control.nested: 0x90, control.event: 0xa8, control.root: 0xb0,
        control.branch_records: 0xb8, control.clean: 0xc0, control.next_rip: 0xc8,
        save.es: 0x400, save.cs: 0x410, save.ss: 0x420, save.ds: 0x430, save.fs: 0x440, save.gs: 0x450,
        save.gdtr: 0x460, save.ldtr: 0x470, save.idtr: 0x480, save.tr: 0x490, save.cpl: 0x4cb, save.efer: 0x4d0,
        save.cr4: 0x548, save.cr3: 0x550, save.cr0: 0x558, save.dr7: 0x560, save.dr6: 0x568,
        save.rflags: 0x570, save.rip: 0x578, save.rsp: 0x5d8, save.rax: 0x5f8, save._system_calls: 0x600,
        save.cr2: 0x640, save.pat: 0x668,
    }
    assert_eq!(
        [offset_of!(Segment, attributes), offset_of!(Segment, limit), offset_of!(Segment, base)],
        [2, 4, 8]
    );
}

fn zeroed() -> Vmcb {
    // SAFETY: all fields are integers, or structures and arrays of them.
    unsafe { core::mem::zeroed() }
}

#[test]
fn a_guest_begins_in_flat_32_bit_code_without_paging() {
    let mut vmcb = zeroed();
    vmcb.begin_at(0x12_3000, 0x4567_8000, 0x4567_b000);
    let save = &vmcb.save;
    assert_eq!((save.rip, save.cpl, save.rflags & 1 << 9), (0x12_3000, 0, 0));
    assert_eq!(save.cr0 & (1 << 31 | 1), 1, "protected mode without paging");
    // An entry demands SVME, and that CR0.CD is set if CR0.NW is (APM vol. 2 15.5.1).
    assert_eq!((save.efer & 1 << 12, save.cr0 & 3 << 29), (1 << 12, 0));
    // 32-bit code, present, flat (APM vol. 2 4.7).
    assert_eq!((save.cs.attributes, save.cs.limit, save.cs.base), (0xc9b, u32::MAX, 0));
}

#[test]
fn a_guest_reaches_no_port_no_register_and_no_interrupt_of_the_host() {
    let mut vmcb = zeroed();
    vmcb.begin_at(0, 0x4567_8000, 0x4567_b000);
    let control = &vmcb.control;
    assert_eq!([control.port_map, control.register_map], [0x4567_8000, 0x4567_b000]);
    // IOIO_PROT and MSR_PROT: without them the maps have no effect. VMRUN: an entry demands it.
    assert_eq!(control.first & 0b11 << 27, 0b11 << 27);
    assert_eq!(control.second & 1, 1);
    assert_eq!(control.first & 0b1111, 0b1111, "INTR, NMI, SMI, INIT");
    assert_eq!(control.interrupts, 1 << 24, "V_INTR_MASKING");
    assert_eq!(control.nested, 1);
    assert_eq!(control.exceptions & 1 << 18, 1 << 18, "machine checks");
    assert_ne!(control.first & 1 << 31, 0, "a shutdown ends the guest, not the machine");
}

// Linux, Documentation/arch/x86/boot.rst, 64-bit boot protocol.
#[test]
fn a_kernel_begins_in_64_bit_code_with_interrupts_off() {
    let mut vmcb = zeroed();
    vmcb.begin_at(0x100_0200, 0x4567_8000, 0x4567_b000);
    vmcb.in_long_mode(0x9000, 0xb000, 32);
    let Vmcb { control, save } = &vmcb;
    assert!(save.runs_64_bit_code());
    assert_eq!((save.rip, save.cr3, save.rflags & 1 << 9), (0x100_0200, 0x9000, 0));
    assert_eq!(save.cr0 & (1 << 31 | 1), 1 << 31 | 1);
    assert_eq!((save.cr4 & 1 << 5, save.efer), (1 << 5, 0x1500), "PAE; SVME, LMA, LME");
    assert_eq!(
        (save.cs.selector, save.ss.selector, save.es, save.ds),
        (0x10, 0x18, save.ss, save.ss)
    );
    assert_eq!((save.gdtr.base, save.gdtr.limit), (0xb000, 31));
    assert_eq!((control.control_registers, control.debug_registers), (0, 0));
    assert_eq!(control.first & 0b11 << 27, 0b11 << 27, "the maps are used");
}
