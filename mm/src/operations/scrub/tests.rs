extern crate std;

use super::*;
use crate::testing::{Bench, FakeMachine, Holder, Setup, Shape, Tiny, TinyShared, range};
use crate::{Geometry, NodeId, Order, PhysAddr, Placement, Request, ZoneKind};
use std::vec::Vec;

const MIB: u64 = 1 << 20;
const WINDOW: u64 = 64 * MIB;
const BLOCKS: u64 = 4;

fn order(raw: u8) -> Order {
    Order::new(raw).unwrap()
}

fn dimm(block: u64) -> PhysRange {
    range(WINDOW, BLOCKS * block)
}

/// Sixteen mebibytes at boot, and a DIMM of four blocks that holds `fill` in every byte, online.
fn bench<S: Shape>(block: u64, placement: Placement, fill: u8) -> Bench<S> {
    let ram = [(0, 16 * MIB, 0)].into();
    let setup = Setup { ram, block, window: (WINDOW, 64 * MIB), kernelcore: None };
    let bench = Bench::new(&setup);
    bench.mm.machine().mmu().ram().plug(dimm(block), Some(fill));
    bench.add(dimm(block), placement);
    bench.online(dimm(block));
    bench
}

fn scrub<S: Shape>(bench: &Bench<S>, block: u64) -> u64 {
    let mut pages = 0;
    for id in bench.blocks(dimm(block)) {
        loop {
            let done = bench.mm.scrub(id, 1).unwrap();
            pages += done.pages;
            bench.check();
            if !done.more {
                break;
            }
        }
    }
    pages
}

/// The addresses of the words of the DIMM that are not `value`.
fn others<S: Shape>(bench: &Bench<S>, block: u64, value: u64) -> Vec<u64> {
    let words = (0..dimm(block).len()).step_by(8);
    let peek = |at: &u64| bench.mm.machine().mmu().peek(PhysAddr::new(WINDOW + at)) != value;
    words.filter(peek).collect()
}

/// Takes extents of all sizes until memory is full, and frees them again.
fn use_all<S: Shape>(bench: &Bench<S>, holder: &Holder<S>) {
    let orders = [0, 3, 6, 1, 5, 2, 4];
    let take = |&raw: &u8| holder.take_in_zone(bench, order(raw));
    let mut held: Vec<_> = orders.iter().cycle().map_while(take).collect();
    held.extend(core::iter::from_fn(|| holder.take_in_zone(bench, Order::ZERO)));
    assert!(held.len() > 30);
    held.into_iter().for_each(|handle| holder.release(bench, handle));
}

/// Checks that a DIMM of zeroes holds zeroes after its memory was used and it was removed, except the descriptors of
/// its memmaps' heads and records.
fn leaves_nothing<S: Shape>(block: u64, placement: Placement) {
    let bench = bench::<S>(block, placement, 0);
    let holder = Holder::register(&bench);
    use_all(&bench, holder);
    bench.mm.drain_caches();
    bench.offline(dimm(block));
    let dirty = others(&bench, block, 0).len();
    assert!(dirty > 500, "{dirty} words");
    assert!(scrub(&bench, block) > 0);
    bench.remove(dimm(block));
    let group = if placement == Placement::PerRange { BLOCKS * block } else { block };
    let record = FakeMachine::<S>::RECORD_PAGES * FakeMachine::<S>::PAGE_BYTES;
    let kept = 64 * (1 + group / record);
    let kept = |at: &u64| placement.self_hosted() && at % group < kept;
    let left: Vec<_> = others(&bench, block, 0).into_iter().filter(|at| !kept(at)).collect();
    assert!(left.is_empty(), "{} words are left, the first at {:#x}", left.len(), left[0]);
}

#[test]
fn a_dimm_holds_nothing_of_its_users_and_of_the_manager_only_heads_and_records() {
    leaves_nothing::<Tiny>(MIB, Placement::PerBlock);
    leaves_nothing::<Tiny>(MIB, Placement::PerRange);
    leaves_nothing::<Tiny>(MIB, Placement::Boot);
    leaves_nothing::<Tiny>(4 * MIB, Placement::PerBlock);
    leaves_nothing::<TinyShared>(MIB, Placement::PerBlock);
    leaves_nothing::<TinyShared>(2 * MIB, Placement::PerRange);
}

#[test]
fn memory_that_was_never_allocated_is_not_written() {
    for placement in Placement::ALL {
        let bench = bench::<Tiny>(MIB, placement, 0xa5);
        let holder = Holder::register(&bench);
        let handle = holder.take_in_zone(&bench, order(0)).unwrap();
        let (pfn, _) = holder.at(handle).unwrap();
        holder.release(&bench, handle);
        bench.mm.drain_caches();
        bench.offline(dimm(MIB));
        let pages = scrub(&bench, MIB);
        // A granule for the page, and those in which the end of a memmap is not the end of a subsection.
        assert!((8..=8 * 5).contains(&pages), "{placement}: {pages} pages");
        let word = |pfn: Pfn| bench.mm.machine().mmu().peek(PhysAddr::new(pfn.get() * 4096));
        assert_eq!(word(pfn), 0);
        let kept = others(&bench, MIB, 0).len() as u64;
        assert!(kept > (BLOCKS * 256 - pages - 4 * BLOCKS - 1) * 512, "{kept} words are kept");
    }
}

#[test]
fn what_was_allocated_is_cleared_although_the_record_has_lost_that_its_subsection_was_initialised()
{
    let bench = bench::<Tiny>(MIB, Placement::Boot, 0);
    let holder = Holder::register(&bench);
    use_all(&bench, holder);
    bench.mm.drain_caches();
    for word in bench.words().into_iter().filter(|word| word.name == "initialised subsections") {
        bench.mm.machine().mmu().poke(word.at, 0);
    }
    bench.offline(dimm(MIB));
    scrub(&bench, MIB);
    assert_eq!(others(&bench, MIB, 0), [0; 0]);
}

#[test]
fn a_large_extent_that_was_freed_is_cleared_and_so_is_what_an_earlier_online_left() {
    let bench = bench::<Tiny>(MIB, Placement::Boot, 0);
    let pfns = PfnRange::new(Pfn::new(WINDOW / 4096), 4 * 256);
    // A whole block, of which no subsection is ever initialised.
    let request = Request::from(order(8)).in_movable_zone();
    let pfn = bench.mm.alloc_movable(request, &bench.stubborn, 0).unwrap();
    assert!(pfns.contains(pfn));
    for page in 0..256 {
        bench.mm.machine().mmu().poke(PhysAddr::new(pfn.add(page).get() * 4096 + 8), 7);
    }
    bench.mm.free_movable(pfn, &bench.stubborn).unwrap();
    bench.mm.drain_caches();
    for _ in 0..2 {
        bench.offline(dimm(MIB));
        bench.online(dimm(MIB));
    }
    bench.offline(dimm(MIB));
    assert_eq!(scrub(&bench, MIB), 256);
    assert!(others(&bench, MIB, 0).is_empty());
    assert_eq!(scrub(&bench, MIB), 0, "it is clean already");
}

#[test]
fn a_block_that_was_scrubbed_comes_online_again_and_is_marked_again() {
    for placement in Placement::ALL {
        let bench = bench::<Tiny>(MIB, placement, 0);
        let holder = Holder::register(&bench);
        for _ in 0..3 {
            use_all(&bench, holder);
            bench.mm.drain_caches();
            bench.offline(dimm(MIB));
            assert!(scrub(&bench, MIB) > 200);
            bench.online(dimm(MIB));
            bench.check();
        }
    }
}

#[test]
fn data_stays_out_of_reach_after_the_descriptors_of_blocks_moved() {
    let bench = bench::<Tiny>(MIB, Placement::PerRange, 0);
    let holder = Holder::register(&bench);
    use_all(&bench, holder);
    bench.mm.drain_caches();
    bench.mm.convert(dimm(MIB)).unwrap();
    bench.offline(dimm(MIB));
    scrub(&bench, MIB);
    let left = others(&bench, MIB, 0);
    let kept = |at: &u64| at % MIB < 64 * 2;
    assert!(left.iter().all(kept), "{:#x?}", left.iter().find(|at| !kept(at)));
    bench.remove(dimm(MIB));
}

#[test]
fn only_offline_memory_that_was_added_and_is_sound_is_cleared() {
    let bench = bench::<Tiny>(MIB, Placement::PerBlock, 0);
    let [first, second, ..] = bench.blocks(dimm(MIB))[..] else { panic!() };
    assert_eq!(bench.mm.scrub(first, 1), Err(ScrubError::NotOffline(first)));
    let boot = BlockId::new(0);
    assert!(matches!(
        bench.mm.scrub(boot, 1),
        Err(ScrubError::NotOffline(_) | ScrubError::BootMemory(_))
    ));
    let none = BlockId::new(u64::MAX);
    assert_eq!(bench.mm.scrub(none, 1), Err(ScrubError::NoSuchBlock(none)));
    bench.mm.poison(Pfn::new(second.get() * 256 + 99)).unwrap();
    let op = bench.mm.start_offline(second).unwrap();
    assert_eq!(bench.mm.scrub(first, 1), Err(ScrubError::Busy));
    op.cancel();
    bench.mm.offline(second).unwrap();
    assert_eq!(bench.mm.scrub(second, 1), Err(ScrubError::Poisoned(second)));
    bench.mm.machine().busy().arm(1);
    assert_eq!(bench.mm.scrub(second, 1), Err(ScrubError::Busy));
    bench.check();
}

#[test]
fn boot_memory_that_is_offline_is_not_cleared() {
    let (ram, window) = ([(0, 16 * MIB, 0)].into(), (WINDOW, 64 * MIB));
    let bench = Bench::<Tiny>::new(&Setup { ram, block: MIB, window, kernelcore: Some(8 * MIB) });
    let last = BlockId::new(15);
    bench.mm.offline(last).unwrap();
    assert_eq!(bench.mm.scrub(last, 1), Err(ScrubError::BootMemory(last)));
    bench.check();
}

#[test]
fn a_call_clears_up_to_its_budget_and_a_granule_at_least() {
    let bench = bench::<Tiny>(MIB, Placement::Boot, 0);
    let holder = Holder::register(&bench);
    use_all(&bench, holder);
    bench.mm.drain_caches();
    bench.offline(dimm(MIB));
    let id = bench.blocks(dimm(MIB))[0];
    assert_eq!(bench.mm.scrub(id, 0), Ok(Scrubbed { pages: 8, more: true }));
    assert_eq!(bench.mm.scrub(id, 17), Ok(Scrubbed { pages: 24, more: true }));
    assert_eq!(bench.mm.scrub(id, u64::MAX), Ok(Scrubbed { pages: 224, more: false }));
    assert_eq!(bench.mm.scrub(id, u64::MAX), Ok(Scrubbed { pages: 0, more: false }));
    bench.mm.online(id, ZoneKind::Normal).unwrap();
    assert_eq!(bench.mm.block(id).unwrap().node, NodeId::default());
    bench.check();
}

#[test]
fn what_is_cleared_is_cleaned_out_of_the_data_caches() {
    let bench = bench::<Tiny>(MIB, Placement::PerBlock, 0);
    let holder = Holder::register(&bench);
    use_all(&bench, holder);
    bench.mm.drain_caches();
    bench.offline(dimm(MIB));
    bench.mm.machine().take_cleaned();
    let pages = scrub(&bench, MIB);
    let cleaned = bench.mm.machine().take_cleaned();
    let linear = bench.mm.linear_virt(dimm(MIB));
    let inside = cleaned.iter().filter(|range| linear.contains(range.start()));
    assert_eq!(inside.map(|range| range.len()).sum::<u64>(), pages * 4096);
    assert!(cleaned.len() as u64 > pages / 8);
}

/// The words of `range`, but for descriptors that may be heads and hold records.
fn words<S: Shape>(bench: &Bench<S>, range: PhysRange, hosted: bool) -> Vec<u64> {
    let block = bench.mm.block_range(BlockId::new(0)).unwrap().len();
    let at = (range.start().get()..range.end().get()).step_by(8);
    let kept = |at: u64| at % block < 1024 || at - range.start().get() < 1024 * 3;
    let at = at.filter(|&at| !hosted || !kept(at));
    at.map(|at| bench.mm.machine().mmu().peek(PhysAddr::new(at))).collect()
}

/// Clears what `range` has of its blocks, by calls with a budget of `budget` pages. Returns the number of pages.
fn scrub_part<S: Shape>(bench: &Bench<S>, range: PhysRange, budget: u64) -> u64 {
    let mut pages = 0;
    for id in bench.blocks(range) {
        let calls = (0..).map(|_| bench.mm.scrub_part(id, range, budget).unwrap());
        let mut more = true;
        let calls = calls.take_while(|done| core::mem::replace(&mut more, done.more));
        pages += calls.take(40).map(|done| done.pages).sum::<u64>();
        assert!(!more, "{id} is never clean");
        bench.check();
    }
    pages
}

/// Three devices share blocks, and each is cleared before it goes: of the others nothing is written.
fn clears_one_of_three<S: Shape>(block: u64, cuts: [u64; 2], budget: u64) {
    for (placement, order) in Placement::ALL.into_iter().zip([[0, 1, 2], [1, 2, 0], [2, 0, 1]]) {
        let ram = [(0, 16 * MIB, 0)].into();
        let setup = Setup { ram, block, window: (WINDOW, 64 * MIB), kernelcore: None };
        let bench = Bench::<S>::new(&setup);
        let all = range(WINDOW, 2 * block);
        bench.mm.machine().mmu().ram().plug(all, Some(0));
        let unit = bench.mm.subsection();
        let [low, high] = cuts.map(|cut| cut * unit);
        let dimms = [(0, low), (low, high - low), (high, 2 * block - high)];
        let dimms = dimms.map(|(at, len)| range(WINDOW + at, len));
        dimms.iter().for_each(|&dimm| _ = bench.add(dimm, placement));
        bench.online(all);
        use_all(&bench, Holder::register(&bench));
        bench.mm.drain_caches();
        bench.offline(all);
        for nth in order {
            let hosted = placement.self_hosted();
            let others = || dimms.iter().filter(|&&dimm| dimm != dimms[nth]);
            let before: Vec<_> = others().map(|&dimm| words(&bench, dimm, hosted)).collect();
            let usable: u64 = bench.blocks(dimms[nth]).into_iter().fold(0, |sum, id| {
                let shares = bench.mm.block_shares(id);
                let own = shares.filter(|share| dimms[nth].overlaps(range_of::<S>(share)));
                sum + own.map(|own| own.pfns.pages() - own.memmap().pages()).sum::<u64>()
            });
            assert_eq!(scrub_part(&bench, dimms[nth], budget), usable);
            let after: Vec<_> = others().map(|&dimm| words(&bench, dimm, hosted)).collect();
            assert!(before == after, "{placement}: memory of another device was written");
            let left = words(&bench, dimms[nth], hosted).iter().filter(|&&word| word != 0).count();
            assert_eq!(left, 0, "{placement}: words that are left of device {nth}");
            bench.remove(dimms[nth]);
        }
    }
}

fn range_of<S: Shape>(share: &Share) -> PhysRange {
    let bytes = share.pfns.pages() * FakeMachine::<S>::PAGE_BYTES;
    PhysRange::new(FakeMachine::<S>::address(share.pfns.start), bytes).unwrap()
}

#[test]
fn what_a_device_has_of_a_block_is_cleared_and_nothing_of_the_others() {
    for budget in [1, 500] {
        // Cuts between granules, and inside of them.
        clears_one_of_three::<Tiny>(MIB, [3, 6], budget);
        clears_one_of_three::<Tiny>(16 * MIB, [3, 99], budget);
        clears_one_of_three::<Tiny>(16 * MIB, [64, 67], budget);
        clears_one_of_three::<TinyShared>(16 * MIB, [61, 65], budget);
    }
}

#[test]
fn a_part_that_is_no_whole_subsections_is_refused_and_one_beside_the_block_is_clean() {
    let bench = bench::<Tiny>(MIB, Placement::PerBlock, 0);
    use_all(&bench, Holder::register(&bench));
    bench.mm.drain_caches();
    bench.offline(dimm(MIB));
    let id = bench.blocks(dimm(MIB))[0];
    let odd = range(WINDOW, MIB + 4096);
    let subsection = bench.mm.subsection();
    let refused = ScrubError::NotWholeSubsections(NotWholeSubsections { range: odd, subsection });
    assert_eq!(bench.mm.scrub_part(id, odd, 1), Err(refused));
    let beside = range(WINDOW + MIB, MIB);
    assert_eq!(bench.mm.scrub_part(id, beside, 1), Ok(Scrubbed { pages: 0, more: false }));
    assert_eq!(bench.mm.scrub(id, u64::MAX), Ok(Scrubbed { pages: 252, more: false }));
}
