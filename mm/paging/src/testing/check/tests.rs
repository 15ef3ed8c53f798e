//! Each broken rule of a mapper is found, and the check names it.

// UNSAFETY: mappers that break the contract deliberately.
#![expect(unsafe_code)]

use super::super::TinyPte;
use super::super::std::panic::{AssertUnwindSafe, catch_unwind};
use super::super::std::string::String;
use super::super::storm::WalkerRig;
use super::*;
use crate::addr::{PhysAddr, PhysRange, VirtAddr, VirtRange, Virtual};
use crate::{Attr, MapError, OutOfFrames, TableFrame, TableFrames, Translation, UnmapError};

type Inner = WalkerRig<TinyPte, Virtual>;

/// A fault of a mapper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    MapsLess,
    MapsOtherAttributes,
    MapsLargerLeaves,
    MapsSmallerLeaves,
    MapsOverSomething,
    MapsTheSameAgain,
    MapsPartsOfPages,
    MapsWhatNoEntryNames,
    LeavesAPageWithoutFrames,
    UnmapsMore,
    UnmapsLess,
    UnmapsALeafThatIsCut,
    UnmapsAPartBeforeItRefuses,
    LeavesOutOfTheGather,
    UnmapsForwards,
    LeavesEmptyTables,
    DetachesTablesThatAreKept,
    TranslatesHeadsOnly,
    TranslatesToTheAddress,
    VisitsBackwards,
    VisitsWholeLeavesOnly,
    ShowsTablesBelowFirst,
    LosesATable,
    AnnouncesNoTables,
    NotInTheTables,
}

/// The walker, with a fault.
struct Faulty {
    inner: Inner,
    fault: Fault,
}

/// Takes calls that a gather must not receive.
struct Lost;

impl TableFrames for Lost {
    fn take(&self, bytes: u64) -> Result<TableFrame, OutOfFrames> {
        Err(OutOfFrames { bytes })
    }

    fn give_back(&self, frame: TableFrame) {
        let _lost = frame.into_raw();
    }
}

const PAGE: u64 = 4096;

fn part(range: VirtRange, skip: u64, len: u64) -> VirtRange {
    VirtRange::new(range.start().add(skip), len).unwrap()
}

impl Faulty {
    /// Unmaps with another gather than the caller's.
    fn unmap_aside(&self, range: VirtRange, keep: bool) -> Result<(), UnmapError> {
        let mut aside = Gather::new(self.inner.mapper().tlb(), Lost);
        if keep {
            aside = aside.and_keep_tables();
        }
        let unmapped = self.inner.mapper().unmap(range, &mut aside);
        aside.conclude(unmapped)
    }

    fn map_wrong<S: TableFrames>(&self, mapping: &Mapping, frames: &S) -> Result<(), MapError> {
        let inner = self.inner.mapper();
        let mut asked = *mapping;
        match self.fault {
            Fault::MapsLess if asked.len > PAGE => asked.len -= PAGE,
            Fault::MapsOtherAttributes => asked.attr |= Attr::DEVICE,
            Fault::MapsLargerLeaves => asked.max_leaf = u64::MAX,
            Fault::MapsSmallerLeaves => asked.max_leaf = PAGE,
            Fault::MapsPartsOfPages => {
                asked.virt = asked.virt.align_down(PAGE);
                asked.phys = asked.phys.align_down(PAGE);
                asked.len = asked.len.next_multiple_of(PAGE);
            }
            Fault::MapsWhatNoEntryNames => {
                asked.phys = PhysAddr::new(asked.phys.get() & ((1 << 47) - 1));
            }
            _ => {}
        }
        let same = |leaf: Translation| leaf.phys == asked.phys && leaf.virt == asked.virt;
        match (self.fault, inner.map(&asked, frames)) {
            (Fault::MapsOverSomething, Err(MapError::AlreadyMapped { .. })) => Ok(()),
            (Fault::MapsTheSameAgain, Err(MapError::AlreadyMapped { .. }))
                if inner.translate(asked.virt).is_some_and(same) =>
            {
                Ok(())
            }
            (Fault::LeavesAPageWithoutFrames, Err(error @ MapError::OutOfFrames(_))) => {
                let _left = inner.map(&Mapping { len: PAGE, ..asked }, frames);
                Err(error)
            }
            (_, result) => result,
        }
    }

    fn unmap_wrong<S: TableFrames>(
        &self,
        range: VirtRange,
        gather: &mut Gather<'_, <Self as Mapper>::Tlb, S>,
    ) -> Result<(), UnmapError> {
        let inner = self.inner.mapper();
        let leaf = |at: VirtAddr| inner.translate(at).map(|leaf| leaf.range());
        match self.fault {
            Fault::UnmapsMore => {
                let next = leaf(range.end()).filter(|next| next.start() == range.end());
                if let Some(next) = next {
                    inner.unmap(next, gather)?;
                }
            }
            Fault::UnmapsLess if range.len() > PAGE => {
                let last = leaf(range.start().add(range.len() - PAGE));
                if let Some(last) = last.filter(|&last| range.covers(last)) {
                    let len = last.start().offset_from(range.start());
                    return inner.unmap(part(range, 0, len), gather);
                }
            }
            Fault::LeavesOutOfTheGather => return self.unmap_aside(range, true),
            Fault::LeavesEmptyTables | Fault::DetachesTablesThatAreKept => {
                let keep = self.fault == Fault::LeavesEmptyTables;
                if keep || gather.keeps_tables() {
                    self.unmap_aside(range, keep)?;
                    gather.cleared(range);
                    return Ok(());
                }
            }
            Fault::UnmapsForwards if range.len() > PAGE => {
                let half = (range.len() / 2).next_multiple_of(PAGE);
                let halves = [part(range, 0, half), part(range, half, range.len() - half)];
                if halves
                    .iter()
                    .all(|half| leaf(half.start()).is_none_or(|l| l.start() >= half.start()))
                {
                    return halves.iter().try_for_each(|&half| inner.unmap(half, gather));
                }
            }
            _ => {}
        }
        match (self.fault, inner.unmap(range, gather)) {
            (Fault::UnmapsALeafThatIsCut, Err(UnmapError::CutsLeaf { at, len })) => {
                inner.unmap(VirtRange::new(at, len).unwrap(), gather)
            }
            (Fault::UnmapsAPartBeforeItRefuses, Err(error)) => {
                for at in (0..range.len()).step_by(PAGE as usize) {
                    let _some = self.unmap_aside(part(range, at, PAGE), true);
                }
                Err(error)
            }
            (_, result) => result,
        }
    }
}

// SAFETY: it breaks the contract: the check must detect this.
unsafe impl Mapper for Faulty {
    type Tlb = <<Inner as MapperRig>::Mapper as Mapper>::Tlb;

    fn tlb(&self) -> &Self::Tlb {
        self.inner.mapper().tlb()
    }

    fn map<S: TableFrames>(&self, mapping: &Mapping, frames: &S) -> Result<(), MapError> {
        self.map_wrong(mapping, frames)
    }

    fn unmap<S: TableFrames>(
        &self,
        range: VirtRange,
        gather: &mut Gather<'_, Self::Tlb, S>,
    ) -> Result<(), UnmapError> {
        self.unmap_wrong(range, gather)
    }

    fn translate(&self, at: VirtAddr) -> Option<Translation> {
        let leaf = self.inner.mapper().translate(at)?;
        match self.fault {
            Fault::TranslatesHeadsOnly => {
                Some(leaf).filter(|leaf| leaf.virt == at.align_down(PAGE))
            }
            Fault::TranslatesToTheAddress => {
                Some(Translation { virt: at, phys: leaf.target(at), ..leaf })
            }
            _ => Some(leaf),
        }
    }

    fn visit(&self, range: VirtRange, each: &mut dyn FnMut(Translation)) {
        let mut leaves = Vec::new();
        self.inner.mapper().visit(range, &mut |leaf| leaves.push(leaf));
        match self.fault {
            Fault::VisitsBackwards => leaves.reverse(),
            Fault::VisitsWholeLeavesOnly => leaves.retain(|leaf| range.covers(leaf.range())),
            _ => {}
        }
        leaves.into_iter().for_each(each);
    }

    fn tables_for(&self, range: VirtRange, max_leaf: u64, each: &mut dyn FnMut(u64, u64)) {
        if self.fault != Fault::AnnouncesNoTables {
            self.inner.mapper().tables_for(range, max_leaf, each);
        }
    }

    fn visit_tables(&self, each: &mut dyn FnMut(TableAt)) {
        let mut tables = Vec::new();
        self.inner.mapper().visit_tables(&mut |table| tables.push(table));
        match self.fault {
            Fault::ShowsTablesBelowFirst => tables[1..].reverse(),
            Fault::LosesATable if tables.len() > 1 => _ = tables.pop(),
            _ => {}
        }
        tables.into_iter().for_each(each);
    }
}

impl MapperRig for Faulty {
    type Mapper = Self;

    fn mapper(&self) -> &Self {
        self
    }

    fn leaves(&self) -> &[u64] {
        self.inner.leaves()
    }

    fn window(&self) -> VirtRange {
        self.inner.window()
    }

    fn phys_limit(&self) -> PhysAddr {
        self.inner.phys_limit()
    }

    fn table_ram(&self) -> PhysRange {
        self.inner.table_ram()
    }

    fn spoil(&self, frame: PhysAddr, bytes: u64) {
        self.inner.spoil(frame, bytes);
    }

    fn walk(&self, at: VirtAddr) -> Option<(PhysAddr, Attr)> {
        self.inner.walk(at).filter(|_| self.fault != Fault::NotInTheTables)
    }
}

/// The message of the check for a fault.
fn found(fault: Fault) -> Option<String> {
    let faulty = Faulty { inner: Inner::new(), fault };
    let checked = catch_unwind(AssertUnwindSafe(|| check_mapper(&faulty, 1, 400)));
    checked.err().map(|why| *why.downcast::<String>().unwrap())
}

#[test]
fn a_correct_mapper_passes_the_check() {
    assert_eq!(found(Fault::None), None);
}

#[test]
fn each_broken_rule_is_found_and_named() {
    let mut missed = Vec::new();
    for (fault, name) in [
        (Fault::MapsLess, "after a map, visit shows other leaves"),
        (Fault::MapsOtherAttributes, "after a map, visit shows other leaves"),
        (Fault::MapsLargerLeaves, "after a map, visit shows other leaves"),
        (Fault::MapsSmallerLeaves, "after a map, visit shows other leaves"),
        (Fault::MapsOverSomething, "went over another mapping"),
        (Fault::MapsTheSameAgain, "the translation that is there already is mapped"),
        (Fault::MapsPartsOfPages, "not whole pages"),
        (Fault::MapsWhatNoEntryNames, "which no entry names"),
        (
            Fault::LeavesAPageWithoutFrames,
            "after a map that got no frame, visit shows other leaves",
        ),
        (Fault::UnmapsMore, "after an unmap, visit shows other leaves"),
        (Fault::UnmapsLess, "the gather was not given"),
        (Fault::UnmapsALeafThatIsCut, "a leaf is cut by unmapping"),
        (
            Fault::UnmapsAPartBeforeItRefuses,
            "after an unmap that was refused, visit shows other leaves",
        ),
        (Fault::LeavesOutOfTheGather, "the gather was not given"),
        (Fault::UnmapsForwards, "does not begin with the last address"),
        (Fault::LeavesEmptyTables, "after an unmap, an empty table is left"),
        (Fault::DetachesTablesThatAreKept, "tables that were to be kept"),
        (Fault::TranslatesHeadsOnly, "after a map, translate of"),
        (Fault::TranslatesToTheAddress, "after a map, translate of"),
        (Fault::VisitsBackwards, "in order"),
        (Fault::VisitsWholeLeavesOnly, "after a map, visit shows other leaves"),
        (Fault::ShowsTablesBelowFirst, "not after the table above it"),
        (Fault::LosesATable, "the tables that are there, and the frames in use"),
        (Fault::AnnouncesNoTables, "tables_for announced 0 tables"),
        (Fault::NotInTheTables, "after a map, the CPU's walk of"),
    ] {
        let found = found(fault).unwrap_or_default();
        if !found.contains(name) {
            missed.push((fault, found));
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
}
