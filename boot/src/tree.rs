//! A flattened device tree as boot code reads it: where RAM is, and the firmware configuration device.
//!
//! Both architectures that are handed a tree read it here; what else POWER firmware says by one is for
//! the kernel, with the same check first: [`open`].

mod cells;
mod check;
mod reserved;

pub use check::open;

use crate::info::{HandoffError, LeftOut};
use crate::ranges::RangeList;
use cells::{Cells, be32};
use dtoolkit::fdt::{Fdt, FdtNode};
use dtoolkit::standard::NodeStandard;
use dtoolkit::{Node, Property};
use hotmem_paging::addr::{PhysAddr, PhysRange};

/// A device tree's first four bytes (Devicetree Specification 0.4, 5.2).
const MAGIC: u32 = 0xd00d_feed;
/// Bytes of a device tree's header.
pub const HEADER_BYTES: u64 = 40;
/// No tree is longer: a bound for a nonsensical header.
const LONGEST: u32 = 2 << 20;
const PAGE: u64 = 4096;

/// The contents of the tree that the kernel needs.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// All RAM of boot, in whole 4 KiB pages, without what is reserved.
    pub ram: RangeList,
    /// What the tree names and is not used.
    pub left_out: LeftOut,
    /// Where the firmware configuration device is.
    pub fw_cfg: Option<PhysAddr>,
}

/// Bytes of the tree whose header is `header`.
///
/// # Errors
///
/// [`HandoffError::DeviceTree`] if it is not the header of a device tree.
pub fn total_bytes(header: &[u8]) -> Result<u64, HandoffError> {
    match (be32(header, 0), be32(header, 4)) {
        (Some(MAGIC), Some(size @ 1..=LONGEST)) => Ok(size.into()),
        (Some(MAGIC), _) => Err(HandoffError::DeviceTree("a length that makes no sense")),
        _ => Err(HandoffError::DeviceTree("not the magic number 0xd00dfeed")),
    }
}

/// Reads the tree in `bytes`, which is as long as its header says. Memory that holds the kernel's `image` stays
/// RAM: firmware may reserve it, or a part of it, for the image that it loads.
///
/// # Errors
///
/// [`HandoffError`] if it is broken, or has no RAM.
pub fn read(bytes: &[u8], image: PhysRange) -> Result<Machine, HandoffError> {
    let tree = open(bytes).ok_or(HandoffError::DeviceTree("a broken structure"))?;
    let (mut ram, hotpluggable) = memory(&tree);
    let mut keep_free = |(start, size)| {
        let mut reserved = RangeList::from(touched_pages(start, size));
        reserved.remove(image);
        reserved.iter().for_each(|range| ram.remove(range));
    };
    reserved::block(bytes).for_each(&mut keep_free);
    let (unplaced, first_unplaced) = reserved::nodes(&tree, keep_free);
    if ram.as_slice().is_empty() {
        return Err(HandoffError::NoRam);
    }
    let left_out = LeftOut { hotpluggable, unplaced, first_unplaced };
    Ok(Machine { ram, left_out, fw_cfg: fw_cfg(&tree) })
}

/// The RAM that the kernel starts with, and the bytes of memory marked `hotpluggable`.
///
/// Boot memory is never removed, so marked memory is left out and can be unplugged. If all memory is marked,
/// the mark does not distinguish anything, and all of it is used.
fn memory(tree: &Fdt<'_>) -> (RangeList, u64) {
    let cells = Cells::of(&tree.root());
    let (mut fixed, mut marked) = (RangeList::new(), RangeList::new());
    for node in tree.root().children().filter(|node| is_memory(node) && is_available(node)) {
        let is_marked = node.property("hotpluggable").is_some();
        let ram = if is_marked { &mut marked } else { &mut fixed };
        for (start, size) in cells.registers(&node) {
            ram.insert(whole_pages(start, size));
        }
    }
    if fixed.as_slice().is_empty() {
        return (marked, 0);
    }
    // Two nodes may claim the same bytes: the mark wins.
    for range in marked.iter() {
        fixed.remove(range);
    }
    (fixed, marked.bytes())
}

fn is_memory(node: &FdtNode<'_>) -> bool {
    node.property("device_type").is_some_and(|kind| kind.value() == b"memory\0")
}

/// Whether a node's `status` lets it be used (Devicetree Specification 0.4, 2.3.4): `ok` is the old
/// spelling, and a node without a status is usable.
fn is_available(node: &FdtNode<'_>) -> bool {
    node.property("status").is_none_or(|status| matches!(status.value(), b"okay\0" | b"ok\0"))
}

fn fw_cfg(tree: &Fdt<'_>) -> Option<PhysAddr> {
    let root = tree.root();
    let device = root.children().find(|node| node.is_compatible("qemu,fw-cfg-mmio"))?;
    Cells::of(&root).registers(&device).next().map(|(start, _)| PhysAddr::new(start))
}

/// The whole pages of `size` bytes from `start` on.
fn whole_pages(start: u64, size: u64) -> PhysRange {
    let first = start.saturating_add(PAGE - 1) & !(PAGE - 1);
    between(first, start.saturating_add(size) & !(PAGE - 1))
}

/// The pages that `size` bytes from `start` on touch.
fn touched_pages(start: u64, size: u64) -> PhysRange {
    let end = start.saturating_add(size).saturating_add(PAGE - 1);
    between(start & !(PAGE - 1), end & !(PAGE - 1))
}

fn between(start: u64, end: u64) -> PhysRange {
    PhysRange::new(PhysAddr::new(start), end.saturating_sub(start)).unwrap_or_default()
}

#[cfg(test)]
pub(crate) mod tests;
