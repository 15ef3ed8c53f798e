//! What another CPU does between two accesses of this one; and what operations leave closed to caches.

use super::*;
use crate::addr::PfnRange;
use crate::alloc::buddy::is_users;
use std::boxed::Box;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU64};

/// A page that another CPU frees into its cache just before one access of this CPU.
struct Race {
    bench: Bench<Tiny>,
    /// Accesses until then.
    left: AtomicI64,
    pfn: AtomicU64,
    freed: AtomicBool,
}

impl Race {
    fn new() -> &'static Self {
        let (bench, _) = with_block(ZoneKind::Normal);
        let (left, pfn, freed) = (AtomicI64::new(0), AtomicU64::new(0), AtomicBool::new(false));
        let race: &'static Self = Box::leak(Box::new(Self { bench, left, pfn, freed }));
        // A cache keeps what is freed once it was used.
        become_cpu(1);
        drop(race.bench.mm.alloc(Order::ZERO).unwrap());
        race.bench.mm.machine().mmu().on_access(|| {
            if race.left.fetch_sub(1, Ordering::SeqCst) == 1 {
                race.free_elsewhere();
            }
        });
        race
    }

    /// Only into the cache: this CPU may hold the lock of the zone.
    fn free_elsewhere(&self) {
        let pfn = Pfn::new(self.pfn.load(Ordering::SeqCst));
        let free = || {
            become_cpu(1);
            Cached::of(self.bench.mm.allocator()).free_cached(pfn, is_users)
        };
        let freed = thread::scope(|scope| scope.spawn(free).join().unwrap());
        self.freed.store(freed, Ordering::SeqCst);
    }

    /// Frees a page on CPU `cpu`, and on another one before the access `nth`: who freed it, or `None` if there are fewer
    /// accesses.
    fn free_twice(&self, cpu: usize, nth: i64) -> Option<(bool, bool)> {
        let mm = &self.bench.mm;
        Cached::of(mm.allocator()).drain_caches();
        become_cpu(0);
        let pfn = mm.take_pages(Order::ZERO).unwrap();
        self.pfn.store(pfn.get(), Ordering::SeqCst);
        self.freed.store(false, Ordering::SeqCst);
        become_cpu(cpu);
        self.left.store(nth, Ordering::SeqCst);
        let freed = mm.free_pages(pfn).is_ok();
        let is_over = self.left.swap(0, Ordering::SeqCst) <= 0;
        is_over.then_some((freed, self.freed.load(Ordering::SeqCst)))
    }
}

#[test]
fn a_page_that_two_cpus_free_at_once_is_freed_once() {
    let race = Race::new();
    // Into the cache of a CPU, and by one that has none into the zone.
    for cpu in [0, CPUS] {
        let mut firsts = [0, 0];
        for nth in 1.. {
            let Some((here, elsewhere)) = race.free_twice(cpu, nth) else { break };
            assert_ne!(here, elsewhere, "CPU {cpu}, access {nth}");
            firsts[usize::from(here)] += 1;
            race.bench.check();
        }
        assert!(firsts.iter().all(|&count| count > 0), "CPU {cpu}: {firsts:?}");
    }
}

fn closed(bench: &Bench<Tiny>) -> PfnRange {
    bench.mm.allocator().caches.closing.closed()
}

#[test]
fn a_block_is_closed_to_caches_while_its_descriptors_move_and_no_longer() {
    let bench: &'static Bench<Tiny> = Box::leak(Box::new(bench()));
    let dimm = range(WINDOW, 3 * MIB);
    bench.plug(dimm);
    bench.add(dimm, Placement::PerRange);
    bench.online(dimm);
    static SEEN: Mutex<Vec<PfnRange>> = Mutex::new(Vec::new());
    bench.mm.machine().mmu().on_flush(|| SEEN.lock().unwrap().push(closed(bench)));
    bench.mm.convert(dimm).unwrap();
    let moved = bench.blocks(dimm).into_iter().rev().take(2);
    let moved: Vec<_> = moved.map(|id| bench.mm.block(id).unwrap().pfns).collect();
    assert_eq!(*SEEN.lock().unwrap(), moved);
    assert_eq!(closed(bench), PfnRange::EMPTY);
}

#[test]
fn no_operation_leaves_a_range_closed_to_caches() {
    become_cpu(0);
    let ram = [(0, 8 * MIB, 0)].into();
    let setup = Setup { ram, block: MIB, window: (WINDOW, 64 * MIB), kernelcore: Some(4 * MIB) };
    let bench = Bench::new(&setup);
    let id = bench.mm.block_at(range(7 * MIB, MIB).start());
    let open = |what| assert_eq!(closed(&bench), PfnRange::EMPTY, "{what}");
    drop(bench.mm.start_offline(id).unwrap());
    open("an offline that is given up");
    bench.mm.offline(id).unwrap();
    open("an offline");
    bench.mm.online(id, ZoneKind::Movable).unwrap();
    bench.mm.take_contig(NodeId::ZERO, 2 * MIB).unwrap();
    open("memory that is taken");
    assert_eq!(bench.mm.release(), Ok(2));
    bench.mm.poison(bench.mm.block(id).unwrap().pfns.start).unwrap();
    open("a bad page");
    let parts = [range(WINDOW, MIB / 2), range(WINDOW + MIB / 2, MIB / 2)];
    for part in parts {
        bench.plug(part);
        bench.add(part, Placement::PerBlock);
    }
    bench.online(parts[0]);
    bench.mm.offline_part(bench.mm.block_at(parts[0].start()), parts[0]).unwrap();
    open("an offline of a part");
    bench.check();
}

#[test]
fn a_snapshot_does_not_depend_on_pages_that_idle_cpus_clear_and_cache_meanwhile() {
    let bench = bench();
    become_cpu(0);
    let before = bench.snapshot();
    // The first fact, the last one, and each of those between.
    for nth in 0..before.len() {
        let mut facts = Vec::new();
        bench.mm.snapshot(&mut |fact| {
            if facts.len() == nth {
                while bench.mm.zero_ahead() {}
                drop(bench.mm.alloc(Order::ZERO).unwrap());
                assert_eq!(bench.mm.stats().cached, 0, "fact {nth}");
            }
            facts.push(fact);
        });
        assert_eq!(facts, before, "fact {nth}");
    }
    assert!(bench.mm.zero_ahead(), "caches are open again");
    bench.check();
}

#[test]
fn a_snapshot_leaves_the_range_closed_that_an_operation_closed() {
    let (bench, id) = with_block(ZoneKind::Normal);
    become_cpu(0);
    let block = bench.mm.block(id).unwrap().pfns;
    bench.mm.allocator().caches.closing.close(block);
    bench.snapshot();
    while bench.mm.zero_ahead() {}
    assert_eq!(closed(&bench), block);
    assert!(block.iter().all(|pfn| !is_cached(&bench, pfn)));
    bench.mm.allocator().caches.closing.close(PfnRange::EMPTY);
    bench.snapshot();
    assert!(bench.mm.zero_ahead());
}
