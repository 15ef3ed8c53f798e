//! Checks the lists of caches: each is locked for one list at most.

use super::bag::Bag;
use super::counts::Counts;
use super::violation::{Violation, hold};
use crate::addr::{Pfn, PfnRange};
use crate::alloc::class::Class;
use crate::alloc::list::List;
use crate::alloc::node::NodeId;
use crate::alloc::zone::ZoneKind;
use crate::machine::Machine;
use crate::memmap::block::BlockState;
use crate::memmap::page::PageState;
use crate::memmap::record::Record;
use crate::memmap::section::section_of;

impl<M: Machine> Counts<'_, M> {
    /// Each extent in a cache has the state, the order and the zone of its list, and is in no range that is kept out
    /// of caches; each list has as many extents as its count.
    /// Adds them to `listed`.
    pub(super) fn check_cache(&self, cpu: usize, listed: &mut Bag) -> Result<(), Violation> {
        for index in 0.. {
            for part in 0..List::PARTS {
                if !self.check_cached(cpu, index, part, listed)? {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Checks a part of a list. Returns `false` if the cache does not have so many lists.
    fn check_cached(
        &self,
        cpu: usize,
        index: usize,
        part: usize,
        listed: &mut Bag,
    ) -> Result<bool, Violation> {
        let Some(cache) = self.allocator.caches.lock(cpu) else { return Ok(false) };
        let Some((kind, class, list)) = cache.all().nth(index) else { return Ok(false) };
        let (node, mut result) = (cache.node(), Ok(()));
        let whole = list.visit(*self.memmap, class, part, &mut |pfn| {
            result = self.check_cached_extent(pfn, node, kind, class);
            listed.insert(PfnRange::new(pfn, 1));
            result.is_ok()
        });
        result?;
        hold(4, "a list of a cache has as many extents as its count", cpu as u64, whole)?;
        Ok(true)
    }

    fn check_cached_extent(
        &self,
        pfn: Pfn,
        node: Option<NodeId>,
        kind: ZoneKind,
        class: Class,
    ) -> Result<(), Violation> {
        let order = class.order::<M>();
        let state = self.memmap.section_at(pfn).and_then(|at| at.head_state(pfn));
        let cached = state == Some(PageState::Cached { order });
        hold(4, "an extent in a cache is cached and of its order", pfn, cached)?;
        let block = self.memmap.block_record(section_of::<M>(pfn)).and_then(Record::sound_block);
        let home = block.map(|word| (Some(word.node), word.state));
        let here = home == Some((node, BlockState::Online(kind)));
        hold(4, "an extent in a cache is of its zone", pfn, here)?;
        let open = !self.allocator.caches.closing.is_in_closed(pfn, order);
        hold(4, "a range that is being emptied has no cached page", pfn, open)
    }
}
