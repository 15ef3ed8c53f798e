//! The order of a batch: clear, flush, copy, map.

use super::*;
use crate::space::Found;

#[test]
fn an_extent_is_copied_after_its_leaf_was_cleared_and_flushed() {
    let (bench, vms) = machine();
    let id = guest(&vms, "a", MIB / 4);
    let vms: &'static Vms<Fake, Soft> = Box::leak(Box::new(vms));
    let block = bench.mm.block_at(Fake::address(pfn(vms, id, 0)));
    let before = FLUSHES.get();
    AT_COPY.set(Some(Box::new(move || {
        vms.host.with_space(id.number(), |space| {
            let at = |page: u64| GuestAddr::new((RAM + page) * PAGE);
            let cleared = (0..64).filter(|&page| space.tables.translate(at(page)).is_none());
            let moving = space.moving().iter().map(|range| range.len() / PAGE).sum::<u64>();
            assert_eq!(cleared.count() as u64, moving);
            assert!(moving > 0, "a page is copied that the guest can access");
        });
        assert!(FLUSHES.get() > before, "a page is copied before a flush");
    })));
    bench.mm.offline(block).unwrap();
    assert!(AT_COPY.take().is_none(), "nothing was copied");
    vms.verify().unwrap();
}

#[test]
fn memory_is_found_as_moving_while_it_moves_and_no_other_is() {
    let (bench, vms) = machine();
    let id = guest(&vms, "a", MIB / 4);
    let vms: &'static Vms<Fake, Soft> = Box::leak(Box::new(vms));
    let block = bench.mm.block_at(Fake::address(pfn(vms, id, 0)));
    let at = |page: u64| GuestAddr::new((RAM + page) * PAGE);
    let found = move |page| vms.host.with_space(id.number(), |space| space.find(at(page))).unwrap();
    AT_COPY.set(Some(Box::new(move || {
        let moving = (0..64).filter(|&page| found(page) == Found::Moving).count();
        let there = (0..64).filter(|&page| found(page) == Found::Memory).count();
        assert!(moving > 0 && moving + there == 64, "{moving} move, {there} are there");
        assert_eq!(found(64), Found::Nothing);
    })));
    bench.mm.offline(block).unwrap();
    assert!(AT_COPY.take().is_none(), "nothing was copied");
    assert!((0..64).all(|page| found(page) == Found::Memory));
}

#[test]
fn a_flush_names_the_tag_of_the_guest_and_its_root_and_no_tag_is_shared_or_the_hosts() {
    let (_, vms) = machine();
    let guests = ["a", "b", "c"].map(|name| guest(&vms, name, 8 * PAGE));
    let mut tags = std::collections::BTreeSet::new();
    for id in guests {
        let root = vms.host.with_space(id.number(), |space| space.tables.root().get());
        clear(&vms, id, 3);
        assert_eq!(FLUSHED.take(), Some((id.tag(), root.unwrap())));
        assert!(id.tag() != 0 && tags.insert(id.tag()), "{tags:?}");
    }
}
