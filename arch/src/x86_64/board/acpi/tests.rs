//! The tables, read as a kernel reads them.

use super::*;

fn number(bytes: &[u8], at: usize, length: usize) -> u64 {
    bytes[at..at + length].iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

/// The table at the physical address `at`, whose checksum is right.
fn table(all: &[u8], at: u64) -> &[u8] {
    let begin = (at - AT) as usize;
    let table = &all[begin..begin + number(all, begin + 4, 4) as usize];
    assert_eq!(sum(table), 0, "{at:#x}");
    table
}

#[test]
fn a_kernel_finds_every_table_with_its_checksum() {
    let tables = Tables::new();
    let all = tables.bytes();
    assert_eq!(&all[..8], b"RSD PTR ");
    assert_eq!([sum(&all[..20]), sum(&all[..36]), all[15]], [0, 0, 2]);
    let xsdt = table(all, number(all, 24, 8));
    assert_eq!((&xsdt[..4], xsdt.len()), (b"XSDT".as_slice(), 36 + 16));
    let [fadt, madt] = [36, 44].map(|at| table(all, number(xsdt, at, 8)));
    assert_eq!([&fadt[..4], &madt[..4]], [b"FACP", b"APIC"]);
    assert_eq!((fadt.len(), fadt[8]), (276, 6), "the length of its revision");
    let dsdt = table(all, number(fadt, 140, 8));
    assert_eq!(number(fadt, 40, 4), number(fadt, 140, 8));
    assert_eq!(&dsdt[..4], b"DSDT");
    let used = [fadt, madt, dsdt].map(|table| table.as_ptr_range());
    assert!(used.windows(2).all(|pair| pair[0].end <= pair[1].start), "none covers another");
}

#[test]
fn the_board_has_one_cpu_and_no_hardware_of_acpi() {
    let tables = Tables::new();
    let fadt = &tables.bytes()[FADT..][..FADT_BYTES];
    assert_eq!(number(fadt, 112, 4) & (1 << 20 | 1 << 10), 1 << 20 | 1 << 10);
    assert_eq!(number(fadt, 109, 2) & 0b11, 0, "no legacy device, no keyboard controller");
    assert_eq!(&fadt[116..129], [1, 8, 0, 1, 0x02, 0x06, 0, 0, 0, 0, 0, 0, 1]);
    assert_eq!([number(fadt, 248, 8), number(fadt, 260, 8)], [0x600, 0x601]);
    let madt = table(tables.bytes(), AT + MADT as u64);
    assert_eq!(number(madt, 36, 4), 0xfee0_0000);
    assert_eq!(&madt[44..], [0, 8, 0, 0, 1, 0, 0, 0]);
    // Neither a device nor a region: the only name is that of the state in which the machine is off.
    let dsdt = table(tables.bytes(), AT + DSDT as u64);
    assert_eq!(&dsdt[36..], b"\x08_S5_\x12\x07\x04\x0a\x05\0\0\0");
}
