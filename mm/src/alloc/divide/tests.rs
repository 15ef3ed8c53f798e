extern crate std;

use crate::memmap::section::Section;
use crate::testing::{Bench, FakeMachine, Holder, Setup, Tag, Tiny, range};
use crate::{
    BlockId, Extent, FreeError, Mm, MovableOps, Move, Mover, Obstacle, OfflineError, Order, Pfn,
    PhysAddr, Placement, Removability, Request, ZoneKind,
};
use std::boxed::Box;
use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock};
use std::vec::Vec;

const MIB: u64 = 1 << 20;
const WINDOW: u64 = 64 * MIB;

fn order(raw: u8) -> Order {
    Order::new(raw).unwrap()
}

/// Sixteen mebibytes at boot, and two movable blocks of one, the first online.
fn bench() -> &'static Bench<Tiny> {
    let ram = [(0, 16 * MIB, 0)].into();
    let setup = Setup { ram, block: MIB, window: (WINDOW, 64 * MIB), kernelcore: None };
    let bench: &'static Bench<Tiny> = Box::leak(Box::new(Bench::new(&setup)));
    let dimm = range(WINDOW, 2 * MIB);
    bench.plug(dimm);
    bench.add(dimm, Placement::PerBlock);
    bench.online(range(WINDOW, MIB));
    bench
}

/// An owner whose word of a page is the page's number in all of its memory, and which divides extents.
struct Guest {
    mm: &'static Mm<FakeMachine<Tiny>>,
    mover: OnceLock<Mover>,
    /// Extents by the number of their first page.
    map: Mutex<BTreeMap<u64, (Pfn, Order)>>,
    /// The size that it divides extents into.
    into: Order,
    /// Whether it says that it has divided one and has not.
    lies: bool,
}

impl Guest {
    fn new(bench: &'static Bench<Tiny>, into: u8, lies: bool) -> &'static Self {
        let (mover, map, into) = (OnceLock::new(), Mutex::default(), order(into));
        let guest: &'static Self =
            Box::leak(Box::new(Self { mm: &bench.mm, mover, map, into, lies }));
        guest.mover.get_or_init(|| bench.mm.register(guest).unwrap());
        guest
    }

    fn mover(&self) -> &Mover {
        self.mover.get().unwrap()
    }

    fn poke(&self, pfn: Pfn, value: u64) {
        self.mm.machine().mmu().poke(PhysAddr::new(pfn.get() * 4096 + 16), value);
    }

    fn peek(&self, pfn: Pfn) -> u64 {
        self.mm.machine().mmu().peek(PhysAddr::new(pfn.get() * 4096 + 16))
    }

    /// Takes an extent for the pages from `first` on.
    fn take(&self, first: u64, raw: u8) -> Pfn {
        let request = Request::from(order(raw)).in_movable_zone();
        let pfn = self.mm.alloc_movable(request, self.mover(), first).unwrap();
        self.mm.with_meta(pfn, 0, self.mover(), |meta| meta.set(first)).unwrap();
        (0..1 << raw).for_each(|page| self.poke(pfn.add(page), first + page));
        self.map.lock().unwrap().insert(first, (pfn, order(raw)));
        pfn
    }

    /// Checks the content of all pages, and that the manager knows each extent.
    fn check(&self) -> u64 {
        let map = self.map.lock().unwrap();
        for (&first, &(pfn, order)) in map.iter() {
            assert_eq!(self.mm.private(pfn), Ok(first));
            let found = self.mm.with_meta(pfn, 0, self.mover(), Tag::get);
            assert!(found.is_ok_and(|tag| tag.is_some_and(|tag| tag <= first)), "{found:?}");
            (0..order.pages()).for_each(|page| assert_eq!(self.peek(pfn.add(page)), first + page));
        }
        map.values().map(|(_, order)| order.pages()).sum()
    }

    fn free_all(&self) {
        for (_, (pfn, _)) in core::mem::take(&mut *self.map.lock().unwrap()) {
            self.mm.free_movable(pfn, self.mover()).unwrap();
        }
    }
}

impl MovableOps for Guest {
    fn name(&self) -> &'static str {
        "guest"
    }

    fn splits(&self) -> bool {
        true
    }

    fn split(&self, extent: &Extent) -> bool {
        let mut map = self.map.lock().unwrap();
        let first = extent.private;
        assert_eq!(map.get(&first), Some(&(extent.pfn, extent.order)));
        if self.lies || self.into >= extent.order {
            return self.lies;
        }
        self.mm.split_movable(extent.pfn, self.mover(), self.into, |page| first + page).unwrap();
        for page in (0..extent.order.pages()).step_by(self.into.pages() as usize) {
            map.insert(first + page, (extent.pfn.add(page), self.into));
        }
        true
    }

    fn isolate(&self, moves: &[Move]) {
        let map = self.map.lock().unwrap();
        let here = |one: &&Move| {
            let from = one.from();
            map.get(&from.private) != Some(&(from.pfn, from.order))
        };
        moves.iter().filter(here).for_each(Move::refuse);
    }

    fn migrate(&self, moves: &[Move]) {
        for one in moves {
            one.pages().for_each(|(from, to)| self.poke(to, self.peek(from)));
            let place = (one.to(), one.from().order);
            self.map.lock().unwrap().insert(one.from().private, place);
        }
    }
}

/// Leaves every second page of the second block free, and no other page anywhere.
fn fragment(bench: &'static Bench<Tiny>) -> Vec<Pfn> {
    bench.online(range(WINDOW + MIB, MIB));
    let mut pages: Vec<_> = core::iter::from_fn(|| bench.alloc_movable_zone(Order::ZERO)).collect();
    while bench.mm.take_pages(Order::ZERO).is_ok() {}
    pages.sort_unstable();
    let second = Pfn::new((WINDOW + MIB) / 4096);
    pages.retain(|&pfn| {
        let goes = pfn >= second && pfn.get() % 2 == 1;
        if goes {
            bench.mm.free_movable(pfn, &bench.stubborn).unwrap();
        }
        !goes
    });
    bench.mm.drain_caches();
    pages.retain(|&pfn| {
        let goes = pfn < second;
        if goes {
            bench.mm.free_movable(pfn, &bench.stubborn).unwrap();
        }
        !goes
    });
    pages
}

fn first() -> BlockId {
    BlockId::new(WINDOW / MIB)
}

#[test]
fn an_extent_that_is_divided_is_many_with_their_words_and_metadata_each_freed_alone() {
    for raw in 0..=7 {
        for into in 0..=raw {
            let bench = bench();
            let free = bench.mm.stats().pages.free;
            let guest = Guest::new(bench, into, false);
            let pfn = guest.take(1000, raw);
            let since = bench.mm.page_info(pfn).unwrap().since;
            let word = |page| 1000 + page;
            let copies = Tag::copies();
            assert_eq!(bench.mm.split_movable(pfn, guest.mover(), order(into), word), Ok(()));
            // The first part keeps the metadata of the extent.
            assert_eq!(Tag::copies() - copies, (1 << (raw - into)) - 1);
            bench.check();
            let memmap = bench.mm.allocator().memmap.alone();
            let parts = (0..1 << raw).step_by(1 << into);
            for page in parts {
                let part = pfn.add(page);
                // A subsection has four pages: of one that an extent fills only the head is written.
                let initialised = memmap.section_at(part).unwrap().record().initialised();
                let here = Section::<FakeMachine<Tiny>>::part(part);
                assert_eq!(initialised.has(here), into < 2, "{raw} into {into}");
                let info = bench.mm.page_info(part).unwrap();
                assert_eq!((bench.mm.private(part), info.since), (Ok(1000 + page), since));
                assert_eq!(bench.mm.with_meta(part, 0, guest.mover(), Tag::get), Ok(Some(1000)));
                assert_eq!(bench.mm.free_movable(part, guest.mover()), Ok(()));
                bench.check();
            }
            bench.mm.drain_caches();
            assert_eq!(bench.mm.stats().pages.free, free);
            bench.check();
        }
    }
}

#[test]
fn the_metadata_of_each_page_stays_when_an_extent_is_divided() {
    let bench = bench();
    let guest = Guest::new(bench, 1, false);
    let request = Request::from(order(5)).in_movable_zone().with_meta_of_each();
    let pfn = bench.mm.alloc_movable(request, guest.mover(), 0).unwrap();
    for page in 0..32 {
        bench.mm.with_meta(pfn, page, guest.mover(), |meta| meta.set(100 + page)).unwrap();
    }
    bench.mm.split_movable(pfn, guest.mover(), order(1), |page| page).unwrap();
    for page in 0..32 {
        let part = pfn.add(page & !1);
        let found = bench.mm.with_meta(part, page % 2, guest.mover(), Tag::get);
        assert_eq!(found, Ok(Some(100 + page)));
        assert!(bench.mm.with_meta(part, 2, guest.mover(), Tag::get).is_err());
    }
    bench.check();
}

#[test]
fn only_its_owner_divides_an_extent_and_none_that_is_being_moved() {
    let bench = bench();
    let (guest, other) = (Guest::new(bench, 0, false), Holder::<Tiny>::register(bench));
    let pfn = guest.take(0, 3);
    let split = |pfn, mover| bench.mm.split_movable(pfn, mover, order(0), |page| page);
    assert!(matches!(split(pfn, other.mover()), Err(FreeError::NotYours(..))));
    assert_eq!(split(pfn.add(1), guest.mover()), Err(FreeError::NotAllocated(pfn.add(1))));
    let op = bench.mm.start_offline(first()).unwrap();
    assert_eq!(split(pfn, guest.mover()), Err(FreeError::Leaving(pfn)));
    op.cancel();
    assert_eq!(guest.check(), 8);
    assert_eq!(split(pfn, guest.mover()), Ok(()));
    bench.check();
}

#[test]
fn a_large_extent_moves_in_parts_where_memory_is_fragmented_as_foretold() {
    for into in [0, 2] {
        let bench = bench();
        let guest = Guest::new(bench, into, false);
        guest.take(0, 5);
        guest.take(100, 6);
        guest.take(200, 0);
        let pinned = fragment(bench);
        let foretold = bench.mm.explain_offline(first());
        assert_eq!(foretold, Removability::AfterMoving { extents: 3, pages: 97 });
        if into == 0 {
            bench.mm.offline(first()).unwrap();
            assert_eq!(guest.map.lock().unwrap().len(), 97);
        } else {
            // It does not divide them down to pages, as it has said: that is found when nothing fits.
            let stays = bench.mm.offline(first()).unwrap_err();
            assert!(matches!(stays, OfflineError::NoRoom { .. }), "{stays}");
        }
        assert_eq!(guest.check(), 97);
        bench.check();
        pinned.into_iter().for_each(|pfn| bench.mm.free_movable(pfn, &bench.stubborn).unwrap());
        if into != 0 {
            bench.mm.offline(first()).unwrap();
        }
        assert_eq!(guest.check(), 97);
        guest.free_all();
        bench.check();
    }
}

#[test]
fn nothing_is_divided_while_there_is_room_in_one_piece_nor_if_there_are_too_few_pages() {
    let bench = bench();
    let guest = Guest::new(bench, 0, false);
    for at in 0..3 {
        guest.take(1000 * at, 6);
    }
    bench.online(range(WINDOW + MIB, MIB));
    bench.mm.offline(first()).unwrap();
    assert_eq!(guest.map.lock().unwrap().len(), 3);
    bench.mm.online(first(), ZoneKind::Movable).unwrap();
    let second = BlockId::new(first().get() + 1);
    // Fewer free pages than it has, outside of its block.
    while bench.mm.take_pages(Order::ZERO).is_ok() {}
    let mut held: Vec<_> = core::iter::from_fn(|| bench.alloc_movable_zone(Order::ZERO)).collect();
    held.sort_unstable();
    let out = held.iter().filter(|pfn| pfn.get() < second.get() * 256).take(191);
    out.for_each(|&pfn| bench.mm.free_movable(pfn, &bench.stubborn).unwrap());
    bench.mm.drain_caches();
    let rest = held.iter().filter(|pfn| pfn.get() >= second.get() * 256);
    rest.for_each(|&pfn| bench.mm.free_movable(pfn, &bench.stubborn).unwrap());
    let short = Removability::Blocked(Obstacle::NoRoom(Order::ZERO));
    assert_eq!(bench.mm.explain_offline(second), short);
    let stays = bench.mm.offline(second).unwrap_err();
    assert_eq!(stays, OfflineError::NoRoom { block: second, order: Order::ZERO });
    assert_eq!(guest.check(), 192);
    bench.check();
}

#[test]
fn an_owner_that_only_says_that_it_has_divided_an_extent_keeps_the_block_online() {
    let bench = bench();
    let guest = Guest::new(bench, 0, true);
    guest.take(0, 5);
    fragment(bench);
    let stays = bench.mm.offline(first()).unwrap_err();
    assert_eq!(stays, OfflineError::NoRoom { block: first(), order: order(5) });
    assert_eq!(guest.check(), 32);
    bench.check();
}
