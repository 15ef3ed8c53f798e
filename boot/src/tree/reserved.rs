//! What a device tree reserves, in both ways that it has.

use super::cells::{Cells, Ranges, be32, be64};
use crate::info::Text;
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

/// Tells `each` where the children of `/reserved-memory` are (Devicetree Specification 0.4, 3.5). Returns how
/// many of them have no place that could be kept free, and the name of the first: they have a `size` alone, or no
/// `reg` that can be read.
///
/// `no-map` makes no difference: the kernel uses none of it, and maps only what it uses.
pub(super) fn nodes(tree: &Fdt<'_>, mut each: impl FnMut((u64, u64))) -> (u32, Text<32>) {
    let (mut unplaced, mut first) = (0, Text::new());
    let Some(parent) = tree.find_node("/reserved-memory") else { return (unplaced, first) };
    let cells = Cells::of(&parent);
    let ranges = Ranges::of(&parent, cells, Cells::of(&tree.root()));
    for node in parent.children().filter(|node| !is_disabled(node)) {
        let reg = node.property("reg");
        let readable = reg.is_some_and(|reg| {
            let len = reg.value().len();
            len != 0 && cells.pair_bytes().is_some_and(|pair| len.is_multiple_of(pair))
        });
        if !readable {
            first = if unplaced == 0 { Text::copy(node.name().as_bytes()) } else { first };
            unplaced += 1;
        }
        let places = cells.registers(&node);
        places.flat_map(|(start, size)| ranges.translate(start, size)).for_each(&mut each);
    }
    (unplaced, first)
}

/// Whether a reservation is not meant. What is `reserved` or has failed is in use by somebody, or of no use.
fn is_disabled(node: &FdtNode<'_>) -> bool {
    node.property("status").is_some_and(|status| status.value() == b"disabled\0")
}
