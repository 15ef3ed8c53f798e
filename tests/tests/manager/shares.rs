//! `shares` says what the pages of a block are in use for.

use hotmem::testing::{Holder, range};
use hotmem::{BlockId, Order, Placement, Shares};
use hotmem_tests::memory::{MIB, TINY_WINDOW, tiny};

#[test]
fn pages_count_as_free_movable_pinned_or_unmovable() {
    let bench = tiny(MIB);
    let holder = Holder::register(&bench);
    let dimm = range(TINY_WINDOW, MIB);
    bench.plug(dimm);
    let id = BlockId::new(TINY_WINDOW / MIB);
    assert_eq!(bench.mm.shares(id), Shares::default(), "a block that is not there");
    bench.add(dimm, Placement::PerBlock);
    assert_eq!(bench.mm.shares(id), Shares::default(), "an offline one");
    bench.online(dimm);
    let managed = bench.mm.block(id).unwrap().counts.managed;
    assert_eq!(bench.mm.shares(id), Shares { free: managed, ..Shares::default() });

    let order = Order::new(2).unwrap();
    let pfns = bench.mm.block(id).unwrap().pfns;
    let inside = |handle: &u64| {
        let first = holder.at(*handle).unwrap().0;
        (pfns.start..pfns.end).contains(&first)
    };
    let handles: Vec<_> =
        (0..3).filter_map(|_| holder.take(&bench, order)).filter(inside).collect();
    assert!(!handles.is_empty(), "movable pages come from the DIMM first");
    holder.pin(handles[0], true);
    let moved = 4 * (handles.len() as u64 - 1);
    let expected =
        Shares { free: managed - moved - 4, movable: moved, pinned: 4, ..Shares::default() };
    assert_eq!(bench.mm.shares(id), expected);
    holder.pin(handles[0], false);
    assert_eq!(bench.mm.shares(id), Shares { movable: moved + 4, pinned: 0, ..expected });
}

#[test]
fn the_shares_of_all_blocks_are_the_managed_pages() {
    let bench = tiny(MIB);
    let holder = Holder::register(&bench);
    holder.take(&bench, Order::ZERO);
    bench.mm.take_pages(Order::ZERO).unwrap();
    let mut unmovable = 0;
    for block in bench.mm.blocks() {
        let shares = bench.mm.shares(block.id);
        let sum = shares.free + shares.movable + shares.pinned + shares.unmovable;
        // Pages that were taken before the allocator existed are in use and not managed.
        assert!(sum >= block.counts.managed, "{shares:?}, {:?}", block.counts);
        assert!(sum <= block.counts.present, "{shares:?}, {:?}", block.counts);
        unmovable += shares.unmovable;
    }
    assert!(unmovable >= 1);
}
