//! The entries of the root table that translate the two windows, for address spaces that share them.

use crate::addr::{VirtAddr, VirtRange};
use crate::machine::Machine;
use crate::memmap::vmemmap::Windows;
use crate::paging::Mapper;

/// Entries that are checked together.
const BATCH: u64 = u64::BITS as u64;

/// The entries of the root table that translate a byte of a window.
#[derive(Clone, Copy)]
pub(crate) struct RootEntries {
    first: VirtAddr,
    count: u64,
    /// Bytes that each entry translates.
    bytes: u64,
}

impl RootEntries {
    pub(crate) fn of(window: VirtRange, bytes: u64) -> Self {
        let first = window.start().align_down(bytes);
        let skipped = window.start().offset_from(first);
        Self { first, count: window.len().saturating_add(skipped).div_ceil(bytes), bytes }
    }

    fn at(&self, index: u64) -> VirtAddr {
        self.first.add(index.wrapping_mul(self.bytes))
    }

    /// The first entry that does not point to a table.
    pub(crate) fn without_table(&self, mapper: &impl Mapper) -> Option<VirtAddr> {
        self.batches().find_map(|first| {
            let missing = self.missing(mapper, first);
            (missing != 0).then(|| self.at(first + u64::from(missing.trailing_zeros())))
        })
    }

    /// The addresses of the entries from `first` on whose bits are set.
    pub(crate) fn of_bits(self, first: u64, bits: u64) -> impl Iterator<Item = VirtAddr> {
        (0..BATCH).filter(move |bit| bits >> bit & 1 != 0).map(move |bit| self.at(first + bit))
    }

    /// The first of each group of entries that are checked together.
    pub(crate) fn batches(&self) -> impl Iterator<Item = u64> + use<> {
        (0..self.count).step_by(BATCH as usize)
    }

    /// A bit for each of the entries from `first` on that does not point to a table.
    pub(crate) fn missing(&self, mapper: &impl Mapper, first: u64) -> u64 {
        let mut there = 0_u64;
        mapper.visit_tables(&mut |table| {
            let index = table.virt.offset_from(self.first) / self.bytes;
            let right = table.level == 1 && table.span == self.bytes;
            if let Some(bit) = index.checked_sub(first)
                && bit < BATCH
                && right
                && self.at(index) == table.virt
            {
                there |= 1 << bit;
            }
        });
        let all = u64::MAX >> (BATCH - BATCH.min(self.count - first));
        all & !there
    }
}

impl<M: Machine> Windows<'_, M> {
    /// The root entries that address spaces share, of each window.
    pub(crate) fn shared_root_entries(&self) -> impl Iterator<Item = RootEntries> {
        let bytes = self.machine().root_entry_bytes();
        let windows = self.both().into_iter().flatten();
        windows.filter_map(move |window| Some(RootEntries::of(window, bytes?)))
    }
}

#[cfg(test)]
mod tests {
    use super::RootEntries;
    use crate::addr::VirtRange;
    use crate::paging::PteFormat;
    use crate::testing::{FakeMachine, Shape, Tiny, range};

    #[test]
    fn a_table_of_another_span_is_not_the_table_of_an_entry() {
        const MIB: u64 = 1 << 20;
        let (machine, _) = FakeMachine::<Tiny>::start(&[range(0, 4 * MIB)], 4096);
        let window = VirtRange::new(Tiny::LINEAR_BASE, 4 * MIB).unwrap();
        let bytes = <Tiny as Shape>::Format::LEVELS[0].span();
        let missing = |bytes| RootEntries::of(window, bytes).without_table(machine.tables());
        assert_eq!(missing(bytes), None);
        assert_eq!(missing(2 * bytes), Some(window.start()));
    }
}
