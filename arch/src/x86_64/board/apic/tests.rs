//! The APIC as a kernel uses it, and any accesses.

use super::*;
use hotmem_paging::testing::Random;

/// An enabled APIC whose timer requests vector `timer` at its deadline.
fn apic(timer: u8) -> LocalApic {
    let mut apic = LocalApic::new(0);
    apic.write(SPURIOUS, 0x1ff).unwrap();
    apic.write(LVT_TIMER, u64::from(MODE_DEADLINE) | u64::from(timer)).unwrap();
    apic
}

#[test]
fn the_timer_requests_its_vector_once_its_deadline_has_come() {
    let mut apic = apic(0xec);
    apic.write(DEADLINE, 1000).unwrap();
    assert_eq!((apic.read(DEADLINE), apic.deadline()), (Ok(1000), Some(1000)));
    apic.look(999);
    assert_eq!(apic.pending(), None);
    apic.look(1000);
    assert_eq!((apic.pending(), apic.deadline(), apic.read(DEADLINE)), (Some(0xec), None, Ok(0)));
    apic.deliver(0xec);
    apic.look(u64::MAX);
    assert_eq!(apic.pending(), None, "once");
}

#[test]
fn a_masked_timer_and_one_in_another_mode_request_nothing() {
    let mut masked = apic(0xec);
    masked.write(DEADLINE, 5).unwrap();
    masked.write(LVT_TIMER, (MASKED | MODE_DEADLINE | 0xec).into()).unwrap();
    assert_eq!(masked.deadline(), None);
    masked.look(5);
    assert_eq!(masked.pending(), None);
    let mut counting = apic(0xec);
    counting.write(DEADLINE, 5).unwrap();
    counting.write(LVT_TIMER, 0xec).unwrap();
    counting.write(DEADLINE, 6).unwrap();
    assert_eq!((counting.deadline(), counting.read(DEADLINE)), (None, Ok(0)));
    let stops = counting.write(INITIAL_COUNT, 7);
    assert_eq!(stops, Err(Refusal::Stop("its APIC timer counts, without a deadline", 7)));
}

// SDM vol. 3A, 12.8.3.1: a vector waits for those of its class and above.
#[test]
fn vectors_are_delivered_by_their_class() {
    let mut apic = apic(0xec);
    for vector in [0x31, 0x35, 0x80] {
        apic.write(SELF, vector).unwrap();
    }
    assert_eq!(apic.pending(), Some(0x80));
    apic.deliver(0x80);
    assert_eq!((apic.pending(), apic.read(PROCESSOR_PRIORITY)), (None, Ok(0x80)));
    assert_eq!(apic.read(IN_SERVICE + 4), Ok(1));
    assert_eq!(apic.read(REQUESTED + 1), Ok(1 << 0x11 | 1 << 0x15));
    apic.write(END_OF_INTERRUPT, 0).unwrap();
    assert_eq!(apic.pending(), Some(0x35));
    apic.deliver(0x35);
    assert_eq!(apic.pending(), None, "of the same class");
    apic.write(END_OF_INTERRUPT, 0).unwrap();
    assert_eq!(apic.pending(), Some(0x31));
    apic.set_task_class(3);
    assert_eq!((apic.pending(), apic.read(TASK_PRIORITY)), (None, Ok(0x30)));
    apic.write(TASK_PRIORITY, 0x2f).unwrap();
    assert_eq!((apic.pending(), apic.task_class()), (Some(0x31), 2));
    apic.set_task_class(2);
    assert_eq!(apic.read(TASK_PRIORITY), Ok(0x2f), "CR8 has the class only");
}

#[test]
fn a_vector_that_did_not_arrive_is_requested_again() {
    let mut apic = apic(0xec);
    apic.write(SELF, 0x40).unwrap();
    apic.deliver(0x40);
    apic.take_back(0x40);
    assert_eq!(apic.pending(), Some(0x40));
    assert_eq!(apic.read(IN_SERVICE + 2), Ok(0));
}

#[test]
fn each_cpu_has_its_numbers_and_requests_what_others_send() {
    let other = LocalApic::new(5);
    assert_eq!([other.read(ID), other.read(LOGICAL_DESTINATION)], [Ok(5), Ok(1 << 5)]);
    assert_eq!((other.base(), LocalApic::new(0).base()), (0xfee0_0c00, 0xfee0_0d00));
    assert_eq!(LocalApic::new(17).read(LOGICAL_DESTINATION), Ok(1 << 16 | 1 << 1));
    let mut apic = apic(0xec);
    let mut mail = Vectors::default();
    for vector in [0x3, 0x31, 0xfb] {
        mail.set(vector, true);
    }
    apic.request_all(&mail);
    assert_eq!(apic.pending(), Some(0xfb));
    assert_eq!(apic.read(REQUESTED), Ok(0), "a vector of an exception is not requested");
    assert_eq!(apic.read(REQUESTED + 1), Ok(1 << 0x11));
}

#[test]
fn a_disabled_apic_requests_nothing_and_has_its_vectors_masked() {
    let mut apic = LocalApic::new(0);
    apic.write(SELF, 0x51).unwrap();
    assert_eq!(apic.pending(), None);
    apic.write(LVT_TIMER, (MODE_DEADLINE | 0xec).into()).unwrap();
    assert_eq!(apic.read(LVT_TIMER), Ok((MASKED | MODE_DEADLINE | 0xec).into()));
}

#[test]
fn registers_and_bits_that_are_missing_raise_an_exception() {
    let mut apic = apic(0xec);
    for number in [FIRST, 0x80b, 0x82f, 0x831, 0x83a, LAST] {
        assert_eq!(apic.read(number), Err(Refusal::Protection), "{number:#x}");
    }
    for (number, value) in [
        (ID, 0),
        (IN_SERVICE, 0),
        (END_OF_INTERRUPT, 1),
        (SPURIOUS, 1 << 12),
        (TASK_PRIORITY, 0x100),
        (LVT_TIMER, 1 << 32),
        (SELF, 0x100),
    ] {
        assert_eq!(apic.write(number, value), Err(Refusal::Protection), "{number:#x}");
    }
}

#[test]
fn no_access_breaks_the_order_of_vectors() {
    let mut random = Random::new(7);
    let mut apic = LocalApic::new(0);
    for _ in 0..200_000 {
        let number = match random.one_in(8) {
            true => DEADLINE,
            false => FIRST + random.below(0x42) as u32,
        };
        let value = random.bits() & random.bits() & random.bits();
        let value = if random.one_in(2) { value & 0xffff } else { value };
        let _ = apic.write(number, value);
        let _ = apic.read(number);
        apic.look(random.bits());
        if let Some(vector) = apic.pending() {
            assert!(apic.in_service.highest().is_none_or(|served| served >> 4 < vector >> 4));
            assert!(vector >> 4 > apic.task_class());
            apic.deliver(vector);
            if random.one_in(4) {
                apic.take_back(vector);
            }
        }
    }
}
