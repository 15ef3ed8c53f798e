//! What a device tree reserves, in both ways that it has.

use super::cells::{Cells, Ranges, be32, be64};
use super::touched_pages;
use crate::ranges::{RangeList, RangesFull};
use dtoolkit::fdt::{Fdt, FdtNode};
use dtoolkit::{Node, Property};

/// The memory reservation block: pairs of address and size, ended by zeroes (Devicetree
/// Specification 0.4, 5.3).
pub(super) fn block(bytes: &[u8]) -> impl Iterator<Item = (u64, u64)> + '_ {
    let mut at = be32(bytes, 16).unwrap_or(u32::MAX) as usize;
    core::iter::from_fn(move || {
        let pair = (be64(bytes, at)?, be64(bytes, at.checked_add(8)?)?);
        at += 16;
        (pair != (0, 0)).then_some(pair)
    })
}

/// The children of `/reserved-memory` (Devicetree Specification 0.4, 3.5), in whole pages outwards, and
/// how many of them have no place that could be kept free: they have a `size` alone, or no `reg` that
/// can be read.
///
/// `no-map` makes no difference: the kernel uses none of it, and maps only what it uses.
pub(super) fn nodes(tree: &Fdt<'_>) -> Result<(RangeList, u32), RangesFull> {
    let (mut reserved, mut unplaced) = (RangeList::new(), 0);
    let Some(parent) = tree.find_node("/reserved-memory") else { return Ok((reserved, 0)) };
    let cells = Cells::of(&parent);
    let ranges = Ranges::of(&parent, cells, Cells::of(&tree.root()));
    for node in parent.children().filter(|node| !is_disabled(node)) {
        let reg = node.property("reg");
        let readable = reg.is_some_and(|reg| {
            let len = reg.value().len();
            len != 0 && cells.pair_bytes().is_some_and(|pair| len.is_multiple_of(pair))
        });
        unplaced += u32::from(!readable);
        for (start, size) in cells.registers(&node) {
            for (start, size) in ranges.translate(start, size) {
                reserved.insert(touched_pages(start, size))?;
            }
        }
    }
    Ok((reserved, unplaced))
}

/// Whether a reservation is not meant. What is `reserved` or has failed is in use by somebody, or of no use.
fn is_disabled(node: &FdtNode<'_>) -> bool {
    node.property("status").is_some_and(|status| status.value() == b"disabled\0")
}
