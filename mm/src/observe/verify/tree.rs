//! The tree of page tables, before anything relies on it: each table is checked before it is read.

use super::tables::Tables;
use super::violation::{Violation, hold};
use crate::addr::PhysAddr;
use crate::alloc::zone::ZoneKind;
use crate::machine::Machine;
use crate::paging::{Mapper, StrangeEntry, TableAt};

/// Levels of tables at most.
const LEVELS: usize = 8;
/// Tables that are not in memory of the manager, at most.
const OTHERS: u64 = 1 << 16;

impl<M: Machine> Tables<'_, M> {
    /// Each table can be read, and none is below itself; there are no more of them than memory has room for. So every
    /// walk that follows has an end, and touches only what can be read. Unless `foreign` is allowed, each entry has a
    /// word that the mapper stores.
    pub(super) fn check_tree(&self, foreign: bool) -> Result<(), Violation> {
        let (mut path, mut rest) = ([PhysAddr::default(); LEVELS], self.most_tables());
        let mut result = Ok(());
        let strange = self.memmap.mapper().examine(&mut |table| {
            if result.is_ok() {
                result = self.check_link(&table, &mut path, &mut rest);
            }
            result.is_ok()
        });
        result?;
        let Some(StrangeEntry { virt, at, word }) = strange.filter(|_| !foreign) else {
            return Ok(());
        };
        let is_known = hold(6, "an entry of a table is one of its format", at, false);
        let place = Some((self.memmap.machine().linear_base().add(at.get()), Some(at)));
        let of = virt.into();
        is_known.map_err(|found| Violation { of, place, expected: 0, found: word, ..found })
    }

    /// A table, before it is read. `path` has those above it; `rest` more may come.
    fn check_link(
        &self,
        table: &TableAt,
        path: &mut [PhysAddr; LEVELS],
        rest: &mut u64,
    ) -> Result<(), Violation> {
        let TableAt { level, frame, bytes, .. } = *table;
        let machine = self.memmap.machine();
        let end = frame.checked_add(bytes).filter(|&end| end <= machine.phys_limit());
        let pages = (0..bytes).step_by(M::PAGE_BYTES as usize);
        let near = frame.is_aligned(8) && end.is_some();
        let there = near
            && pages
                .into_iter()
                .all(|page| machine.can_load(machine.linear_base().add(frame.get()).add(page)));
        hold(5, "a table is in memory that can be read", frame, there)?;
        let Some((last, above)) = path.get_mut(..=level).and_then(|path| path.split_last_mut())
        else {
            return hold(5, "a table has few levels above it", frame, false);
        };
        hold(5, "a table is not below itself", frame, !above.contains(&frame))?;
        *last = frame;
        let few = rest.checked_sub(1);
        *rest = few.unwrap_or(0);
        hold(5, "memory has room for all tables", frame, few.is_some())
    }

    /// Tables that there can be: all are in system memory, or are the kernel's own.
    fn most_tables(&self) -> u64 {
        let nodes = &self.allocator.nodes;
        let managed = |node| nodes.lock(node, ZoneKind::System).counts().managed;
        let pages: u64 = nodes.populated(ZoneKind::System).map(managed).sum();
        pages.saturating_add(OTHERS)
    }
}
