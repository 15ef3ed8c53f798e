//! What the device tree says that ACPI does not: where RAM is, and the firmware configuration device.

use crate::info::HandoffError;
use crate::ranges::RangeList;
use dtoolkit::fdt::{Fdt, FdtNode};
use dtoolkit::standard::NodeStandard;
use dtoolkit::{Node, Property};
use hotmem::addr::{PhysAddr, PhysRange};

/// A device tree's first four bytes (Devicetree Specification 0.4, 5.2).
const MAGIC: u32 = 0xd00d_feed;
/// Bytes of a device tree's header.
pub const HEADER_BYTES: u64 = 40;
/// No tree is longer: a bound for a nonsensical header.
const LONGEST: u32 = 2 << 20;
const PAGE: u64 = 4096;

/// What is wanted of the tree.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// All RAM of boot, in whole 4 KiB pages.
    pub ram: RangeList,
    /// Where the firmware configuration device is.
    pub fw_cfg: Option<PhysAddr>,
}

/// Bytes of the tree whose header is `header`.
///
/// # Errors
///
/// [`HandoffError::DeviceTree`] if it is none.
pub fn total_bytes(header: &[u8]) -> Result<u64, HandoffError> {
    match (be32(header, 0), be32(header, 4)) {
        (Some(MAGIC), Some(size @ 1..=LONGEST)) => Ok(size.into()),
        (Some(MAGIC), _) => Err(HandoffError::DeviceTree("a length that makes no sense")),
        _ => Err(HandoffError::DeviceTree("not the magic number 0xd00dfeed")),
    }
}

/// Reads the tree.
///
/// # Errors
///
/// [`HandoffError`] if it is broken, or has no RAM.
pub fn read(bytes: &[u8]) -> Result<Machine, HandoffError> {
    let tree = Fdt::new(bytes).map_err(|_| HandoffError::DeviceTree("a broken structure"))?;
    read_opened(tree, bytes)
}

/// Reads the tree, which `bytes` hold.
///
/// # Errors
///
/// [`HandoffError`] if it has no RAM.
pub(crate) fn read_opened(tree: Fdt<'_>, bytes: &[u8]) -> Result<Machine, HandoffError> {
    let root = tree.root();
    let cells = Cells {
        address: root.address_cells().unwrap_or(2) as usize,
        size: root.size_cells().unwrap_or(1) as usize,
    };

    let (mut ram, mut fw_cfg) = (RangeList::new(), None);
    for node in root.children() {
        let kind = node.property("device_type");
        if kind.is_some_and(|kind| kind.value() == b"memory\0") {
            for (start, size) in cells.registers(&node) {
                ram.insert(whole_pages(start, size))?;
            }
        }
        if node.is_compatible("qemu,fw-cfg-mmio") {
            fw_cfg = cells.registers(&node).next().map(|(start, _)| PhysAddr::new(start));
        }
    }
    for (start, size) in reserved(bytes) {
        let end = start.saturating_add(size).saturating_add(PAGE - 1);
        ram.remove(between(start & !(PAGE - 1), end & !(PAGE - 1)))?;
    }
    if ram.as_slice().is_empty() { Err(HandoffError::NoRam) } else { Ok(Machine { ram, fw_cfg }) }
}

/// How many 32-bit cells an address and a size have.
struct Cells {
    address: usize,
    size: usize,
}

impl Cells {
    /// The pairs of a `reg` property, as far as they are whole and fit 64 bits.
    fn registers<'t>(&self, node: &FdtNode<'t>) -> impl Iterator<Item = (u64, u64)> + use<'t> {
        let (address, pair) = (self.address, self.address.saturating_add(self.size));
        let fits = (1..=2).contains(&address) && (1..=2).contains(&self.size);
        let mut left = node.property("reg").filter(|_| fits).map_or(0, |reg| reg.value().len());
        let (node, mut at) = (*node, 0);
        core::iter::from_fn(move || {
            let reg = node.property("reg")?;
            left = left.checked_sub(4 * pair)?;
            let start = number(reg.value(), at, address);
            let size = number(reg.value(), at + 4 * address, pair - address);
            at += 4 * pair;
            Some((start?, size?))
        })
    }
}

/// The number in `cells` big-endian cells at `at`.
fn number(bytes: &[u8], at: usize, cells: usize) -> Option<u64> {
    (0..cells).try_fold(0, |value, cell| Some(value << 32 | u64::from(be32(bytes, at + 4 * cell)?)))
}

/// The memory reservation block: pairs of address and size, ended by zeroes (Devicetree
/// Specification 0.4, 5.3).
fn reserved(bytes: &[u8]) -> impl Iterator<Item = (u64, u64)> + '_ {
    let mut at = be32(bytes, 16).unwrap_or(u32::MAX) as usize;
    core::iter::from_fn(move || {
        let pair = (number(bytes, at, 2)?, number(bytes, at.checked_add(8)?, 2)?);
        at += 16;
        (pair != (0, 0)).then_some(pair)
    })
}

/// The whole pages of `size` bytes from `start` on.
fn whole_pages(start: u64, size: u64) -> PhysRange {
    let first = start.saturating_add(PAGE - 1) & !(PAGE - 1);
    between(first, start.saturating_add(size) & !(PAGE - 1))
}

fn between(start: u64, end: u64) -> PhysRange {
    PhysRange::new(PhysAddr::new(start), end.saturating_sub(start)).unwrap_or_default()
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_be_bytes)
}

#[cfg(test)]
pub(crate) mod tests {
    extern crate std;

    use super::*;
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

        fn reserve(&mut self, start: u64, size: u64) -> &mut Self {
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
        let mut tree = Builder::default();
        tree.begin("").cells("#address-cells", &[2]).cells("#size-cells", &[2]);
        for base in [0x4000_0000, 0x5000_0000] {
            tree.begin("memory").property("device_type", b"memory\0");
            tree.cells("reg", &[0, base, 0, 0x1000_0000]).end();
        }
        tree.begin("fw-cfg@9020000").property("compatible", b"qemu,fw-cfg-mmio\0");
        tree.cells("reg", &[0, 0x902_0000, 0, 0x18]).end().end();
        tree
    }

    #[test]
    fn memory_nodes_become_ram_and_the_device_is_found() {
        let machine = read(&virt().finish()).unwrap();
        assert_eq!(machine.ram.as_slice(), [between(0x4000_0000, 0x6000_0000)]);
        assert_eq!(machine.fw_cfg, Some(PhysAddr::new(0x902_0000)));
    }

    #[test]
    fn reserved_memory_is_no_ram_not_even_the_rest_of_its_pages() {
        let machine = read(&virt().reserve(0x4000_1800, 0x1000).finish()).unwrap();
        let ram = [between(0x4000_0000, 0x4000_1000), between(0x4000_3000, 0x6000_0000)];
        assert_eq!(machine.ram.as_slice(), ram);
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
}
