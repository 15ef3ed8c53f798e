//! System memory held by operations: counted, and each frame used once (invariants 4 and 5).

use super::bag::Bag;
use super::violation::{Subject, Violation, expect, hold};
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
                // An order that is damaged is found later.
                let pages = pages.min(block.pfns.end.offset_from(pfn));
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
                && self.can_load(frame)
                && is_good(&M::pfn(frame));
            if !known || unused + count >= free {
                stray = Some(frame);
                return false;
            }
            held.remove(M::pfn(frame));
            count += 1;
            true
        });
        let at = stray.unwrap_or_default();
        hold(4, "the reserve's list holds its frames, each once", at, stray.is_none())?;
        expect(4, "free frames of the reserve", never.start(), unused + count, free)
    }

    /// The pages that are held for tables and nodes are those that contain tables and nodes: none is lost, and none
    /// that is in use is free. A page has room for more tables exactly if it is on a list of such pages.
    fn check_tables(&self, held: &Bag) -> Result<(), Violation> {
        let frames = self.allocator.table_frames();
        let (mut used, mut roomy, mut pieces, mut counted) = (Bag::default(), Bag::default(), 0, 0);
        let mut result = Ok(());
        let mut visit = |at: PhysAddr, bytes: u64| {
            if result.is_err() || !frames.owns(at) {
                return;
            }
            // A bad page has no owner once its tables are freed.
            let good = !frames.is_bad(at);
            if bytes >= M::PAGE_BYTES && good {
                used.insert(PfnRange::new(M::pfn(at), bytes / M::PAGE_BYTES));
            }
            if bytes >= M::PAGE_BYTES {
                return;
            }
            pieces += 1;
            let page = at.align_down(M::PAGE_BYTES);
            let piece = self.can_load(page).then(|| frames.piece(at, bytes)).flatten();
            let Some(piece) = piece else {
                result = hold(5, "a shared page counts its table", at, false);
                return;
            };
            if piece.first {
                let page = PfnRange::new(M::pfn(at), 1);
                counted += 1 + piece.others;
                if good {
                    used.insert(page);
                }
                if good && piece.room {
                    roomy.insert(page);
                }
            }
        };
        self.memmap.mapper().visit_tables(&mut |table| visit(table.frame, table.bytes));
        self.memmap.sections().nodes().for_each(|node| visit(node, NODE_BYTES));
        result?;
        expect(4, "tables and nodes in shared pages", 0, pieces, self.allocator.frames.pieces())?;
        expect(4, "pieces in use of shared pages", 0, pieces, counted)?;
        let mut listed = Bag::default();
        let wrong = frames.find_wrong_room(&mut |page| {
            listed.insert(PfnRange::new(M::pfn(page), 1));
            let aligned = page.is_aligned(M::PAGE_BYTES) && listed.pages <= roomy.pages;
            aligned && frames.owns(page) && self.can_load(page)
        });
        let at = wrong.unwrap_or_default();
        hold(4, "a page on a list has room for more tables", at, wrong.is_none())?;
        hold(4, "a page with room for more tables is on a list", 0, listed == roomy)?;
        expect(5, "pages that hold tables and nodes", 0, held.pages, used.pages)?;
        hold(5, "the pages held for tables and nodes are theirs", 0, *held == used)
    }

    /// Whether the linear map leads to `frame`, and it can be read there.
    fn can_load(&self, frame: PhysAddr) -> bool {
        let machine = self.memmap.machine();
        frame < machine.phys_limit() && machine.can_load(machine.linear_base().add(frame.get()))
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
        hold(
            5,
            "the memmap of a boot section is in one piece",
            Subject::Section(number),
            next.is_some(),
        )?;
        let above = (number / M::RECORD_SECTIONS + 1) * M::RECORD_SECTIONS;
        let mut others = (above..=last).filter(|&other| self.is_boot(other));
        let shared = others.any(|other| backing(other) == start);
        hold(5, "boot sections have memmaps of their own", Subject::Section(number), !shared)
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
