//! The tables, read as a kernel reads them.

extern crate std;

use super::*;
use crate::common::tables::tests::{find, number};
use std::vec::Vec;

fn all() -> Vec<u8> {
    with_tables(2, <[u8]>::to_vec).unwrap()
}

#[test]
fn the_board_has_its_cpus_and_no_hardware_of_acpi() {
    let all = all();
    let fadt = find(&all, AT, b"FACP");
    assert_eq!(number(fadt, 112, 4) & (1 << 20 | 1 << 10), 1 << 20 | 1 << 10);
    assert_eq!(number(fadt, 109, 2) & 0b11, 0, "no legacy device, no keyboard controller");
    assert_eq!(&fadt[116..129], [1, 8, 0, 1, 0x02, 0x06, 0, 0, 0, 0, 0, 0, 1]);
    assert_eq!([number(fadt, 248, 8), number(fadt, 260, 8)], [0x600, 0x601]);
    let madt = find(&all, AT, b"APIC");
    assert_eq!(number(madt, 36, 4), 0xfee0_0000);
    assert_eq!(&madt[44..], [0, 8, 0, 0, 1, 0, 0, 0, 0, 8, 1, 1, 1, 0, 0, 0]);
    assert_eq!(with_tables(MOST_CPUS + 1, <[u8]>::len), None);
    // Neither a device nor a region: the only name is that of the state in which the machine is off.
    assert_eq!(&find(&all, AT, b"DSDT")[36..], b"\x08_S5_\x12\x07\x04\x0a\x05\0\0\0");
}
