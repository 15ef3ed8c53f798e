//! Mappers as a kernel might write them over the crate `x86_64`, each with a fault: the check finds and names each.

// UNSAFETY: mappers that break the contract deliberately.
#![expect(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod by_hand;
mod rig;

use crate::arena::{Arena, MIB, all_attrs};
use crate::strict::Strict;
use by_hand::{PAGE, resized};
use hotmem::paging::testing::{RecordingTlb, check_mapper};
use hotmem::paging::x86_64::LockedTables;
use hotmem::paging::{
    Attr, Gather, MapError, Mapper, Mapping, TableAt, TableFrames, Tlb as _, Translation,
    UnmapError,
};
use hotmem::{VirtAddr, VirtRange};
use std::panic::{AssertUnwindSafe, catch_unwind};
use x86_64::structures::paging::OffsetPageTable;

/// What the mapper does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    LeavesPagesWhenItFails,
    LeavesTablesWhenItFails,
    UndoesWithAFlushOfOnePage,
    FreesTablesOfAnUndoBeforeTheFlush,
    MapsOverALeaf,
    MapsSmallPagesOnly,
    MapsTheNextFrame,
    MapsOnePageMore,
    MapsOnePageLess,
    ForgetsNoExecute,
    ForgetsUserAbove,
    DoesNotPublish,
    UnmapsOnePageMore,
    UnmapsWhatIsCut,
    UnmapsForwards,
    GivesTheGatherOnePage,
    LeavesEmptyTables,
    LosesTables,
    CleansUpTablesThatStay,
    DetachesATableTwice,
    NeedsMoreTablesThanItSays,
    VisitsOnePageMore,
    HidesATable,
}

/// The adapter, with a fault.
struct Faulty {
    inner: LockedTables<OffsetPageTable<'static>, RecordingTlb, Strict>,
    /// Caches that the rig does not see.
    aside: RecordingTlb,
    fault: Fault,
    attrs: Vec<Attr>,
    arena: Arena,
}

impl Faulty {
    fn new(fault: Fault) -> Self {
        let arena = Arena::new(64 * MIB);
        let tables = arena.offset_table();
        // SAFETY: only this value and the rig's walk use the tables.
        let inner = unsafe { LockedTables::new(tables, arena.root(), RecordingTlb::default()) };
        Self { inner, aside: RecordingTlb::default(), fault, attrs: all_attrs(), arena }
    }

    fn map_wrong<S: TableFrames>(&self, mapping: &Mapping, frames: &S) -> Result<(), MapError> {
        let mut asked = *mapping;
        let valid = asked.len >= PAGE && asked.len % PAGE == 0;
        match self.fault {
            Fault::MapsSmallPagesOnly => asked.max_leaf = PAGE,
            Fault::MapsTheNextFrame if asked.phys.get() < 1 << 40 => {
                asked.phys = asked.phys.add(2 * MIB);
            }
            Fault::MapsOnePageMore if valid => asked.len += PAGE,
            Fault::MapsOnePageLess if valid => asked.len -= PAGE,
            Fault::ForgetsNoExecute => asked.attr |= Attr::EXECUTE,
            _ => {}
        }
        let by_hand = [
            Fault::LeavesPagesWhenItFails,
            Fault::LeavesTablesWhenItFails,
            Fault::UndoesWithAFlushOfOnePage,
            Fault::FreesTablesOfAnUndoBeforeTheFlush,
            Fault::ForgetsUserAbove,
        ];
        let free = self.is_free(&asked);
        if free && by_hand.contains(&self.fault) {
            return self.map_by_hand(&asked, frames);
        }
        if self.fault == Fault::MapsOverALeaf && !free && self.is_valid(&asked) {
            self.map_over(&asked);
        }
        let mapped = self.inner.map(&asked, frames);
        if matches!(self.fault, Fault::MapsOnePageMore) && mapped.is_err() {
            return self.inner.map(mapping, frames);
        }
        mapped
    }

    fn unmap_wrong<S: TableFrames>(
        &self,
        range: VirtRange,
        gather: &mut Gather<'_, RecordingTlb, S>,
    ) -> Result<(), UnmapError> {
        let mut asked = range;
        let last = self.inner.translate(range.end());
        match self.fault {
            Fault::UnmapsOnePageMore if !range.is_empty() => {
                let more = last.filter(|leaf| leaf.virt == range.end());
                asked = resized(range, range.len() + more.map_or(0, |leaf| leaf.len));
            }
            Fault::UnmapsForwards if range.len() > PAGE => {
                let head = self.inner.translate(range.start()).map_or(PAGE, |leaf| leaf.len);
                let whole = self.inner.translate(range.start());
                let fits =
                    whole.is_some_and(|leaf| leaf.virt == range.start()) && head < range.len();
                let cut = last.is_some_and(|leaf| leaf.virt < range.end());
                if fits && !cut {
                    self.inner.unmap(resized(range, head), gather)?;
                    asked = VirtRange::new(range.start().add(head), range.len() - head).unwrap();
                }
            }
            Fault::LeavesEmptyTables
            | Fault::LosesTables
            | Fault::CleansUpTablesThatStay
            | Fault::GivesTheGatherOnePage
            | Fault::DetachesATableTwice => return self.unmap_by_hand(range, gather),
            _ => {}
        }
        match self.inner.unmap(asked, gather) {
            Err(UnmapError::CutsLeaf { at, len }) if self.fault == Fault::UnmapsWhatIsCut => {
                self.inner.unmap(VirtRange::new(at, len).unwrap(), gather)
            }
            result => result,
        }
    }
}

// SAFETY: it breaks the contract: the check must detect this.
unsafe impl Mapper for Faulty {
    type Tlb = RecordingTlb;

    fn tlb(&self) -> &RecordingTlb {
        self.inner.tlb()
    }

    fn map<S: TableFrames>(&self, mapping: &Mapping, frames: &S) -> Result<(), MapError> {
        let mapped = self.map_wrong(mapping, frames);
        match self.fault {
            Fault::DoesNotPublish => _ = self.inner.tlb().take(),
            _ if mapped.is_ok() => self.inner.tlb().publish(),
            _ => {}
        }
        mapped
    }

    fn unmap<S: TableFrames>(
        &self,
        range: VirtRange,
        gather: &mut Gather<'_, RecordingTlb, S>,
    ) -> Result<(), UnmapError> {
        self.unmap_wrong(range, gather)
    }

    fn translate(&self, at: VirtAddr) -> Option<Translation> {
        self.inner.translate(at)
    }

    fn visit(&self, range: VirtRange, each: &mut dyn FnMut(Translation)) {
        let more = u64::from(self.fault == Fault::VisitsOnePageMore) * PAGE;
        self.inner.visit(resized(range, range.len() + more), each);
    }

    fn tables_for(&self, range: VirtRange, max_leaf: u64, each: &mut dyn FnMut(u64, u64)) {
        let less = u64::from(self.fault == Fault::NeedsMoreTablesThanItSays);
        self.inner.tables_for(range, max_leaf, &mut |bytes, count| each(bytes, count - less));
    }

    fn visit_tables(&self, each: &mut dyn FnMut(TableAt)) {
        let hides = |table: &TableAt| self.fault == Fault::HidesATable && table.level == 3;
        self.inner.visit_tables(&mut |table| {
            if !hides(&table) {
                each(table);
            }
        });
    }
}

/// The message of the check for a fault. Some faults show only where a mapping fails in its middle.
fn found(fault: Fault) -> Option<String> {
    (1..8).find_map(|seed| found_with(fault, seed))
}

fn found_with(fault: Fault, seed: u64) -> Option<String> {
    let faulty = Faulty::new(fault);
    let checked = catch_unwind(AssertUnwindSafe(|| check_mapper(&faulty, seed, 600)));
    checked.err().map(|why| match why.downcast::<String>() {
        Ok(message) => *message,
        Err(why) => (*why.downcast::<&str>().unwrap()).to_owned(),
    })
}

#[test]
fn without_a_fault_the_mapper_passes() {
    assert_eq!(found(Fault::None), None);
}

#[test]
fn each_fault_of_a_mapper_over_the_crate_is_found_and_named() {
    let shown = "visit shows other leaves";
    let mut missed = Vec::new();
    for (fault, name) in [
        (Fault::LeavesPagesWhenItFails, "after a map that got no frame"),
        (Fault::LeavesTablesWhenItFails, "after a map that got no frame, an empty table is left"),
        (Fault::UndoesWithAFlushOfOnePage, "flush"),
        (Fault::FreesTablesOfAnUndoBeforeTheFlush, "a table is freed before the flush"),
        (Fault::MapsOverALeaf, shown),
        (Fault::MapsSmallPagesOnly, shown),
        (Fault::MapsTheNextFrame, shown),
        (Fault::MapsOnePageMore, shown),
        (Fault::MapsOnePageLess, shown),
        (Fault::ForgetsNoExecute, shown),
        (Fault::ForgetsUserAbove, "the CPU's walk of"),
        (Fault::DoesNotPublish, "a mapping is not published"),
        (Fault::UnmapsOnePageMore, "the gather was not given"),
        (Fault::UnmapsWhatIsCut, "a leaf is cut by unmapping"),
        (Fault::UnmapsForwards, "does not begin with the last address"),
        (Fault::GivesTheGatherOnePage, "the gather was not given"),
        (Fault::LeavesEmptyTables, "after an unmap, an empty table is left"),
        (Fault::LosesTables, "the gather lacks the table"),
        (Fault::CleansUpTablesThatStay, "which is kept, is freed"),
        (Fault::DetachesATableTwice, "freed, but not in use"),
        (Fault::NeedsMoreTablesThanItSays, "tables_for announced"),
        (Fault::VisitsOnePageMore, shown),
        (Fault::HidesATable, "the tables that are there, and the frames in use"),
    ] {
        let found = found(fault).unwrap_or_default();
        if !found.contains(name) {
            missed.push((fault, found));
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
}
