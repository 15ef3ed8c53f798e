//! Tests break each invariant deliberately, in each way that the checks can distinguish, and the violation must name
//! it.

extern crate std;

use super::{Counts, HeldFrames, Tables, Violation};
use crate::addr::{Order, Pfn, PfnRange, PhysAddr, PhysRange, VirtAddr, VirtRange};
use crate::alloc::lists::FreeLists;
use crate::alloc::zone::PageCounts;
use crate::memmap::block::BlockWord;
use crate::memmap::page::{MAX_MOVERS, MAX_USERS, MoverId, Owner, PageState, UserId};
use crate::memmap::record::{Part, Record};
use crate::memmap::section::{Section, SectionState, SectionWord};
use crate::paging::{Attr, Mapper, Mapping};
use crate::testing::{Bench, FakeMachine, Setup, Tiny, range};
use crate::{NodeId, Placement, ZoneKind};
use core::sync::atomic::Ordering;

const MIB: u64 = 1 << 20;
const PAGE: u64 = 4096;
/// The address of the DIMM.
const DIMM: u64 = 64 * MIB;
/// Pages of a section, and of its memmap.
const SECTION: u64 = 256;
const MEMMAP: u64 = 4;
/// An address in neither the linear map nor the memmap.
const ELSEWHERE: VirtAddr = VirtAddr::new(0x9000_0000);

type Lab = Bench<Tiny>;

/// A machine with four sections added in blocks of `block` bytes.
fn added(block: u64, placement: Placement) -> Lab {
    let ram = [(0, 16 * MIB, 0)].into_iter().collect();
    let bench = Lab::new(&Setup { ram, block, window: (DIMM, 64 * MIB), kernelcore: None });
    bench.plug(dimm());
    bench.add(dimm(), placement);
    bench
}

/// The same, online.
fn online(block: u64, placement: Placement) -> Lab {
    let bench = added(block, placement);
    bench.online(dimm());
    bench
}

fn dimm() -> PhysRange {
    range(DIMM, 4 * MIB)
}

/// The DIMM's `nth` page.
fn pfn(nth: u64) -> Pfn {
    Pfn::new(DIMM / PAGE + nth)
}

/// The DIMM's `nth` section.
fn section(bench: &Lab, nth: u64) -> Section<'_, FakeMachine<Tiny>> {
    bench.mm.allocator().memmap.alone().section(DIMM / MIB + nth).unwrap()
}

fn record(bench: &Lab, nth: u64) -> Record<'_> {
    section(bench, nth).record()
}

/// The subsection that contains the DIMM's `nth` page.
fn part(nth: u64) -> Part {
    Section::<FakeMachine<Tiny>>::part(pfn(nth))
}

/// Fails unless `verify` names this violation.
#[track_caller]
fn names(bench: &Lab, invariant: u8, what: &str) {
    let Violation { invariant: found_invariant, what: found, .. } =
        bench.mm.verify_machine().unwrap_err();
    assert_eq!((found_invariant, found), (invariant, what));
}

/// Maps one leaf, or whole leaves, without the manager's knowledge.
fn map(bench: &Lab, virt: VirtAddr, phys: PhysAddr, len: u64, attr: Attr) {
    let mapping = Mapping { virt, phys, len, attr, max_leaf: len };
    bench
        .mm
        .allocator()
        .memmap
        .alone()
        .mapper()
        .map(&mapping, &bench.mm.allocator().table_frames())
        .unwrap();
}

fn unmap(bench: &Lab, virt: VirtAddr, len: u64) {
    let mut gather = bench.mm.allocator().gather(bench.mm.allocator().memmap.alone());
    let gone = VirtRange::new(virt, len).unwrap();
    bench.mm.allocator().memmap.alone().mapper().unmap(gone, &mut gather).unwrap();
    gather.flush().unwrap();
}

/// The address of the descriptor of the DIMM's `nth` page.
fn memmap_at(bench: &Bench<Tiny>, nth: u64) -> VirtAddr {
    bench.mm.memmap_virt(PfnRange::new(pfn(nth), 1)).start()
}

/// A page of boot memory that is not in use.
fn boot_page(bench: &Lab) -> PhysAddr {
    PhysAddr::new(bench.mm.take_pages(Order::ZERO).unwrap().get() * PAGE)
}

fn zone(bench: &Lab, change: impl FnOnce(&mut PageCounts)) {
    change(bench.mm.allocator().nodes.lock(NodeId::default(), ZoneKind::Movable).parts().0);
}

fn order(raw: u8) -> Order {
    Order::new(raw).unwrap()
}

mod descriptors;
mod system;
mod tables;

// Invariant 2.

#[test]
fn a_memmap_leaf_to_another_frame_is_named() {
    let bench = added(MIB, Placement::PerBlock);
    let leaf = memmap_at(&bench, SECTION).add(2 * PAGE);
    unmap(&bench, leaf, PAGE);
    map(&bench, leaf, boot_page(&bench), PAGE, Attr::WRITE);
    names(&bench, 2, "a memmap leaf");
}

#[test]
fn two_memmap_leaves_that_changed_places_are_named() {
    let bench = added(MIB, Placement::PerRange);
    let leaf = |page| memmap_at(&bench, 0).add(page * PAGE);
    unmap(&bench, leaf(2), 2 * PAGE);
    map(&bench, leaf(2), PhysAddr::new(DIMM + 3 * PAGE), PAGE, Attr::WRITE);
    map(&bench, leaf(3), PhysAddr::new(DIMM + 2 * PAGE), PAGE, Attr::WRITE);
    names(&bench, 2, "a memmap leaf");
}

#[test]
fn an_extent_that_leaves_its_block_is_named() {
    let bench = online(MIB, Placement::PerBlock);
    let used = PageState::Used { order: order(8), owner: Owner::Movable(bench.stubborn.id()) };
    bench.mm.allocator().memmap.alone().page(pfn(128)).set_state(used);
    names(&bench, 2, "an extent stays in its block");
}

#[test]
fn a_page_that_is_in_no_extent_and_no_memmap_is_named() {
    // Two sections a block: the second claims a memmap of its own in the middle of the block.
    let bench = online(2 * MIB, Placement::PerBlock);
    let head = pfn(SECTION);
    bench
        .mm
        .allocator()
        .memmap
        .alone()
        .page(head)
        .set_state(PageState::MemmapHead { sections: 1, pages: MEMMAP });
    record(&bench, 1).set_group(Some(head));
    let violation =
        Counts::of(bench.mm.allocator(), &crate::alloc::Waits::of(bench.mm.allocator()).look())
            .check()
            .unwrap_err();
    assert_eq!(violation.invariant, 1);
    assert_eq!(violation.what, "a page of an online block is in an extent");
    names(&bench, 3, "a record continues the group before it");
}

// Invariant 3.

#[test]
fn a_memmap_too_small_for_a_section_is_named() {
    let bench = added(MIB, Placement::PerBlock);
    bench
        .mm
        .allocator()
        .memmap
        .alone()
        .page(pfn(0))
        .set_state(PageState::MemmapHead { sections: 0, pages: 3 });
    names(&bench, 3, "a group describes its share of a block");
}

#[test]
fn a_head_that_counts_a_section_too_few_or_too_many_is_named() {
    for (placement, pages, right) in
        [(Placement::PerRange, 4 * MEMMAP, 4), (Placement::PerBlock, MEMMAP, 1)]
    {
        for sections in [right - 1, right + 1] {
            let bench = added(MIB, placement);
            bench
                .mm
                .allocator()
                .memmap
                .alone()
                .page(pfn(0))
                .set_state(PageState::MemmapHead { sections, pages });
            names(&bench, 3, "sections of a group");
        }
    }
}

#[test]
fn a_section_in_another_sections_group_is_named() {
    let bench = added(MIB, Placement::PerBlock);
    record(&bench, 1).starts().clear();
    record(&bench, 1).set_group(Some(pfn(0)));
    names(&bench, 3, "a group describes its share of a block");
}

#[test]
fn a_head_that_counts_fewer_pages_is_named() {
    let bench = added(MIB, Placement::PerRange);
    bench
        .mm
        .allocator()
        .memmap
        .alone()
        .page(pfn(0))
        .set_state(PageState::MemmapHead { sections: 3, pages: 3 * MEMMAP });
    names(&bench, 3, "a group describes its share of a block");
}

#[test]
fn a_record_in_the_wrong_page_is_named() {
    let bench = added(MIB, Placement::PerRange);
    let (from, to) = (section(&bench, 1).word().record(), pfn(10));
    for (source, target) in bench
        .mm
        .allocator()
        .memmap
        .alone()
        .page(from)
        .payload()
        .iter()
        .zip(bench.mm.allocator().memmap.alone().page(to).payload())
    {
        target.store(source.load(Ordering::Relaxed), Ordering::Relaxed);
    }
    let word = SectionWord::new(SectionState::Present, false, to);
    bench.mm.allocator().memmap.sections().set_word(bench.mm.machine(), DIMM / MIB + 1, word);
    names(&bench, 3, "the record's place");
}

#[test]
fn a_tail_that_does_not_name_its_head_is_named() {
    for state in [PageState::Tail, PageState::MemmapTail { head: pfn(1) }] {
        let bench = added(MIB, Placement::PerRange);
        bench.mm.allocator().memmap.alone().page(pfn(2)).set_state(state);
        names(&bench, 3, "a tail names its head");
    }
}

#[test]
fn a_group_whose_head_lost_its_mark_is_named() {
    for placement in [Placement::PerRange, Placement::PerBlock] {
        let bench = added(MIB, placement);
        bench.mm.allocator().memmap.alone().page(pfn(0)).set_state(PageState::Tail);
        names(&bench, 3, "a self-hosted block has a head");
    }
}

// Invariant 4.

#[test]
fn a_zone_that_counts_wrong_is_named() {
    let bench = online(MIB, Placement::PerBlock);
    zone(&bench, |counts| counts.present += 1);
    names(&bench, 4, "present pages of a zone");
    zone(&bench, |counts| counts.present -= 1);

    zone(&bench, |counts| counts.managed -= 1);
    names(&bench, 4, "managed pages of a zone");
    zone(&bench, |counts| counts.managed += 1);

    zone(&bench, |counts| counts.memmap += 1);
    names(&bench, 4, "memmap pages of a zone");
    zone(&bench, |counts| counts.memmap -= 1);

    zone(&bench, |counts| counts.free -= 1);
    names(&bench, 4, "free pages of a zone");
    zone(&bench, |counts| counts.free += 1);
    bench.check();
}

#[test]
fn a_block_that_counts_wrong_is_named() {
    let bench = online(MIB, Placement::PerBlock);
    let managed = record(&bench, 0).managed();
    managed.add(1);
    names(&bench, 4, "managed pages of a block");
    managed.sub(1);

    let free = record(&bench, 0).free();
    free.sub(1);
    names(&bench, 4, "free pages of a block");
    free.add(1);
    bench.check();
}

#[test]
fn an_offline_block_that_counts_pages_is_named() {
    let bench = added(MIB, Placement::PerBlock);
    record(&bench, 1).managed().set(7);
    names(&bench, 4, "only an online block counts pages");
    record(&bench, 1).managed().set(0);
    bench.check();
}

#[test]
fn a_block_marked_taken_whose_extents_are_not_is_named_and_the_other_way_round() {
    const NAMED: &str = "an extent is taken exactly if its block is";
    let bench = online(MIB, Placement::PerBlock);
    let record = record(&bench, 0);
    record.change_block(|word| BlockWord { taken: true, ..word });
    names(&bench, 4, NAMED);
    record.change_block(|word| BlockWord { taken: false, ..word });
    bench.check();

    let held = bench.alloc_movable_zone(order(0)).unwrap();
    let state = |owner| PageState::Used { order: order(0), owner };
    let page = bench.mm.allocator().memmap.alone().page(held);
    let before = page.state().unwrap();
    page.set_state(state(Owner::Taken));
    names(&bench, 4, NAMED);
    page.set_state(before);
    bench.check();
}

#[test]
fn an_extent_whose_owner_has_not_registered_is_named() {
    let bench = online(MIB, Placement::PerBlock);
    let held = bench.alloc_movable_zone(order(0)).unwrap();
    let page = bench.mm.allocator().memmap.alone().page(held);
    let before = page.state().unwrap();
    let mover = Owner::Movable(MoverId::new(MAX_MOVERS - 1).unwrap());
    for owner in [mover, Owner::Named(UserId::new(MAX_USERS - 1).unwrap())] {
        page.set_state(PageState::Used { order: order(0), owner });
        names(&bench, 4, "the owner of an extent has registered");
    }
    page.set_state(before);
    bench.check();
}

#[test]
fn a_free_extent_that_is_not_counted_is_named() {
    let bench = online(MIB, Placement::PerBlock);
    bench.mm.allocator().nodes.lock(NodeId::default(), ZoneKind::Movable).uncount_extent(order(3));
    names(&bench, 4, "free extents of an order in a zone");
}

#[test]
fn lists_of_the_wrong_order_are_named() {
    let bench = online(MIB, Placement::PerBlock);
    let mut zone = bench.mm.allocator().nodes.lock(NodeId::default(), ZoneKind::Movable);
    let (low, high) = (zone.first(order(3)), zone.first(order(4)));
    zone.set_first(order(3), high);
    zone.set_first(order(4), low);
    drop(zone);
    names(&bench, 4, "a listed extent is free and of its order");
}

#[test]
fn lists_of_the_wrong_zone_are_named() {
    let bench = added(MIB, Placement::PerBlock);
    let second = NodeId::new(1).unwrap();
    let other = range(DIMM + 4 * MIB, 4 * MIB);
    bench.plug(other);
    bench.mm.hot_add(other, second, Placement::PerBlock).unwrap();
    bench.online(dimm());
    bench.online(other);
    let lists = [NodeId::default(), second];
    let first =
        lists.map(|node| bench.mm.allocator().nodes.lock(node, ZoneKind::Movable).first(order(5)));
    for (node, head) in lists.into_iter().zip([first[1], first[0]]) {
        bench.mm.allocator().nodes.lock(node, ZoneKind::Movable).set_first(order(5), head);
    }
    names(&bench, 4, "a listed extent is in its zone");
}

#[test]
fn a_list_that_turns_back_or_breaks_off_is_named() {
    for (link, what) in
        [(true, "a listed extent names the one before it"), (false, "length of a free list")]
    {
        let bench = online(MIB, Placement::PerBlock);
        let zone = bench.mm.allocator().nodes.lock(NodeId::default(), ZoneKind::Movable);
        let first = zone.first(order(6)).unwrap();
        drop(zone);
        let next = if link { first.get() + 1 } else { 0 };
        bench.mm.allocator().memmap.alone().page(first).payload()[0].store(next, Ordering::Relaxed);
        names(&bench, 4, what);
    }
}

#[test]
fn a_wrong_link_back_is_named() {
    let bench = online(MIB, Placement::PerBlock);
    let zone = bench.mm.allocator().nodes.lock(NodeId::default(), ZoneKind::Movable);
    let listed: std::vec::Vec<_> =
        FreeLists::of(*bench.mm.allocator().memmap.alone()).list(&zone, order(6)).collect();
    drop(zone);
    for (nth, wrong) in [(0, listed[1].get() + 1), (1, 0), (1, listed[1].get() + 1)] {
        let link = &bench.mm.allocator().memmap.alone().page(listed[nth]).payload()[1];
        let right = link.swap(wrong, Ordering::Relaxed);
        names(&bench, 4, "a listed extent names the one before it");
        link.store(right, Ordering::Relaxed);
        bench.check();
    }
}

#[test]
fn free_buddies_that_are_not_merged_are_named() {
    let bench = online(MIB, Placement::PerBlock);
    let mut zone = bench.mm.allocator().nodes.lock(NodeId::default(), ZoneKind::Movable);
    FreeLists::of(*bench.mm.allocator().memmap.alone()).unlink(&mut zone, pfn(128), order(7));
    FreeLists::of(*bench.mm.allocator().memmap.alone()).insert_free(&mut zone, pfn(128), order(6));
    FreeLists::of(*bench.mm.allocator().memmap.alone()).insert_free(&mut zone, pfn(192), order(6));
    drop(zone);
    names(&bench, 4, "free buddies are merged");
}

#[test]
fn added_memory_with_an_absent_part_is_named() {
    let bench = online(MIB, Placement::PerBlock);
    record(&bench, 0).present().remove(part(4));
    names(&bench, 1, "an absent part has no descriptors");

    let bench = added(MIB, Placement::PerBlock);
    record(&bench, 0).present().remove(part(4));
    names(&bench, 3, "memory begins behind a hole, if it was added");
    record(&bench, 0).starts().insert(part(8));
    names(&bench, 3, "a whole block has one share");
}

#[test]
fn a_zone_that_is_not_listed_is_named() {
    let bench = online(MIB, Placement::PerBlock);
    bench.mm.allocator().nodes.set_populated(NodeId::default(), ZoneKind::Movable, false);
    names(&bench, 4, "the zone of an online block has memory");
}

#[test]
fn a_section_whose_state_is_not_its_blocks_is_named() {
    let bench = added(MIB, Placement::PerBlock);
    let word = section(&bench, 1).word();
    let set = |bench: &Lab, word| {
        bench.mm.allocator().memmap.sections().set_word(bench.mm.machine(), DIMM / MIB + 1, word);
    };
    set(&bench, word.with_state(SectionState::Online));
    names(&bench, 4, "a section of an offline block is present");
    set(&bench, word);
    bench.online(dimm());
    set(&bench, word);
    names(&bench, 4, "a section of an online block is online");
}
