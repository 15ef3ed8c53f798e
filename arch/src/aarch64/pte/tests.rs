//! Literal words and tables as the manual draws them, and the walker on this format.

use super::Stage1;
use crate::common::pte_rig::{ROOT, Rig, storms};
use hotmem_paging::addr::{PhysAddr, VirtAddr, VirtRange};
use hotmem_paging::testing::check_format;
use hotmem_paging::{Attr, Entry, Gather, MapError, Mapper, PteFormat};

type Pages4K = Stage1<12>;
type Pages16K = Stage1<14>;
type Pages64K = Stage1<16>;

/// The linear map's base.
const LINEAR: u64 = 0xffff_0000_0000_0000;

fn leaf<F: PteFormat>(phys: u64, attr: Attr, level: usize) -> u64 {
    F::encode(Entry::Leaf(PhysAddr::new(phys), attr), level)
}

// Arm ARM D8.3.1 and D8.3.2: AttrIndx 4..2, AP 7..6, SH 9..8, AF 10, PXN 53, UXN 54.
#[test]
fn leaves_are_encoded_as_the_manual_says() {
    let page = leaf::<Pages4K>;
    assert_eq!(page(0x1_2345_6000, Attr::empty(), 3), 0x0060_0001_2345_6783);
    assert_eq!(page(0x1_2345_6000, Attr::WRITE, 3), 0x0060_0001_2345_6703);
    assert_eq!(page(0x1_2345_6000, Attr::EXECUTE, 3), 0x0040_0001_2345_6783);
    assert_eq!(page(0x1_2345_6000, Attr::WRITE | Attr::USER, 3), 0x0060_0001_2345_6743);
    assert_eq!(page(0x1_2345_6000, Attr::EXECUTE | Attr::USER, 3), 0x0020_0001_2345_67c3);
    assert_eq!(page(0x0900_0000, Attr::WRITE | Attr::DEVICE, 3), 0x0060_0000_0900_0707);
    assert_eq!(page(0x1_4020_0000, Attr::WRITE, 2), 0x0060_0001_4020_0701);
    assert_eq!(page(0x1_4000_0000, Attr::WRITE, 1), 0x0060_0001_4000_0701);

    assert_eq!(leaf::<Pages16K>(0xffff_ffff_c000, Attr::WRITE, 3), 0x0060_ffff_ffff_c703);
    assert_eq!(leaf::<Pages16K>(0x1_4200_0000, Attr::WRITE, 2), 0x0060_0001_4200_0701);
    assert_eq!(leaf::<Pages64K>(0xffff_ffff_0000, Attr::WRITE, 2), 0x0060_ffff_ffff_0703);
    assert_eq!(leaf::<Pages64K>(0x1_6000_0000, Attr::WRITE, 1), 0x0060_0001_6000_0701);
}

#[test]
fn tables_are_encoded_as_the_manual_says() {
    let table = Entry::Table(PhysAddr::new(0xd_ead1_0000));
    assert_eq!(Pages4K::encode(table, 2), 0x0000_000d_ead1_0003);
    assert_eq!(Pages16K::encode(table, 0), 0x0000_000d_ead1_0003);
    assert_eq!(Pages64K::encode(table, 1), 0x0000_000d_ead1_0003);
}

#[test]
fn words_that_the_cpu_ignores_are_absent() {
    // The valid bit clear, a block at the last level, a block at a level where the granule has no blocks.
    assert_eq!(Pages4K::decode(0x0060_0001_4000_0702, 3), Entry::Absent);
    assert_eq!(Pages4K::decode(0x0060_0001_4000_0701, 3), Entry::Absent);
    assert_eq!(Pages4K::decode(0x0060_0001_4000_0701, 0), Entry::Absent);
    assert_eq!(Pages16K::decode(0x0060_0010_0000_0701, 1), Entry::Absent);
    assert_eq!(Pages64K::decode(0x0060_0400_0000_0701, 0), Entry::Absent);
}

#[test]
fn the_formats_keep_the_invariants() {
    check_format::<Pages4K>(3);
    check_format::<Pages16K>(4);
    check_format::<Pages64K>(5);
}

// A block of 128 MiB at 4 GiB: L0 0 -> L1 4 -> L2 0..64 of 2 MiB.
#[test]
fn a_linear_map_of_4k_pages_has_these_tables() {
    let rig = Rig::<Pages4K>::new();
    rig.map(LINEAR + (4 << 30), 4 << 30, 128 << 20, Attr::WRITE).unwrap();
    assert_eq!(rig.table(ROOT, 512), [(0, 0x10_0003)]);
    assert_eq!(rig.table(0x10_0000, 512), [(4, 0x10_1003)]);
    let leaves = rig.table(0x10_1000, 512);
    assert_eq!(leaves.len(), 64);
    assert_eq!(leaves[0], (0, 0x0060_0001_0000_0701));
    assert_eq!(leaves[63], (63, 0x0060_0001_07e0_0701));
}

// The same: L0 0 -> L1 0 -> L2 128..132 of 32 MiB.
#[test]
fn a_linear_map_of_16k_pages_has_these_tables() {
    let rig = Rig::<Pages16K>::new();
    rig.map(LINEAR + (4 << 30), 4 << 30, 128 << 20, Attr::WRITE).unwrap();
    assert_eq!(rig.table(ROOT, 2), [(0, 0x10_0003)]);
    assert_eq!(rig.table(0x10_0000, 2048), [(0, 0x10_4003)]);
    let leaves = [
        (128, 0x0060_0001_0000_0701),
        (129, 0x0060_0001_0200_0701),
        (130, 0x0060_0001_0400_0701),
        (131, 0x0060_0001_0600_0701),
    ];
    assert_eq!(rig.table(0x10_4000, 2048), leaves);
}

// A block of 512 MiB at 4 GiB: L1 0 -> L2 8, one leaf. And one page: L3.
#[test]
fn a_linear_map_of_64k_pages_has_these_tables() {
    let rig = Rig::<Pages64K>::new();
    rig.map(LINEAR + (4 << 30), 4 << 30, 512 << 20, Attr::WRITE).unwrap();
    rig.map(LINEAR + 0x1_0000, 0x1_0000, 0x1_0000, Attr::empty()).unwrap();
    assert_eq!(rig.table(ROOT, 64), [(0, 0x10_0003)]);
    let second = [(0, 0x11_0003), (8, 0x0060_0001_0000_0701)];
    assert_eq!(rig.table(0x10_0000, 8192), second);
    assert_eq!(rig.table(0x11_0000, 8192), [(1, 0x0060_0000_0001_0783)]);
}

#[test]
fn only_the_upper_range_can_be_mapped() {
    let rig = Rig::<Pages4K>::new();
    for virt in [0, 0x0000_ffff_ffff_f000, 0xfffe_ffff_ffff_f000] {
        let refused = rig.map(virt, 0, 0x1000, Attr::WRITE);
        assert!(matches!(refused, Err(MapError::BeyondFormat { .. })), "{virt:#x}");
    }
    assert!(rig.map(LINEAR, 1 << 48, 0x1000, Attr::WRITE).is_err());
    rig.map(LINEAR, 0, 0x1000, Attr::WRITE).unwrap();
    rig.map(0xffff_ffff_ffff_f000, 0x1000, 0x1000, Attr::WRITE).unwrap();
    assert_eq!(rig.mmu.translate_through(VirtAddr::new(u64::MAX)).get(), 0x1fff);
}

/// Mapping over a leaf, or cutting one, is refused: a valid entry is never replaced by another.
#[test]
fn a_live_leaf_is_never_replaced() {
    let rig = Rig::<Pages64K>::new();
    rig.map(LINEAR, 0, 512 << 20, Attr::WRITE).unwrap();
    let over = rig.map(LINEAR + 0x1_0000, 0x1_0000, 0x1_0000, Attr::empty());
    assert_eq!(over, Err(MapError::AlreadyMapped { at: VirtAddr::new(LINEAR + 0x1_0000) }));
    let part = VirtRange::new(VirtAddr::new(LINEAR), 0x1_0000).unwrap();
    let mut gather = Gather::new(rig.tables.tlb(), &rig.frames);
    let cut = rig.tables.unmap(part, &mut gather);
    gather.flush().unwrap();
    assert!(cut.is_err());
}

#[test]
fn storms_agree_with_the_model_for_each_granule() {
    storms::<Pages4K>(4);
    storms::<Pages16K>(4);
    storms::<Pages64K>(4);
}
