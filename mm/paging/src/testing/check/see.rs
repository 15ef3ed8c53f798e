//! The mapper's and the CPU's view, compared with the model.

use super::super::std::vec::Vec;
use super::{Check, MapperRig};
use crate::addr::{Address, AddressRange, Space};
use crate::{Mapper, TableAt, Translation};

/// Addresses that are looked up after each step.
const LOOKS: usize = 8;

impl<R: MapperRig<I>, I: Space> Check<'_, R, I> {
    /// Compares everything with the model.
    pub(super) fn see(&mut self) {
        let window = self.rig.window();
        self.see_leaves(window);
        let page = self.model.page();
        let start = self.random.below(window.len() / page) * page;
        let len = self.random.below(window.len() - start) + 1;
        self.see_leaves(AddressRange::new(window.start().add(start), len).unwrap_or_default());
        self.see_tables();
        for _ in 0..LOOKS {
            let at = window.start().add(self.random.below(window.len()));
            self.look_up(at);
        }
        let leaves: Vec<_> = self.model.leaves().copied().collect();
        for _ in 0..LOOKS.min(leaves.len()) {
            let leaf = *self.random.pick(&leaves);
            let at = leaf.virt.add(self.random.below(leaf.len));
            self.look_up(at);
        }
    }

    pub(super) fn see_leaves(&self, range: AddressRange<I>) {
        let mut found = Vec::new();
        self.mapper("visit").visit(range, &mut |leaf| found.push(leaf));
        let expected: Vec<_> = self.model.overlapping(range).collect();
        if found == expected {
            return;
        }
        let mut sorted = found.clone();
        sorted.sort();
        assert_ne!(sorted, expected, "visit does not show the leaves of {range} in order");
        let lacks = expected.iter().find(|leaf| !found.contains(leaf));
        let odd = found.iter().find(|leaf| !expected.contains(leaf));
        panic!(
            "{}, visit shows other leaves of {range} than should be there: it lacks {lacks:?}, \
             and has {odd:?}",
            self.last
        );
    }

    fn look_up(&self, at: Address<I>) {
        let byte = AddressRange::new(at, 1).unwrap_or_default();
        let leaf: Option<Translation<I>> = self.model.overlapping(byte).next();
        let found = self.mapper("translate").translate(at);
        assert_eq!(found, leaf, "{}, translate of {at}", self.last);
        let target = leaf.map(|leaf| (leaf.target(at), leaf.attr));
        assert_eq!(self.rig.walk(at), target, "{}, the CPU's walk of {at}", self.last);
    }

    /// The tables of the tree.
    pub(super) fn tables(&self) -> Vec<TableAt<I>> {
        let mut tables = Vec::new();
        self.mapper("visit_tables").visit_tables(&mut |table| tables.push(table));
        tables
    }

    /// Every table in use is in the tree once, after the one above it, and each has a leaf below it.
    fn see_tables(&self) {
        let tables = self.tables();
        let root = tables.first().map(|root| root.level);
        assert_eq!(root, Some(0), "visit_tables does not begin with the root");
        let mut path: Vec<TableAt<I>> = Vec::new();
        for &table in &tables {
            path.retain(|above| above.level < table.level);
            // The root of a sign-extended space spans two separate ranges.
            let inside = path.last().is_none_or(|above| {
                above.level == 0 || table.virt.offset_from(above.virt) < above.span
            });
            let right = path.len() == table.level && inside && table.frame.is_aligned(8);
            assert!(right, "visit_tables shows {table:?} not after the table above it");
            path.push(table);
        }

        let ours = tables.iter().filter(|table| !self.before.contains(table));
        let idle = |table: &&TableAt<I>| {
            let span = AddressRange::new(table.virt, table.span).unwrap_or_default();
            self.model.overlapping(span).next().is_none()
        };
        assert_eq!(ours.clone().find(idle), None, "{}, an empty table is left", self.last);
        let mut frames: Vec<_> = ours.map(|table| (table.frame, table.bytes)).collect();
        frames.sort();
        let used = self.frames.used();
        assert_eq!(frames, used, "{}, the tables that are there, and the frames in use", self.last);
    }
}
