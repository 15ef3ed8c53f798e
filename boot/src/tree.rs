//! A flattened device tree as boot code reads it: where RAM is, and the firmware configuration device.
//!
//! Both architectures that are handed a tree read it here; what else POWER firmware says by one is for
//! the kernel, with the same check first: [`open`].

mod check;

pub use check::open;

use crate::info::HandoffError;
use crate::ranges::RangeList;
use dtoolkit::fdt::FdtNode;
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

/// Reads the tree in `bytes`, which is as long as its header says.
///
/// # Errors
///
/// [`HandoffError`] if it is broken, or has no RAM.
pub fn read(bytes: &[u8]) -> Result<Machine, HandoffError> {
    let tree = open(bytes).ok_or(HandoffError::DeviceTree("a broken structure"))?;
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
pub(crate) mod tests;
