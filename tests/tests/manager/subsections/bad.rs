//! Bad memory in a block that devices share: the block is marked for as long as the bad memory is there.

use hotmem::testing::{Granule16, Lmb, Shape, TinyShared};
use hotmem::{OnlineError, Pfn, PhysRange, Placement, Quarantined, ScrubError, ZoneKind};
use hotmem_tests::memory::{MIB, TINY_WINDOW, assert_same, small, tiny};

use super::Rig;

/// When the page turns out to be bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    Online,
    Offline,
}

/// A usable page of a range, and one of its memmap if that is there.
fn pages_of<S: Shape>(rig: &Rig<S>, dimm: PhysRange, placement: Placement) -> Vec<Pfn> {
    let page = page_bytes(rig);
    let last = Pfn::new(dimm.end().get() / page - 1);
    let first = Pfn::new(dimm.start().get() / page);
    if placement.self_hosted() { vec![last, first] } else { vec![last] }
}

fn page_bytes<S: Shape>(_: &Rig<S>) -> u64 {
    1 << <hotmem::testing::FakeMachine<S> as hotmem::Sizes>::PAGE_SHIFT
}

fn online<S: Shape>(rig: &Rig<S>) -> Result<(), OnlineError> {
    let blocks: Vec<_> = rig.bench.mm.blocks().filter(|block| !block.boot).collect();
    let mut result = Ok(());
    for block in blocks {
        result = result.and(rig.bench.mm.online(block.id, ZoneKind::Movable).map(drop));
    }
    rig.bench.check();
    result
}

fn offline<S: Shape>(rig: &Rig<S>) {
    for block in rig.bench.mm.blocks().filter(|block| !block.boot) {
        _ = rig.bench.mm.offline(block.id);
    }
    rig.bench.check();
}

/// Three ranges that touch, of which the one in the middle has a bad page at `bad`; the others go, or it goes.
fn leaves<S: Shape>(
    rig: &Rig<S>,
    [low, middle, high]: [PhysRange; 3],
    placement: Placement,
    bad: Pfn,
    when: When,
) {
    let bench = &rig.bench;
    let before = bench.snapshot();
    let others = if placement == Placement::Boot { Placement::PerBlock } else { Placement::Boot };
    for (dimm, placement) in [(high, others), (middle, placement), (low, others)] {
        bench.add(dimm, placement);
    }
    if when == When::Online {
        online(rig).unwrap();
    }
    let what = bench.mm.poison(bad).unwrap();
    let id = bench.mm.block_at(hotmem::PhysAddr::new(bad.get() * page_bytes(rig)));
    assert!(bench.mm.block(id).unwrap().poisoned, "{what:?}");
    offline(rig);
    assert_eq!(bench.mm.online(id, ZoneKind::Movable).unwrap_err(), OnlineError::Poisoned(id));
    // What is not bad is cleared.
    let scrub = |dimm: PhysRange| {
        let ids = bench.mm.blocks_in(dimm);
        let done: Vec<_> = ids.map(|id| bench.mm.scrub_part(id, dimm, u64::MAX)).collect();
        bench.check();
        done.into_iter().find_map(Result::err)
    };
    assert_eq!((scrub(low), scrub(high)), (None, None));
    assert!(matches!(scrub(middle), Some(ScrubError::Poisoned(_))));
    if what != Quarantined::Memmap {
        assert_eq!(scrub(middle), Some(ScrubError::Poisoned(id)));
    }
    // Other memory leaves, and comes: the mark stays.
    bench.remove(low);
    assert_eq!(bench.mm.online(id, ZoneKind::Movable).unwrap_err(), OnlineError::Poisoned(id));
    bench.add(low, others);
    bench.remove(middle);
    let back = online(rig);
    assert_eq!(back, Ok(()), "{placement}, {bad}, {when:?}, {what:?}");
    offline(rig);
    // Memory that takes the place is not marked.
    bench.add(middle, placement);
    online(rig).unwrap();
    offline(rig);
    [middle, low, high].into_iter().for_each(|dimm| _ = bench.remove(dimm));
    assert_same(&before, &bench.snapshot());
}

fn leaves_in_each_way<S: Shape>(rig: &Rig<S>) {
    let per_block = rig.per_block();
    for placement in Placement::ALL {
        for (first, len) in [(1, 2), (1, per_block + 1), (per_block - 1, 2)] {
            let dimms = [rig.units(0, first), rig.units(first, len), rig.units(first + len, 1)];
            for bad in pages_of(rig, dimms[1], placement) {
                for when in [When::Online, When::Offline] {
                    leaves(rig, dimms, placement, bad, when);
                }
            }
        }
    }
}

#[test]
fn a_block_comes_online_again_once_the_range_with_bad_memory_has_left_it() {
    leaves_in_each_way(&Rig::over(tiny(MIB), MIB, TINY_WINDOW));
    leaves_in_each_way(&Rig::over(tiny(4 * MIB), 4 * MIB, TINY_WINDOW));
    leaves_in_each_way(&Rig::over(small::<TinyShared>(MIB), MIB, TINY_WINDOW));
    leaves_in_each_way(&Rig::<Granule16>::new(256 * MIB, 256 * MIB, 4 << 30));
    leaves_in_each_way(&Rig::<Lmb>::new(512 * MIB, 256 * MIB, 4 << 30));
}
