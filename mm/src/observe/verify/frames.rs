//! System memory held by operations: counted, and each frame used once (invariants 4 and 5).

use super::violation::{Violation, expect, hold};
use crate::addr::{Pfn, PfnRange, PhysAddr};
use crate::alloc::Allocator;
use crate::alloc::zone::ZoneKind;
use crate::machine::Machine;
use crate::memmap::block::BlockState;
use crate::memmap::page::{Owner, PageState};
use crate::memmap::section::{NODE_BYTES, record_pfns};
use crate::memmap::whole::Whole;
use crate::paging::Mapper;
use crate::turn::Look;

/// A multiset of pages, compared by a sum of hashes: two different ones are equal once in 2^64 times, and the
/// comparison needs no memory.
#[derive(Default, PartialEq, Eq)]
struct Bag {
    pages: u64,
    sum: u64,
}

impl Bag {
    fn insert(&mut self, pfns: PfnRange) {
        self.pages += pfns.pages();
        self.sum = pfns.iter().fold(self.sum, |sum, pfn| sum.wrapping_add(mix(pfn)));
    }

    fn remove(&mut self, pfn: Pfn) {
        self.pages = self.pages.wrapping_sub(1);
        self.sum = self.sum.wrapping_sub(mix(pfn));
    }
}

/// The output step of splitmix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators").
fn mix(pfn: Pfn) -> u64 {
    let word = pfn.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}

/// Checks the frames of tables, nodes and memmaps.
pub(super) struct HeldFrames<'m, M: Machine> {
    allocator: &'m Allocator<M>,
    memmap: Whole<'m, M>,
}

impl<'m, M: Machine> HeldFrames<'m, M> {
    pub(super) fn of(allocator: &'m Allocator<M>, look: &'m Look<'_, M>) -> Self {
        Self { allocator, memmap: look.seen() }
    }

    pub(super) fn check(&self) -> Result<(), Violation> {
        let (mut memmaps, mut tables, mut stranded) = (Bag::default(), Bag::default(), 0);
        let system = BlockState::Online(ZoneKind::System);
        for block in self.memmap.blocks().filter(|block| block.state == system) {
            for (pfn, pages, state) in self.memmap.extents(block.pfns) {
                let pfns = PfnRange::new(pfn, pages);
                match state {
                    PageState::Used { owner: Owner::Memmap, .. } => memmaps.insert(pfns),
                    PageState::Used { owner: Owner::Table, .. } => tables.insert(pfns),
                    PageState::Used { owner: Owner::Stranded, .. } => stranded += pages,
                    _ => {}
                }
            }
        }
        let counted = self.allocator.frames.system_pages();
        expect(4, "pages that the operations hold", 0, memmaps.pages + tables.pages, counted)?;
        expect(4, "pages that are stranded", 0, stranded, self.allocator.frames.stranded())?;
        self.add_reserve(&mut tables)?;
        self.check_tables(&tables)?;
        self.check_memmaps(&memmaps)
    }

    /// Adds the frames of the reserve that are in use.
    fn add_reserve(&self, held: &mut Bag) -> Result<(), Violation> {
        let (handed_out, never) = self.allocator.frames.handed_out();
        let (pieces, free) = self.allocator.frames.reserve();
        let is_good = |pfn: &Pfn| !self.allocator.table_frames().is_bad(M::address(*pfn));
        for pfn in handed_out.flat_map(|piece| M::pfns(piece).iter()).filter(is_good) {
            held.insert(PfnRange::new(pfn, 1));
        }
        let (mut count, mut stray) = (0, None);
        let unused = M::pfns(never).iter().filter(is_good).count() as u64;
        self.allocator.frames.visit_returned(self.memmap.machine(), &mut |frame| {
            let known = pieces.iter().any(|piece| piece.contains(frame))
                && !never.contains(frame)
                && frame.is_aligned(M::PAGE_BYTES)
                && is_good(&M::pfn(frame));
            if !known || unused + count >= free {
                stray = Some(frame);
                return false;
            }
            held.remove(M::pfn(frame));
            count += 1;
            true
        });
        let at = stray.map_or(0, PhysAddr::get);
        hold(4, "the reserve's list holds its frames, each once", at, stray.is_none())?;
        expect(4, "free frames of the reserve", never.start().get(), unused + count, free)
    }

    /// The pages that are held for tables and nodes are those that contain tables and nodes: none is lost, and none
    /// that is in use is free.
    fn check_tables(&self, held: &Bag) -> Result<(), Violation> {
        let (mut used, mut pieces, mut result) = (Bag::default(), 0, Ok(()));
        let mut visit = |at: PhysAddr, bytes: u64| {
            if !self.allocator.table_frames().owns(at) {
                return;
            }
            // A bad page has no owner once its tables are freed.
            let good = !self.allocator.table_frames().is_bad(at);
            if bytes >= M::PAGE_BYTES && good {
                used.insert(PfnRange::new(M::pfn(at), bytes / M::PAGE_BYTES));
            }
            if bytes >= M::PAGE_BYTES {
                return;
            }
            pieces += 1;
            let first = self.allocator.table_frames().is_first_piece(at, bytes);
            if first == Some(true) && good {
                used.insert(PfnRange::new(M::pfn(at), 1));
            }
            let known = hold(5, "a shared page counts its table", at.get(), first.is_some());
            result = result.and(known);
        };
        self.memmap.mapper().visit_tables(&mut |table| visit(table.frame, table.bytes));
        self.memmap.sections().nodes().for_each(|node| visit(node, NODE_BYTES));
        result?;
        expect(4, "tables and nodes in shared pages", 0, pieces, self.allocator.frames.pieces())?;
        expect(5, "pages that hold tables and nodes", 0, held.pages, used.pages)?;
        hold(5, "the pages held for tables and nodes are theirs", 0, *held == used)
    }

    /// The pages that are held for memmaps are those that contain memmaps.
    fn check_memmaps(&self, held: &Bag) -> Result<(), Violation> {
        let mut used = Bag::default();
        let boot = self.records().filter(|&number| self.is_boot(number));
        let last = boot.last().unwrap_or(0);
        for number in self.records() {
            let Some(section) = self.memmap.section(number) else { continue };
            if section.word().boot() {
                self.check_apart(number, last)?;
            }
        }
        for block in self.memmap.blocks().filter(|block| !block.boot) {
            for share in self.memmap.shares(block.id).filter(|share| share.group.is_none()) {
                self.visit_memmap(share.pfns, &mut |pfns| used.insert(pfns));
            }
        }
        hold(5, "each frame of a boot memmap is used once", 0, *held == used)
    }

    /// The present sections, the first of those that share a record.
    fn records(&self) -> impl Iterator<Item = u64> + '_ {
        let mut last = None;
        let numbers = self.memmap.sections().iter(self.memmap.machine());
        numbers.filter(move |number| {
            let record = number / M::RECORD_SECTIONS;
            last.replace(record) != Some(record)
        })
    }

    /// No boot section above this one, up to `last`, has its memmap at the same place, except for those that share
    /// its record. Each memmap is one aligned piece, so it suffices to compare their starts; the number of boot
    /// sections is fixed at boot.
    fn check_apart(&self, number: u64, last: u64) -> Result<(), Violation> {
        let backing = |number| {
            let virt = self.memmap.windows().memmap_virt(record_pfns::<M>(number)).start();
            self.memmap.mapper().translate(virt).map(|leaf| leaf.target(virt))
        };
        let start = backing(number);
        let mut next = start.map(|start| M::pfn(start).get());
        self.visit_memmap(record_pfns::<M>(number), &mut |pfns| {
            next = next.filter(|&next| next == pfns.start.get()).map(|_| pfns.end.get());
        });
        hold(5, "the memmap of a boot section is in one piece", number, next.is_some())?;
        let above = (number / M::RECORD_SECTIONS + 1) * M::RECORD_SECTIONS;
        let mut others = (above..=last).filter(|&other| self.is_boot(other));
        let shared = others.any(|other| backing(other) == start);
        hold(5, "boot sections have memmaps of their own", number, !shared)
    }

    fn is_boot(&self, number: u64) -> bool {
        self.memmap.sections().word(self.memmap.machine(), number).boot()
    }

    /// Calls `each` with the frames of the descriptors of `pfns`, in order.
    fn visit_memmap(&self, pfns: PfnRange, each: &mut dyn FnMut(PfnRange)) {
        let virt = self.memmap.windows().memmap_virt(pfns);
        self.memmap.mapper().visit(virt, &mut |leaf| {
            let start = leaf.virt.max(virt.start());
            let end = leaf.virt.add(leaf.len).offset_from(start).min(virt.end().offset_from(start));
            each(PfnRange::new(M::pfn(leaf.target(start)), end / M::PAGE_BYTES));
        });
    }
}
