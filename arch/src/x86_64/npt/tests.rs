//! Literal words and tables as the manual draws them, and the walker on this format.

use super::Npt;
use crate::common::pte_rig::{ROOT, Rig};
use hotmem_paging::addr::{Guest, PhysAddr};
use hotmem_paging::testing::{check_format, fail_each_allocation, storm};
use hotmem_paging::{Attr, Entry, PteFormat};

fn leaf<F: PteFormat>(phys: u64, attr: Attr, level: usize) -> u64 {
    F::encode(Entry::Leaf(PhysAddr::new(phys), attr), level)
}

const ALL: Attr = Attr::WRITE.union(Attr::EXECUTE);

// AMD APM vol. 2, 5.3.3 (4 KiB), 5.3.4 (2 MiB), 5.3.5 (1 GiB): A and D are bits 5 and 6, PS bit 7.
#[test]
fn leaves_are_encoded_as_the_manual_says() {
    assert_eq!(leaf::<Npt>(0x1_2345_6000, ALL, 3), 0x0000_0001_2345_6067);
    assert_eq!(leaf::<Npt>(0x1_2345_6000, Attr::empty(), 3), 0x8000_0001_2345_6065);
    assert_eq!(leaf::<Npt>(0x1_2345_6000, Attr::WRITE, 3), 0x8000_0001_2345_6067);
    assert_eq!(leaf::<Npt>(0x1_2345_6000, ALL | Attr::USER, 3), 0x0000_0001_2345_6267);
    assert_eq!(leaf::<Npt>(0xfee0_0000, Attr::WRITE | Attr::DEVICE, 3), 0x8000_0000_fee0_007f);
    assert_eq!(leaf::<Npt>(0x1_4020_0000, ALL, 2), 0x0000_0001_4020_00e7);
    assert_eq!(leaf::<Npt>(0x1_4000_0000, ALL, 1), 0x0000_0001_4000_00e7);
    assert_eq!(leaf::<Npt>(0xf_ffff_ffff_f000, ALL, 3), 0x000f_ffff_ffff_f067);
}

// AMD APM vol. 2, 5.4.2: D is set by the first store, in the leaf.
#[test]
fn a_leaf_that_was_not_written_is_the_same_entry_without_the_dirty_bit() {
    assert_eq!(Npt::WRITTEN, 0x40);
    let entry = Entry::Leaf(PhysAddr::new(0x1_2345_6000), ALL | Attr::USER);
    assert_eq!(Npt::decode(0x0000_0001_2345_6227, 3), entry);
    assert_eq!(Npt::decode(0x0000_0001_2345_6267, 3), entry);
    let large = Entry::Leaf(PhysAddr::new(0x1_4020_0000), ALL);
    assert_eq!(Npt::decode(0x0000_0001_4020_00a7, 2), large);
}

// Every access of a guest counts as one of user code, so each level must allow those (15.25.5).
#[test]
fn tables_are_encoded_as_the_manual_says() {
    for level in 0..3 {
        let entry = Entry::Table(PhysAddr::new(0xd_ead0_b000));
        assert_eq!(Npt::encode(entry, level), 0x0000_000d_ead0_b027);
    }
}

#[test]
fn the_format_keeps_the_invariants() {
    check_format::<Npt>(5);
}

// Two pages at 1 GiB: root 0 -> 1 -> 0 -> 0 and 1 (APM vol. 2 5.3.3).
#[test]
fn pages_of_a_guest_have_these_tables() {
    let rig = Rig::<Npt>::new();
    rig.map(0x4000_0000, 0x1_0000_0000, 0x2000, ALL).unwrap();

    assert_eq!(rig.table(ROOT, 512), [(0, 0x10_0027)]);
    assert_eq!(rig.table(0x10_0000, 512), [(1, 0x10_1027)]);
    assert_eq!(rig.table(0x10_1000, 512), [(0, 0x10_2027)]);
    assert_eq!(rig.table(0x10_2000, 512), [(0, 0x1_0000_0067), (1, 0x1_0000_1067)]);
}

#[test]
fn addresses_are_not_sign_extended() {
    let rig = Rig::<Npt>::new();
    rig.map(0xffff_ffff_f000, 0x1000, 0x1000, ALL).unwrap();
    assert_eq!(rig.table(ROOT, 512), [(511, 0x10_0027)]);
    assert!(rig.map(0xffff_ffff_ffff_f000, 0x1000, 0x1000, ALL).is_err());
    assert!(rig.map(1 << 48, 0x1000, 0x1000, ALL).is_err());
}

#[test]
fn storms_agree_with_the_model() {
    for seed in 0..8 {
        storm::<Npt, Guest>(seed, 120);
    }
    fail_each_allocation::<Npt, Guest>(1, 60);
}
