//! Where the bad memory of a block is, so that the mark of the block goes with it.
//!
//! ```text
//!   block    [ a a a a X a a a b b b b b b ]  marked: it does not come online again
//!   online     X is a page that no one gets, or the memmap's head says that a page of the memmap is bad
//!   offline    bad 0 0 1 0 0 0 0               in the records, a bit for each subsection
//!            [ . . . . . . . . b b b b b b ]  a has left: the mark goes
//! ```
//!
//! The word of a record that holds these bits has another use while the block is online.

use crate::addr::{Pfn, PfnRange};
use crate::machine::Machine;
use crate::memmap::block::{BlockId, BlockWord};
use crate::memmap::page::{Owner, PageState};
use crate::memmap::section::{Section, parts_touched, section_of};
use crate::memmap::seen::Seen;

/// Marks the block of `pfn`, of which a page is bad, for as long as the share of `pfn` is there.
pub(crate) fn mark<M: Machine>(memmap: Seen<'_, M>, pfn: Pfn) {
    let Some(record) = memmap.block_record(section_of::<M>(pfn)) else { return };
    if record.is_offline()
        && let Some(section) = memmap.section_at(pfn)
    {
        section.record().bad().insert(Section::<M>::part(pfn));
    }
    record.change_block(|word| BlockWord { poisoned: true, ..word });
}

/// Notes where the bad memory of a block is, of which the descriptors are still valid: it was online until now.
#[cold]
pub(crate) fn locate<M: Machine>(memmap: Seen<'_, M>, id: BlockId) {
    for pfn in bad_pages(memmap, id) {
        if let Some(section) = memmap.section_at(pfn) {
            section.record().bad().insert(Section::<M>::part(pfn));
        }
    }
}

/// Pages that show what is bad of a block whose descriptors are valid: one for a share whose memmap has a bad page.
fn bad_pages<M: Machine>(memmap: Seen<'_, M>, id: BlockId) -> impl Iterator<Item = Pfn> {
    memmap.shares(id).flat_map(move |share| {
        let head = share.group.map(|group| memmap.page(group.pfns.start));
        let first = head.filter(|head| head.has_bad_memmap()).map(|_| share.pfns.start);
        let extents = memmap.extents(share.pfns).filter_map(|(pfn, _, state)| {
            let bad = matches!(state, PageState::Used { owner: Owner::Poison, .. });
            bad.then_some(pfn)
        });
        first.into_iter().chain(extents)
    })
}

/// Whether bad memory of an offline block that is marked is in shares that have pages of `pfns`.
#[cold]
pub(crate) fn is_in<M: Machine>(memmap: Seen<'_, M>, id: BlockId, pfns: PfnRange) -> bool {
    let bad = |section: Section<'_, M>, parts| {
        let record = section.record();
        record.bad().bits() & record.present().bits() & parts != 0
    };
    let shares = memmap.shares(id).filter(|share| share.pfns.intersection(pfns).is_some());
    shares.map(|share| share.pfns).any(|pfns| {
        let mut sections = memmap.sections_of_block(id);
        sections.any(|section| bad(section, parts_touched::<M>(section.number(), pfns)))
    })
}

/// Unmarks a block if the bad memory has left, of which a part stays.
pub(crate) fn forget<M: Machine>(memmap: Seen<'_, M>, id: BlockId) {
    let Some(record) = memmap.block_record_of(id) else { return };
    if !record.is_poisoned() {
        return;
    }
    if !record.is_offline() {
        if bad_pages(memmap, id).next().is_none() {
            record.change_block(|word| BlockWord { poisoned: false, ..word });
        }
        return;
    }
    for record in memmap.sections_of_block(id).map(Section::record) {
        record.bad().set(record.bad().bits() & record.present().bits());
    }
    if !is_in(memmap, id, memmap.block_pfns(id)) {
        record.change_block(|word| BlockWord { poisoned: false, ..word });
    }
}
