//! Addresses and sizes: numbers of as many 32-bit cells as the parent node says.

use dtoolkit::fdt::FdtNode;
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
    /// What `parent` says of its children; no usable count stands for itself.
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
