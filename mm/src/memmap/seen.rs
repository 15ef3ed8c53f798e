//! The memmap while what it shows cannot go. Sections, records and descriptors are reached by it alone, and it is
//! made from a guard alone.

// UNSAFETY: declares who may do without a guard.
#![expect(unsafe_code)]

use crate::addr::Pfn;
use crate::impossible::impossible;
use crate::machine::Machine;
use crate::memmap::Memmap;
use crate::memmap::keeps::Keeps;
use crate::memmap::page::Page;
use crate::memmap::section::{Section, SectionWord, descriptor, section_of};
use core::fmt;
use core::ops::Deref;

/// The memmap, seen under a guard.
pub(crate) struct Seen<'g, M: Machine>(&'g Memmap<M>);

impl<M: Machine> Clone for Seen<'_, M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M: Machine> Copy for Seen<'_, M> {}

impl<M: Machine> fmt::Debug for Seen<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seen(..)")
    }
}

impl<M: Machine> Deref for Seen<'_, M> {
    type Target = Memmap<M>;

    fn deref(&self) -> &Memmap<M> {
        self.0
    }
}

impl<'g, M: Machine> Seen<'g, M> {
    /// The memmap under a guard that is not borrowed itself.
    ///
    /// # Safety
    ///
    /// Such a guard (see [`Keeps`]) is there for as long as `'g`.
    pub(crate) const unsafe fn vouched(memmap: &'g Memmap<M>) -> Self {
        Self(memmap)
    }

    /// The memmap, for as long as the guard.
    pub(crate) const fn memmap(self) -> &'g Memmap<M> {
        self.0
    }
}

impl<'g, M: Machine> Seen<'g, M> {
    /// The section `number`, if it is there.
    pub(crate) fn section(self, number: u64) -> Option<Section<'g, M>> {
        let memmap = self.memmap();
        Section::get(&memmap.sections, &memmap.machine, number)
    }

    /// The section `number` with a word that the map does not show yet, or no more: for the operation that shows or
    /// hides it, while its memmap is mapped.
    pub(crate) fn hidden_section(self, number: u64, word: SectionWord) -> Section<'g, M> {
        Section::with_word(&self.memmap().machine, number, word)
    }

    /// The section that holds `pfn`, if it is there.
    pub(crate) fn section_at(self, pfn: Pfn) -> Option<Section<'g, M>> {
        self.section(section_of::<M>(pfn))
    }

    /// The section that holds `pfn`, which the caller knows to be there.
    #[track_caller]
    pub(crate) fn known_section(self, pfn: Pfn) -> Option<Section<'g, M>> {
        let section = self.section_at(pfn);
        if section.is_none() {
            impossible("no section holds this frame", pfn.get());
        }
        section
    }

    /// The descriptor of `pfn`, of a section that is there.
    pub(crate) fn page(self, pfn: Pfn) -> &'g Page {
        descriptor(&self.memmap().machine, pfn)
    }
}

impl<M: Machine> Memmap<M> {
    /// The memmap under a guard.
    pub(crate) const fn seen<'g>(&'g self, _guard: &'g impl Keeps) -> Seen<'g, M> {
        Seen(self)
    }
}

#[cfg(test)]
impl<M: Machine> Memmap<M> {
    /// The memmap without a guard, for a test that has the machine for itself.
    pub(crate) const fn alone(&self) -> Seen<'_, M> {
        Seen(self)
    }
}
