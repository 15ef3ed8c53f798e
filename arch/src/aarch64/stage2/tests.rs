//! Literal words and tables as the manual draws them, and the walker on this format.

// UNSAFETY: names spaces in which nothing runs.
#![expect(unsafe_code)]

use super::Stage2;
use crate::contract::GuestSpace;
use hotmem_paging::addr::{Guest, PhysAddr};
use hotmem_paging::testing::{check_format, fail_each_allocation, storm};
use hotmem_paging::{Attr, Entry, PteFormat};

type Pages4K = Stage2<12>;
type Pages16K = Stage2<14>;
type Pages64K = Stage2<16>;

const ALL: Attr = Attr::WRITE.union(Attr::EXECUTE);

fn leaf<F: PteFormat>(phys: u64, attr: Attr, level: usize) -> u64 {
    F::encode(Entry::Leaf(PhysAddr::new(phys), attr), level)
}

// Arm ARM D8.3: MemAttr 5..2, S2AP 7..6, SH 9..8, AF 10, DBM 51, XN 54..53.
#[test]
fn leaves_are_encoded_as_the_manual_says() {
    let page = leaf::<Pages4K>;
    assert_eq!(page(0x1_2345_6000, ALL, 2), 0x0008_0001_2345_67ff);
    assert_eq!(page(0x1_2345_6000, Attr::EXECUTE, 2), 0x0000_0001_2345_677f);
    assert_eq!(page(0x1_2345_6000, Attr::WRITE, 2), 0x0048_0001_2345_67ff);
    assert_eq!(page(0x1_2345_6000, ALL | Attr::USER, 2), 0x0088_0001_2345_67ff);
    assert_eq!(page(0x0900_0000, ALL | Attr::DEVICE, 2), 0x0008_0000_0900_04c7);
    assert_eq!(page(0x1_4020_0000, ALL, 1), 0x0008_0001_4020_07fd);
    assert_eq!(page(0x1_4000_0000, ALL, 0), 0x0008_0001_4000_07fd);
    assert_eq!(leaf::<Pages16K>(0xffff_ffff_c000, ALL, 1), 0x0008_ffff_ffff_c7ff);
    assert_eq!(leaf::<Pages64K>(0x1_6000_0000, ALL, 0), 0x0008_0001_6000_07fd);
}

// Arm ARM D8.4, dirty state: a leaf with DBM that is read-only may be written, and gets S2AP[1] by the first store.
#[test]
fn a_leaf_that_was_not_written_is_the_same_entry_without_the_right_to_write() {
    assert_eq!(Pages4K::WRITTEN, 0x80);
    let entry = Entry::Leaf(PhysAddr::new(0x1_2345_6000), ALL);
    assert_eq!(Pages4K::decode(0x0008_0001_2345_677f, 2), entry);
    assert_eq!(Pages4K::decode(0x0008_0001_2345_67ff, 2), entry);
    let read_only = Entry::Leaf(PhysAddr::new(0x1_2345_6000), Attr::EXECUTE);
    assert_eq!(Pages4K::decode(0x0000_0001_2345_677f, 2), read_only);
    // VTCR_EL2: HA 21, HD 22 (D17.2.165).
    assert_eq!(Pages4K::MARKS_WRITES, 0x60_0000);
}

#[test]
fn tables_are_encoded_as_the_manual_says() {
    let table = Entry::Table(PhysAddr::new(0xd_ead1_0000));
    assert_eq!(Pages4K::encode(table, 1), 0x0000_000d_ead1_0003);
    assert_eq!(Pages64K::encode(table, 0), 0x0000_000d_ead1_0003);
}

#[test]
fn words_that_the_cpu_ignores_are_absent() {
    // The valid bit clear, a block at the last level.
    assert_eq!(Pages4K::decode(0x0000_0001_4000_07fe, 2), Entry::Absent);
    assert_eq!(Pages4K::decode(0x0000_0001_4000_07fd, 2), Entry::Absent);
}

// Arm ARM D17.2.165: RES1 31, PS 18..16, TG0 15..14, SH0 13..12, ORGN0 11..10, IRGN0 9..8, SL0 7..6, T0SZ 5..0.
#[test]
fn the_control_register_describes_the_levels() {
    assert_eq!(Pages4K::CONTROL, 0x8000_355c);
    assert_eq!(Pages16K::CONTROL, 0x8000_b55c);
    assert_eq!(Pages64K::CONTROL, 0x8000_755c);
}

// Arm ARM D17.2.166: VMID 63..48, BADDR 47..1, CnP 0.
#[test]
fn the_base_register_names_the_root_and_the_guest() {
    // SAFETY: nothing runs in the space.
    let space = |tag| unsafe { GuestSpace::new(PhysAddr::new(0xd_ead1_0000), tag) };
    assert_eq!(Pages4K::base(&space(1)), 0x0001_000d_ead1_0000);
    assert_eq!(Pages64K::base(&space(15)), 0x000f_000d_ead1_0000);
}

#[test]
fn the_formats_keep_the_invariants() {
    check_format::<Pages4K>(3);
    check_format::<Pages16K>(4);
    check_format::<Pages64K>(5);
}

#[test]
fn random_mappings_of_guest_addresses_agree_with_the_model() {
    for seed in 0..3 {
        storm::<Pages4K, Guest>(seed, 120);
        storm::<Pages64K, Guest>(seed, 60);
    }
    storm::<Pages16K, Guest>(7, 60);
    fail_each_allocation::<Pages4K, Guest>(1, 60);
}
