//! Steps that unmap.

use super::super::std::vec::Vec;
use super::model::Model;
use super::{Check, MapperRig, TRIED};
use crate::addr::{AddressRange, Space};
use crate::gather::Call;
use crate::{Mapper, Mapping, TableAt, Translation, UnmapError};

impl<R: MapperRig<I>, I: Space> Check<'_, R, I> {
    /// Unmaps one to three random ranges in one gather.
    pub(super) fn unmap_some(&mut self) {
        let mut last = "after an unmap";
        let wishes: Vec<_> = (0..1 + self.random.below(3)).map(|_| self.pick_range()).collect();
        let mut gone = Vec::new();
        let tried = wishes.iter().flat_map(|&range| self.model.overlapping(range));
        let tried: Vec<_> = tried.map(|leaf| leaf.virt).collect();
        let every = tried.len().div_ceil(TRIED).max(1);
        self.speculation.begin(tried.into_iter().step_by(every));
        let mut gather = self.gather();
        for range in wishes {
            let leaves: Vec<_> = self.model.overlapping(range).collect();
            let leaves: Vec<_> = leaves.into_iter().filter(|leaf| !gone.contains(leaf)).collect();
            let cuts = |at, len| {
                let cut = |leaf: &&Translation<I>| !range.covers(leaf.range());
                leaves.iter().filter(cut).any(|leaf| (leaf.virt, leaf.len) == (at, len))
            };
            let before = self.tables();
            match self.mapper("unmap").unmap(range, &mut gather) {
                Ok(()) => {
                    let cut = leaves.iter().find(|leaf| !range.covers(leaf.range()));
                    assert_eq!(cut, None, "a leaf is cut by unmapping {range}");
                    self.check_calls(range, &leaves, &before, &gather.calls());
                    gone.extend(leaves);
                }
                Err(UnmapError::CutsLeaf { at, len }) => {
                    assert!(cuts(at, len), "unmapping {range} is refused for the leaf at {at}");
                    last = "after an unmap that was refused";
                    assert_eq!(gather.calls().len(), 0, "a refused unmap changed the gather");
                }
                Err(error) => panic!("unmapping {range} is refused: {error}"),
            }
        }
        assert_eq!(gather.flush(), Ok(()));
        self.speculation.end_of_unmap();
        self.last = last;
        for leaf in gone {
            self.model.remove(&leaf);
        }
    }

    /// Checks that the gather received `leaves`, the last one first, and the tables that were detached, while their
    /// frames were in use.
    pub(super) fn check_calls(
        &self,
        range: AddressRange<I>,
        leaves: &[Translation<I>],
        before: &[TableAt<I>],
        calls: &[Call<I>],
    ) {
        let cleared: Vec<_> = calls.iter().filter_map(Call::cleared).collect();
        for leaf in leaves {
            let mut at = leaf.virt;
            let ends =
                |at| cleared.iter().find(|range| range.contains(at)).map(|range| range.end());
            while leaf.range().contains(at) {
                let next = ends(at);
                assert!(next.is_some(), "the gather was not given {at}");
                at = next.unwrap_or(at);
            }
        }
        // Beside them, a table that was detached may have an address by which the mapper reached it.
        let own: Vec<_> = cleared.into_iter().filter(|cleared| cleared.overlaps(range)).collect();
        let falling = own.windows(2).all(|pair| pair[1].start() <= pair[0].start());
        assert!(falling, "unmapping {range} does not begin with the last address");
        let after = self.tables();
        for table in before.iter().filter(|table| !after.contains(table)) {
            let span = AddressRange::new(table.virt, table.span).unwrap_or_default();
            let found = calls.iter().filter_map(Call::detached).any(|(frame, bytes, near)| {
                (frame, bytes) == (table.frame, table.bytes) && near.overlaps(span)
            });
            assert!(found, "the gather lacks the table for {span}");
        }
    }

    /// Unmaps a range with its tables kept, and maps the same again, which needs no frame.
    pub(super) fn unmap_and_map_again(&mut self) {
        let range = self.pick_range();
        let leaves: Vec<_> = self.model.overlapping(range).collect();
        if leaves.iter().any(|leaf| !range.covers(leaf.range())) {
            return;
        }
        let before = self.tables();
        // Kept by the gather or by the source of frames.
        let by_gather = self.random.one_in(2);
        self.frames.keep_all(!by_gather);
        let mut gather = self.gather();
        if by_gather {
            gather = gather.and_keep_tables();
        }
        let unmapped = self.mapper("unmap").unmap(range, &mut gather);
        assert_eq!(gather.conclude(unmapped), Ok(()), "{range}");
        assert_eq!(self.tables(), before, "tables that were to be kept");
        self.frames.plan.arm(1);
        for &Translation { virt, phys, len, attr } in &leaves {
            let again = self.map(&Mapping { virt, phys, len, attr, max_leaf: len });
            assert_eq!(again, Ok(()), "{virt} is mapped again by tables that were kept");
        }
        self.frames.plan.disarm();
        self.frames.keep_all(false);
        self.last = "after an unmap that kept tables";
    }

    pub(super) fn unmap_all(&mut self) {
        self.last = "after everything was unmapped";
        let mut gather = self.gather();
        for leaf in self.model.leaves() {
            assert_eq!(self.mapper("unmap").unmap(leaf.range(), &mut gather), Ok(()));
        }
        assert_eq!(gather.flush(), Ok(()));
        self.model = Model::new(self.rig.leaves());
    }

    /// A range to unmap: often from leaf to leaf, sometimes anywhere.
    pub(super) fn pick_range(&mut self) -> AddressRange<I> {
        let leaves: Vec<_> = self.model.leaves().copied().collect();
        let Some(most) = leaves.len().checked_sub(1) else {
            return AddressRange::default();
        };
        let first = self.random.below(leaves.len() as u64) as usize;
        let bits = self.random.below(11);
        let last = most.min(first + self.random.below(1 << bits) as usize);
        let start = leaves[first].virt;
        let end = leaves[last].virt.add(leaves[last].len);
        let skew = if self.random.one_in(4) { self.model.page() } else { 0 };
        AddressRange::new(start.add(skew), end.offset_from(start)).unwrap_or_default()
    }
}
