//! Literal words and tables as the manual draws them, and the walker on this format.

extern crate std;

use super::{GUEST_BITS, PARTITIONS, Partition, partition_entry};
use crate::common::pte_rig::{ROOT, Rig};
use crate::ppc64::pte::Radix;
use hotmem_paging::addr::{Guest, PhysAddr};
use hotmem_paging::testing::{check_format, fail_each_allocation, storm};
use hotmem_paging::{Attr, Entry, MapError, PteFormat};
use std::vec::Vec;

type Pages4K = Partition<12>;
type Pages64K = Partition<16>;

const RAM: Attr = Attr::WRITE.union(Attr::EXECUTE).union(Attr::USER);

/// The bytes of a leaf, in the order of their addresses.
fn leaf<F: PteFormat>(phys: u64, attr: Attr, level: usize) -> [u8; 8] {
    F::encode(Entry::Leaf(PhysAddr::new(phys), attr), level).to_ne_bytes()
}

// Book III, 5.7.10.2: V 63, L 62, R 8, C 7, ATT 5..4, EAA 3..0.
#[test]
fn leaves_of_a_guests_memory_are_referenced_and_changed_from_the_start() {
    assert_eq!(leaf::<Pages4K>(0x1_2345_6000, RAM, 3), [0xc0, 0, 0, 1, 0x23, 0x45, 0x61, 0x87]);
    assert_eq!(leaf::<Pages64K>(0x1_2345_0000, RAM, 3), [0xc0, 0, 0, 1, 0x23, 0x45, 0x01, 0x87]);
    assert_eq!(leaf::<Pages64K>(0x1_4020_0000, RAM, 2), [0xc0, 0, 0, 1, 0x40, 0x20, 0x01, 0x87]);
    assert_eq!(leaf::<Pages64K>(0x80_4000_0000, RAM, 1), [0xc0, 0, 0, 0x80, 0x40, 0, 0x01, 0x87]);
    let read = Attr::USER;
    assert_eq!(leaf::<Pages64K>(0x1_2345_0000, read, 3), [0xc0, 0, 0, 1, 0x23, 0x45, 0x01, 0x84]);
    let device = Attr::USER | Attr::WRITE | Attr::DEVICE;
    assert_eq!(leaf::<Pages64K>(0x1_2345_0000, device, 3), [0xc0, 0, 0, 1, 0x23, 0x45, 0x01, 0xa6]);
}

#[test]
fn a_leaf_without_user_differs_in_a_bit_that_the_cpu_does_not_read() {
    let without = leaf::<Pages64K>(0x1_2345_0000, Attr::WRITE, 3);
    assert_eq!(without, [0xc0, 0, 0, 1, 0x23, 0x45, 0x03, 0x86]);
    // The bit for privileged accesses has no meaning.
    let privileged = 0xc000_0001_2345_018e_u64.to_be();
    let entry = Entry::Leaf(PhysAddr::new(0x1_2345_0000), Attr::WRITE | Attr::USER);
    assert_eq!(Pages64K::decode(privileged, 3), entry);
}

#[test]
fn directories_are_those_of_the_kernels_own_tables() {
    let table = Entry::Table(PhysAddr::new(0xd_ead1_1100));
    for level in 0..3 {
        assert_eq!(Pages4K::encode(table, level), Radix::<12>::encode(table, level));
        assert_eq!(Pages64K::encode(table, level), Radix::<16>::encode(table, level));
    }
    assert_eq!(Pages64K::encode(table, 2).to_ne_bytes(), [0x80, 0, 0, 0x0d, 0xea, 0xd1, 0x11, 5]);
}

// Book III, 5.7.6.2, figure 22: HR 63, RTS 62..61 and 7..5, RPDB, RPDS 4..0.
#[test]
fn the_partition_table_names_root_and_sizes() {
    let entry = partition_entry(PhysAddr::new(0x1fab_0000));
    assert_eq!(entry.to_ne_bytes(), [0xc0, 0, 0, 0, 0x1f, 0xab, 0, 0xad]);
    assert_eq!(PARTITIONS, 256);
}

#[test]
fn the_formats_keep_the_invariants() {
    check_format::<Pages4K>(5);
    check_format::<Pages64K>(6);
}

#[test]
fn guest_addresses_have_52_bits_and_no_quadrant() {
    let rig = Rig::<Pages4K>::new();
    for refused in [0x0010_0000_0000_0000, 0xc000_0000_0000_0000] {
        let error = rig.map(refused, 0, 0x1000, RAM);
        assert!(matches!(error, Err(MapError::BeyondFormat { .. })), "{refused:#x}");
    }
    rig.map(0, 0, 0x1000, RAM).unwrap();
    rig.map(0x000f_ffff_ffff_f000, 0x1000, 0x1000, RAM).unwrap();
    assert_eq!(1 << GUEST_BITS, 0x0010_0000_0000_0000_u64);
}

// Guest memory of 192 KiB at 0: root 0 -> 0 -> 0 -> three leaves of 64 KiB.
#[test]
fn a_guests_pages_of_64k_are_in_a_table_of_256_bytes() {
    fn table(rig: &Rig<Pages64K>, at: u64, entries: u64) -> Vec<(u64, u64)> {
        let words = rig.table(at, entries).into_iter();
        words.map(|(index, word)| (index, u64::from_be(word))).collect()
    }
    let rig = Rig::<Pages64K>::new();
    rig.map(0, 0x5_0000, 0x3_0000, RAM).unwrap();
    assert_eq!(table(&rig, ROOT, 8192), [(0, 0x8000_0000_0010_0009)]);
    assert_eq!(table(&rig, 0x10_0000, 512), [(0, 0x8000_0000_0010_1009)]);
    assert_eq!(table(&rig, 0x10_1000, 512), [(0, 0x8000_0000_0010_2005)]);
    let leaves = [5, 6, 7].map(|frame| 0xc000_0000_0000_0187 | frame << 16);
    assert_eq!(table(&rig, 0x10_2000, 32), [(0, leaves[0]), (1, leaves[1]), (2, leaves[2])]);
}

#[test]
fn storms_agree_with_the_model_for_either_page_size() {
    for seed in 0..4 {
        storm::<Pages4K, Guest>(seed, 120);
        storm::<Pages64K, Guest>(seed, 120);
    }
    fail_each_allocation::<Pages4K, Guest>(1, 60);
    fail_each_allocation::<Pages64K, Guest>(1, 60);
}
