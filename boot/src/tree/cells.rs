//! Addresses and sizes: numbers of as many 32-bit cells as the parent node says.

use dtoolkit::fdt::{FdtNode, FdtProperty};
use dtoolkit::standard::NodeStandard;
use dtoolkit::{Node, Property};

/// Cells of a number at the most: PCI addresses have three.
const MOST: usize = 4;

/// How many 32-bit cells an address and a size have.
#[derive(Clone, Copy)]
pub(super) struct Cells {
    address: usize,
    size: usize,
}

impl Cells {
    /// The counts that `parent` has for its children. A count that cannot be used is kept, and
    /// [`pair_bytes`](Self::pair_bytes) refuses it.
    pub(super) fn of(parent: &FdtNode<'_>) -> Self {
        Self {
            address: parent.address_cells().unwrap_or(0) as usize,
            size: parent.size_cells().unwrap_or(0) as usize,
        }
    }

    /// Bytes of a pair of address and size, if both have a usable number of cells.
    pub(super) fn pair_bytes(self) -> Option<usize> {
        let usable = (1..=MOST).contains(&self.address) && (1..=MOST).contains(&self.size);
        usable.then_some(4 * (self.address + self.size))
    }

    /// The pairs of a `reg` property, as far as they are whole. One whose address does not fit 64 bits is
    /// left out: no memory is there.
    pub(super) fn registers<'t>(
        self,
        node: &FdtNode<'t>,
    ) -> impl Iterator<Item = (u64, u64)> + use<'t> {
        let reg = node.property("reg");
        let mut at = 0;
        core::iter::from_fn(move || {
            let pair = reg.as_ref()?.value().get(at..)?.get(..self.pair_bytes()?)?;
            at += pair.len();
            let (address, size) = pair.split_at_checked(4 * self.address)?;
            // A size that does not fit reaches to the end.
            Some(number(address).map(|start| (start, number(size).unwrap_or(u64::MAX))))
        })
        .flatten()
    }
}

/// The `ranges` of a node (Devicetree Specification 0.4, 2.3.8): which of its children's addresses are which of
/// its parent's.
pub(super) struct Ranges<'t> {
    entries: Option<FdtProperty<'t>>,
    child: Cells,
    parent: usize,
}

impl<'t> Ranges<'t> {
    /// Those of `node`, whose children have numbers of `child` cells and which is a child of `parent`.
    pub(super) fn of(node: &FdtNode<'t>, child: Cells, parent: Cells) -> Self {
        Self { entries: node.property("ranges"), child, parent: parent.address }
    }

    /// Child address, parent address and size of each entry, as far as they are whole and fit 64 bits.
    fn entries(&self) -> impl Iterator<Item = (u64, u64, u64)> + '_ {
        let usable = self.child.pair_bytes().is_some() && (1..=MOST).contains(&self.parent);
        let sizes = [self.child.address, self.parent, self.child.size].map(|cells| 4 * cells);
        let entry = if usable { sizes.iter().sum() } else { usize::MAX };
        let entries = self.entries.as_ref().map_or(&[][..], |ranges| ranges.value());
        entries.chunks_exact(entry).filter_map(move |entry| {
            let (child, rest) = entry.split_at_checked(sizes[0])?;
            let (parent, size) = rest.split_at_checked(sizes[1])?;
            Some((number(child)?, number(parent)?, number(size).unwrap_or(u64::MAX)))
        })
    }

    /// Where the parent has `size` bytes of the children's addresses from `start` on, piece by piece; as they
    /// stand if no entry names any of them.
    pub(super) fn translate(&self, start: u64, size: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
        let pieces = move || {
            self.entries().filter_map(move |(child, parent, len)| {
                let first = start.max(child);
                let end = start.saturating_add(size).min(child.saturating_add(len));
                let size = end.checked_sub(first).filter(|&size| size > 0)?;
                Some((parent.checked_add(first - child)?, size))
            })
        };
        let as_it_stands = pieces().next().is_none().then_some((start, size));
        pieces().chain(as_it_stands)
    }
}

/// The number in these big-endian cells, if it fits.
fn number(cells: &[u8]) -> Option<u64> {
    cells.as_chunks().0.iter().try_fold(0u64, |value, &cell| {
        let high = value.checked_mul(1 << 32)?;
        Some(high | u64::from(u32::from_be_bytes(cell)))
    })
}

pub(super) fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_be_bytes)
}

pub(super) fn be64(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().copied().map(u64::from_be_bytes)
}
