//! The part of a CPU, by its lines, its registers and its list registers.

use super::*;

const TIMER: usize = 27;
const SERIAL: usize = 33;

/// A controller with both lines enabled, as Linux does it.
fn gic() -> Gic {
    let mut gic = Gic::default();
    gic.set_own(u64::MAX << PRIVATES);
    gic.write_distributor(0x0000, 4, 0b10);
    gic.write_redistributor(0x0014, 4, 0);
    gic.write_redistributor(PRIVATE + 0x080, 4, u64::MAX);
    gic.write_distributor(0x084, 4, u64::MAX);
    gic.write_redistributor(PRIVATE + 0x400 + TIMER as u64, 1, 0xa0);
    gic.write_distributor(0x400 + SERIAL as u64, 1, 0x80);
    gic.write_redistributor(PRIVATE + 0x100, 4, 1 << TIMER | 1 << 3);
    gic.write_distributor(0x104, 4, 1 << (SERIAL - 32));
    gic
}

fn list(id: usize, priority: u64) -> u64 {
    PENDING | GROUP_1 | EXIT_AT_END | priority << 48 | id as u64
}

#[test]
fn a_line_is_pending_until_it_drops_or_the_guest_ends_it_and_again_if_it_stays() {
    let mut gic = gic();
    assert!(!gic.has_pending());
    gic.set_line(TIMER, true);
    assert!(gic.has_pending());
    gic.enter();
    assert_eq!(gic.lists, [list(TIMER, 0xa0), 0, 0, 0]);
    assert!(gic.is_listed(TIMER));
    // It drops before the guest takes it.
    gic.set_line(TIMER, false);
    gic.enter();
    assert_eq!((gic.lists, gic.has_pending()), ([0; LISTS], false));

    gic.set_line(TIMER, true);
    gic.enter();
    // The guest takes it: while it is active it is not pending again.
    let active = gic.lists[0] & !PENDING | ACTIVE;
    gic.leave([active, 0, 0, 0]);
    gic.enter();
    assert_eq!((gic.lists, gic.has_pending()), ([active, 0, 0, 0], false));
    assert_eq!(gic.read_redistributor(0, true, PRIVATE + 0x300, 4), 1 << TIMER);
    // The guest ends it with the line still active.
    gic.leave([0; LISTS]);
    gic.enter();
    assert_eq!(gic.lists[0], list(TIMER, 0xa0));
}

#[test]
fn the_most_urgent_interrupts_get_list_registers_and_the_others_wait() {
    let mut gic = gic();
    gic.write_redistributor(PRIVATE + 0x100, 4, 0xff);
    (0..8).for_each(|id| gic.write_redistributor(PRIVATE + 0x400 + id, 1, 0xf0 - 8 * id));
    (0..8).for_each(|id| gic.send(id << 24 | 1));
    gic.set_line(SERIAL, true);
    gic.enter();
    let lists = [list(SERIAL, 0x80), list(7, 0xb8), list(6, 0xc0), list(5, 0xc8)];
    assert_eq!(gic.lists, lists);
    gic.leave([0, 0, lists[2], lists[3]]);
    gic.set_line(SERIAL, false);
    gic.enter();
    assert_eq!(gic.lists, [list(4, 0xd0), list(3, 0xd8), lists[2], lists[3]]);
}

#[test]
fn a_call_goes_to_the_cpus_of_its_list_or_to_all_others() {
    let to = |word: u64| receivers(3 << 24 | word, 1, 4);
    assert_eq!((to(0b0101), to(0b0010), to(0xfff0)), (0b0101, 0b0010, 0));
    assert_eq!(to(1 << 40 | 1), 0b1101);
    // Another affinity, and another range of it.
    assert_eq!([to(1 << 16 | 1), to(1 << 32 | 1), to(1 << 44 | 1), to(1 << 48 | 1)], [0; 4]);
}

#[test]
fn a_call_is_raised_once() {
    let mut gic = gic();
    gic.send(3 << 24);
    gic.enter();
    assert_eq!(gic.lists, [list(3, 0), 0, 0, 0]);
    gic.leave([0; LISTS]);
    gic.enter();
    assert_eq!(gic.lists, [0; LISTS]);
}

#[test]
fn what_is_disabled_is_not_delivered_and_a_call_is_kept_until_it_is_enabled() {
    let mut gic = gic();
    gic.send(3 << 24 | 1);
    gic.enter();
    gic.write_redistributor(PRIVATE + 0x180, 4, 1 << 3);
    gic.enter();
    assert_eq!((gic.lists, gic.has_pending()), ([0; LISTS], false));
    assert_eq!(gic.read_redistributor(0, true, PRIVATE + 0x200, 4), 1 << 3);
    gic.write_redistributor(PRIVATE + 0x100, 4, 1 << 3);
    gic.enter();
    assert_eq!(gic.lists, [list(3, 0), 0, 0, 0]);
    gic.write_redistributor(PRIVATE + 0x280, 4, 1 << 3);
    assert_eq!(gic.lists, [0; LISTS]);
    gic.set_line(SERIAL, true);
    gic.write_distributor(0x0000, 4, 0);
    gic.enter();
    assert_eq!((gic.lists, gic.has_pending()), ([0; LISTS], false));
}

#[test]
fn the_registers_that_linux_reads_say_what_there_is() {
    let mut gic = Gic::default();
    assert_eq!(gic.read_distributor(0xffe8, 4), 0x30);
    assert_eq!(gic.read_distributor(0x0004, 4) & 0x1f, 1);
    assert_eq!(gic.read_redistributor(0, true, 0x0014, 4), 0b110);
    gic.write_redistributor(0x0014, 4, 0);
    assert_eq!(gic.read_redistributor(0, true, 0x0014, 4), 0);
    assert_eq!(gic.read_redistributor(0, true, 0x0008, 8), 0x10);
    assert_eq!(gic.read_redistributor(2, false, 0x0008, 8), 2 << 32 | 2 << 8);
    assert_eq!(gic.read_redistributor(2, false, 0x000c, 4), 2);
    // The priorities of four interrupts at once, and kinds that stick.
    gic.write_distributor(0x420, 4, 0x8070_6050);
    assert_eq!(gic.read_distributor(0x420, 4), 0x8070_6050);
    assert_eq!(gic.read_distributor(0x421, 1), 0x60);
    gic.write_distributor(0xc08, 4, 0b1000);
    assert_eq!(gic.read_distributor(0xc08, 4), 0b1000);
    gic.write_redistributor(PRIVATE + 0xc00, 4, 0);
    assert_eq!(gic.read_redistributor(0, true, PRIVATE + 0xc00, 4), 0xaaaa_aaaa);
    // Private interrupts are not the distributor's.
    gic.write_distributor(0x100, 4, u64::MAX);
    assert_eq!(gic.enabled, 0);
}
