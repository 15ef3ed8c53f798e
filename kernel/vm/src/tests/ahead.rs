//! Extents that are copied while their guest runs: a CPU in software stores to them between the steps.

use super::*;
use core::sync::atomic::{AtomicU64, Ordering};
use hotmem::paging::{Entry, PteFormat};
use hotmem::{OfflineOp, PhysAddr, PhysMem, Stepped};

/// Virtualization in which a flush waits until CPUs have left the guest.
type Soft = super::Soft<false>;

/// Pages of an extent of 2 MiB.
const PAGES: u64 = 512;
/// Pages of a step.
const STEP: u64 = 64;

/// Boot memory, two blocks, and a guest with two extents in the first of them.
fn large() -> (&'static Bench<Tiny>, &'static Vms<Fake, Soft>, VmId) {
    large_of(4 * MIB)
}

/// The same, with a guest of so many bytes.
fn large_of(bytes: u64) -> (&'static Bench<Tiny>, &'static Vms<Fake, Soft>, VmId) {
    let ram = vec![(0, 16 * MIB, 0)];
    let setup = Setup { ram, block: 8 * MIB, window: (WINDOW, 64 * MIB), kernelcore: None };
    let bench: &'static Bench<Tiny> = Box::leak(Box::new(Bench::new(&setup)));
    let memory = range(WINDOW, 16 * MIB);
    bench.plug(memory);
    bench.mm.hot_add(memory, NodeId::ZERO, Placement::PerBlock).unwrap();
    let first = bench.mm.block_at(memory.start()).get();
    online(bench, first);
    let vms: &'static Vms<Fake, Soft> = Box::leak(Box::new(Vms::register(&bench.mm).unwrap()));
    let (name, order) = (Name::new("a").unwrap(), Order::new(9).unwrap());
    let id = vms.create(name, bytes, order, None, 1, &Program::Payload).unwrap();
    online(bench, first + 1);
    (bench, vms, id)
}

/// The block of the guest's first page.
fn block(bench: &Bench<Tiny>, vms: &Vms<Fake, Soft>, id: VmId) -> BlockId {
    bench.mm.block_at(Fake::address(pfn(vms, id, 0)))
}

/// The size of the leaf of a page, in pages.
fn leaf(vms: &Vms<Fake, Soft>, id: VmId, page: u64) -> u64 {
    let at = GuestAddr::new((RAM + page) * PAGE);
    let leaf = vms.host.with_space(id.number(), |space| space.tables.translate(at));
    leaf.flatten().unwrap().len / PAGE
}

/// Where the tables show a page, and whether its leaf is marked now; marks it if the guest stores.
fn walk(
    bench: &Bench<Tiny>,
    vms: &Vms<Fake, Soft>,
    id: VmId,
    page: u64,
    stores: bool,
) -> (u64, bool) {
    let mut table = vms.host.with_space(id.number(), |space| space.tables.root()).unwrap();
    let at = (RAM + page) * PAGE;
    for (level, here) in X86Pte4::LEVELS.iter().enumerate() {
        let slot = bench.mm.machine().pointer(table.add(here.index(at) as u64 * 8)).cast();
        // SAFETY: the slot is one of a table, which the kernel accesses as an atomic, too.
        let slot: &AtomicU64 = unsafe { slot.as_ref() };
        let mark = if stores { X86Pte4::WRITTEN } else { 0 };
        match X86Pte4::decode(slot.load(Ordering::Relaxed), level) {
            Entry::Table(next) => table = next,
            Entry::Absent => panic!("page {page} is absent"),
            Entry::Leaf(phys, _) => {
                let word = slot.fetch_or(mark, Ordering::Relaxed) | mark;
                let offset = at & (here.span() - 1);
                return (phys.get() + offset, word & X86Pte4::WRITTEN != 0);
            }
        }
    }
    panic!("a table is a leaf");
}

/// Stores to a page as a CPU does: by what it has cached, marked leaves without a look at the tables.
fn store(bench: &Bench<Tiny>, vms: &Vms<Fake, Soft>, id: VmId, page: u64, value: u64) {
    let cached = CACHED.with_borrow(|cached| cached.get(&page).copied());
    let (target, _) = cached.filter(|(_, marked)| *marked).unwrap_or_else(|| {
        let fresh = walk(bench, vms, id, page, true);
        CACHED.with_borrow_mut(|cached| cached.insert(page, fresh));
        fresh
    });
    let word = bench.mm.machine().pointer(PhysAddr::new(target)).cast::<u64>();
    // SAFETY: the page is the guest's, or was; no other thread uses the machine.
    unsafe { word.write_volatile(value) };
}

/// What the guest reads.
fn load(bench: &Bench<Tiny>, vms: &Vms<Fake, Soft>, id: VmId, page: u64) -> u64 {
    let target = PhysAddr::new(walk(bench, vms, id, page, false).0);
    // SAFETY: as above.
    unsafe { bench.mm.machine().pointer(target).cast::<u64>().read_volatile() }
}

/// Writes a value of its own to each page.
fn fill(bench: &Bench<Tiny>, vms: &Vms<Fake, Soft>, id: VmId) {
    (0..2 * PAGES).for_each(|page| store(bench, vms, id, page, 1000 + page));
}

type Op = OfflineOp<'static, Fake>;

/// Makes steps, with `between` after each, until `until` or the end.
fn steps(mut op: Op, mut between: impl FnMut(u64), until: impl Fn(u64) -> bool) -> Option<Op> {
    for step in 1.. {
        match op.step(STEP).unwrap() {
            Stepped::Going(more) => op = more,
            Stepped::Done => return None,
        }
        between(step);
        if until(step) {
            break;
        }
    }
    Some(op)
}

/// An extent is under way.
fn is_under_way(vms: &Vms<Fake, Soft>) -> bool {
    vms.host.pages_between() != 0
}

#[test]
fn a_page_that_is_stored_to_after_its_copy_is_copied_again_and_the_pause_is_short() {
    let (bench, vms, id) = large();
    fill(bench, vms, id);
    let (before, from) = (COPIED.get(), block(bench, vms, id));
    let mut value = 0;
    // The same five pages, 1 % of an extent, after each step.
    let hot = |page: u64| page * 100;
    let op = bench.mm.start_offline(from).unwrap();
    let write = |_| {
        value += 1;
        (0..5).for_each(|page| store(bench, vms, id, hot(page), value + page));
        vms.verify().unwrap();
        bench.mm.verify_machine().unwrap();
    };
    assert!(steps(op, write, |_| false).is_none());
    for page in 0..2 * PAGES {
        let is_hot = page < 500 && page % 100 == 0;
        let expected = if is_hot { value + page / 100 } else { 1000 + page };
        assert_eq!(load(bench, vms, id, page), expected, "page {page}");
    }
    let moved = vms.status().next().unwrap().moved;
    assert_eq!((moved.ahead, moved.hurried, moved.pages), (2, 0, 2 * PAGES));
    let again = COPIED.get() - before - 2 * PAGES;
    assert!((5..50).contains(&again), "{again} pages were copied again");
    assert_eq!((leaf(vms, id, 0), leaf(vms, id, PAGES)), (PAGES, PAGES), "large leaves again");
    vms.verify().unwrap();
    vms.kill(id).unwrap();
    vms.verify().unwrap();
}

#[test]
fn the_guest_accesses_an_extent_until_the_last_pages_are_copied_and_its_copy_after_that() {
    let (bench, vms, id) = large();
    fill(bench, vms, id);
    let (from, flushes) = (pfn(vms, id, 0), FLUSHES.get());
    let op = bench.mm.start_offline(block(bench, vms, id)).unwrap();
    let op = steps(op, |_| {}, |_| is_under_way(vms)).unwrap();
    assert_eq!((pfn(vms, id, 0), leaf(vms, id, 0)), (from, 1));
    assert!(FLUSHES.get() > flushes + 1, "for the table, and for the marks");
    store(bench, vms, id, 0, 7);
    assert!(steps(op, |_| {}, |_| false).is_none());
    assert_eq!(load(bench, vms, id, 0), 7);
    assert_ne!(pfn(vms, id, 0), from);
    vms.verify().unwrap();
}

/// From the table that its leaf becomes to the leaf that the table becomes: a CPU in the guest waits for each.
#[test]
fn a_guest_that_waits_for_any_part_of_a_move_is_stopped_by_it() {
    let (bench, vms, id) = large();
    fill(bench, vms, id);
    let flushes: &'static Cell<u64> = Box::leak(Box::new(Cell::new(0)));
    let look = move || {
        assert!(!vms.batches().is_multiple_of(2), "after {} flushes", flushes.get());
        flushes.set(flushes.get() + 1);
    };
    AT_FLUSH.set(Some(Box::leak(Box::new(look))));
    let op = bench.mm.start_offline(block(bench, vms, id)).unwrap();
    let between = |step| assert!(vms.batches().is_multiple_of(2), "after step {step}");
    assert!(steps(op, between, |_| false).is_none());
    AT_FLUSH.set(None);
    // Of each of two extents: unfolded, unmarked twice at least, cleared, folded.
    assert!(flushes.get() >= 10, "{}", flushes.get());
    vms.verify().unwrap();
}

/// Counts the copies of which the guest has no leaf; `flushes` is their number at the copy before.
fn watch(vms: &'static Vms<Fake, Soft>, id: VmId, looked: &'static Cell<u64>, flushes: u64) {
    AT_COPY.set(Some(Box::new(move || {
        let at = GuestAddr::new((RAM + 3) * PAGE);
        vms.host.with_space(id.number(), |space| {
            if space.tables.translate(at).is_none() {
                assert_eq!(space.moving().len(), 1);
                looked.set(looked.get() + 1);
                let since = FLUSHES.get() - flushes;
                assert_eq!(since, 2, "marks were taken back, and leaves cleared");
            }
        });
        watch(vms, id, looked, FLUSHES.get());
    })));
}

#[test]
fn at_the_last_copy_the_guest_has_neither_the_extent_nor_its_copy() {
    let (bench, vms, id) = large();
    fill(bench, vms, id);
    let op = bench.mm.start_offline(block(bench, vms, id)).unwrap();
    let looked: &'static Cell<u64> = Box::leak(Box::new(Cell::new(0)));
    watch(vms, id, looked, FLUSHES.get());
    let op = steps(op, |step| store(bench, vms, id, 3, step), |_| looked.get() > 0);
    assert!(op.is_some(), "nothing was left to copy");
    assert!(load(bench, vms, id, 3) > 0);
    AT_COPY.set(None);
    assert!(steps(op.unwrap(), |_| {}, |_| false).is_none());
    vms.verify().unwrap();
}

#[test]
fn a_guest_that_stores_faster_than_its_pages_are_copied_is_moved_after_a_few_rounds() {
    let (bench, vms, id) = large();
    fill(bench, vms, id);
    let (before, mut value) = (COPIED.get(), 0);
    let op = bench.mm.start_offline(block(bench, vms, id)).unwrap();
    let write = |step| {
        value = step;
        (0..2 * PAGES).for_each(|page| store(bench, vms, id, page, step + page));
    };
    assert!(steps(op, write, |_| false).is_none());
    (0..2 * PAGES).for_each(|page| assert_eq!(load(bench, vms, id, page), value + page));
    let moved = vms.status().next().unwrap().moved;
    assert_eq!((moved.ahead, moved.hurried), (2, 2));
    assert!(COPIED.get() - before <= 2 * 9 * PAGES, "{} copies", COPIED.get() - before);
    vms.verify().unwrap();
}

#[test]
fn an_offline_that_is_cancelled_at_any_step_leaves_the_guest_as_it_was() {
    for last in 1..40 {
        let (bench, vms, id) = large();
        fill(bench, vms, id);
        let before = bench.snapshot();
        let places: Vec<_> = (0..2 * PAGES).map(|page| pfn(vms, id, page)).collect();
        let op = bench.mm.start_offline(block(bench, vms, id)).unwrap();
        let Some(op) = steps(op, |_| {}, |step| step == last) else { break };
        op.cancel();
        vms.verify().unwrap();
        bench.mm.verify_machine().unwrap();
        assert_eq!((leaf(vms, id, 0), leaf(vms, id, PAGES)), (PAGES, PAGES), "step {last}");
        for page in 0..2 * PAGES {
            assert_eq!(load(bench, vms, id, page), 1000 + page, "step {last}");
        }
        if vms.status().next().unwrap().moved.pages == 0 {
            assert_eq!(bench.snapshot(), before, "step {last}");
            assert!((0..).zip(places).all(|(page, at)| pfn(vms, id, page) == at));
            assert!(walk(bench, vms, id, 0, false).1, "the large leaf is marked");
        }
        vms.kill(id).unwrap();
        vms.verify().unwrap();
        free_pages_are_zero(bench, last);
    }
}

/// No free page of added memory holds what a guest wrote.
fn free_pages_are_zero(bench: &Bench<Tiny>, step: u64) {
    for page in (WINDOW / PAGE..(WINDOW + 16 * MIB) / PAGE).map(Pfn::new) {
        let free = bench.mm.state(page).is_some_and(|state| state.owner().is_none());
        if free && bench.mm.page_info(page).is_some_and(|info| info.held_by.is_none()) {
            let word = bench.mm.machine().pointer(Fake::address(page)).cast::<u64>();
            // SAFETY: the page is memory; no other thread uses the machine.
            let word = unsafe { word.read_volatile() };
            assert!(!(1000..1000 + 2 * PAGES).contains(&word), "step {step}: {page} holds {word}");
        }
    }
}

#[test]
fn a_guest_that_ends_at_any_step_leaves_nothing_and_the_offline_goes_on() {
    for last in 1..40 {
        let (bench, vms, id) = large();
        fill(bench, vms, id);
        let from = block(bench, vms, id);
        let op = bench.mm.start_offline(from).unwrap();
        let Some(op) = steps(op, |_| {}, |step| step == last) else { break };
        vms.kill(id).unwrap();
        vms.verify().unwrap();
        assert!(steps(op, |_| vms.verify().unwrap(), |_| false).is_none(), "step {last}");
        assert!(!is_under_way(vms));
        vms.verify().unwrap();
        bench.mm.verify_machine().unwrap();
        free_pages_are_zero(bench, last);
    }
}

#[test]
fn where_cpus_do_not_mark_what_guests_write_an_extent_moves_at_once() {
    let (bench, vms, id) = large();
    NO_MARKS.set(true);
    fill(bench, vms, id);
    let before = COPIED.get();
    let op = bench.mm.start_offline(block(bench, vms, id)).unwrap();
    assert!(steps(op, |_| assert!(!is_under_way(vms)), |_| false).is_none());
    NO_MARKS.set(false);
    assert_eq!(COPIED.get() - before, 2 * PAGES);
    assert_eq!(vms.status().next().unwrap().moved.ahead, 0);
    (0..2 * PAGES).for_each(|page| assert_eq!(load(bench, vms, id, page), 1000 + page));
    vms.verify().unwrap();
}

/// Has CPU 1 stay in the guest, or leave it.
fn stay(vms: &Vms<Fake, Soft>, id: VmId, stays: bool) {
    vms.host.with_space(id.number(), |space| {
        let residence = &space.residences[0];
        if stays { residence.enter(1) } else { residence.leave() }
    });
}

#[test]
fn a_flush_that_fails_in_any_step_leaves_the_guest_with_its_memory_and_the_next_try_moves_it() {
    for failing in 1.. {
        let (bench, vms, id) = large();
        fill(bench, vms, id);
        let from = block(bench, vms, id);
        let op = bench.mm.start_offline(from).unwrap();
        let Some(op) = steps(op, |_| {}, |step| step == failing) else {
            assert!(failing > 30, "{failing} steps");
            return;
        };
        stay(vms, id, true);
        let op = steps(op, |_| {}, |_| true);
        stay(vms, id, false);
        let whole = |step| {
            vms.verify().unwrap();
            bench.mm.verify_machine().unwrap();
            for page in 0..2 * PAGES {
                assert_eq!(load(bench, vms, id, page), 1000 + page, "{failing}, {step}");
            }
        };
        whole(0);
        free_pages_are_zero(bench, failing);
        assert!(op.is_none_or(|op| steps(op, whole, |_| false).is_none()), "step {failing}");
        assert_eq!(vms.status().next().unwrap().moved.pages, 2 * PAGES, "step {failing}");
        // Leaves that could not be made large again are, after the next move.
        bench.mm.online(from, ZoneKind::Movable).unwrap();
        bench.mm.offline(block(bench, vms, id)).unwrap();
        whole(1);
        assert_eq!((leaf(vms, id, 0), leaf(vms, id, PAGES)), (PAGES, PAGES), "step {failing}");
        vms.kill(id).unwrap();
        vms.verify().unwrap();
        free_pages_are_zero(bench, failing);
    }
}

#[test]
fn a_break_whose_flush_fails_is_a_pause() {
    let (bench, vms, id) = large();
    NO_MARKS.set(true);
    stay(vms, id, true);
    let refused = bench.mm.offline(block(bench, vms, id));
    NO_MARKS.set(false);
    assert!(matches!(refused, Err(hotmem::OfflineError::InUse { .. })), "{refused:?}");
    let status = vms.status().next().unwrap();
    assert!(status.moved.longest_pause > 0, "its memory was away until the flush was given up");
    assert_eq!((status.moved.pages, leaf(vms, id, 0)), (0, PAGES));
    stay(vms, id, false);
    vms.verify().unwrap();
}

#[test]
fn an_extent_for_which_no_table_is_free_moves_at_once() {
    let (bench, vms, id) = large_of(2 * MIB);
    let from = block(bench, vms, id);
    let target = bench.alloc_movable_zone(Order::new(9).unwrap()).unwrap();
    // What is free in the block of the guest is isolated when that goes offline.
    let others = core::iter::from_fn(|| bench.alloc_movable(Order::ZERO).ok());
    let others: Vec<_> = others.collect();
    let here = |page: &&Pfn| bench.mm.block_at(Fake::address(**page)) == from;
    others
        .iter()
        .filter(here)
        .for_each(|page| bench.mm.free_movable(*page, &bench.stubborn).unwrap());
    bench.mm.free_movable(target, &bench.stubborn).unwrap();
    (0..PAGES).for_each(|page| store(bench, vms, id, page, 1000 + page));
    bench.mm.offline(from).unwrap();
    let moved = vms.status().next().unwrap().moved;
    assert_eq!((moved.pages, moved.ahead), (PAGES, 0));
    assert_eq!((pfn(vms, id, 0), leaf(vms, id, 0)), (target, PAGES));
    (0..PAGES).for_each(|page| assert_eq!(load(bench, vms, id, page), 1000 + page));
    vms.verify().unwrap();
}

#[test]
fn leaves_that_translate_neighbours_are_not_made_one() {
    let (bench, vms, id) = large();
    let op = bench.mm.start_offline(block(bench, vms, id)).unwrap();
    let op = steps(op, |_| {}, |_| is_under_way(vms)).unwrap();
    // An extent of a page has the same neighbours as one of 2 MiB where the next larger leaf has 32 MiB.
    let range = GuestRange::new(GuestAddr::new(RAM * PAGE), PAGE).unwrap();
    vms.host.with_space(id.number(), |space| space.fold(range, &vms.frames(id)));
    assert_eq!(leaf(vms, id, 0), 1);
    op.cancel();
    assert_eq!(leaf(vms, id, 0), PAGES);
    vms.verify().unwrap();
}
