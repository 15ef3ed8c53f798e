//! Reading a whole tree: every leaf, every table.

use super::tables::Tables;
use super::{Entry, PhysMem, PteFormat, StrangeEntry, TableAt, Tlb, Translation};
use crate::addr::{Address, AddressRange, PhysAddr, Space};

use core::sync::atomic::Ordering;

/// An item of a visit.
enum Node<I: Space> {
    Table(TableAt<I>),
    Leaf(Translation<I>),
}

impl<F: PteFormat, P: PhysMem, T: Tlb<I>, I: Space> Tables<F, P, T, I> {
    pub(super) fn visit_leaves(
        &self,
        range: AddressRange<I>,
        each: &mut dyn FnMut(Translation<I>),
    ) {
        let wanted =
            |virt, len| AddressRange::new(virt, len).is_some_and(|span| span.overlaps(range));
        self.visit_from_root(&mut |node| match node {
            // The root of a sign-extended format spans two separate ranges: never skipped.
            Node::Table(table) => table.level == 0 || wanted(table.virt, table.span),
            Node::Leaf(leaf) => {
                if wanted(leaf.virt, leaf.len) {
                    each(leaf);
                }
                false
            }
        });
    }

    pub(super) fn visit_all_tables(&self, each: &mut dyn FnMut(TableAt<I>)) {
        self.visit_from_root(&mut |node| match node {
            Node::Table(table) => {
                each(table);
                true
            }
            Node::Leaf(_) => false,
        });
    }

    fn visit_from_root(&self, each: &mut dyn FnMut(Node<I>) -> bool) {
        self.visit_below(self.root(), 0, 0, each);
    }

    /// Visits the table of `level` at `frame`, whose first entry translates `base` (indices only), and, if `each`
    /// returns `true`, the tables below. The depth is that of the format.
    fn visit_below(
        &self,
        frame: PhysAddr,
        level: usize,
        base: u64,
        each: &mut dyn FnMut(Node<I>) -> bool,
    ) {
        if !each(Node::Table(Self::table_at(frame, level, base))) {
            return;
        }
        let here = F::LEVELS[level];
        for (index, slot) in self.slots(frame, level).iter().enumerate() {
            let low = base + index as u64 * here.span();
            // Pairs with the release store that linked a table: the table below is initialised.
            match F::decode(slot.load(Ordering::Acquire), level) {
                Entry::Absent => {}
                Entry::Table(next) if level + 1 < F::LEVELS.len() => {
                    self.visit_below(next, level + 1, low, each);
                }
                Entry::Table(_) => {}
                Entry::Leaf(phys, attr) => {
                    let leaf = Translation {
                        virt: Address::new(F::canonical(low)),
                        phys,
                        len: here.span(),
                        attr,
                    };
                    each(Node::Leaf(leaf));
                }
            }
        }
    }

    /// See [`Mapper::examine`](super::Mapper::examine).
    pub(super) fn examine_tables(
        &self,
        each: &mut dyn FnMut(TableAt<I>) -> bool,
    ) -> Option<StrangeEntry<I>> {
        let mut strange = None;
        self.examine_below(self.root(), 0, 0, each, &mut strange);
        strange
    }

    /// As [`visit_below`](Self::visit_below). A word that no entry encodes to leads nowhere.
    fn examine_below(
        &self,
        frame: PhysAddr,
        level: usize,
        base: u64,
        each: &mut dyn FnMut(TableAt<I>) -> bool,
        strange: &mut Option<StrangeEntry<I>>,
    ) {
        if !each(Self::table_at(frame, level, base)) {
            return;
        }
        let span = F::LEVELS[level].span();
        for (index, slot) in self.slots(frame, level).iter().enumerate() {
            // Pairs with the release store that linked a table: the table below is initialised.
            let word = slot.load(Ordering::Acquire);
            if word == 0 {
                continue;
            }
            let low = base + index as u64 * span;
            let entry = F::decode(word, level);
            if !Self::stores(entry, level) || F::encode(entry, level) != word {
                let virt = Address::new(F::canonical(low));
                let at = frame.add(index as u64 * 8);
                strange.get_or_insert(StrangeEntry { virt, at, word });
            }
            if let Entry::Table(next) = entry
                && level + 1 < F::LEVELS.len()
            {
                self.examine_below(next, level + 1, low, each, strange);
            }
        }
    }

    /// Whether the walker stores such an entry at `level`.
    fn stores(entry: Entry, level: usize) -> bool {
        let here = F::LEVELS[level];
        match entry {
            Entry::Absent => true,
            Entry::Table(next) => {
                let below = F::LEVELS.get(level + 1);
                next.get() < F::PHYS_LIMIT
                    && below.is_some_and(|below| next.is_aligned(below.table_bytes()))
            }
            Entry::Leaf(phys, _) => {
                here.leaf && phys.get() < F::PHYS_LIMIT && phys.is_aligned(here.span())
            }
        }
    }

    /// The table of `level` at `frame`, whose first entry translates `base` (indices only).
    fn table_at(frame: PhysAddr, level: usize, base: u64) -> TableAt<I> {
        let here = F::LEVELS[level];
        TableAt {
            level,
            frame,
            bytes: here.table_bytes(),
            virt: Address::new(F::canonical(base)),
            span: here.span() << here.bits,
        }
    }
}
