//! The devices of a guest, by the exits that a CPU reports.

extern crate std;

use super::*;
use hotmem_paging::testing::Random;
use std::vec::Vec;

const IDS: IdRegisters = IdRegisters {
    pfr0: 0x1100_0000_1111_1112,
    pfr1: 0x20,
    isar0: 0x10_1011_1012_1120,
    isar1: 0x10_1001,
    mmfr0: 0x10_1125,
    mmfr1: 0x1021_2122,
    mmfr2: 0x100_0111,
};

/// A data abort at `at`: 2^`size` bytes, `register`, a store or a load.
fn abort(at: u64, size: u64, register: u64, store: bool) -> Cause {
    let syndrome = 0x9200_0007 | DESCRIBED | size << 22 | register << 16;
    let syndrome = syndrome | if store { STORE } else { 0 } | if size == 3 { WIDE } else { 0 };
    Cause { vector: 8, syndrome, address: 0xffff_8000_0000_0000 | at & 0xfff, page: at >> 12 << 4 }
}

#[test]
fn the_serial_port_sends_what_is_stored_to_its_first_register() {
    let mut board = Board::new(1);
    let mut x = [0; 31];
    x[3] = 0x1234_5668;
    let exit = board.exit(0, abort(SERIAL, 0, 3, true), &mut x, &IDS);
    assert_eq!(exit, Some((GuestExit::Console(b'h'), Next::Following)));
    // Register 31 is zero.
    let exit = board.exit(0, abort(SERIAL, 2, 31, true), &mut x, &IDS);
    assert_eq!(exit, Some((GuestExit::Console(0), Next::Following)));
    // UARTFR to register 7, sign-extended though its highest bit is clear.
    let cause = abort(SERIAL + 0x18, 1, 7, false);
    let signed = Cause { syndrome: cause.syndrome | SIGNED, ..cause };
    assert_eq!(board.exit(0, signed, &mut x, &IDS), Some((GuestExit::Emulated, Next::Following)));
    assert_eq!(x[7], 0x90);
    let cause = abort(SERIAL + 0x18, 0, 7, false);
    let signed = Cause { syndrome: cause.syndrome | SIGNED, ..cause };
    board.exit(0, signed, &mut x, &IDS);
    assert_eq!(x[7], 0xffff_ff90);
    let wide = Cause { syndrome: signed.syndrome | WIDE, ..signed };
    board.exit(0, wide, &mut x, &IDS);
    assert_eq!(x[7], 0xffff_ffff_ffff_ff90);
}

#[test]
fn the_interrupt_controller_is_at_its_two_addresses() {
    let mut board = Board::new(1);
    let mut x = [0; 31];
    for (at, size, value) in [
        (DISTRIBUTOR + 0xffe8, 2, 0x30),
        (REDISTRIBUTOR + 0xffe8, 2, 0x30),
        (REDISTRIBUTOR + 0x08, 3, 0x10),
        (REDISTRIBUTOR + 0x0c, 2, 0),
    ] {
        x[1] = u64::MAX;
        let exit = board.exit(0, abort(at, size, 1, false), &mut x, &IDS);
        assert_eq!((exit, x[1]), (Some((GuestExit::Emulated, Next::Following)), value), "{at:#x}");
    }
    x[1] = u64::MAX;
    board.exit(0, abort(REDISTRIBUTOR + 0x1_0100, 2, 1, true), &mut x, &IDS);
    board.exit(0, abort(REDISTRIBUTOR + 0x1_0080, 2, 1, true), &mut x, &IDS);
    assert!(board.gic(0).is_enabled(TIMER_LINE as usize));
}

#[test]
fn what_is_no_device_or_cannot_be_decoded_is_not_emulated() {
    let mut board = Board::new(1);
    let mut x = [0; 31];
    for at in [0, DISTRIBUTOR - 1, DISTRIBUTOR + DISTRIBUTOR_BYTES, SERIAL + SERIAL_BYTES, 1 << 47]
    {
        assert_eq!(board.exit(0, abort(at, 2, 0, false), &mut x, &IDS), None, "{at:#x}");
    }
    let cause = abort(SERIAL, 2, 0, true);
    let walk = Cause { syndrome: cause.syndrome | 1 << 7, ..cause };
    assert_eq!(board.exit(0, walk, &mut x, &IDS), None);
    let pair = Cause { syndrome: cause.syndrome & !DESCRIBED, ..cause };
    let why = "it accessed a device by an instruction that the host does not decode";
    let stopped = Some((GuestExit::Stopped(why, SERIAL), Next::Same));
    assert_eq!(board.exit(0, pair, &mut x, &IDS), stopped);
    let interrupt = Cause { vector: 9, ..cause };
    assert_eq!(board.exit(0, interrupt, &mut x, &IDS), None);
}

#[test]
fn a_guest_that_waits_wakes_by_its_timer_if_that_can_interrupt() {
    let mut board = Board::new(1);
    let timer = Timer { control: 1, at: 500 };
    board.update(0, timer, 100);
    // The timer's interrupt is disabled.
    assert_eq!(board.wait(0, timer), GuestExit::Wait);
    board.gic(0).write_distributor(0, 4, 0b10);
    board.gic(0).write_redistributor(0x1_0080, 4, u64::MAX);
    board.gic(0).write_redistributor(0x1_0100, 4, 1 << TIMER_LINE);
    assert_eq!(board.wait(0, timer), GuestExit::WaitUntil(500));
    for control in [0, 0b11] {
        assert_eq!(board.wait(0, Timer { control, at: 500 }), GuestExit::Wait);
    }
    board.update(0, timer, 500);
    assert_eq!(board.wait(0, timer), GuestExit::Emulated);
    board.update(0, timer, 499);
    assert_eq!(board.wait(0, timer), GuestExit::WaitUntil(500));
}

#[test]
fn a_read_of_an_identification_register_and_a_call_to_itself_go_on_behind_the_instruction() {
    let mut board = Board::new(1);
    let mut x = [0; 31];
    // mrs x2, id_aa64pfr0_el1.
    let syndrome = 0x18 << 26 | 3 << 20 | 2 << 5 | 4 << 1 | 1;
    let read = Cause { vector: 8, syndrome, address: 0, page: 0 };
    let emulated = Some((GuestExit::Emulated, Next::Following));
    assert_eq!(board.exit(0, read, &mut x, &IDS), emulated);
    assert_eq!(x[2], 0x1100_0000_0111_0011);
    // msr icc_sgi1r_el1, x2.
    let syndrome = 0x18 << 26 | 3 << 20 | 5 << 17 | 12 << 10 | 2 << 5 | 11 << 1;
    x[2] = 4 << 24 | 1;
    board.gic(0).write_distributor(0, 4, 0b10);
    board.gic(0).write_redistributor(0x1_0080, 4, u64::MAX);
    board.gic(0).write_redistributor(0x1_0100, 4, 0xffff);
    assert_eq!(board.exit(0, Cause { syndrome, ..read }, &mut x, &IDS), emulated);
    assert!(board.gic(0).has_pending());
    // mrs x2, pmcr_el0: not of this guest.
    let syndrome = 0x18 << 26 | 3 << 20 | 3 << 14 | 9 << 10 | 2 << 5 | 12 << 1 | 1;
    assert_eq!(board.exit(0, Cause { syndrome, ..read }, &mut x, &IDS), None);
}

#[test]
fn cpus_call_one_another_and_the_first_one_gets_the_interrupt_of_the_serial_port() {
    let mut board = Board::new(3);
    let mut x = [0; 31];
    x[1] = u64::MAX;
    board.exit(1, abort(DISTRIBUTOR, 2, 1, true), &mut x, &IDS);
    for frame in [REDISTRIBUTOR, REDISTRIBUTOR + 2 * REDISTRIBUTOR_BYTES] {
        board.exit(0, abort(frame + 0x1_0080, 2, 1, true), &mut x, &IDS);
        board.exit(0, abort(frame + 0x1_0100, 2, 1, true), &mut x, &IDS);
    }
    let none = Timer { control: 0, at: 0 };
    // msr icc_sgi1r_el1, x2, of CPU 1: interrupt 4 to CPU 2.
    let syndrome = 0x18 << 26 | 3 << 20 | 5 << 17 | 12 << 10 | 2 << 5 | 11 << 1;
    x[2] = 4 << 24 | 0b100;
    let call = Cause { vector: 8, syndrome, address: 0, page: 0 };
    board.exit(1, call, &mut x, &IDS);
    assert_eq!((board.take_called(), board.take_called()), (0b100, 0));
    for cpu in 0..3 {
        board.update(cpu, none, 0);
        assert_eq!(board.gic(cpu).has_pending(), cpu == 2, "CPU {cpu}");
    }
    // CPU 1 sends a byte with the port's interrupt enabled.
    x[1] = u64::MAX;
    board.exit(1, abort(DISTRIBUTOR + 0x104, 2, 1, true), &mut x, &IDS);
    board.exit(1, abort(DISTRIBUTOR + 0x84, 2, 1, true), &mut x, &IDS);
    board.exit(1, abort(SERIAL + 0x38, 2, 1, true), &mut x, &IDS);
    board.exit(1, abort(SERIAL, 0, 1, true), &mut x, &IDS);
    assert_eq!((board.take_called(), board.gic(0).has_pending()), (1, true));
    // Addresses after the last redistributor belong to none of the devices.
    let beyond = REDISTRIBUTOR + 3 * REDISTRIBUTOR_BYTES;
    assert_eq!(board.exit(0, abort(beyond, 2, 1, false), &mut x, &IDS), None);
}

#[test]
fn a_cpu_whose_own_interrupt_another_one_makes_pending_or_enables_is_called() {
    let mut board = Board::new(3);
    let mut x = [0; 31];
    x[1] = u64::MAX;
    board.exit(0, abort(DISTRIBUTOR, 2, 1, true), &mut x, &IDS);
    let frame = REDISTRIBUTOR + 2 * REDISTRIBUTOR_BYTES + 0x1_0000;
    let mut write = |from, offset| {
        board.exit(from, abort(frame + offset, 2, 1, true), &mut x, &IDS);
        board.take_called()
    };
    // Its group, pending, enabled; pending again, by itself.
    assert_eq!(
        [(1, 0x80), (1, 0x200), (1, 0x100), (2, 0x200)].map(|(from, offset)| write(from, offset)),
        [0, 0, 0b100, 0]
    );
    write(1, 0x280);
    assert_eq!(write(0, 0x200), 0b100);
}

#[test]
fn the_serial_port_interrupts_the_cpu_that_its_route_names() {
    let mut board = Board::new(3);
    let mut x = [0; 31];
    (x[1], x[2]) = (u64::MAX, 2);
    for register in [DISTRIBUTOR, DISTRIBUTOR + 0x84, DISTRIBUTOR + 0x104, SERIAL + 0x38] {
        board.exit(0, abort(register, 2, 1, true), &mut x, &IDS);
    }
    let none = Timer { control: 0, at: 0 };
    let waits = |board: &mut Board| [0, 1, 2].map(|cpu| board.wait(cpu, none));
    // A byte would wake the first CPU; the others wait for one another.
    let (byte, cpus) = (GuestExit::WaitUntil(u64::MAX), GuestExit::WaitForCpus);
    assert_eq!(waits(&mut board), [byte, cpus, cpus]);
    board.exit(1, abort(DISTRIBUTOR + 0x6108, 3, 2, true), &mut x, &IDS);
    assert_eq!(waits(&mut board), [cpus, cpus, byte]);
    assert!(board.receive(b'x'));
    board.update(0, none, 0);
    assert_eq!(board.take_called(), 0b100);
    assert_eq!(waits(&mut board), [cpus, cpus, GuestExit::Emulated]);
}

#[test]
fn nothing_that_a_guest_does_causes_a_panic_or_lists_an_interrupt_twice() {
    let mut random = Random::new(11);
    let mut board = Board::new(3);
    let mut x = [0; 31];
    for round in 0..300_000_u64 {
        for register in x.iter_mut().take(4) {
            *register = random.bits() >> random.below(64);
        }
        let at = match random.below(6) {
            0 => DISTRIBUTOR + random.below(0x1000),
            1 => REDISTRIBUTOR + 0x1_0000 + random.below(0x1000),
            2 => REDISTRIBUTOR + random.below(REDISTRIBUTOR_BYTES),
            3 => SERIAL + random.below(SERIAL_BYTES),
            4 => DISTRIBUTOR + random.below(DISTRIBUTOR_BYTES),
            _ => random.bits(),
        };
        let cause = match random.below(4) {
            0 => Cause {
                vector: random.below(16),
                syndrome: random.bits() & 0xffff_ffff,
                address: random.bits(),
                page: random.bits(),
            },
            _ => abort(at, random.below(4), random.below(32), random.one_in(2)),
        };
        board.exit(random.below(3) as usize, cause, &mut x, &IDS);
        let timer = Timer { control: random.below(4), at: random.below(1000) };
        let cpu = random.below(3) as usize;
        board.update(cpu, timer, random.below(1000));
        board.wait(cpu, timer);
        board.enter(cpu);
        let mut lists = board.gic(cpu).lists;
        let used = lists.iter().filter(|list| **list != 0);
        let mut ids: Vec<_> = used.map(|list| list & 0xffff_ffff).collect();
        ids.sort_unstable();
        let all = ids.len();
        ids.dedup();
        assert_eq!(ids.len(), all, "round {round}: {lists:x?}");
        // The guest takes, ends, or leaves what is pending.
        for list in &mut lists {
            match random.below(3) {
                0 => *list &= !(0b11 << 62),
                1 if *list >> 62 == 0b01 => *list ^= 0b11 << 62,
                _ => {}
            }
        }
        board.gic(cpu).leave(lists);
    }
}
