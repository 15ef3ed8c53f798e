//! Literal words and tables as the manual draws them, and the walker on this format.

extern crate std;

use super::{Radix, process_entry};
use crate::common::pte_rig::{ROOT, Rig, storms};
use hotmem_paging::addr::PhysAddr;
use hotmem_paging::testing::check_format;
use hotmem_paging::{Attr, Entry, MapError, PteFormat};
use std::vec::Vec;

type Pages4K = Radix<12>;
type Pages64K = Radix<16>;

const LINEAR: u64 = 0xc000_0000_0000_0000;

/// The entries of a table of `entries` that are not zero, as the CPU reads them.
fn table<F: PteFormat>(rig: &Rig<F>, at: u64, entries: u64) -> Vec<(u64, u64)> {
    rig.table(at, entries).into_iter().map(|(index, word)| (index, u64::from_be(word))).collect()
}

/// The bytes of an entry, in the order of their addresses.
fn bytes<F: PteFormat>(entry: Entry, level: usize) -> [u8; 8] {
    F::encode(entry, level).to_ne_bytes()
}

fn leaf(phys: u64, attr: Attr) -> Entry {
    Entry::Leaf(PhysAddr::new(phys), attr)
}

// Book III, 5.7.10.2: V 63, L 62, R 8, C 7, ATT 5..4, EAA 3..0.
#[test]
fn leaves_are_big_endian_and_encoded_as_the_manual_says() {
    let data = leaf(0x1_4020_0000, Attr::WRITE);
    assert_eq!(bytes::<Pages4K>(data, 2), [0xc0, 0, 0, 1, 0x40, 0x20, 0x01, 0x8e]);
    let read = leaf(0x1_2345_6000, Attr::empty());
    assert_eq!(bytes::<Pages4K>(read, 3), [0xc0, 0, 0, 1, 0x23, 0x45, 0x61, 0x8c]);
    let text = leaf(0x1_2345_6000, Attr::EXECUTE);
    assert_eq!(bytes::<Pages4K>(text, 3), [0xc0, 0, 0, 1, 0x23, 0x45, 0x61, 0x8d]);
    let user = leaf(0x1_2345_0000, Attr::WRITE | Attr::USER);
    assert_eq!(bytes::<Pages64K>(user, 3), [0xc0, 0, 0, 1, 0x23, 0x45, 0x01, 0x86]);
    let device = leaf(0x1_0000_0000, Attr::WRITE | Attr::DEVICE);
    assert_eq!(bytes::<Pages64K>(device, 3), [0xc0, 0, 0, 1, 0, 0, 0x01, 0xae]);
}

// A page table entry of each level: 1 GiB, 2 MiB, and a base page of either size.
#[test]
fn leaves_of_every_size_keep_their_address_out_of_the_flags() {
    fn large<F: PteFormat>() {
        let gib = leaf(0x80_4000_0000, Attr::WRITE);
        assert_eq!(bytes::<F>(gib, 1), [0xc0, 0, 0, 0x80, 0x40, 0, 0x01, 0x8e]);
        let last = leaf(0xff_ffff_c000_0000, Attr::empty());
        assert_eq!(bytes::<F>(last, 1), [0xc0, 0xff, 0xff, 0xff, 0xc0, 0, 0x01, 0x8c]);
        let text = leaf(0x1_4020_0000, Attr::EXECUTE);
        assert_eq!(bytes::<F>(text, 2), [0xc0, 0, 0, 1, 0x40, 0x20, 0x01, 0x8d]);
        let device = leaf(0x1_4020_0000, Attr::DEVICE);
        assert_eq!(bytes::<F>(device, 2), [0xc0, 0, 0, 1, 0x40, 0x20, 0x01, 0xac]);
        for (entry, level) in [(gib, 1), (last, 1), (text, 2), (device, 2)] {
            assert_eq!(F::decode(F::encode(entry, level), level), entry);
        }
    }
    large::<Pages4K>();
    large::<Pages64K>();
    let small = leaf(0xff_ffff_ffff_f000, Attr::WRITE);
    assert_eq!(bytes::<Pages4K>(small, 3), [0xc0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xf1, 0x8e]);
    let page = leaf(0xff_ffff_ffff_0000, Attr::EXECUTE);
    assert_eq!(bytes::<Pages64K>(page, 3), [0xc0, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0x8d]);
}

// Book III, 5.7.10.1: the low five bits (NLS) are log2 of the entries of the next table: the levels below a root of
// 13 bits have 9, 9 and 9 bits with 4 KiB pages, 9, 9 and 5 with 64 KiB.
#[test]
fn directories_name_the_size_of_the_next_table() {
    let table = Entry::Table(PhysAddr::new(0xd_ead1_1000));
    let directory = |next| [0x80, 0, 0, 0x0d, 0xea, 0xd1, 0x10, next];
    assert_eq!([0, 1, 2].map(|level| bytes::<Pages4K>(table, level)), [9, 9, 9].map(directory));
    assert_eq!([0, 1, 2].map(|level| bytes::<Pages64K>(table, level)), [9, 9, 5].map(directory));
    // Tables of 256 bytes lie side by side.
    let small = Entry::Table(PhysAddr::new(0xd_ead1_1100));
    assert_eq!(bytes::<Pages64K>(small, 2), [0x80, 0, 0, 0x0d, 0xea, 0xd1, 0x11, 5]);
    assert_eq!(Pages64K::decode(Pages64K::encode(small, 2), 2), small);
}

// Book III, 5.7.6.1, figure 21.
#[test]
fn the_process_table_names_root_and_sizes() {
    let entry = process_entry(PhysAddr::new(0x1fab_0000));
    assert_eq!(entry.to_ne_bytes(), [0x40, 0, 0, 0, 0x1f, 0xab, 0, 0xad]);
    // The sizes do not overlap a high address.
    let high = process_entry(PhysAddr::new(0x7f_ffff_ffff_0000));
    assert_eq!(high.to_ne_bytes(), [0x40, 0x7f, 0xff, 0xff, 0xff, 0xff, 0, 0xad]);
}

#[test]
fn words_that_the_cpu_does_not_accept_are_absent() {
    // The valid bit clear, a directory at the last level, a leaf in the root.
    for (word, level) in
        [(0x4000_0001_4020_018e_u64, 2), (0x8000_0001_4020_0009, 3), (0xc000_0000_0000_018e, 0)]
    {
        assert_eq!(Pages4K::decode(word.to_be(), level), Entry::Absent);
        assert_eq!(Pages64K::decode(word.to_be(), level), Entry::Absent);
    }
}

#[test]
fn the_formats_keep_the_invariants() {
    check_format::<Pages4K>(3);
    check_format::<Pages64K>(4);
}

// A logical memory block at 1 GiB: root 0 -> 1 -> 128 leaves of 2 MiB.
#[test]
fn a_linear_map_has_these_tables_with_either_page_size() {
    fn check<F: PteFormat>() {
        let rig = Rig::<F>::new();
        rig.map(LINEAR + (1 << 30), 1 << 30, 256 << 20, Attr::WRITE).unwrap();
        assert_eq!(table(&rig, ROOT, 8192), [(0, 0x8000_0000_0010_0009)]);
        assert_eq!(table(&rig, 0x10_0000, 512), [(1, 0x8000_0000_0010_1009)]);
        let leaves = table(&rig, 0x10_1000, 512);
        assert_eq!(leaves.len(), 128);
        assert_eq!(leaves[0], (0, 0xc000_0000_4000_018e));
        assert_eq!(leaves[127], (127, 0xc000_0000_4fe0_018e));
    }
    check::<Pages4K>();
    check::<Pages64K>();
}

#[test]
fn a_page_of_64k_is_in_a_table_of_256_bytes() {
    let rig = Rig::<Pages64K>::new();
    rig.map(LINEAR + 0x3_0000, 0x5_0000, 0x1_0000, Attr::WRITE).unwrap();
    assert_eq!(table(&rig, 0x10_1000, 512), [(0, 0x8000_0000_0010_2005)]);
    assert_eq!(table(&rig, 0x10_2000, 32), [(3, 0xc000_0000_0005_018e)]);
}

#[test]
fn only_quadrant_three_can_be_mapped_and_only_52_bits_of_it() {
    let rig = Rig::<Pages4K>::new();
    for virt in [0, 0x4000_0000_0000_0000, 0x000f_ffff_ffff_f000, 0xc010_0000_0000_0000] {
        let refused = rig.map(virt, 0, 0x1000, Attr::WRITE);
        assert!(matches!(refused, Err(MapError::BeyondFormat { .. })), "{virt:#x}");
    }
    rig.map(LINEAR, 0, 0x1000, Attr::WRITE).unwrap();
    rig.map(0xc00f_ffff_ffff_f000, 0x1000, 0x1000, Attr::WRITE).unwrap();
}

#[test]
fn storms_agree_with_the_model_for_either_page_size() {
    storms::<Pages4K>(4);
    storms::<Pages64K>(4);
}
