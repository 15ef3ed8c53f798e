//! The owners on a fake machine, while blocks go offline under them.

use super::{Cache, CacheError, Pool, PoolError};
use hotmem::testing::{Bench, FakeMachine, Setup, Tiny, range};
use hotmem::{BlockState, OfflineError, Order, PhysRange, Placement};
use std::boxed::Box;
use std::vec;

const MIB: u64 = 1 << 20;
const WINDOW: u64 = 64 * MIB;

type Fake = FakeMachine<Tiny>;

fn bench() -> (&'static Bench<Tiny>, PhysRange) {
    let ram = vec![(0, 16 * MIB, 0)];
    let setup = Setup { ram, block: MIB, window: (WINDOW, 64 * MIB), kernelcore: None };
    let bench: &'static Bench<Tiny> = Box::leak(Box::new(Bench::new(&setup)));
    let dimm = range(WINDOW, 3 * MIB);
    bench.plug(dimm);
    bench.add(dimm, Placement::PerBlock);
    bench.online(dimm);
    (bench, dimm)
}

fn pool(bench: &'static Bench<Tiny>) -> &'static Pool<Fake> {
    let pool: &'static Pool<Fake> = Box::leak(Box::new(Pool::new(&bench.mm)));
    pool.register().unwrap();
    pool
}

fn cache(bench: &'static Bench<Tiny>) -> &'static Cache<Fake> {
    let cache: &'static Cache<Fake> = Box::leak(Box::new(Cache::new(&bench.mm)));
    cache.register().unwrap();
    cache
}

fn write(cache: &Cache<Fake>, object: u64, offset: u64, bytes: &[u8]) -> Result<(), CacheError> {
    cache.write(object, offset, bytes.len() as u64, |index| bytes[index as usize])
}

#[test]
fn a_pool_keeps_its_content_while_its_pages_are_moved_about() {
    let (bench, dimm) = bench();
    let pool = pool(bench);
    pool.grow(100, Order::ZERO).unwrap();
    pool.grow(10, Order::new(3).unwrap()).unwrap();
    for id in bench.blocks(dimm) {
        bench.mm.offline(id).unwrap();
        bench.check();
        assert_eq!(pool.check(), Ok(110));
    }
    let status = pool.status();
    assert_eq!((status.extents, status.pages), (110, 180));
    assert!(status.moved >= 110, "{status:?}");
    assert_eq!(pool.shrink(1000), Ok(110));
    bench.check();
}

#[test]
fn a_pinned_extent_holds_its_block_until_it_is_let_go() {
    let (bench, dimm) = bench();
    let pool = pool(bench);
    pool.grow(3, Order::ZERO).unwrap();
    pool.pin(1, true).unwrap();
    let at = pool.at(1).unwrap();
    let id = bench.mm.page_info(at).unwrap().block;
    let Err(OfflineError::InUse { first: Some((pfn, owner)), .. }) = bench.mm.offline(id) else {
        panic!("it went offline");
    };
    assert_eq!((pfn, bench.mm.owner_name(owner)), (at, "pool"));
    pool.pin(1, false).unwrap();
    assert_eq!(bench.mm.offline(id).unwrap().state, BlockState::Offline);
    assert_eq!(pool.check(), Ok(3));
    assert_eq!(pool.pin(3, true), Err(PoolError::NoHandle(3)));
    assert_eq!(bench.blocks(dimm).len(), 3);
}

#[test]
fn a_pool_that_finds_no_memory_keeps_what_it_has() {
    let (bench, _) = bench();
    let pool = pool(bench);
    let large = Order::new(7).unwrap();
    let Err(PoolError::OutOfMemory(count, error)) = pool.grow(1 << 20, large) else {
        panic!("endless memory");
    };
    assert_eq!((pool.status().extents, error.order), (count, large));
    assert_eq!(pool.check(), Ok(count));
    assert_eq!(pool.shrink(u64::MAX), Ok(count));
}

#[test]
fn a_damaged_page_of_the_pool_is_named() {
    let (bench, _) = bench();
    let pool = pool(bench);
    pool.grow(5, Order::ZERO).unwrap();
    let at = pool.at(2).unwrap();
    super::store(&bench.mm, at, 0, 0xff ^ super::load(&bench.mm, at, 0));
    assert_eq!(pool.check(), Err(PoolError::Mismatch(2, at)));
}

#[test]
fn what_was_written_through_the_cache_is_read_back_wherever_its_pages_went() {
    let (bench, dimm) = bench();
    let cache = cache(bench);
    let text = b"pull the DIMM, keep the page";
    for object in 0..4 {
        // Across a page's end.
        write(cache, object, 4096 * (object + 1) - 10, text).unwrap();
    }
    let read = |object: u64| {
        let start = 4096 * (object + 1) - 10;
        (start..start + text.len() as u64).map(|at| cache.read(object, at).unwrap()).collect()
    };
    assert_eq!(cache.write_back(), 8);
    write(cache, 2, 4096 * 3 - 10, b"PULL").unwrap();
    for id in bench.blocks(dimm) {
        bench.mm.offline(id).unwrap();
        bench.check();
        let object: std::vec::Vec<u8> = read(1);
        assert_eq!(object, text);
        cache.check().unwrap();
    }
    assert!(cache.status().moved >= 8);
    assert_eq!(cache.status().dirty, 1);
    assert_eq!(cache.drop_all(), Ok(8));
    assert_eq!(cache.status().cached, 0);
    let object: std::vec::Vec<u8> = read(2);
    assert_eq!(object, b"PULL the DIMM, keep the page");
}

#[test]
fn an_object_has_only_the_bytes_that_were_written_or_lie_below() {
    let (bench, _) = bench();
    let cache = cache(bench);
    write(cache, 0, 5000, b"x").unwrap();
    assert_eq!(cache.read(0, 0), Ok(0));
    let beyond = |object, offset| CacheError::Beyond { object, offset };
    assert_eq!(cache.read(0, 8192), Err(beyond(0, 8192)));
    assert_eq!(cache.read(7, 0), Err(beyond(7, 0)));
    assert_eq!(write(cache, 64, 0, b"x"), Err(beyond(64, 0)));
    assert_eq!(write(cache, 0, 1 << 40, b"x"), Err(beyond(0, 1 << 40)));
    assert_eq!(write(cache, 0, u64::MAX, b"xy"), Err(beyond(0, u64::MAX)));
    bench.check();
}

#[test]
fn a_clean_page_that_differs_from_the_store_is_named() {
    let (bench, _) = bench();
    let cache = cache(bench);
    write(cache, 3, 4096 + 17, b"a").unwrap();
    cache.write_back();
    assert_eq!(cache.check(), Ok(1));
    let pfn = cache.cached_at(0).unwrap();
    super::store(&bench.mm, pfn, 17, b'b');
    assert_eq!(cache.check(), Err(CacheError::Differs { object: 3, offset: 4096 + 17 }));
}
