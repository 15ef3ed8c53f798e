//! Layouts as the hypervisor reads them, and exits for every result.

extern crate std;

use super::{HypervisorState, NestedState, Registers, decode};
use crate::contract::{Access, GuestCall, GuestExit};
use core::mem::{offset_of, size_of};
use hotmem_paging::addr::GuestAddr;
use hotmem_paging::testing::Random;
use std::format;

#[test]
fn the_hypervisors_structure_is_that_of_linux() {
    assert_eq!(size_of::<HypervisorState>(), 248);
    for (offset, expected) in [
        (offset_of!(HypervisorState, version), 0),
        (offset_of!(HypervisorState, lpid), 8),
        (offset_of!(HypervisorState, vcpu_token), 12),
        (offset_of!(HypervisorState, lpcr), 16),
        (offset_of!(HypervisorState, hfscr), 48),
        (offset_of!(HypervisorState, tb_offset), 56),
        (offset_of!(HypervisorState, hdec_expiry), 88),
        (offset_of!(HypervisorState, vtb), 120),
        (offset_of!(HypervisorState, hdar), 128),
        (offset_of!(HypervisorState, hdsisr), 136),
        (offset_of!(HypervisorState, heir), 144),
        (offset_of!(HypervisorState, asdr), 152),
        (offset_of!(HypervisorState, srr0), 160),
        (offset_of!(HypervisorState, sprg), 176),
        (offset_of!(HypervisorState, pidr), 208),
        (offset_of!(HypervisorState, ppr), 224),
        (offset_of!(HypervisorState, dawrx1), 240),
    ] {
        assert_eq!(offset, expected);
    }
}

#[test]
fn the_registers_are_those_of_linux() {
    assert_eq!(size_of::<Registers>(), 44 * 8);
    for (offset, word) in [
        (offset_of!(Registers, gpr), 0),
        (offset_of!(Registers, nip), 32),
        (offset_of!(Registers, msr), 33),
        (offset_of!(Registers, ctr), 35),
        (offset_of!(Registers, link), 36),
        (offset_of!(Registers, xer), 37),
        (offset_of!(Registers, ccr), 38),
        (offset_of!(Registers, result), 43),
    ] {
        assert_eq!(offset, 8 * word);
    }
}

/// A guest that was started at 0x100.
fn started() -> NestedState {
    let mut state = NestedState::default();
    state.start(0x100, [1, 2, 3, 4]);
    state
}

#[test]
fn a_guest_starts_little_endian_in_real_mode() {
    let mut state = started();
    assert_eq!(state.registers.gpr[3..7], [1, 2, 3, 4]);
    assert_eq!((state.registers.nip, state.registers.msr), (0x100, 0x8000_0000_0000_1001));
    assert_eq!(state.hypervisor.version, 1);
    assert_eq!(state.hypervisor.lpcr, 0x0200_0000);
    state.prepare(7, 1000);
    assert_eq!((state.hypervisor.lpid, state.hypervisor.hdec_expiry), (7, 1000));
    assert_eq!(state.registers.msr, 0x8000_0000_0000_1001);
}

// What a guest changed comes back from each run, and it cannot keep the hypervisor's bits: HV and S, states of
// transactions, facilities and messages.
#[test]
fn a_guest_gets_no_bits_of_its_hypervisor() {
    let mut state = started();
    state.registers.msr = u64::MAX;
    state.hypervisor.hfscr = u64::MAX;
    state.hypervisor.dpdes = u64::MAX;
    state.prepare(1, 0);
    assert_eq!(state.registers.msr, 0x8000_0000_0280_ff33);
    assert_eq!((state.hypervisor.hfscr, state.hypervisor.dpdes), (0x2107, 0));
    // Machine checks stay enabled.
    state.registers.msr = 0;
    state.prepare(1, 0);
    assert_eq!(state.registers.msr, 0x1000);
}

#[test]
fn interrupts_of_the_host_end_a_run() {
    for vector in [0x500, 0x980, 0xe80, 0xea0] {
        assert_eq!(decode(vector, &started()), GuestExit::Interrupt, "{vector:#x}");
    }
}

#[test]
fn a_fault_has_its_page_from_asdr_and_the_rest_from_the_access() {
    let mut state = started();
    state.hypervisor.asdr = 0x1234_5000;
    state.hypervisor.hdar = 0xc000_0000_0000_0678;
    state.registers.nip = 0xabc;
    let fault = |at, access| GuestExit::Fault { at: GuestAddr::new(at), access };
    for (cause, access) in [
        (0x4000_0000, Access::Read),
        (0x4200_0000, Access::Write),
        (0x0800_0000, Access::Read),
        (0x0a00_0000, Access::Write),
        // The guest's own walk.
        (0x4002_0000, Access::Read),
    ] {
        state.hypervisor.hdsisr = cause;
        assert_eq!(decode(0xe00, &state), fault(0x1234_5678, access), "{cause:#x}");
    }
    assert_eq!(decode(0xe20, &state), fault(0x1234_5abc, Access::Fetch));
}

#[test]
fn faults_that_no_leaf_helps_stop_the_guest() {
    let mut state = started();
    for cause in [0, 0x0008_0000, 0x0004_0000, 0x0204_0000, 0x4008_0000] {
        state.hypervisor.hdsisr = cause;
        let exit = decode(0xe00, &state);
        assert!(matches!(exit, GuestExit::Stopped(_, code) if code == cause), "{exit:?}");
    }
}

#[test]
fn a_hypercall_has_its_number_in_r3() {
    let mut state = started();
    state.registers.gpr[3..10].copy_from_slice(&[0x686d_0001, 10, 20, 30, 40, 50, 60]);
    let call = GuestCall { number: 0x686d_0001, arguments: [10, 20, 30, 40, 50] };
    assert_eq!(decode(0xc00, &state), GuestExit::Call(call));
    state.registers.gpr[3] = 0xe0;
    assert_eq!(decode(0xc00, &state), GuestExit::Wait);
    // A program of the guest's does not speak for it.
    state.registers.msr |= 1 << 14;
    assert!(matches!(decode(0xc00, &state), GuestExit::Stopped(_, 0x100)));
}

#[test]
fn everything_else_stops_the_guest_by_name() {
    let mut state = started();
    state.hypervisor.heir = 0x1234;
    state.hypervisor.hfscr = 0x0a00_0000_0000_0007;
    let stopped = |result| match decode(result, &state) {
        GuestExit::Stopped(why, code) => (why, code),
        other => panic!("{result:#x}: {other:?}"),
    };
    assert_eq!(stopped(0xe40).1, 0x1234);
    assert_eq!(stopped(0xf80), ("it used a facility that guests do not have", 0x0a));
    for vector in [0x100, 0x200, 0x300, 0x700, 0xe60, 0x1fff] {
        assert_eq!(stopped(vector).1, vector);
    }
    for status in [0, 1, 3, (-2_i64).cast_unsigned(), (-4_i64).cast_unsigned(), 0x2000] {
        assert_eq!(stopped(status), ("the hypervisor refused to run it", status));
    }
}

// Whatever the guest did and the hypervisor reports: one exit, and registers that can be shown.
#[test]
fn garbage_is_decoded_to_some_exit() {
    let mut random = Random::new(7);
    for _ in 0..200_000 {
        let mut state = started();
        state.registers.gpr = [random.bits(); 32];
        state.registers.nip = random.bits();
        state.registers.msr = random.bits();
        state.hypervisor.hdsisr = random.bits() & random.bits();
        state.hypervisor.asdr = random.bits();
        state.hypervisor.hdar = random.bits();
        state.hypervisor.hfscr = random.bits();
        let result = random.bits() >> random.below(64);
        let result = if random.one_in(2) { random.below(0x100) << 5 } else { result };
        let exit = decode(result, &state);
        if let GuestExit::Fault { at, .. } = exit {
            assert_eq!(at.get() >> 12, state.hypervisor.asdr >> 12);
        }
        state.prepare(1, 0);
        assert_eq!(state.registers.msr & !0x8000_0000_0280_ff33, 0);
    }
    assert!(format!("{}", started()).contains("nip 0000000000000100"));
}
