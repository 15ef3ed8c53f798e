//! The memmap while its sections cannot be removed. Sections, records and descriptors are accessible only through
//! it, and only a guard of the same manager creates it: an operation or a look ([`Whole`](crate::memmap::whole::Whole)),
//! the turn, or the lock of a zone or of a cache. A look-up without a lock has it to itself, and shows only what
//! belongs to one frame (`lookup.rs`).

// UNSAFETY: declares a function that trusts its caller to have a guard.
#![expect(unsafe_code)]

use crate::addr::Pfn;
use crate::impossible::impossible;
use crate::machine::Machine;
use crate::memmap::Memmap;
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
    /// The memmap under a guard.
    ///
    /// # Safety
    ///
    /// For as long as `'g`, a guard exists that keeps the sections which the section map has as present or online,
    /// and their memmap, from being unmapped; at least those of the pages that the caller looks at. `memmap` is of
    /// the guard's manager.
    pub(crate) const unsafe fn vouched(memmap: &'g Memmap<M>) -> Self {
        Self(memmap)
    }

    /// The memmap, for as long as the guard.
    pub(crate) const fn memmap(self) -> &'g Memmap<M> {
        self.0
    }
}

impl<'g, M: Machine> Seen<'g, M> {
    /// The section `number`, if it is present.
    pub(crate) fn section(self, number: u64) -> Option<Section<'g, M>> {
        let memmap = self.memmap();
        Section::get(&memmap.sections, &memmap.machine, number)
    }

    /// The section `number` with a word that is not in the map yet, or no longer: for the operation that shows or
    /// hides it, while its memmap is mapped.
    pub(crate) fn hidden_section(self, number: u64, word: SectionWord) -> Section<'g, M> {
        Section::with_word(&self.memmap().machine, number, word)
    }

    /// The section that contains `pfn`, if it is present.
    pub(crate) fn section_at(self, pfn: Pfn) -> Option<Section<'g, M>> {
        self.section(section_of::<M>(pfn))
    }

    /// The section that contains `pfn`, if it is present: without a look at the map if that is `last`.
    #[inline]
    pub(crate) fn section_after(
        self,
        last: Option<Section<'g, M>>,
        pfn: Pfn,
    ) -> Option<Section<'g, M>> {
        let same = last.filter(|last| last.number() == section_of::<M>(pfn));
        same.or_else(|| self.section_at(pfn))
    }

    /// The section that holds `pfn`, if it is online.
    #[inline]
    pub(crate) fn online_section_at(self, pfn: Pfn) -> Option<Section<'g, M>> {
        let memmap = self.memmap();
        Section::online(&memmap.sections, &memmap.machine, section_of::<M>(pfn))
    }

    /// The section that holds `pfn`, which the caller knows to be there.
    #[track_caller]
    pub(crate) fn known_section(self, pfn: Pfn) -> Option<Section<'g, M>> {
        let section = self.section_at(pfn);
        if section.is_none() {
            impossible("this frame is in no section", pfn.get());
        }
        section
    }

    /// The descriptor of `pfn`, in a present section.
    pub(crate) fn page(self, pfn: Pfn) -> &'g Page {
        descriptor(&self.memmap().machine, pfn)
    }
}
