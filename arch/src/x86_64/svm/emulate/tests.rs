//! Exits of a guest with a board, as a CPU reports them, and any others.

// UNSAFETY: makes a block of zeros, as memory of the kernel is when it becomes one.
#![expect(unsafe_code)]

extern crate std;

use super::*;
use crate::contract::Devices as _;
use hotmem_paging::testing::Random;
use std::boxed::Box;

const ENTRY: u64 = 0xffff_ffff_8100_0000;
const WINDOW: u32 = intercept::WINDOW;

/// The parts of a guest.
struct Parts {
    apic: LocalApic,
    board: Board,
    called: CpuSet,
    vmcb: Box<Vmcb>,
    registers: Registers,
}

impl Parts {
    /// A kernel with interrupts on, and an APIC that is enabled.
    fn new() -> Self {
        // SAFETY: all fields are integers, or structures and arrays of them.
        let mut vmcb: Box<Vmcb> = Box::new(unsafe { core::mem::zeroed() });
        vmcb.begin_at(ENTRY, 0, 0);
        vmcb.in_long_mode(0x9000, 0xb000, 32);
        vmcb.save.rflags |= INTERRUPTS_ON;
        let mut apic = LocalApic::new(0);
        apic.write(0x80f, 0x1ff).unwrap();
        apic.write(0x832, 0x4_00ec).unwrap();
        let (board, called) = (Board::new(1), CpuSet::of_bits(0));
        Self { apic, board, called, vmcb, registers: Registers::default() }
    }

    fn guest(&mut self) -> Guest<'_> {
        let Self { apic, board, called, vmcb, registers } = self;
        let counter_hertz = || 2_000_000_000;
        Guest { number: 0, apic, board, called, vmcb, registers, knows_next: false, counter_hertz }
    }

    /// Has the guest leave for the reason `code`.
    fn leave(&mut self, code: u64, info: [u64; 2]) -> Option<Option<GuestExit>> {
        self.vmcb.control.event = 0;
        self.guest().serve(&Exit { code, info, ..Exit::default() }, 1000)
    }

    /// WRMSR of `value` to register `number`.
    fn write(&mut self, number: u32, value: u64) -> Option<Option<GuestExit>> {
        self.registers.rcx = number.into();
        (self.vmcb.save.rax, self.registers.rdx) = (value & 0xffff_ffff, value >> 32);
        self.leave(0x7c, [1, 0])
    }

    /// RDMSR of register `number`.
    fn read(&mut self, number: u32) -> u64 {
        self.registers.rcx = number.into();
        assert_eq!(self.leave(0x7c, [0, 0]), Some(None));
        self.registers.rdx << 32 | self.vmcb.save.rax
    }

    fn rip(&self) -> u64 {
        self.vmcb.save.rip - ENTRY
    }
}

const GOES_ON: Option<Option<GuestExit>> = Some(None);

#[test]
fn an_interrupt_is_injected_when_the_guest_can_take_it() {
    let mut parts = Parts::new();
    assert_eq!(parts.write(0x6e0, 2000), GOES_ON);
    parts.guest().inject(1999);
    assert_eq!((parts.vmcb.control.event, parts.vmcb.control.first & WINDOW), (0, 0));
    parts.guest().inject(2000);
    assert_eq!(parts.vmcb.control.event, 0x8000_00ec);
    parts.vmcb.control.event = 0;
    parts.guest().inject(3000);
    assert_eq!(parts.vmcb.control.event, 0, "once");
}

#[test]
fn a_guest_that_cannot_take_an_interrupt_leaves_as_soon_as_it_can() {
    for case in 0..3 {
        let mut parts = Parts::new();
        parts.apic.write(0x83f, 0xec).unwrap();
        match case {
            0 => parts.vmcb.save.rflags &= !INTERRUPTS_ON,
            1 => parts.vmcb.control.shadow = 1,
            _ => parts.vmcb.control.event = exit::GENERAL_PROTECTION,
        }
        let event = parts.vmcb.control.event;
        parts.guest().inject(0);
        let control = &parts.vmcb.control;
        assert_eq!((control.event, control.first & WINDOW), (event, WINDOW), "{case}");
        // V_IRQ, V_INTR_PRIO, V_IGN_TPR, V_INTR_MASKING and the vector (APM vol. 2, table B-1).
        assert_eq!(control.interrupts, 0xec << 32 | 1 << 24 | 1 << 20 | 0xf << 16 | 1 << 8);
        parts.vmcb.save.rflags |= INTERRUPTS_ON;
        parts.vmcb.control.shadow = 0;
        assert_eq!(parts.leave(0x64, [0; 2]), GOES_ON);
        parts.guest().inject(0);
        let control = &parts.vmcb.control;
        assert_eq!((control.event, control.first & WINDOW), (0x8000_00ec, 0), "{case}");
        assert_eq!(control.interrupts, 1 << 24, "no window is left");
    }
}

#[test]
fn an_interrupt_whose_delivery_faulted_arrives_at_the_next_entry() {
    let mut parts = Parts::new();
    parts.apic.write(0x83f, 0x51).unwrap();
    parts.guest().inject(0);
    // The nested page fault itself is not the board's: the event is left as `Vcpu::serve` set it.
    let event = 0x8000_0051;
    parts.vmcb.control.event = exit::interrupted_event(event);
    let fault = Exit { code: 0x400, event, ..Exit::default() };
    assert_eq!(parts.guest().serve(&fault, 0), None);
    assert_eq!(parts.vmcb.control.event, 0);
    parts.guest().inject(0);
    assert_eq!(parts.vmcb.control.event, event);
    // An exception stays an event.
    parts.vmcb.control.event = 0x6_8000_0b0e;
    let fault = Exit { code: 0x400, event: 0x6_8000_0b0e, ..Exit::default() };
    assert_eq!(parts.guest().serve(&fault, 0), None);
    assert_eq!(parts.vmcb.control.event, 0x6_8000_0b0e);
}

#[test]
fn a_guest_that_halts_waits_for_its_timer_or_for_nothing() {
    let mut parts = Parts::new();
    assert_eq!(parts.leave(0x78, [0; 2]), Some(Some(GuestExit::Wait)), "no timer");
    assert_eq!(parts.rip(), 1);
    parts.write(0x6e0, 5000);
    assert_eq!(parts.leave(0x78, [0; 2]), Some(Some(GuestExit::WaitUntil(5000))));
    parts.apic.look(5000);
    assert_eq!(parts.leave(0x78, [0; 2]), GOES_ON, "the vector waits already");
    parts.vmcb.save.rflags &= !INTERRUPTS_ON;
    assert_eq!(parts.leave(0x78, [0; 2]), Some(Some(GuestExit::Wait)), "nothing wakes it");
}

#[test]
fn a_cpu_calls_others_starts_them_and_gets_what_they_send() {
    let mut parts = Parts::new();
    parts.board = Board::new(3);
    assert_eq!(parts.leave(0x78, [0; 2]), Some(Some(GuestExit::WaitForCpus)));
    // To all but itself; to itself by its number.
    assert_eq!(parts.write(0x830, 0xc_00fb), GOES_ON);
    assert_eq!(parts.called, CpuSet::of_bits(0b110));
    assert!(parts.board.has_mail(1) && parts.board.has_mail(2) && !parts.board.has_mail(0));
    assert_eq!(parts.write(0x830, 0x51), GOES_ON);
    assert_eq!(parts.leave(0x78, [0; 2]), GOES_ON, "it has mail");
    parts.guest().inject(0);
    assert_eq!(parts.vmcb.control.event, 0x8000_0051);
    assert!(!parts.board.has_mail(0));
    let reset = GuestExit::Cpus(CpuRequest::Reset(CpuSet::one(2)));
    assert_eq!(parts.write(0x830, 2 << 32 | 0xc500), Some(Some(reset)));
    let stopped = parts.write(0x830, 1 << 32 | 0x4400);
    assert!(matches!(stopped, Some(Some(GuestExit::Stopped(..)))), "{stopped:?}");
}

#[test]
fn ports_are_read_and_written_behind_the_instruction() {
    let mut parts = Parts::new();
    parts.vmcb.save.rax = 0x1122_3344_5566_0041;
    let sent = parts.leave(0x7b, [0x03f8_0010, ENTRY + 3]);
    assert_eq!((sent, parts.rip()), (Some(Some(GuestExit::Console(b'A'))), 3));
    assert_eq!(parts.leave(0x7b, [0x03fd_0011, ENTRY + 4]), GOES_ON);
    assert_eq!((parts.vmcb.save.rax, parts.rip()), (0x1122_3344_5566_0060, 4));
    parts.vmcb.save.rax = 0x34;
    assert_eq!(parts.leave(0x7b, [0x0600_0010, 0]), Some(Some(GuestExit::Off)));
    parts.vmcb.save.rax = 1;
    let restarted = GuestExit::Stopped("it restarted its machine", 0x602);
    assert_eq!(parts.leave(0x7b, [0x0602_0010, 0]), Some(Some(restarted)));
    let string = GuestExit::Stopped("it accessed a port by a string instruction", 0x3f8);
    assert_eq!(parts.leave(0x7b, [0x03f8_001c, 0]), Some(Some(string)));
}

#[test]
fn registers_keep_what_the_guest_may_change() {
    let mut parts = Parts::new();
    assert_eq!(parts.read(0xc000_0080), 0x500, "SVM is not shown");
    assert_eq!(parts.write(0xc000_0080, 0xd01), GOES_ON);
    assert_eq!((parts.vmcb.save.efer, parts.rip()), (0x1d01, 4));
    assert_eq!(parts.write(0x277, 0x0407_0506_0007_0106), GOES_ON);
    assert_eq!(parts.read(0x277), 0x0407_0506_0007_0106);
    assert_eq!(parts.read(0x1b), 0xfee0_0d00);
    assert_eq!(parts.read(0x10), 1000, "the time of the exit");
    assert_eq!(parts.read(0x803), 0x5_0014);
    assert_eq!(parts.read(0xc001_0015), 0);
    let left = GuestExit::Stopped("it left x2APIC mode", 0xfee0_0900);
    assert_eq!(parts.write(0x1b, 0xfee0_0900), Some(Some(left)));
}

#[test]
fn a_register_that_is_missing_raises_an_exception_at_its_instruction() {
    let mut parts = Parts::new();
    for number in [0xc000_0103, 0xc001_0117, 0x80b] {
        parts.registers.rcx = number;
        assert_eq!(parts.leave(0x7c, [0, 0]), GOES_ON);
        // General protection with error code 0.
        assert_eq!((parts.vmcb.control.event, parts.rip()), (0x8000_0b0d, 0), "{number:#x}");
    }
    assert_eq!(parts.write(0xc000_0080, 0x1501), GOES_ON);
    assert_eq!((parts.vmcb.control.event, parts.vmcb.save.efer), (0x8000_0b0d, 0x1500));
}

#[test]
fn cpuid_fills_four_registers_without_their_upper_halves() {
    let mut parts = Parts::new();
    (parts.vmcb.save.rax, parts.registers.rcx) = (0xdead_0000_4000_0000, u64::MAX);
    assert_eq!(parts.leave(0x72, [0; 2]), GOES_ON);
    let Registers { rbx, rcx, rdx, .. } = parts.registers;
    assert_eq!([parts.vmcb.save.rax, rbx, rcx, rdx], [0x4000_0010, 0x4b4d_564b, 0x564b_4d56, 0x4d]);
    assert_eq!(parts.rip(), 2);
    parts.vmcb.save.rax = 0x4000_0010;
    assert_eq!((parts.leave(0x72, [0; 2]), parts.vmcb.save.rax), (GOES_ON, 2_000_000));
}

#[test]
fn instructions_that_the_cpu_lacks_are_invalid_and_caches_are_flushed_for_nothing() {
    let mut parts = Parts::new();
    for code in [0x73, 0x7a, 0x80, 0x82, 0x87, 0x8a, 0x8b, 0x8d, 0x8e, 0xa2] {
        assert_eq!(parts.leave(code, [0; 2]), GOES_ON);
        assert_eq!((parts.vmcb.control.event, parts.rip()), (0x8000_0306, 0), "{code:#x}");
    }
    assert_eq!(parts.leave(0x6f, [0; 2]), GOES_ON);
    assert_eq!(parts.vmcb.control.event, 0x8000_0b0d, "RDPMC");
    for (code, event) in [(0x41, 0x8000_0301), (0x51, 0x8000_0b11)] {
        assert_eq!(parts.leave(code, [0; 2]), GOES_ON);
        assert_eq!((parts.vmcb.control.event, parts.rip()), (event, 0), "{code:#x}");
    }
    assert_eq!(parts.leave(0x88, [0; 2]), GOES_ON);
    assert_eq!((parts.vmcb.control.event, parts.rip()), (0x8000_0301, 1), "ICEBP is over");
    assert_eq!(parts.leave(0x89, [0; 2]), GOES_ON);
    assert_eq!((parts.vmcb.control.event, parts.rip()), (0, 3), "WBINVD");
}

// Linux, Documentation/virt/kvm/x86/hypercalls.rst.
#[test]
fn a_call_of_the_hypervisor_has_no_effect() {
    let mut parts = Parts::new();
    for (cpl, result) in [(0, -1000_i64), (3, -1)] {
        let exit = Exit { code: 0x81, cpl, ..Exit::default() };
        assert_eq!(parts.guest().serve(&exit, 0), GOES_ON);
        assert_eq!(parts.vmcb.save.rax as i64, result);
    }
    assert_eq!(parts.rip(), 6);
}

#[test]
fn a_bit_of_cr4_that_is_not_shown_stops_the_guest() {
    for bit in [12, 13, 17, 18, 22, 23] {
        let mut parts = Parts::new();
        parts.vmcb.save.cr4 |= 1 << bit;
        let cr4 = parts.vmcb.save.cr4;
        let stopped = GuestExit::Stopped("it set bits of CR4 that its CPU lacks", cr4);
        assert_eq!(parts.leave(0x60, [0; 2]), Some(Some(stopped)), "{bit}");
    }
    let mut parts = Parts::new();
    parts.vmcb.save.cr4 = 0x31_07f0;
    assert_eq!(parts.leave(0x60, [0; 2]), None, "events of the host are not the board's");
}

#[test]
fn any_exits_leave_a_guest_that_can_be_entered_or_stop_it() {
    let mut random = Random::new(23);
    let mut parts = Parts::new();
    let mut stopped = 0;
    for _ in 0..200_000 {
        let code = match random.one_in(2) {
            true => *random.pick(&[0x64, 0x72, 0x78, 0x7b, 0x7c, 0x7c, 0x60, 0x400]),
            false => random.below(0x110),
        };
        let number = match random.below(4) {
            0 => random.bits(),
            1 => 0x800 + random.below(0x40),
            2 => *random.pick(&[0x10, 0x1b, 0x277, 0x6e0, 0xc000_0080]),
            _ => 0xc001_0000 + random.below(0x30),
        };
        parts.registers = Registers { rcx: number, rdx: random.bits(), ..parts.registers };
        let Vmcb { control, save } = &mut *parts.vmcb;
        save.rax = random.bits() & random.bits();
        save.rflags = random.bits();
        save.cr4 = if random.one_in(50) { random.bits() } else { 0x20 };
        control.interrupts ^= random.below(16);
        control.shadow = random.below(2);
        let event = if random.one_in(4) { random.bits() } else { 0 };
        control.event = exit::interrupted_event(event);
        let info = [random.bits(), random.bits()];
        let exit = Exit { code, info, event, cpl: random.below(4) as u8, ..Exit::default() };
        let served = parts.guest().serve(&exit, random.bits());
        stopped += u32::from(matches!(served, Some(Some(GuestExit::Stopped(..)))));
        parts.guest().inject(random.bits());
        let Vmcb { control, save } = &*parts.vmcb;
        // What an entry demands (APM vol. 2 15.5.1, 15.20): SVM, a valid event, the host's interrupts masked by nobody.
        assert_ne!(save.efer & 1 << 12, 0);
        assert!(control.event == 0 || matches!(control.event >> 8 & 7, 0 | 2 | 3), "{exit:x?}");
        assert_eq!(control.event & 0x7fff_f000, 0, "{exit:x?}");
        assert_ne!(control.interrupts & 1 << 24, 0);
        assert_eq!(control.first | WINDOW, intercept::FIRST | WINDOW);
        assert_eq!(control.interrupts & 1 << 8 != 0, control.first & WINDOW != 0);
    }
    assert!(stopped > 1000, "{stopped}");
}
