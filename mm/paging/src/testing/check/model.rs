//! The expected mappings: a model without tables.

use super::super::std::collections::BTreeMap;
use super::super::std::vec::Vec;
use crate::addr::{AddressRange, Space};
use crate::{Mapping, Translation};

/// The expected leaves, by their first address.
pub(super) struct Model<I: Space> {
    leaves: BTreeMap<u64, Translation<I>>,
    /// Bytes of the leaves of the mapper, the largest first.
    sizes: Vec<u64>,
}

impl<I: Space> Model<I> {
    pub(super) fn new(sizes: &[u64]) -> Self {
        assert!(
            !sizes.is_empty() && sizes.is_sorted_by(|a, b| a > b),
            "leaves, the largest first: {sizes:?}"
        );
        Self { leaves: BTreeMap::new(), sizes: sizes.to_vec() }
    }

    /// Bytes of the leaves, the largest first.
    pub(super) fn sizes(&self) -> &[u64] {
        &self.sizes
    }

    /// Bytes of the smallest leaf.
    pub(super) fn page(&self) -> u64 {
        self.sizes.last().copied().unwrap_or(1)
    }

    pub(super) fn leaves(&self) -> impl ExactSizeIterator<Item = &Translation<I>> {
        self.leaves.values()
    }

    /// Records the leaves that a mapping must have, found by trying sizes.
    pub(super) fn record(&mut self, mapping: &Mapping<I>) {
        let mut done = 0;
        while done < mapping.len {
            let (virt, phys) = (mapping.virt.add(done), mapping.phys.add(done));
            let fits = |len: &&u64| {
                **len <= mapping.max_leaf
                    && **len <= mapping.len - done
                    && virt.is_aligned(**len)
                    && phys.is_aligned(**len)
            };
            let len = self.sizes.iter().find(fits).copied().unwrap_or(self.page());
            let leaf = Translation { virt, phys, len, attr: mapping.attr };
            self.leaves.insert(virt.get(), leaf);
            done += len;
        }
    }

    pub(super) fn remove(&mut self, leaf: &Translation<I>) {
        self.leaves.remove(&leaf.virt.get());
    }

    /// The leaves that translate a byte of `range`, ascending.
    pub(super) fn overlapping(
        &self,
        range: AddressRange<I>,
    ) -> impl Iterator<Item = Translation<I>> + '_ {
        let before = self.leaves.range(..range.start().get()).next_back();
        let inside = self.leaves.range(range.start().get()..);
        let near = before.into_iter().chain(inside).map(|(_, leaf)| *leaf);
        near.take_while(move |leaf| {
            leaf.virt.offset_from(range.start()) < range.len() || leaf.virt < range.start()
        })
        .filter(move |leaf| leaf.range().overlaps(range))
    }
}
