//! Invariants 5 and 6: the translations of the page tables.

use super::violation::{Violation, expect, hold};
use crate::addr::{PfnRange, PhysAddr, PhysRange, VirtAddr, VirtRange};
use crate::alloc::Allocator;
use crate::alloc::zone::ZoneKind;
use crate::geometry::DESCRIPTOR_BYTES;
use crate::machine::Machine;
use crate::memmap::block::{Block, BlockState};
use crate::memmap::page::{Owner, PageState};
use crate::memmap::section::SectionState;
use crate::memmap::section::sections_touched;
use crate::memmap::whole::Whole;
use crate::observe::snapshot::{HALVES, visit_rest};
use crate::paging::{Attr, Mapper, Translation};
use crate::turn::Look;

/// Tables that are collected at a time.
const TABLES: usize = 64;
/// Runs of written memory that are collected at a time.
const RUNS: usize = 32;

/// Memory that leaves outside the linear map can write, in runs.
#[derive(Default)]
struct Written {
    runs: [PhysRange; RUNS],
    count: usize,
}

impl Written {
    /// Adds the memory that `leaf` can write, if there is room.
    fn add(&mut self, leaf: &Translation) -> bool {
        let target = PhysRange::new(leaf.phys, leaf.len).unwrap_or_default();
        let last = self.count.checked_sub(1).and_then(|last| self.runs.get_mut(last));
        if let Some(last) = last.filter(|last| last.end() == target.start()) {
            *last = PhysRange::new(last.start(), last.len() + target.len()).unwrap_or_default();
            return true;
        }
        let slot = self.runs.get_mut(self.count);
        self.count += usize::from(slot.is_some());
        slot.map(|slot| *slot = target).is_some()
    }

    fn has(&self, range: PhysRange) -> bool {
        self.runs[..self.count].iter().any(|run| run.overlaps(range))
    }
}

/// Checks the translations of the page tables.
pub(super) struct Tables<'m, M: Machine> {
    pub(super) allocator: &'m Allocator<M>,
    pub(super) memmap: Whole<'m, M>,
}

impl<'m, M: Machine> Tables<'m, M> {
    pub(super) fn of(allocator: &'m Allocator<M>, look: &'m Look<'_, M>) -> Self {
        Self { allocator, memmap: look.seen() }
    }

    pub(super) fn check(&self) -> Result<(), Violation> {
        for start in HALVES {
            let mut next = Some(VirtAddr::new(start));
            while let Some(from) = next {
                next = self.check_leaves(from)?;
            }
        }
        for entries in self.memmap.windows().shared_root_entries() {
            let missing = entries.without_table(self.memmap.mapper());
            let at = missing.unwrap_or_default();
            hold(5, "a shared root entry points to a table", at, missing.is_none())?;
        }
        let mut done = 0;
        while let checked @ 1.. = self.check_some(done)? {
            done += checked;
        }
        Ok(())
    }

    /// Checks the leaves at or above `from`, in its half of the addresses, until there is no room to collect the
    /// memory that they can write. Returns the address to continue at.
    ///
    /// Checks that need the mapper run after it has returned: it may hold a lock.
    fn check_leaves(&self, from: VirtAddr) -> Result<Option<VirtAddr>, Violation> {
        let (mut written, mut next, mut result) = (Written::default(), None, Ok(()));
        visit_rest(self.memmap, from, &mut |leaf| {
            if next.is_some() || result.is_err() {
                return;
            }
            if self.may_alias(&leaf) && !written.add(&leaf) {
                next = Some(leaf.virt);
                return;
            }
            result = self.check_leaf(&leaf);
        });
        result.and_then(|()| self.check_aliases(&written))?;
        Ok(next)
    }

    /// Checks as many tables as there is room for, except the first `done`. Returns how many.
    fn check_some(&self, done: usize) -> Result<usize, Violation> {
        let (mut seen, mut frames) = (0, [PhysAddr::default(); TABLES]);
        self.memmap.mapper().visit_tables(&mut |table| {
            if let Some(slot) = usize::checked_sub(seen, done).and_then(|at| frames.get_mut(at)) {
                *slot = table.frame;
            }
            seen += 1;
        });
        let count = seen.saturating_sub(done).min(TABLES);
        frames[..count].iter().try_for_each(|&frame| self.check_table(frame))?;
        Ok(count)
    }

    /// No table that the manager made is empty: an empty table would be lost when the next map finds it, or waste
    /// its frame. Tables from before the manager stay, empty or not.
    ///
    /// Tables are collected some at a time, so that no look-up runs while the mapper enumerates tables.
    pub(super) fn check_filled(&self) -> Result<(), Violation> {
        const BATCH: usize = 64;
        let mut first = 0;
        loop {
            let (mut batch, mut seen) = ([None; BATCH], 0);
            self.memmap.mapper().visit_tables(&mut |table| {
                if table.level == 0 || !self.allocator.table_frames().owns(table.frame) {
                    return;
                }
                if (first..first + BATCH).contains(&seen) {
                    batch[seen - first] = Some(table);
                }
                seen += 1;
            });
            for table in batch.into_iter().flatten() {
                let mut maps = false;
                let range = VirtRange::new(table.virt, table.span).unwrap_or_default();
                self.memmap.mapper().visit(range, &mut |_| maps = true);
                hold(5, "a table maps something", table.frame, maps)?;
            }
            first += BATCH;
            if seen <= first {
                return Ok(());
            }
        }
    }

    /// Section nodes lie in system memory, each in a page that is held for it.
    pub(super) fn check_section_nodes(&self) -> Result<(), Violation> {
        self.memmap.sections().nodes().try_for_each(|node| {
            let system = self.is_system_memory(node);
            hold(5, "a section node lies in system memory", node, system)?;
            hold(5, "a section node's page is held for it", node, self.is_held(node))
        })
    }

    /// The linear map has all memory of a block and nothing else: a hole is unmapped, and so is a block that was taken.
    /// Boot memory with holes is skipped: the kernel decides what is mapped there.
    pub(super) fn check_linear_map(&self) -> Result<(), Violation> {
        for block in self.memmap.blocks() {
            if block.boot && !self.is_whole(&block) {
                continue;
            }
            let (mut mapped, mut there) = (0, 0);
            for share in self.memmap.shares(block.id) {
                let range = self.check_share(share.pfns)?;
                (mapped, there) = (mapped + range, there + share.pfns.pages() * M::PAGE_BYTES);
            }
            let expected = if block.taken { 0 } else { there };
            expect(6, "bytes of a block in the linear map", block.id, expected, mapped)?;
        }
        Ok(())
    }

    /// Checks that the mappings of a share of a block in the linear map are linear; returns their bytes.
    fn check_share(&self, pfns: PfnRange) -> Result<u64, Violation> {
        let range = PhysRange::new(M::address(pfns.start), pfns.pages() * M::PAGE_BYTES);
        let virt = self.memmap.windows().linear_virt(range.unwrap_or_default());
        let (mut mapped, mut result) = (0, Ok(()));
        self.memmap.mapper().visit(virt, &mut |leaf| {
            mapped += leaf.range().intersection(virt).map_or(0, VirtRange::len);
            let linear = self.linear_offset(&leaf) == Some(leaf.phys.get());
            result = result.and(judge(6, "the linear map is linear", &leaf, linear));
        });
        result.map(|()| mapped)
    }

    /// Whether a block is entirely RAM: if it is online, all of it is managed or memmap.
    fn is_whole(&self, block: &Block) -> bool {
        block.state == BlockState::Offline || block.counts.present == block.pfns.pages()
    }

    fn check_leaf(&self, leaf: &Translation) -> Result<(), Violation> {
        let both = leaf.attr.contains(Attr::WRITE | Attr::EXECUTE);
        judge(6, "a leaf is not writable and executable", leaf, !both)?;

        let target = PhysRange::new(leaf.phys, leaf.len).unwrap_or_default();
        let alias = self.memmap.machine().protected().iter().any(|range| range.overlaps(target));
        let writable = leaf.attr.contains(Attr::WRITE);
        judge(6, "protected memory has no writable mapping", leaf, !(alias && writable))?;

        if let Some(offset) = self.linear_offset(leaf) {
            judge(6, "the linear map is linear", leaf, offset == leaf.phys.get())?;
            if self.memmap.machine().linear_map_is_complete() {
                return Ok(());
            }
            self.check_linear_attr(leaf, alias)?;
            return self.check_span(6, "a linear leaf's memory is present", target);
        }
        let descriptors =
            self.memmap.machine().phys_limit().get() / M::PAGE_BYTES * DESCRIPTOR_BYTES;
        if let Some(offset) = offset_in(leaf, self.memmap.machine().vmemmap_base(), descriptors) {
            let pages = |bytes: u64| bytes / DESCRIPTOR_BYTES * M::PAGE_BYTES;
            let (start, end) = (PhysAddr::new(pages(offset)), pages(offset + leaf.len));
            let described = PhysRange::new(start, end - start.get()).unwrap_or_default();
            judge(6, "a memmap leaf is plain memory", leaf, leaf.attr == Attr::WRITE)?;
            return self.check_span(6, "a memmap leaf describes present memory", described);
        }
        self.check_elsewhere(leaf, target)
    }

    /// Memory of the manager is mapped as ordinary memory: writable, unless it is protected, and neither for
    /// unprivileged code nor as a device.
    fn check_linear_attr(&self, leaf: &Translation, protected: bool) -> Result<(), Violation> {
        let wrong = Attr::USER | Attr::DEVICE;
        judge(6, "a linear leaf is ordinary memory", leaf, !leaf.attr.intersects(wrong))?;
        if protected {
            return Ok(());
        }
        let plain = leaf.attr == Attr::WRITE;
        judge(6, "a linear leaf is writable and not executable", leaf, plain)
    }

    /// A leaf in neither window. It may map boot memory that was not taken, and memory that is not the manager's:
    /// devices, and firmware tables outside of RAM.
    fn check_elsewhere(&self, leaf: &Translation, target: PhysRange) -> Result<(), Violation> {
        let device = leaf.attr.contains(Attr::DEVICE);
        let changes = leaf.attr.intersects(Attr::WRITE | Attr::EXECUTE);
        for number in sections_touched::<M>(M::pfns(target)) {
            let word = self.memmap.sections().word(self.memmap.machine(), number);
            if word.state() == SectionState::Absent {
                let gone = changes || self.memmap.sections().was_removed(number);
                judge(6, "absent memory has no translation", leaf, device || !gone)?;
                continue;
            }
            judge(6, "added memory is mapped in the linear map only", leaf, device || word.boot())?;
            let block = self.memmap.block_record(number);
            let taken = block.is_some_and(|block| block.block().taken);
            judge(6, "taken memory has no translation", leaf, !taken)?;
        }
        Ok(())
    }

    /// `range` is inside one block (invariant 5), and is memory: in added memory all of it, added at once; in boot memory
    /// one of its sections, or of those that share its record.
    fn check_span(
        &self,
        invariant: u8,
        what: &'static str,
        range: PhysRange,
    ) -> Result<(), Violation> {
        let id = self.memmap.block_at(range.start());
        let last = self.memmap.block_at(range.end().add(1_u64.wrapping_neg()));
        hold(5, "a leaf spans one memory block", range.start(), id == last)?;
        let pfns = PfnRange { start: M::pfn(range.start()), end: M::pfn(range.end()) };
        let numbers = sections_touched::<M>(pfns);
        let mut sections = numbers.filter_map(|number| self.memmap.section_of_record(number));
        let boot = sections.any(|section| section.word().boot());
        let there = boot || self.memmap.shares(id).any(|share| share.pfns.covers(pfns));
        hold(invariant, what, range.start(), there)
    }

    /// A table lies in system memory, and the linear map can write it.
    fn check_table(&self, frame: PhysAddr) -> Result<(), Violation> {
        hold(5, "a table lies in system memory", frame, self.is_system_memory(frame))?;
        let linear =
            self.memmap.mapper().translate(self.memmap.machine().linear_base().add(frame.get()));
        let writable = linear.is_some_and(|leaf| leaf.attr.contains(Attr::WRITE));
        hold(6, "the linear map can write a table", frame, writable)?;
        hold(5, "a table's page is held for it", frame, self.is_held(frame))
    }

    /// Whether the allocator records the page of a table or node as one that must not be allocated.
    fn is_held(&self, frame: PhysAddr) -> bool {
        matches!(
            self.memmap.extent_of(M::pfn(frame)),
            Some((_, PageState::Used { owner, .. }))
                if matches!(owner, Owner::Boot | Owner::Table) || owner.is_out_of_use()
        )
    }

    /// Whether a leaf could write a table: a leaf outside the linear map, except for memmaps in added memory, where
    /// no table may be.
    fn may_alias(&self, leaf: &Translation) -> bool {
        let linear = self.linear_offset(leaf).is_some();
        let added = self.is_hot(leaf.phys) && self.is_hot(leaf.phys.add(leaf.len - 1));
        !linear && !added && leaf.attr.contains(Attr::WRITE)
    }

    /// No table lies in memory that another leaf than the linear map's can write.
    fn check_aliases(&self, written: &Written) -> Result<(), Violation> {
        if written.count == 0 {
            return Ok(());
        }
        let (what, mut result) = ("only the linear map writes a table", Ok(()));
        self.memmap.mapper().visit_tables(&mut |table| {
            let alias = PhysRange::new(table.frame, table.bytes).is_some_and(|at| written.has(at));
            result = result.and(hold(6, what, table.frame, !alias));
        });
        result
    }

    /// Whether `address` is in memory that is never removed: boot memory, and online as system memory.
    fn is_system_memory(&self, address: PhysAddr) -> bool {
        let Some(section) = self.memmap.section_at(M::pfn(address)) else { return false };
        let block = self.memmap.block_record(section.number());
        let state = block.map(|record| record.block().state);
        section.word().boot() && state == Some(BlockState::Online(ZoneKind::System))
    }

    /// The offset of a leaf in the linear map, if it is there.
    fn linear_offset(&self, leaf: &Translation) -> Option<u64> {
        offset_in(
            leaf,
            self.memmap.machine().linear_base(),
            self.memmap.machine().phys_limit().get(),
        )
    }

    fn is_hot(&self, address: PhysAddr) -> bool {
        let word =
            self.memmap.sections().word(self.memmap.machine(), address.get() >> M::SECTION_SHIFT);
        word.state() != SectionState::Absent && !word.boot()
    }
}

/// As [`hold`], for a leaf.
fn judge(
    invariant: u8,
    what: &'static str,
    leaf: &Translation,
    holds: bool,
) -> Result<(), Violation> {
    let named = |violation| Violation { leaf: Some(*leaf), ..violation };
    hold(invariant, what, leaf.virt, holds).map_err(named)
}

/// The offset of a leaf in the window of `len` bytes at `base`, if it is there.
fn offset_in(leaf: &Translation, base: VirtAddr, len: u64) -> Option<u64> {
    let window = VirtRange::new(base, len)?;
    window.contains(leaf.virt).then(|| leaf.virt.offset_from(window.start()))
}
