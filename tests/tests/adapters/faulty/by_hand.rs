//! Mapping and unmapping by the crate's functions, with what they leave to their callers done by hand.

// UNSAFETY: calls the crate's functions, over tables behind which nothing lies.
#![expect(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use super::{Fault, Faulty};
use crate::arena::MIB;
use crate::mappers::window;
use hotmem::paging::testing::RecordingTlb;
use hotmem::paging::{
    Attr, Gather, MapError, Mapper, Mapping, TableFrame, TableFrames, Tlb as _, UnmapError,
};
use hotmem::{PhysAddr, VirtAddr, VirtRange};
use x86_64::structures::paging::mapper::{CleanUp, MapToError, Mapper as CratesMapper};
use x86_64::structures::paging::{FrameAllocator, FrameDeallocator, OffsetPageTable, Page};
use x86_64::structures::paging::{PageTableFlags as Flags, PhysFrame, Size2MiB, Size4KiB};

pub(super) const PAGE: u64 = 4096;

/// Passes frames of the check to the crate, and back.
pub(super) struct Frames<'f, S>(&'f S, Vec<PhysFrame>);

// SAFETY: the check's frames have no other use.
unsafe impl<S: TableFrames> FrameAllocator<Size4KiB> for Frames<'_, S> {
    fn allocate_frame(&mut self) -> Option<PhysFrame> {
        let frame = self.0.take(PAGE).ok()?.into_raw();
        let frame = PhysFrame::containing_address(x86_64::PhysAddr::new(frame.get()));
        self.1.push(frame);
        Some(frame)
    }
}

/// Collects the frames that `clean_up` frees.
pub(super) struct Freed(Vec<PhysFrame>);

impl FrameDeallocator<Size4KiB> for Freed {
    unsafe fn deallocate_frame(&mut self, frame: PhysFrame) {
        self.0.push(frame);
    }
}

pub(super) fn table(frame: PhysFrame) -> TableFrame {
    // SAFETY: a frame of the check that was a table, and is freed.
    unsafe { TableFrame::new(PhysAddr::new(frame.start_address().as_u64()), PAGE) }
}

pub(super) fn page(at: VirtAddr) -> Page {
    Page::containing_address(x86_64::VirtAddr::new(at.get()))
}

pub(super) fn all(mapping: &Mapping) -> VirtRange {
    VirtRange::new(mapping.virt, mapping.len).unwrap()
}

pub(super) fn resized(range: VirtRange, len: u64) -> VirtRange {
    VirtRange::new(range.start(), len).unwrap()
}

impl Faulty {
    /// The loop of `map_to` that comes to mind first, with the undo that `fault` leaves.
    pub(super) fn map_by_hand<S: TableFrames>(
        &self,
        mapping: &Mapping,
        frames: &S,
    ) -> Result<(), MapError> {
        let mut frames = Frames(frames, Vec::new());
        let (mut done, mut failed) = (0, false);
        while done < mapping.len && !failed {
            let (virt, phys) = (mapping.virt.add(done), mapping.phys.add(done));
            let large = [virt.get(), phys.get(), mapping.max_leaf & (2 * MIB - 1)];
            let fits = large.iter().all(|bits| bits & (2 * MIB - 1) == 0);
            let large = fits && mapping.len - done >= 2 * MIB && mapping.max_leaf >= 2 * MIB;
            let attrs = (mapping.attr, self.above(mapping.attr));
            // SAFETY: nothing lies behind the tables of a rig.
            let mapped = unsafe {
                self.inner.with(|tables| map_one(tables, virt, phys, attrs, large, &mut frames))
            };
            failed = !mapped;
            done += if failed {
                0
            } else if large {
                2 * MIB
            } else {
                PAGE
            };
        }
        if failed { Err(self.undo_by_hand(mapping, done, frames)) } else { Ok(()) }
    }

    /// The accesses that the tables above a leaf allow.
    pub(super) fn above(&self, attr: Attr) -> Attr {
        let user = if self.fault == Fault::ForgetsUserAbove { Attr::empty() } else { Attr::USER };
        Attr::WRITE | (attr & user)
    }

    /// Takes empty tables out of the tree, by the crate's function.
    fn clean_up(&self, range: VirtRange) -> Vec<PhysFrame> {
        let mut freed = Freed(Vec::new());
        let pages = Page::range_inclusive(page(range.start()), page(range.end().add(u64::MAX)));
        let clean = |tables: &mut OffsetPageTable<'static>| {
            // SAFETY: nothing else frees tables meanwhile.
            unsafe { tables.clean_up_addr_range(pages, &mut freed) };
        };
        // SAFETY: nothing lies behind the tables of a rig.
        unsafe { self.inner.with(clean) };
        freed.0
    }

    fn undo_by_hand<S: TableFrames>(
        &self,
        mapping: &Mapping,
        done: u64,
        frames: Frames<'_, S>,
    ) -> MapError {
        let error = MapError::OutOfFrames(hotmem::paging::OutOfFrames { bytes: PAGE });
        if self.fault == Fault::LeavesPagesWhenItFails {
            return error;
        }
        let made = resized(all(mapping), done);
        let keeps = Keeps(frames.0);
        let flushes = self.fault != Fault::UndoesWithAFlushOfOnePage;
        let tlb = if flushes { self.inner.tlb() } else { &self.aside };
        let mut gather = Gather::keeping_tables(tlb, &keeps);
        let unmapped = self.inner.unmap(made, &mut gather);
        if self.fault == Fault::LeavesTablesWhenItFails {
            gather.conclude(unmapped).unwrap();
            return error;
        }
        let freed = self.clean_up(all(mapping));
        let free = || freed.iter().for_each(|&frame| frames.0.give_back(table(frame)));
        if self.fault == Fault::FreesTablesOfAnUndoBeforeTheFlush {
            free();
            gather.conclude(unmapped).unwrap();
        } else {
            gather.conclude(unmapped).unwrap();
            // Enough for the tables, and for one of the leaves.
            self.inner.tlb().flush(&[resized(all(mapping), PAGE)]).unwrap();
            free();
        }
        error
    }

    /// Whether a mapping is of whole pages in the window, to addresses that an entry can name.
    pub(super) fn is_valid(&self, mapping: &Mapping) -> bool {
        let bits = mapping.virt.get() | mapping.phys.get() | mapping.len;
        let end = mapping.phys.checked_add(mapping.len);
        let range = VirtRange::new(mapping.virt, mapping.len);
        range.is_some_and(|range| !range.is_empty() && window().covers(range))
            && bits % PAGE == 0
            && end.is_some_and(|end| end.get() < 1 << 52)
    }

    /// Whether a valid mapping meets no leaf.
    pub(super) fn is_free(&self, mapping: &Mapping) -> bool {
        let mut leaves = 0;
        if self.is_valid(mapping) {
            self.inner.visit(all(mapping), &mut |_| leaves += 1);
        }
        leaves == 0 && self.is_valid(mapping)
    }

    /// Leaves it to `map_to` to refuse.
    pub(super) fn map_over(&self, mapping: &Mapping) {
        let none = NoFrames;
        let mut frames = Frames(&none, Vec::new());
        let Mapping { virt, phys, attr, .. } = *mapping;
        // SAFETY: nothing lies behind the tables of a rig.
        unsafe {
            self.inner.with(|tables| map_one(tables, virt, phys, (attr, attr), false, &mut frames))
        };
    }

    /// `unmap` and `clean_up` of the crate.
    pub(super) fn unmap_by_hand<S: TableFrames>(
        &self,
        range: VirtRange,
        gather: &mut Gather<'_, RecordingTlb, S>,
    ) -> Result<(), UnmapError> {
        let lost = NoFrames;
        let mut aside = Gather::keeping_tables(&self.aside, &lost);
        let unmapped = self.inner.unmap(range, &mut aside);
        aside.conclude(unmapped)?;
        if range.is_empty() {
            return Ok(());
        }
        let one_page = self.fault == Fault::GivesTheGatherOnePage;
        gather.cleared(if one_page { resized(range, PAGE) } else { range });
        let stays = gather.keeps_tables() && self.fault != Fault::CleansUpTablesThatStay;
        if stays || self.fault == Fault::LeavesEmptyTables {
            return Ok(());
        }
        let freed = self.clean_up(range);
        if self.fault == Fault::LosesTables {
            return Ok(());
        }
        for frame in freed {
            gather.detached(table(frame), range);
            if self.fault == Fault::DetachesATableTwice {
                gather.detached(table(frame), range);
            }
        }
        Ok(())
    }
}

/// One `map_to`, with parents that allow no more than stores.
pub(super) fn map_one<S: TableFrames>(
    tables: &mut OffsetPageTable<'static>,
    virt: VirtAddr,
    phys: PhysAddr,
    (attr, above): (Attr, Attr),
    large: bool,
    frames: &mut Frames<'_, S>,
) -> bool {
    let mut flags = Flags::PRESENT;
    flags.set(Flags::WRITABLE, attr.contains(Attr::WRITE));
    flags.set(Flags::USER_ACCESSIBLE, attr.contains(Attr::USER));
    flags.set(Flags::NO_EXECUTE, !attr.contains(Attr::EXECUTE));
    flags.set(Flags::NO_CACHE | Flags::WRITE_THROUGH, attr.contains(Attr::DEVICE));
    let mut parents = Flags::PRESENT | Flags::WRITABLE;
    parents.set(Flags::USER_ACCESSIBLE, above.contains(Attr::USER));
    let at = x86_64::PhysAddr::new(phys.get());
    let virt = x86_64::VirtAddr::new(virt.get());
    if large {
        let page = Page::<Size2MiB>::containing_address(virt);
        let frame = PhysFrame::<Size2MiB>::containing_address(at);
        // SAFETY: nothing lies behind the tables of a rig.
        let mapped = unsafe { tables.map_to_with_table_flags(page, frame, flags, parents, frames) };
        return !matches!(
            mapped.map(|flush| flush.ignore()),
            Err(MapToError::FrameAllocationFailed)
        );
    }
    let page = Page::<Size4KiB>::containing_address(virt);
    let frame = PhysFrame::<Size4KiB>::containing_address(at);
    // SAFETY: as above.
    let mapped = unsafe { tables.map_to_with_table_flags(page, frame, flags, parents, frames) };
    !matches!(mapped.map(|flush| flush.ignore()), Err(MapToError::FrameAllocationFailed))
}

/// No frames: what is freed to it is lost.
pub(super) struct NoFrames;

impl TableFrames for NoFrames {
    fn take(&self, bytes: u64) -> Result<TableFrame, hotmem::paging::OutOfFrames> {
        Err(hotmem::paging::OutOfFrames { bytes })
    }

    fn give_back(&self, frame: TableFrame) {
        let _lost = frame.into_raw();
    }
}

/// Frames of the check.
pub(super) struct Keeps<'f, S>(&'f S);

impl<S: TableFrames> TableFrames for Keeps<'_, S> {
    fn take(&self, bytes: u64) -> Result<TableFrame, hotmem::paging::OutOfFrames> {
        self.0.take(bytes)
    }

    fn give_back(&self, frame: TableFrame) {
        self.0.give_back(frame);
    }
}
