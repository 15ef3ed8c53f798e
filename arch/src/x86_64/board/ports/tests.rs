//! Ports as drivers access them, and any accesses.

use super::*;
use hotmem_paging::testing::Random;

/// An access of one byte, as an exit describes it.
fn input(port: u16) -> Access {
    Access::of(u64::from(port) << 16 | 0x11)
}

fn output(port: u16) -> Access {
    Access::of(u64::from(port) << 16 | 0x10)
}

// The word that QEMU stores for `out dx, al` at port 3f8h.
#[test]
fn an_exit_describes_its_access() {
    let one = Access { port: 0x3f8, bytes: 1, is_input: false, is_string: false };
    assert_eq!(Access::of(0x03f8_0010), one);
    assert_eq!(Access::of(0x0cfc_0041), Access { port: 0xcfc, bytes: 4, is_input: true, ..one });
    assert_eq!(Access::of(0x03f8_0024), Access { bytes: 2, is_string: true, ..one });
}

#[test]
fn an_input_changes_as_much_of_rax_as_it_is_wide() {
    let rax = 0x1122_3344_5566_7788;
    let merged = |size: u64| Access::of(size).merged(rax, 0xaabb_ccdd);
    assert_eq!(merged(0x11), 0x1122_3344_5566_77dd);
    assert_eq!(merged(0x21), 0x1122_3344_5566_ccdd);
    assert_eq!(merged(0x41), 0xaabb_ccdd);
}

#[test]
fn ports_without_a_device_read_as_ones_and_write_nothing() {
    let mut ports = Ports::default();
    for port in [0x20, 0x21, 0x61, 0x64, 0x80, 0xcf8, 0xffff] {
        assert_eq!(ports.output(output(port), 0), Effect::None);
        assert_eq!(ports.input(input(port)), 0xff, "{port:#x}");
    }
    assert_eq!(ports.input(Access::of(0x0cfc_0041)), u32::MAX);
    assert_eq!(ports.input(input(0x42)), 0, "a counter that stands");
}

#[test]
fn bytes_to_the_serial_port_come_out_one_by_one() {
    let mut ports = Ports::default();
    assert_eq!(ports.output(output(0x3f8), 0x1_0041), Effect::Send(b'A'));
    // A wider access covers the ports behind it: here the register that enables interrupts.
    assert_eq!(ports.output(Access::of(0x03f8_0020), 0x0f42), Effect::Send(b'B'));
    assert_eq!(ports.input(input(0x3f9)), 0x0f);
    assert_eq!(ports.input(input(0x3fd)), 0x60);
}

#[test]
fn a_kernel_leaves_by_the_exit_device() {
    let mut ports = Ports::default();
    assert_eq!(ports.output(Access::of(0x00f4_0040), 0x10), Effect::Off);
    assert_eq!(ports.output(Access::of(0x00f4_0040), 0x7f), Effect::Fail(0x7f));
}

#[test]
fn the_clock_is_valid_and_stands_still() {
    let mut ports = Ports::default();
    let mut read = |index: u8| {
        ports.output(output(0x70), 0x80 | u32::from(index));
        ports.input(input(0x71))
    };
    let time = [0, 2, 4, 6, 7, 8, 9, 0x32].map(&mut read);
    assert_eq!(time, [0, 0, 0, 7, 1, 1, 0, 0x20], "2000-01-01, a Saturday");
    assert_eq!([read(0xa) & 0x80, read(0xb), read(0xd)], [0, 2, 0x80]);
}

#[test]
fn only_the_right_values_turn_the_machine_off_or_restart_it() {
    let mut ports = Ports::default();
    // SLP_TYP 5 and SLP_EN, as ACPI has them.
    assert_eq!(ports.output(output(acpi::SLEEP_CONTROL), 5 << 2), Effect::None);
    assert_eq!(ports.output(output(acpi::SLEEP_CONTROL), 5 << 2 | 0x20), Effect::Off);
    assert_eq!(ports.output(output(acpi::RESET), 0), Effect::None);
    assert_eq!(ports.output(output(acpi::RESET), 1), Effect::Restart);
}

#[test]
fn any_access_has_a_result() {
    let mut random = Random::new(11);
    let mut ports = Ports::default();
    for _ in 0..200_000 {
        let port = match random.one_in(2) {
            true => random.bits() as u16,
            false => *random.pick(&[0x3f6, 0x3f8, 0x3fb, 0x3ff, 0x6f, 0x70, 0x600, 0xfffe]),
        };
        let access = Access::of(u64::from(port) << 16 | random.bits() & 0xffff);
        let _ = ports.output(access, random.bits() as u32);
        let value = ports.input(access);
        assert!(access.bytes == 4 || value >> (u32::from(access.bytes) * 8) == 0);
    }
}
