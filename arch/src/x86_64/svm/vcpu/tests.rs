//! A virtual CPU whose exits a test writes, as a CPU would.

// UNSAFETY: gives a virtual CPU memory of the test.
#![expect(unsafe_code)]

extern crate std;

use super::super::vmcb::Control;
use super::*;
use crate::contract::{Access, CpuRequest, Devices as _, Vcpu as _};
use core::ptr::NonNull;
use hotmem_paging::addr::PhysAddr;
use hotmem_paging::testing::Random;
use std::boxed::Box;
use std::string::ToString;

#[repr(C, align(4096))]
struct State([u8; Vcpu::STATE_BYTES as usize]);

const ENTRY: u64 = 0x8000;
const AT: u64 = 0x12_3000;
/// An address of the 64-bit code of a guest.
const HIGH: u64 = 0xffff_ffff_8000_0000;

/// Devices of a guest with one CPU.
struct Own(core::cell::RefCell<Board>);

impl Default for Own {
    fn default() -> Self {
        Self(core::cell::RefCell::new(Board::new(1)))
    }
}

impl Locked<Board> for Own {
    fn with<R>(&self, f: impl FnOnce(&mut Board) -> R) -> R {
        f(&mut self.0.borrow_mut())
    }
}

/// Memory for a virtual CPU.
fn state() -> StateMemory {
    let memory = Box::leak(Box::new(State([0; _])));
    let pointer = NonNull::from(memory).cast();
    // SAFETY: the memory is zeroed, aligned, of that size, and never used or freed by anything else.
    unsafe { StateMemory::new(PhysAddr::new(AT), pointer) }
}

/// A virtual CPU without extensions, which has entered its guest.
fn vcpu() -> Vcpu {
    let state = state();
    let arguments = [0x1_0000_000a, 0x2_0000_000b, 0x3_0000_000c, 0x4_0000_000d];
    let mut vcpu = Vcpu::new(state, GuestAddr::new(ENTRY), arguments);
    vcpu.abilities = Abilities { asids: 16, next_rip: false, flush_by_asid: false };
    vcpu
}

/// Has the guest leave for the reason `code`, and returns what the virtual CPU makes of it.
fn leave(vcpu: &mut Vcpu, code: u64, info: [u64; 2], event: u64) -> Option<GuestExit> {
    let control = vcpu.control();
    (control.exit_code, control.exit_info, control.exit_event) = (code, info, event);
    vcpu.serve(&Own::default())
}

impl Vcpu {
    fn control(&mut self) -> &mut Control {
        &mut self.vmcb_mut().control
    }

    /// Long mode, 64-bit code at `rip`.
    fn in_long_mode(&mut self, rip: u64) {
        let save = &mut self.vmcb_mut().save;
        (save.efer, save.cs.attributes, save.rip) = (0x1500, 0xa9b, rip);
    }

    fn rip(&self) -> u64 {
        self.vmcb().save.rip
    }
}

#[test]
fn arguments_are_in_two_halves_and_no_port_or_register_is_open() {
    let mut vcpu = vcpu();
    let (r, save) = (&vcpu.registers, &vcpu.vmcb().save);
    assert_eq!([r.rdi, r.rsi, r.rdx, r.rcx], [0xa, 0xb, 0xc, 0xd]);
    assert_eq!([save.rax, r.rbx, r.rbp, save.rsp], [1, 2, 3, 4]);
    assert_eq!(save.rip, ENTRY);
    let control = &vcpu.vmcb().control;
    assert_eq!([control.port_map, control.register_map], [AT + 4096, AT + 4 * 4096]);
    let maps = vcpu.map_mut(PORT_MAP, PORT_MAP_BYTES + REGISTER_MAP_BYTES);
    assert!(maps.iter().all(|&byte| byte == 0xff));
}

#[test]
fn a_call_has_its_arguments_and_continues_behind_it_with_the_reply() {
    let mut vcpu = vcpu();
    vcpu.in_long_mode(HIGH);
    vcpu.vmcb_mut().save.rax = 7;
    vcpu.registers.r8 = 0xe;
    vcpu.control().shadow = 1;
    let call = GuestCall { number: 7, arguments: [0xa, 0xb, 0xc, 0xd, 0xe] };
    assert_eq!(leave(&mut vcpu, 0x81, [0; 2], 0), Some(GuestExit::Call(call)));
    assert_eq!((vcpu.rip(), vcpu.control().shadow), (HIGH + 3, 0));
    vcpu.reply(99);
    assert_eq!(vcpu.vmcb().save.rax, 99);
}

#[test]
fn a_wait_continues_behind_its_instruction_within_the_mode_of_the_code() {
    let mut vcpu = vcpu();
    vcpu.vmcb_mut().save.rip = 0xffff_ffff;
    assert_eq!(leave(&mut vcpu, 0x78, [0; 2], 0), Some(GuestExit::Wait));
    assert_eq!(vcpu.rip(), 0, "32-bit code wraps");
    vcpu.in_long_mode(0xffff_ffff);
    assert_eq!(leave(&mut vcpu, 0x78, [0; 2], 0), Some(GuestExit::Wait));
    assert_eq!(vcpu.rip(), 0x1_0000_0000);
    // A CPU that knows the length of the instruction, with its prefixes.
    vcpu.abilities.next_rip = true;
    vcpu.control().next_rip = HIGH + 2;
    assert_eq!(leave(&mut vcpu, 0x78, [0; 2], 0), Some(GuestExit::Wait));
    assert_eq!(vcpu.rip(), HIGH + 2);
}

#[test]
fn an_entry_after_a_request_of_any_cpu_drops_what_is_cached_of_the_space_that_it_names() {
    let mut vcpu = vcpu();
    // SAFETY: nothing runs in the space.
    let space = |at, tag| unsafe { GuestSpace::new(PhysAddr::new(at), tag) };
    let mut enter = |cpu, space| {
        vcpu.enter_space(cpu, &space);
        let Control { asid, root, flush, .. } = vcpu.control();
        (*asid, *root, *flush)
    };
    assert_eq!(enter(1, space(0x1000, 2)), (2, 0x1000, 1), "the first");
    assert_eq!(enter(1, space(0x1000, 2)), (2, 0x1000, 0), "the same again");
    request_flush();
    assert_eq!(enter(1, space(0x1000, 2)), (2, 0x1000, 1), "after a request");
    assert_eq!(enter(1, space(0x1000, 2)), (2, 0x1000, 0));
    assert_eq!(enter(3, space(0x1000, 2)), (2, 0x1000, 1), "another CPU");
    assert_eq!(enter(3, space(0x2000, 4)), (4, 0x2000, 1), "another space");
}

#[test]
fn a_fault_repeats_its_instruction_and_the_event_that_it_interrupted() {
    let mut vcpu = vcpu();
    let fault = GuestExit::Fault { at: GuestAddr::new(0x5008), access: Access::Write };
    let event = 0x6_8000_0b0e;
    assert_eq!(leave(&mut vcpu, 0x400, [0x1_0000_0006, 0x5008], event), Some(fault));
    assert_eq!((vcpu.rip(), vcpu.control().event), (ENTRY, event));
    // The next exit interrupts nothing: the event is not delivered twice.
    assert_eq!(leave(&mut vcpu, 0x60, [0; 2], event & !(1 << 31)), Some(GuestExit::Interrupt));
    assert_eq!(vcpu.control().event, 0);
}

#[test]
fn a_call_of_user_code_is_an_invalid_instruction() {
    let mut vcpu = vcpu();
    vcpu.vmcb_mut().save.cpl = 3;
    assert_eq!(leave(&mut vcpu, 0x81, [0; 2], 0), None);
    assert_eq!((vcpu.rip(), vcpu.control().event), (ENTRY, 0x8000_0306));
}

#[test]
fn the_registers_are_listed_after_the_guest_was_stopped() {
    let mut vcpu = vcpu();
    vcpu.registers.rcx = 0x1b;
    let stopped = GuestExit::Stopped("it read a model-specific register", 0x1b);
    assert_eq!(leave(&mut vcpu, 0x7c, [0; 2], 0), Some(stopped));
    let text = vcpu.to_string();
    assert!(text.starts_with("rip 0000000000008000 rflags 00000002"), "{text}");
    assert!(text.contains("rcx 000000000000001b"), "{text}");
}

#[test]
fn a_linux_kernel_has_a_board_and_its_own_registers_of_system_calls() {
    let start = KernelStart { entry: GuestAddr::new(0x100_0200), arguments: [0x7000, 0, 0, 0] };
    let mut vcpu = Vcpu::linux(state(), &start);
    assert_eq!((vcpu.rip(), vcpu.registers.rsi), (0x100_0200, 0x7000));
    assert!(vcpu.map_mut(PORT_MAP, PORT_MAP_BYTES).iter().all(|&byte| byte == 0xff));
    let open = vcpu.map_mut(REGISTER_MAP, REGISTER_MAP_BYTES);
    assert_eq!(open.iter().map(|byte| byte.count_zeros()).sum::<u32>(), 20);
    // The payload stops at a port; the board has one there.
    vcpu.vmcb_mut().save.rax = b'x'.into();
    let sent = leave(&mut vcpu, 0x7b, [0x03f8_0010, 0x100_0202], 0);
    assert_eq!((sent, vcpu.rip()), (Some(GuestExit::Console(b'x')), 0x100_0202));
    // What a board does not emulate stops the guest, as ever.
    let stopped = GuestExit::Stopped("it shut down (triple fault)", 0x7f);
    assert_eq!(leave(&mut vcpu, 0x7f, [0; 2], 0), Some(stopped));
}

/// Has the guest write a model-specific register.
fn writes(vcpu: &mut Vcpu, number: u64, value: u64) -> Option<GuestExit> {
    (vcpu.registers.rcx, vcpu.registers.rdx) = (number, value >> 32);
    vcpu.vmcb_mut().save.rax = value & 0xffff_ffff;
    leave(vcpu, 0x7c, [1, 0], 0)
}

#[test]
fn a_cpu_that_another_starts_begins_in_real_mode_and_sets_up_long_mode_itself() {
    let start = CpuStart { entry: GuestAddr::new(0x8000), context: 5 };
    let mut vcpu = Vcpu::started(state(), 3, &start, false);
    vcpu.abilities = Abilities { asids: 16, next_rip: false, flush_by_asid: false };
    let save = &vcpu.vmcb().save;
    assert_eq!((save.cs.selector, save.cs.base, save.rip, save.rflags), (0x800, 0x8000, 0, 2));
    assert_eq!((save.cr0, save.cr4, save.efer, save.cpl), (0x6000_0010, 0, 0x1000, 0));
    assert_eq!(vcpu.vmcb().control.control_registers, 0);
    assert_eq!(writes(&mut vcpu, 0xc000_0080, 0x100), None);
    assert_eq!((vcpu.vmcb().save.efer, vcpu.rip()), (0x1100, 2));
    // SVM itself.
    assert_eq!(writes(&mut vcpu, 0xc000_0080, 0x1100), None);
    assert_eq!((vcpu.vmcb().save.efer, vcpu.rip()), (0x1100, 2));
    assert_eq!(vcpu.control().event, exit::GENERAL_PROTECTION);
    // Its number.
    vcpu.registers.rcx = 0x802;
    assert_eq!(leave(&mut vcpu, 0x7c, [0, 0], 0), None);
    assert_eq!((vcpu.vmcb().save.rax, vcpu.registers.rdx, vcpu.rip()), (3, 0, 4));
    // OSXSAVE: its state would not be switched.
    vcpu.vmcb_mut().save.cr4 = 1 << 18;
    let why = "it set bits of CR4 that its CPU lacks";
    assert_eq!(leave(&mut vcpu, 0x60, [0; 2], 0), Some(GuestExit::Stopped(why, 1 << 18)));
}

#[test]
fn a_cpu_without_a_board_starts_others_and_reaches_no_other_register() {
    let mut vcpu = vcpu();
    let one = CpuSet::one(1);
    let reset = Some(GuestExit::Cpus(CpuRequest::Reset(one)));
    assert_eq!(writes(&mut vcpu, 0x830, 1 << 32 | 0x4500), reset);
    let start = CpuStart { entry: GuestAddr::new(0x1000), context: 0 };
    let starts = Some(GuestExit::Cpus(CpuRequest::Start { cpus: one, start }));
    assert_eq!(writes(&mut vcpu, 0x830, 1 << 32 | 0x4601), starts);
    assert_eq!(vcpu.rip(), ENTRY + 4);
    assert!(matches!(writes(&mut vcpu, 0x830, 0x4020), Some(GuestExit::Stopped(_, 0x4020))));
    for number in [0x10, 0x1b, 0x802, 0x80b, 0x831, 0x83f, 0x277, 0xc000_0100, 0xc001_0117] {
        let stopped = writes(&mut vcpu, number, 0);
        assert!(matches!(stopped, Some(GuestExit::Stopped(..))), "{number:#x}: {stopped:?}");
    }
}

#[test]
fn no_register_that_a_guest_without_a_board_writes_or_reads_causes_a_panic_or_drops_svm() {
    let mut random = Random::new(4);
    let mut vcpu = vcpu();
    for _ in 0..100_000 {
        let numbers = [0x800 + random.below(64), 0xc000_0080, random.bits()];
        let (number, value) = (*random.pick(&numbers), random.bits() >> random.below(64));
        if random.below(4) == 0 {
            vcpu.registers.rcx = number;
            leave(&mut vcpu, 0x7c, [0, 0], 0);
        } else {
            writes(&mut vcpu, number, value);
        }
        assert_eq!(vcpu.vmcb().save.efer & 0x1000, 0x1000);
    }
}

#[test]
fn a_space_beyond_the_asids_of_the_cpu_is_not_entered() {
    let mut vcpu = vcpu();
    // SAFETY: the space is not walked, since it is refused.
    let space = unsafe { GuestSpace::new(PhysAddr::new(0), 16) };
    // SAFETY: as above; the CPU is not entered.
    let exit = unsafe { vcpu.run(&space, &Own::default()) };
    assert_eq!(exit, GuestExit::Stopped("this CPU has fewer ASIDs than guests", 16));
}
