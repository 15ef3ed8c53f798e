//! Poison: a page whose memory is bad is taken out of use, one page at a time.
//!
//! A free page is quarantined at once. A movable page is migrated first, since failing memory is usually still
//! readable; an owner that cannot read it fails the migration. From then on its block is marked: it can go offline,
//! since a poisoned page does not block offlining, and does not come online again, until the bad memory has left it.

use crate::addr::{Order, Pfn, PfnRange};
use crate::alloc::Allocator;
use crate::alloc::batch::Cached;
use crate::alloc::buddy::set_owners_word;
use crate::alloc::evacuate::{Evacuation, Stuck};
use crate::alloc::isolate::Area;
use crate::alloc::lists::FreeLists;
use crate::alloc::zone::Zone;
use crate::geometry::DESCRIPTOR_BYTES;
use crate::machine::Machine;
use crate::memmap::bad;
use crate::memmap::block::BlockState;
use crate::memmap::page::{Owner, PageState};
use crate::memmap::section::{Section, section_of};
use crate::memmap::seen::Seen;

/// The outcome for a bad page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quarantined {
    /// It was free, or has been freed: it is never allocated again.
    Page,
    /// It holds page tables or nodes of the section map, which stay there. It is never allocated again once they are
    /// freed.
    Table,
    /// It holds descriptors: its block, and the block that they describe, are both marked.
    Memmap,
    /// Its block is offline, and stays so.
    Offline,
}

hotmem_paging::errors! {
    /// The reason why a bad page was not taken out of use. Nothing was changed, except that extents already migrated are
    /// not moved back.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[non_exhaustive]
    pub enum PoisonError {
        /// An operation is running.
        Busy => ("{}", crate::turn::BUSY),
        /// The page is not memory that the manager knows.
        NotMemory(pfn: Pfn) => "there is no memory at {pfn}",
        /// It is out of use already.
        Already(pfn: Pfn) => "{pfn} is out of use already",
        /// It is unmovable, or its owner, whose name is the last field, does not release it: the caller must handle
        /// that.
        InUse(pfn: Pfn, _: Owner, by: &'static str) => "{pfn} is held by {by}",
        /// Its extent, of this order, needs a free one elsewhere to migrate to, and memory lacks it.
        NoRoom(pfn: Pfn, order: Order) =>
            ("no free extent elsewhere for the {} pages around {pfn}", order.pages()),
    }
}

/// Takes bad pages out of use, for the operation under way.
pub(crate) struct Quarantine<'m, M: Machine> {
    allocator: &'m Allocator<M>,
    memmap: Seen<'m, M>,
}

impl<'m, M: Machine> Quarantine<'m, M> {
    pub(crate) const fn of(allocator: &'m Allocator<M>, memmap: Seen<'m, M>) -> Self {
        Self { allocator, memmap }
    }

    /// Takes a bad page out of use.
    pub(crate) fn poison(&self, pfn: Pfn) -> Result<Quarantined, PoisonError> {
        let section = self.memmap.section_at(pfn).ok_or(PoisonError::NotMemory(pfn))?;
        if !section.record().present().has(Section::<M>::part(pfn)) {
            return Err(PoisonError::NotMemory(pfn));
        }
        let group = self.memmap.group_of(section, pfn);
        if let Some(group) = group.filter(|group| group.pfns.contains(pfn)) {
            let descriptors = M::PAGE_BYTES / DESCRIPTOR_BYTES;
            let first = pfn.offset_from(group.pfns.start) * descriptors;
            self.memmap.page(group.pfns.start).set_bad_memmap();
            bad::mark(self.memmap, pfn);
            bad::mark(self.memmap, group.pfns.start.add(first));
            return Ok(Quarantined::Memmap);
        }
        let block = self.memmap.block_at(M::address(pfn));
        let block = self.memmap.describe_block(block).ok_or(PoisonError::NotMemory(pfn))?;
        if block.state == BlockState::Offline {
            bad::mark(self.memmap, pfn);
            return Ok(Quarantined::Offline);
        }
        let kind = self.take_online(pfn)?;
        bad::mark(self.memmap, pfn);
        Ok(kind)
    }

    /// Empties one page of an online block, and keeps it. A free page is taken in place; so is a page for tables,
    /// with or without tables in it.
    fn take_online(&self, pfn: Pfn) -> Result<Quarantined, PoisonError> {
        let area =
            Area::among(self.memmap, PfnRange::new(pfn, 1)).ok_or(PoisonError::NotMemory(pfn))?;
        let _closed = Cached::of(self.allocator).close_caches_to(PfnRange::new(pfn, 1));
        // Only operations change that, and this is one.
        let for_tables = self.allocator.table_frames().owns(M::address(pfn));
        let mut tables = None;
        {
            // An extent that is being split or merged has no head for a moment.
            let mut zone = self.allocator.nodes.lock(area.node, area.kind);
            match self.memmap.extent_of(pfn) {
                Some((head, PageState::Used { order, owner })) => match owner {
                    owner if owner.is_out_of_use() => return Err(PoisonError::Already(pfn)),
                    Owner::Movable(_) => {}
                    Owner::Offline => {
                        self.take_offline(pfn, (head, order, owner));
                        return Ok(Quarantined::Page);
                    }
                    owner if for_tables => {
                        let page = PfnRange::new(pfn, 1);
                        let extent = (head, order, owner);
                        FreeLists::of(self.memmap).hand_over(extent, page, Owner::Poison);
                        tables = Some(owner);
                    }
                    owner => return Err(self.poisons_used(pfn, owner)),
                },
                Some((head, state)) if self.take_free(&mut zone, pfn, head, state) => {
                    return Ok(Quarantined::Page);
                }
                _ => return Err(PoisonError::NotMemory(pfn)),
            }
        }
        if let Some(owner) = tables {
            let free = self.allocator.table_frames().withdraw(M::address(pfn), owner);
            return Ok(if free { Quarantined::Page } else { Quarantined::Table });
        }
        if self.allocator.turn.offlining.get().is_some() {
            return Err(PoisonError::Busy);
        }
        let emptied = Evacuation::begin_bad(self.allocator, area).run(self.allocator, self.memmap);
        let area = emptied.map_err(|stuck| match stuck {
            Stuck::Held(_, owner) => self.poisons_used(pfn, owner),
            Stuck::NoRoom(order) => PoisonError::NoRoom(pfn, order),
        })?;
        area.claim(self.allocator, self.memmap, Owner::Poison);
        Ok(Quarantined::Page)
    }

    /// Takes a page out of an extent that is offline, in a part of an online block.
    fn take_offline(&self, pfn: Pfn, extent: (Pfn, Order, Owner)) {
        let (page, whole) = (PfnRange::new(pfn, 1), PfnRange::new(extent.0, extent.1.pages()));
        FreeLists::of(self.memmap).hand_over(extent, page, Owner::Poison);
        // None of the new heads says that it was cleared.
        self.memmap.extents(whole).for_each(|(head, ..)| set_owners_word(self.memmap, head, 0));
    }

    fn poisons_used(&self, pfn: Pfn, owner: Owner) -> PoisonError {
        PoisonError::InUse(pfn, owner, self.allocator.owners.name(owner))
    }

    /// Takes a page out of a free or an isolated extent; returns `false` if the extent at `head` is neither.
    fn take_free(&self, zone: &mut Zone, pfn: Pfn, head: Pfn, state: PageState) -> bool {
        let (Some(section), Some(block)) =
            (self.memmap.section_at(head), self.memmap.block_record(section_of::<M>(pfn)))
        else {
            return false;
        };
        let lists = FreeLists::of(self.memmap);
        let whole = PfnRange::new(head, state.extent_pages());
        let (before, page) = (PfnRange { end: pfn, ..whole }, PfnRange::new(pfn, 1));
        let rest = [before, PfnRange { start: page.end, ..whole }];
        match state {
            PageState::Free { order } => {
                lists.unlink(zone, head, order);
                section.clear_head(head, order);
                zone.counts.free -= 1;
                rest.into_iter().for_each(|pfns| lists.insert_range(zone, pfns));
            }
            PageState::Isolated { order } => {
                section.clear_head(head, order);
                zone.isolated -= 1;
                let isolated = |order| PageState::Isolated { order };
                rest.into_iter().for_each(|pfns| lists.give_heads(pfns, isolated));
            }
            _ => return false,
        }
        lists.give_heads(page, |order| PageState::Used { order, owner: Owner::Poison });
        block.free().sub(1);
        true
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use crate::alloc::buddy::is_users;
    use crate::memmap::bad;
    use crate::testing::{Bench, Setup, Tiny, range};
    use crate::{NodeId, Order, Placement, ZoneKind};
    use std::thread;

    const MIB: u64 = 1 << 20;
    const WINDOW: u64 = 0x4000_0000;

    #[test]
    fn a_free_under_way_is_done_though_its_block_turns_out_bad_before_it_has_the_lock() {
        let ram = [(0, 32 * MIB, 0)].into_iter().collect();
        let setup = Setup { ram, block: MIB, window: (WINDOW, 64 * MIB), kernelcore: None };
        let bench = Bench::<Tiny>::new(&setup);
        bench.plug(range(WINDOW, MIB));
        bench.add(range(WINDOW, MIB), Placement::PerBlock);
        bench.online(range(WINDOW, MIB));
        let pfn = bench.alloc_movable_zone(Order::ZERO).unwrap();

        let zone = bench.mm.allocator().nodes.lock(NodeId::ZERO, ZoneKind::Movable);
        thread::scope(|scope| {
            // Bypasses the cache of its CPU.
            let free = scope.spawn(|| bench.mm.allocator().free_of(pfn, is_users));
            // Once a drain blocks, the thread has entered; it then proceeds up to the lock. No operation waits for look-ups
            // with a zone locked: this is not the machine's wait.
            while bench.mm.allocator().memmap.readers().drain(&crate::lock::relax).is_ok() {
                thread::yield_now();
            }
            (0..2000).for_each(|_| thread::yield_now());
            bad::mark(*bench.mm.allocator().memmap.alone(), pfn);
            drop(zone);
            assert_eq!(free.join().unwrap(), Ok(Order::ZERO));
        });
        bench.check();
    }
}
