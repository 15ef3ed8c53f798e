//! Owners of movable pages on a fake machine: their pages keep their content wherever they move.

// UNSAFETY: damages pages, to check that the damage is found.
#![expect(unsafe_code)]

use super::frame;
use super::{Cache, CacheError, OBJECTS, Pool, PoolError};
use crate::fault::{Faults, Outcome, Point};
use hotmem::testing::{Bench, FakeMachine, Setup, Tiny, range};
use hotmem::{BlockId, Geometry, OfflineError, Order, Pfn, Placement, ZoneKind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const MIB: u64 = 1 << 20;
const WINDOW: u64 = 64 * MIB;
const FIRST: u64 = WINDOW / MIB;
const PAGE: u64 = 4096;

type Fake = FakeMachine<Tiny>;

/// 16 MiB at boot, and four movable blocks of 1 MiB.
fn bench() -> &'static Bench<Tiny> {
    let setup = Setup {
        ram: vec![(0, 16 * MIB, 0)],
        block: MIB,
        window: (WINDOW, 64 * MIB),
        kernelcore: None,
    };
    let bench: &'static Bench<Tiny> = Box::leak(Box::new(Bench::new(&setup)));
    let memory = range(WINDOW, 4 * MIB);
    bench.plug(memory);
    bench.mm.hot_add(memory, hotmem::NodeId::ZERO, Placement::PerBlock).unwrap();
    (FIRST..FIRST + 4).for_each(|block| online(bench, block));
    bench
}

fn online(bench: &Bench<Tiny>, block: u64) {
    bench.mm.online(BlockId::new(block), ZoneKind::Movable).unwrap();
}

/// Changes a word of a page without its owner's knowledge.
fn damage(bench: &Bench<Tiny>, pfn: Pfn) {
    // SAFETY: the page is held, and no function of its owner runs at the same time.
    let words = unsafe { frame::words(&bench.mm, pfn) };
    words[1].fetch_xor(1, Ordering::Relaxed);
}

#[test]
fn an_extent_whose_move_fails_on_purpose_stays_with_its_content_and_moves_when_asked_again() {
    let (bench, faults) = (bench(), &*Box::leak(Box::<Faults>::default()));
    let pool = Pool::register(&bench.mm, faults).unwrap();
    pool.grow(300, Order::ZERO).unwrap();
    let block = bench.mm.block_at(Fake::address(pool.find(0).unwrap().pfn));
    for nth in 1.. {
        faults.arm(nth);
        bench.mm.offline(block).unwrap();
        assert_eq!(pool.check(), Ok(300));
        bench.check();
        if faults.disarm() != Outcome::Failed(Point::Move) {
            assert!(nth > 1, "no extent moved");
            break;
        }
        online(bench, block.get());
        // Nothing is left isolated: each can be freed, and lies in the block again for the next round.
        assert_eq!(pool.shrink(300), Ok(300));
        pool.grow(300, Order::ZERO).unwrap();
    }
}

#[test]
fn pool_pages_keep_their_content_while_every_block_goes_offline_and_online() {
    let bench = bench();
    let before = bench.snapshot();
    let pool = Pool::register(&bench.mm, Box::leak(Box::default())).unwrap();
    pool.grow(100, Order::ZERO).unwrap();
    let large = pool.take(Order::new(4).unwrap()).unwrap();
    let first = pool.find(0).unwrap().pfn;
    for block in FIRST..FIRST + 4 {
        bench.mm.offline(BlockId::new(block)).unwrap();
        assert_eq!(pool.check(), Ok(101));
        online(bench, block);
    }
    assert_ne!(pool.find(0).unwrap().pfn, first);
    let status = pool.status();
    assert!(status.moved >= 101, "{status:?}");
    assert_eq!((status.extents, status.pages), (101, 116));
    bench.mm.verify_machine().unwrap();
    pool.release(large).unwrap();
    assert_eq!(pool.shrink(1000), Ok(100));
    assert_eq!(bench.snapshot(), before);
}

#[test]
fn a_pinned_page_keeps_its_block_online_until_it_is_unpinned() {
    let bench = bench();
    let pool = Pool::register(&bench.mm, Box::leak(Box::default())).unwrap();
    pool.grow(3, Order::ZERO).unwrap();
    pool.pin(1, true).unwrap();
    let pfn = pool.find(1).unwrap().pfn;
    let block = BlockId::new(pfn.get() * PAGE / MIB);
    let before = bench.snapshot();
    assert!(bench.mm.offline(block).is_err());
    assert_eq!(bench.snapshot(), before);
    assert_eq!(pool.find(1).unwrap().pfn, pfn);

    assert_eq!(pool.release(1), Err(PoolError::Held(1)));
    assert_eq!(pool.shrink(3), Ok(2));
    pool.pin(1, false).unwrap();
    bench.mm.offline(block).unwrap();
    assert_eq!(pool.check(), Ok(1));
}

#[test]
fn handles_are_used_again_and_unknown_ones_are_refused() {
    let bench = bench();
    let pool = Pool::register(&bench.mm, Box::leak(Box::default())).unwrap();
    pool.grow(5, Order::ZERO).unwrap();
    pool.release(2).unwrap();
    assert_eq!(pool.release(2), Err(PoolError::NoHandle(2)));
    assert_eq!(pool.pin(5, true), Err(PoolError::NoHandle(5)));
    assert_eq!(pool.find(u64::MAX), Err(PoolError::NoHandle(u64::MAX)));
    assert_eq!(pool.take(Order::ZERO), Ok(2));
    assert_eq!(pool.take(Order::ZERO), Ok(5));
    assert_eq!(pool.check(), Ok(6));
}

#[test]
fn a_pool_that_outgrows_memory_keeps_its_extents_and_its_blocks_stay() {
    let bench = bench();
    let pool = Pool::register(&bench.mm, Box::leak(Box::default())).unwrap();
    let (taken, error) = pool.grow(1 << 20, Order::ZERO).unwrap_err();
    assert!(matches!(error, PoolError::Memory(_) | PoolError::Table(_)), "{error}");
    assert_eq!(pool.check(), Ok(taken));
    // Migration may use the pages that the pool had to leave free; the kernel allocates them.
    while bench.mm.take_pages(Order::ZERO).is_ok() {}
    let full = bench.snapshot();
    let stays = bench.mm.offline(BlockId::new(FIRST)).unwrap_err();
    assert!(matches!(stays, OfflineError::NoRoom { .. }), "{stays}");
    assert_eq!(bench.snapshot(), full);
    assert_eq!(pool.check(), Ok(taken));
    assert_eq!(pool.shrink(taken), Ok(taken));
    bench.mm.offline(BlockId::new(FIRST)).unwrap();
}

#[test]
fn a_changed_word_of_the_pool_is_found() {
    let bench = bench();
    let pool = Pool::register(&bench.mm, Box::leak(Box::default())).unwrap();
    pool.grow(9, Order::ZERO).unwrap();
    let pfn = pool.find(7).unwrap().pfn;
    damage(bench, pfn);
    let found = pool.check().unwrap_err();
    assert!(matches!(found, PoolError::Damaged { handle: 7, word: 1, .. }), "{found}");
    damage(bench, pfn);
    bench.mm.set_private(pfn, 8).unwrap();
    assert_eq!(pool.check(), Err(PoolError::Lost(7)));
}

fn write(cache: &Cache<Fake>, object: u64, offset: u64, bytes: &[u8]) -> Result<(), CacheError> {
    cache.write(object, offset, bytes.len() as u64, |index| bytes[index as usize])
}

fn read(cache: &Cache<Fake>, object: u64, offset: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0xff; len];
    cache.read(object, offset, &mut bytes).unwrap();
    bytes
}

#[test]
fn bytes_written_through_the_cache_read_back_before_and_after_they_are_stored() {
    let bench = bench();
    let before = bench.snapshot();
    let cache = Cache::register(&bench.mm).unwrap();
    write(&cache, 3, PAGE - 4, b"across two pages").unwrap();
    assert_eq!(read(&cache, 3, PAGE - 4, 16), b"across two pages");
    assert_eq!(read(&cache, 3, 0, 3), [0; 3]);
    assert_eq!((cache.status().cached, cache.status().dirty), (2, 2));
    assert_eq!(cache.write_back(), Ok(2));
    assert_eq!(cache.drop_pages(), Ok(2));
    assert_eq!((cache.status().cached, cache.status().stored), (0, 2));
    assert_eq!(read(&cache, 3, PAGE - 4, 16), b"across two pages");
    write(&cache, 3, PAGE, b"ab").unwrap();
    assert_eq!(cache.drop_pages(), Ok(2));
    assert_eq!(read(&cache, 3, PAGE - 4, 16), b"acroab two pages");
    write(&cache, 2, 2 * PAGE, b"far").unwrap();
    assert_eq!(read(&cache, 2, 0, 64), [0; 64]);
    cache.clear().unwrap();
    assert_eq!(bench.snapshot(), before);
}

#[test]
fn missing_objects_are_refused() {
    let cache = Cache::register(&bench().mm).unwrap();
    assert_eq!(write(&cache, OBJECTS, 0, b"x"), Err(CacheError::NoObject(OBJECTS)));
    assert_eq!(
        write(&cache, 0, u64::MAX, b"xy"),
        Err(CacheError::Beyond { object: 0, offset: u64::MAX })
    );
    let far = CacheError::Beyond { object: 0, offset: 5 << 30 };
    assert_eq!(cache.write(0, 1, 5 << 30, |_| 1), Err(far));
    assert_eq!(cache.status().cached, 0);
    assert_eq!(cache.read(u64::MAX, 0, &mut [0]), Err(CacheError::NoObject(u64::MAX)));
    assert_eq!(cache.fill(OBJECTS, 1), Err((0, CacheError::NoObject(OBJECTS))));
    assert_eq!(cache.read(5, 9, &mut [0]), Err(CacheError::Beyond { object: 5, offset: 9 }));
}

#[test]
fn a_cache_that_outgrows_memory_reports_how_much_it_filled() {
    let bench = bench();
    let before = bench.snapshot();
    let cache = Cache::register(&bench.mm).unwrap();
    let (filled, _) = cache.fill(0, 1 << 19).unwrap_err();
    assert_eq!(cache.check(), Ok(filled));
    // No memory is left to store them in.
    assert!(matches!(cache.write_back(), Err(CacheError::Memory(_))));
    assert_eq!(cache.check(), Ok(filled));
    let small = Cache::register(&bench.mm).unwrap();
    assert!(write(&small, 0, 0, b"x").is_err());
    assert_ne!(bench.snapshot(), before);
}

#[test]
fn a_changed_word_is_found_in_the_cache_and_in_the_store() {
    let bench = bench();
    let cache = Cache::register(&bench.mm).unwrap();
    cache.fill(1, 4).unwrap();
    let record = cache.owner_record(1, 2);
    damage(bench, record.1.unwrap());
    let changed = |cached| CacheError::Damaged { object: 1, index: 2, cached };
    assert_eq!(cache.check(), Err(changed(true)));
    damage(bench, record.1.unwrap());
    assert_eq!(cache.drop_pages(), Ok(4));
    assert_eq!(cache.check(), Ok(4));
    damage(bench, cache.owner_record(1, 2).0.unwrap());
    assert_eq!(cache.check(), Err(changed(false)));
}

#[test]
fn the_cache_is_used_by_another_thread_while_blocks_go_offline_and_online() {
    let bench = bench();
    let cache = Cache::register(&bench.mm).unwrap();
    cache.fill(0, 64).unwrap();
    let (over, rounds) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let user = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let round = rounds.load(Ordering::Relaxed);
                let at = round % 64 * PAGE + 100;
                let text = round.to_le_bytes();
                write(&cache, 0, at, &text).unwrap();
                assert_eq!(read(&cache, 0, at, 8), text);
                rounds.store(round + 1, Ordering::Relaxed);
                if round % 50 == 49 {
                    // A page that is being migrated stays in the cache, which is not an error.
                    let dropped = cache.drop_pages();
                    assert!(matches!(dropped, Ok(_) | Err(CacheError::Moving)), "{dropped:?}");
                }
            }
        });
        for (nth, block) in (FIRST..FIRST + 4).cycle().enumerate() {
            let used = rounds.load(Ordering::Relaxed) >= 100 || user.is_finished();
            if nth >= 40 && used {
                break;
            }
            // Whether the block goes offline depends on the other thread; its content must be intact in any case.
            if bench.mm.offline(BlockId::new(block)).is_ok() {
                online(bench, block);
            }
            cache.check().unwrap();
        }
        over.store(true, Ordering::Relaxed);
    });
    assert!(cache.check().is_ok());
    bench.mm.verify_machine().unwrap();
}

#[test]
fn cached_pages_move_with_their_content() {
    let bench = bench();
    let cache = Cache::register(&bench.mm).unwrap();
    cache.fill(0, 200).unwrap();
    cache.write_back().unwrap();
    write(&cache, 0, 17, b"not stored yet").unwrap();
    for block in FIRST..FIRST + 4 {
        bench.mm.offline(BlockId::new(block)).unwrap();
        online(bench, block);
    }
    assert!(cache.status().moved >= 200, "{:?}", cache.status());
    assert_eq!(cache.check(), Ok(200));
    assert_eq!(read(&cache, 0, 17, 14), b"not stored yet");
}
