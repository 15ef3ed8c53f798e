//! Exits as CPUs report them, and any others.

extern crate std;

use super::super::vmcb::intercept;
use super::*;
use hotmem_paging::testing::Random;
use std::string::ToString;

fn of(code: u64, info: [u64; 2]) -> Cause {
    cause(&Exit { code, info, ..Exit::default() })
}

#[test]
fn events_of_the_host_are_not_the_guests() {
    for code in [0x60, 0x61, 0x62, 0x63] {
        assert_eq!(of(code, [0; 2]), Cause::Host);
    }
    assert_eq!(of(0x52, [0; 2]), Cause::MachineCheck);
}

// The words that QEMU stores, by the bits of APM vol. 2 15.25.6.
#[test]
fn a_nested_page_fault_has_its_address_and_its_access() {
    let at = GuestAddr::new(0x12_3456);
    for (info, access) in [
        (0x1_0000_0004, Access::Read),
        (0x1_0000_0007, Access::Write),
        (0x1_0000_0014, Access::Fetch),
        (0x1_0000_0015, Access::Fetch),
        // A page of the guest's own tables, whose entries the CPU writes to.
        (0x2_0000_0006, Access::Write),
        (0x2_0000_0007, Access::Write),
    ] {
        assert_eq!(of(0x400, [info, 0x12_3456]), Cause::Fault { at, access }, "{info:#x}");
    }
    let damaged = of(0x400, [0x1_0000_000d, 0x12_3456]);
    assert_eq!(damaged, Cause::Stopped("its nested page tables have reserved bits", 0x12_3456));
}

#[test]
fn only_the_kernel_of_a_guest_calls_the_host() {
    let call = |cpl| cause(&Exit { code: 0x81, cpl, ..Exit::default() });
    assert_eq!(call(0), Cause::Call);
    assert_eq!([call(1), call(2), call(3)], [Cause::UserCall; 3]);
    assert_eq!(of(0x78, [0; 2]), Cause::Halt);
}

#[test]
fn what_is_not_emulated_stops_the_guest_by_name() {
    // out dx, al at port 0x3f8; bit 0 is the direction (APM vol. 2 15.10.2).
    assert_eq!(of(0x7b, [0x03f8_0010, 0x1002]), Cause::Stopped("it wrote to a port", 0x3f8));
    assert_eq!(of(0x7b, [0x03f8_0011, 0x1002]), Cause::Stopped("it read from a port", 0x3f8));
    let register =
        |info| cause(&Exit { code: 0x7c, info: [info, 0], rcx: 0xff_c000_0080, ..Exit::default() });
    assert_eq!(register(0), Cause::Stopped("it read a model-specific register", 0xc000_0080));
    assert_eq!(register(1), Cause::Stopped("it wrote to a model-specific register", 0xc000_0080));
    assert_eq!(of(0x7f, [0; 2]), Cause::Stopped("it shut down (triple fault)", 0x7f));
    assert_eq!(of(0x14, [0; 2]), Cause::Stopped("it changed a control register", 0x14));
    assert_eq!(of(0x72, [0; 2]), Cause::Stopped("it ran CPUID", 0x72));
    assert_eq!(of(u64::MAX, [0; 2]), Cause::Stopped("SVM refuses its state", 0));
    let unknown = "its exit is unknown";
    assert_eq!(of(0xdead, [0; 2]), Cause::Stopped(unknown, 0xdead));
}

// Every bit of the two words of instructions that is intercepted has a name: the codes follow the bits.
#[test]
fn every_intercepted_instruction_has_a_name() {
    let words = [intercept::FIRST, intercept::SECOND, intercept::THIRD];
    for (base, word) in [0x60, 0x80, 0xa0].into_iter().zip(words) {
        for code in (0..32).filter(|bit| word & 1 << bit != 0).map(|bit| base + bit) {
            if let Cause::Stopped(name, _) = of(code, [0; 2]) {
                assert!(!name.contains("unknown"), "{code:#x}");
            }
        }
    }
}

#[test]
fn an_event_is_injected_again_if_it_was_being_delivered() {
    // An interrupt, an NMI, a page fault with its error code.
    for event in [0x8000_0051, 0x8000_0202, 0x0000_0006_8000_0b0e] {
        assert_eq!(interrupted_event(event), event);
    }
    // QEMU leaves the last event there, without the valid bit.
    assert_eq!(interrupted_event(0x350), 0);
    assert_eq!(interrupted_event(0), 0);
    // INT 0x80, INT3 and INTO: the instruction runs again.
    for event in [0x8000_0480, 0x8000_0303, 0x8000_0304, 0x8000_0403] {
        assert_eq!(interrupted_event(event), 0, "{event:#x}");
    }
    // Without an error code the upper half means nothing.
    assert_eq!(interrupted_event(0xdead_beef_8000_0051), 0x8000_0051);
}

#[test]
fn any_exit_is_decoded_and_any_event_can_be_injected() {
    let mut random = Random::new(13);
    for _ in 0..200_000 {
        let dense = random.one_in(2);
        let code = if dense { random.below(0x410) } else { random.bits() };
        let info = [random.bits() & random.bits(), random.bits()];
        let event = random.bits();
        let exit = Exit { code, info, event, cpl: random.bits() as u8, rcx: random.bits() };
        match cause(&exit) {
            Cause::Stopped(name, _) => assert!(!name.to_string().is_empty()),
            Cause::Fault { at, .. } => assert_eq!((code, at.get()), (0x400, info[1])),
            Cause::Call | Cause::UserCall => assert_eq!(code, 0x81),
            Cause::Host | Cause::MachineCheck | Cause::Halt => assert!(code < 0x80),
        }
        let again = interrupted_event(event);
        // An entry refuses the other types, and vectors of exceptions past 31 (APM vol. 2 15.20).
        let exception = again >> 8 & 7 == 3;
        assert!(again == 0 || matches!(again >> 8 & 7, 0 | 2 | 3), "{again:#x}");
        assert!(!exception || (again & 0xff < 32 && again & 0xff != 2), "{again:#x}");
        assert_eq!(again & 0x7fff_f000, 0, "reserved bits of {again:#x}");
    }
}
