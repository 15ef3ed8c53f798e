//! A builder of trees, and what is read of them.

extern crate std;

use super::*;
use crate::info::Text;
use std::vec::Vec;

/// Builds a flattened tree (Devicetree Specification 0.4, chapter 5).
#[derive(Default)]
pub(crate) struct Builder {
    structure: Vec<u8>,
    strings: Vec<u8>,
    reserved: Vec<u8>,
}

impl Builder {
    fn word(&mut self, word: u32) {
        self.structure.extend(word.to_be_bytes());
    }

    fn pad(&mut self) {
        self.structure.resize(self.structure.len().next_multiple_of(4), 0);
    }

    pub(crate) fn begin(&mut self, name: &str) -> &mut Self {
        self.word(1);
        self.structure.extend(name.bytes().chain([0]));
        self.pad();
        self
    }

    pub(crate) fn property(&mut self, name: &str, value: &[u8]) -> &mut Self {
        let at = self.strings.len() as u32;
        self.strings.extend(name.bytes().chain([0]));
        self.word(3);
        self.word(value.len() as u32);
        self.word(at);
        self.structure.extend(value);
        self.pad();
        self
    }

    pub(crate) fn cells(&mut self, name: &str, cells: &[u32]) -> &mut Self {
        let bytes: Vec<u8> = cells.iter().flat_map(|cell| cell.to_be_bytes()).collect();
        self.property(name, &bytes)
    }

    pub(crate) fn end(&mut self) -> &mut Self {
        self.word(2);
        self
    }

    pub(crate) fn reserve(&mut self, start: u64, size: u64) -> &mut Self {
        self.reserved.extend(start.to_be_bytes());
        self.reserved.extend(size.to_be_bytes());
        self
    }

    pub(crate) fn finish(&mut self) -> Vec<u8> {
        self.word(9);
        self.reserve(0, 0);
        let structure = 40 + self.reserved.len();
        let strings = structure + self.structure.len();
        let total = strings + self.strings.len();
        let header = [
            MAGIC,
            total as u32,
            structure as u32,
            strings as u32,
            40,
            17,
            16,
            0,
            self.strings.len() as u32,
            self.structure.len() as u32,
        ];
        let mut bytes: Vec<u8> = header.iter().flat_map(|word| word.to_be_bytes()).collect();
        bytes.extend(&self.reserved);
        bytes.extend(&self.structure);
        bytes.extend(&self.strings);
        bytes
    }
}

/// A `virt` machine with 512 MiB, half of them on another node.
pub(crate) fn virt() -> Builder {
    let mut tree = virt_open();
    tree.end();
    tree
}

/// The same, to which more nodes can be added.
fn virt_open() -> Builder {
    let mut tree = Builder::default();
    tree.begin("").cells("#address-cells", &[2]).cells("#size-cells", &[2]);
    for base in [0x4000_0000, 0x5000_0000] {
        tree.begin("memory").property("device_type", b"memory\0");
        tree.cells("reg", &[0, base, 0, 0x1000_0000]).end();
    }
    tree.begin("fw-cfg@9020000").property("compatible", b"qemu,fw-cfg-mmio\0");
    tree.cells("reg", &[0, 0x902_0000, 0, 0x18]).end();
    tree
}

/// What is read of a tree for an image elsewhere.
pub(crate) fn read(bytes: &[u8]) -> Result<Machine, HandoffError> {
    super::read(bytes, PhysRange::EMPTY)
}

#[test]
fn memory_nodes_become_ram_and_the_device_is_found() {
    let machine = read(&virt().finish()).unwrap();
    assert_eq!(machine.ram.as_slice(), [between(0x4000_0000, 0x6000_0000)]);
    assert_eq!(machine.fw_cfg, Some(PhysAddr::new(0x902_0000)));
}

#[test]
fn reserved_memory_is_not_ram_nor_is_the_rest_of_its_pages() {
    let machine = read(&virt().reserve(0x4000_1800, 0x1000).finish()).unwrap();
    let ram = [between(0x4000_0000, 0x4000_1000), between(0x4000_3000, 0x6000_0000)];
    assert_eq!(machine.ram.as_slice(), ram);
}

/// [`virt`] with `/reserved-memory` of so many cells, whose children `fill` writes.
fn with_reserved(cells: [u32; 2], fill: impl FnOnce(&mut Builder)) -> Vec<u8> {
    let mut tree = virt_open();
    tree.begin("reserved-memory").cells("#address-cells", &cells[..1]);
    tree.cells("#size-cells", &cells[1..]).property("ranges", &[]);
    fill(&mut tree);
    tree.end().end().finish()
}

#[test]
fn a_reservation_is_where_the_ranges_of_its_parent_put_it() {
    let ram = between(0x4000_0000, 0x6000_0000);
    let without =
        |start, end| Vec::from([between(ram.start().get(), start), between(end, ram.end().get())]);
    // Sixteen bytes of ranges, and where 16 MiB from 0x800_0000 on are then.
    let cases: [(&[u32], _); 6] = [
        (&[0, 0x4000_0000, 0x1000_0000], without(0x4800_0000, 0x4900_0000)),
        // The one half here, the other there.
        (
            &[0x800_0000, 0x4000_0000, 0x80_0000, 0x880_0000, 0x4080_0000, 0x80_0000],
            Vec::from([between(0x4100_0000, 0x6000_0000)]),
        ),
        // An entry that does not cover the child reserves nothing.
        (&[0x1000_0000, 0x4000_0000, 0x1000], Vec::from([ram])),
        (&[0, 0xffff_f000, u32::MAX], Vec::from([ram])),
        // No whole entry.
        (&[0, 0x4000_0000], Vec::from([ram])),
        (&[], Vec::from([ram])),
    ];
    for (ranges, rest) in cases {
        let mut tree = virt_open();
        // The root's addresses have two cells.
        let wide: Vec<u32> = ranges
            .chunks(3)
            .flat_map(|entry| match *entry {
                [child, parent, size] => Vec::from([child, 0, parent, size]),
                _ => entry.to_vec(),
            })
            .collect();
        tree.begin("reserved-memory").cells("#address-cells", &[1]).cells("#size-cells", &[1]);
        tree.cells("ranges", &wide);
        tree.begin("firmware@8000000").cells("reg", &[0x800_0000, 0x100_0000]).end();
        let machine = read(&tree.end().end().finish()).unwrap();
        assert_eq!(machine.ram.as_slice(), rest, "{ranges:x?}");
    }
}

#[test]
fn a_reservation_is_kept_unless_it_is_disabled() {
    for (status, kept) in
        [(&b"okay\0"[..], true), (b"reserved\0", true), (b"fail\0", true), (b"disabled\0", false)]
    {
        let tree = with_reserved([1, 1], |tree| {
            tree.begin("firmware@48000000").cells("reg", &[0x4800_0000, 0x1000]);
            tree.property("status", status).end();
        });
        let ram = read(&tree).unwrap().ram;
        assert_eq!(!ram.overlaps(between(0x4800_0000, 0x4800_1000)), kept, "{status:?}");
    }
}

#[test]
fn children_of_reserved_memory_are_not_ram_whatever_the_form() {
    let rest = [between(0x4000_0000, 0x4800_0000), between(0x4900_0000, 0x6000_0000)];
    for cells in [[1, 1], [2, 2], [2, 1], [1, 2], [3, 2], [3, 3], [4, 4]] {
        let wide = |value, count: u32| (1..count).map(|_| 0).chain([value]);
        let pair = |start, size| wide(start, cells[0]).chain(wide(size, cells[1]));
        // Two entries in one property, neither a whole number of pages; mapped or not.
        let reg: Vec<u32> =
            pair(0x4800_0800, 0x7f_f900).chain(pair(0x4880_0001, 0x7f_ffff)).collect();
        for no_map in [true, false] {
            let tree = with_reserved(cells, |tree| {
                tree.begin("firmware@48000800").cells("reg", &reg);
                if no_map {
                    tree.property("no-map", &[]);
                }
                tree.property("status", b"okay\0").end();
            });
            let machine = read(&tree).unwrap();
            assert_eq!(machine.ram.as_slice(), rest, "{cells:?}");
            assert_eq!(machine.left_out, LeftOut::default());
        }
    }
}

#[test]
fn a_reservation_that_is_disabled_is_ignored_and_one_without_a_place_is_counted() {
    let reg = [0, 0x4800_0000, 0, 0x100_0000];
    let tree = with_reserved([2, 2], |tree| {
        tree.begin("off@48000000").cells("reg", &reg).property("status", b"disabled\0").end();
        tree.begin("pool").cells("size", &[0, 0x100_0000]).property("reusable", &[]).end();
        tree.begin("odd").cells("reg", &reg[..3]).end();
        tree.begin("on@50000000").cells("reg", &[0, 0x5000_0000, 0, 1]).end();
    });
    let machine = read(&tree).unwrap();
    let ram = [between(0x4000_0000, 0x5000_0000), between(0x5000_1000, 0x6000_0000)];
    assert_eq!(machine.ram.as_slice(), ram);
    let first_unplaced = Text::copy(b"pool");
    assert_eq!(machine.left_out, LeftOut { hotpluggable: 0, unplaced: 2, first_unplaced });
    // With invalid counts of cells nothing can be read.
    let tree = with_reserved([0, 9], |tree| {
        tree.begin("firmware").cells("reg", &reg).end();
    });
    assert_eq!(read(&tree).unwrap().left_out.unplaced, 1);
}

#[test]
fn more_reservations_than_a_list_can_hold_cost_ram_and_not_the_boot() {
    // A page of each MiB: 384 pieces of RAM, of which the largest and the lowest stay.
    let starts = (0..384u64).map(|i| 0x4000_0000 + (i << 20));
    let reg: Vec<u32> = starts.clone().flat_map(|start| [0, start as u32, 0, 0x1000]).collect();
    let tree = with_reserved([2, 2], |tree| {
        tree.begin("firmware").cells("reg", &reg).end();
    });
    let mut by_header = virt();
    starts.clone().for_each(|start| {
        by_header.reserve(start, 0x1000);
    });
    for tree in [tree, by_header.finish()] {
        let ram = read(&tree).unwrap().ram;
        for start in starts.clone() {
            assert!(!ram.overlaps(between(start, start + 0x1000)), "{start:#x}");
        }
        assert!(ram.covers(between(0x5800_0000, 0x6000_0000)), "the largest piece");
        assert_eq!(ram.bytes() + ram.dropped() + 384 * 0x1000, 0x2000_0000);
        assert_eq!(ram.as_slice().len(), crate::ranges::CAPACITY);
    }
}

#[test]
fn what_holds_the_image_is_ram_though_firmware_reserves_a_part_of_it() {
    let tree = virt().reserve(0x4010_0000, 0x40_0000).finish();
    let image = between(0x4020_0000, 0x4030_0000);
    let ram = super::read(&tree, image).unwrap().ram;
    let rest = between(0x4050_0000, 0x6000_0000);
    assert_eq!(ram.as_slice(), [between(0x4000_0000, 0x4010_0000), image, rest]);
}

#[test]
fn a_reservation_may_reach_to_the_end_of_the_address_space() {
    let tree = with_reserved([2, 2], |tree| {
        tree.begin("all@50000000").cells("reg", &[0, 0x5000_0000, !0, !0]).end();
    });
    assert_eq!(read(&tree).unwrap().ram.as_slice(), [between(0x4000_0000, 0x5000_0000)]);
}

/// [`virt`] with one more memory node, at 0x8000_0000, that has this property.
fn with_memory(name: &str, value: &[u8]) -> Machine {
    let mut tree = virt_open();
    tree.begin("memory@80000000").property("device_type", b"memory\0").property(name, value);
    let tree = tree.cells("reg", &[0, 0x8000_0000, 0, 0x1000_0000]).end().end().finish();
    read(&tree).unwrap()
}

#[test]
fn only_memory_whose_status_is_okay_is_ram() {
    for (status, is_ram) in [
        (&b"okay\0"[..], true),
        (b"ok\0", true),
        (b"disabled\0", false),
        (b"reserved\0", false),
        (b"fail\0", false),
        (b"fail-ecc\0", false),
        (b"okay", false),
        (b"", false),
    ] {
        let machine = with_memory("status", status);
        let more = between(0x8000_0000, 0x9000_0000);
        assert_eq!(machine.ram.covers(more), is_ram, "{}", status.escape_ascii());
        assert!(is_ram || !machine.ram.overlaps(more));
    }
}

#[test]
fn memory_marked_hotpluggable_is_left_out_unless_all_is_marked() {
    let machine = with_memory("hotpluggable", &[]);
    assert_eq!(machine.ram.as_slice(), [between(0x4000_0000, 0x6000_0000)]);
    assert_eq!(machine.left_out.hotpluggable, 0x1000_0000);
    // If all memory is marked, all of it is used.
    let mut tree = Builder::default();
    tree.begin("").begin("memory").property("device_type", b"memory\0");
    tree.property("hotpluggable", &[]).cells("reg", &[0, 0x4000_0000, 0x1000_0000]).end();
    let machine = read(&tree.end().finish()).unwrap();
    assert_eq!(machine.ram.as_slice(), [between(0x4000_0000, 0x5000_0000)]);
    assert_eq!(machine.left_out, LeftOut::default());
}

#[test]
fn a_tree_without_memory_or_with_senseless_cells_has_no_ram() {
    let mut tree = Builder::default();
    tree.begin("").cells("#address-cells", &[u32::MAX]).cells("#size-cells", &[0]);
    tree.begin("memory").property("device_type", b"memory\0").cells("reg", &[0, 1, 2]);
    let bytes = tree.end().end().finish();
    assert_eq!(read(&bytes).unwrap_err(), HandoffError::NoRam);
    assert!(matches!(read(&[0; 64]), Err(HandoffError::DeviceTree(_))));
}

#[test]
fn the_length_is_that_of_the_header_if_it_is_one() {
    let tree = virt().finish();
    assert_eq!(total_bytes(&tree[..40]), Ok(tree.len() as u64));
    assert!(total_bytes(&[0; 40]).is_err());
    let mut long = tree;
    long[4..8].copy_from_slice(&u32::MAX.to_be_bytes());
    assert!(total_bytes(&long).is_err());
}

#[test]
fn no_flipped_byte_makes_the_reader_panic() {
    let clean = virt().finish();
    for at in 0..clean.len() {
        for value in [0, 1, 0x7f, 0xff] {
            let mut tree = clean.clone();
            tree[at] = value;
            let _ = read(&tree);
        }
    }
}
