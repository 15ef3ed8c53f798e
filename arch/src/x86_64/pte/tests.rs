//! Literal words and tables as the manuals draw them, and the walker on this format.

extern crate std;

use super::X86Pte4;
use crate::common::pte_rig::{ROOT, Rig, storms};
use hotmem_paging::addr::{PhysAddr, VirtAddr, VirtRange};
use hotmem_paging::testing::check_format;
use hotmem_paging::{Attr, Entry, Gather, MapError, Mapper, PteFormat, UnmapError};
use std::vec::Vec;

fn leaf(phys: u64, attr: Attr, level: usize) -> u64 {
    X86Pte4::encode(Entry::Leaf(PhysAddr::new(phys), attr), level)
}

// SDM vol. 3A, table 4-20 (4 KiB), 4-18 (2 MiB), 4-16 (1 GiB): A and D are bits 5 and 6, PS bit 7.
#[test]
fn leaves_are_encoded_as_the_manual_says() {
    assert_eq!(leaf(0x1_2345_6000, Attr::empty(), 3), 0x8000_0001_2345_6061);
    assert_eq!(leaf(0x1_2345_6000, Attr::WRITE, 3), 0x8000_0001_2345_6063);
    assert_eq!(leaf(0x1_2345_6000, Attr::EXECUTE, 3), 0x0000_0001_2345_6061);
    assert_eq!(leaf(0x1_2345_6000, Attr::WRITE | Attr::USER, 3), 0x8000_0001_2345_6067);
    assert_eq!(leaf(0xfee0_0000, Attr::WRITE | Attr::DEVICE, 3), 0x8000_0000_fee0_007b);
    assert_eq!(leaf(0x1_4020_0000, Attr::WRITE, 2), 0x8000_0001_4020_00e3);
    assert_eq!(leaf(0x1_4000_0000, Attr::WRITE, 1), 0x8000_0001_4000_00e3);
    assert_eq!(leaf(0xf_ffff_ffff_f000, Attr::empty(), 3), 0x800f_ffff_ffff_f061);
}

// SDM vol. 3A, table 4-15: a table's entry allows the accesses that its leaves then limit.
#[test]
fn tables_are_encoded_as_the_manual_says() {
    for level in 0..3 {
        let word = X86Pte4::encode(Entry::Table(PhysAddr::new(0xd_ead0_b000)), level);
        assert_eq!(word, 0x0000_000d_ead0_b027);
    }
}

#[test]
fn entries_that_other_software_wrote_are_decoded() {
    let decode = X86Pte4::decode;
    // Not present: all other bits are free for software.
    assert_eq!(decode(0xffff_ffff_ffff_fffe, 3), Entry::Absent);
    // A 2 MiB leaf with PAT (bit 12), global, and not accessed yet.
    let large = Entry::Leaf(PhysAddr::new(0x4020_0000), Attr::WRITE | Attr::EXECUTE);
    assert_eq!(decode(0x4020_1183, 2), large);
    // In a 4 KiB leaf bit 7 is PAT; in the root it is reserved: not a leaf.
    let small = Entry::Leaf(PhysAddr::new(0x4020_1000), Attr::WRITE | Attr::EXECUTE);
    assert_eq!(decode(0x4020_1083, 3), small);
    assert_eq!(decode(0x4020_1003, 0), Entry::Table(PhysAddr::new(0x4020_1000)));
    // Write-through alone is still memory.
    let cached = Entry::Leaf(PhysAddr::new(0x1000), Attr::EXECUTE);
    assert_eq!(decode(0x1009, 3), cached);
}

#[test]
fn the_format_keeps_the_invariants() {
    check_format::<X86Pte4>(3);
}

// A linear map of one block at 4 GiB: PML4 256 -> PDPT 4 -> PD 0..64 (AMD APM vol. 2 5.3.3).
#[test]
fn a_linear_map_has_these_tables() {
    let rig = Rig::<X86Pte4>::new();
    rig.map(0xffff_8001_0000_0000, 0x1_0000_0000, 128 << 20, Attr::WRITE).unwrap();

    assert_eq!(rig.table(ROOT, 512), [(256, 0x10_0027)]);
    assert_eq!(rig.table(0x10_0000, 512), [(4, 0x10_1027)]);
    let leaves = rig.table(0x10_1000, 512);
    assert_eq!(leaves.len(), 64);
    assert_eq!(leaves[0], (0, 0x8000_0001_0000_00e3));
    assert_eq!(leaves[1], (1, 0x8000_0001_0020_00e3));
    assert_eq!(leaves[63], (63, 0x8000_0001_07e0_00e3));
}

// Text at -2 GiB: PML4 511 -> PDPT 510 -> PD 0 -> PT 256..258.
#[test]
fn kernel_text_has_these_tables() {
    let rig = Rig::<X86Pte4>::new();
    rig.map(0xffff_ffff_8010_0000, 0x10_0000, 0x2000, Attr::EXECUTE).unwrap();

    assert_eq!(rig.table(ROOT, 512), [(511, 0x10_0027)]);
    assert_eq!(rig.table(0x10_0000, 512), [(510, 0x10_1027)]);
    assert_eq!(rig.table(0x10_1000, 512), [(0, 0x10_2027)]);
    assert_eq!(rig.table(0x10_2000, 512), [(256, 0x10_0061), (257, 0x10_1061)]);
}

#[test]
fn leaf_sizes_follow_the_alignment() {
    let rig = Rig::<X86Pte4>::new();
    let start = (1 << 30) - (2 << 20) - 4096;
    rig.map(start, start, (1 << 30) + (2 << 20) + 4096, Attr::WRITE).unwrap();

    let mut found = Vec::new();
    let all = VirtRange::new(VirtAddr::new(0), u64::MAX).unwrap();
    rig.tables.visit(all, &mut |leaf| found.push((leaf.virt.get(), leaf.len)));
    assert_eq!(found, [(start, 4096), ((1 << 30) - (2 << 20), 2 << 20), (1 << 30, 1 << 30)]);
}

#[test]
fn the_canonical_hole_cannot_be_mapped() {
    let rig = Rig::<X86Pte4>::new();
    let refused = |virt: u64, len: u64| {
        let error = rig.map(virt, 0, len, Attr::WRITE).unwrap_err();
        matches!(error, MapError::BeyondFormat { .. })
    };
    assert!(refused(0x0000_8000_0000_0000, 0x1000));
    assert!(refused(0xffff_7fff_ffff_f000, 0x1000));
    assert!(refused(0x0000_7fff_ffff_f000, 0x2000));
    assert!(refused(0x0000_7fff_ffff_f000, 0xffff_0000_0000_2000));
    assert!(rig.map(0, 1 << 52, 0x1000, Attr::WRITE).is_err());
    assert_eq!(rig.table(ROOT, 512), []);

    rig.map(0x0000_7fff_ffff_f000, 0, 0x1000, Attr::WRITE).unwrap();
    rig.map(0xffff_ffff_ffff_f000, 0x1000, 0x1000, Attr::WRITE).unwrap();
    assert_eq!(rig.mmu.translate_through(VirtAddr::new(u64::MAX)).get(), 0x1fff);
    assert_eq!(rig.tables.translate(VirtAddr::new(0x0000_ffff_ffff_f000)), None);
}

#[test]
fn an_unmapping_across_the_canonical_hole_is_refused() {
    let rig = Rig::<X86Pte4>::new();
    rig.map(0x0000_7fff_ffff_f000, 0, 0x1000, Attr::WRITE).unwrap();
    let start = VirtAddr::new(0x0000_7fff_ffff_f000);
    let range = VirtRange::new(start, 0xffff_0000_0000_2000).unwrap();
    let mut gather = Gather::new(rig.tables.tlb(), &rig.frames);
    let result = rig.tables.unmap(range, &mut gather);
    gather.flush().unwrap();
    assert_eq!(result, Err(UnmapError::BeyondFormat { range }));
    assert!(rig.tables.translate(start).is_some());
}

#[test]
fn both_halves_are_visited() {
    let rig = Rig::<X86Pte4>::new();
    for virt in [0x4000_0000, 0xffff_8000_4000_0000] {
        rig.map(virt, 0x20_0000, 0x1000, Attr::WRITE).unwrap();
        let range = VirtRange::new(VirtAddr::new(virt), 0x1000).unwrap();
        let mut seen = Vec::new();
        rig.tables.visit(range, &mut |leaf| seen.push(leaf.virt.get()));
        assert_eq!(seen, [virt]);
    }
}

#[test]
fn a_gigabyte_is_mapped_and_unmapped_with_its_table() {
    let rig = Rig::<X86Pte4>::new();
    rig.map(0xffff_8000_0000_0000, 0, 4 << 20, Attr::WRITE).unwrap();
    let before = rig.frames.used();
    for round in 0..3 {
        let start = 0xffff_8001_0000_0000 + (round << 30);
        let range = VirtRange::new(VirtAddr::new(start), 1 << 30).unwrap();
        // One byte off in the physical address, and only 2 MiB leaves are aligned.
        rig.map(start, (4 << 30) + (2 << 20), 1 << 30, Attr::WRITE).unwrap();
        assert_eq!(rig.frames.used().len(), before.len() + 1);
        rig.mmu.speculate();

        let mut gather = Gather::new(rig.tables.tlb(), &rig.frames);
        rig.tables.unmap(range, &mut gather).unwrap();
        gather.flush().unwrap();
        rig.mmu.assert_coherent();
        assert_eq!(rig.frames.used(), before);
    }
}

#[test]
fn storms_agree_with_the_model() {
    storms::<X86Pte4>(8);
}
