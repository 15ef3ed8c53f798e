//! No lock is held longer on a larger machine: what is done with one held is counted, on machines of several sizes.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use hotmem::paging::Mapper;
use hotmem::testing::{Bench, Hold, Holder, Setup, Tiny, range, take_holds};
use hotmem::{NodeId, Order, Pfn, PhysRange, Placement, Request, TakeList, ZoneKind};
use hotmem_tests::memory::MIB;

/// The most descriptors, nodes and frames that code accesses while it holds a lock. The longest time is that of a CPU's
/// own cache from which a batch of 32 single pages, each apart from the others, is freed.
const MOST: u64 = 1000;

/// A machine with as many blocks in one DIMM, and as many more of boot memory that can go offline.
struct Rig {
    bench: Bench<Tiny>,
    dimm: PhysRange,
    boot: PhysRange,
    block: u64,
}

impl Rig {
    fn new(blocks: u64, block: u64) -> Self {
        let (core, bytes) = (64 * MIB, blocks * block);
        let bench = Bench::new(&Setup {
            ram: vec![(0, core + bytes, 0)],
            block,
            window: (1024 * MIB, 512 * MIB),
            kernelcore: Some(core),
        });
        let dimm = range(1024 * MIB, bytes);
        bench.plug(dimm);
        Self { bench, dimm, boot: range(core, bytes), block }
    }

    fn order(&self, bytes: u64) -> Order {
        Order::new((bytes / 4096).ilog2() as u8).unwrap()
    }

    /// Looks of every kind.
    fn look(&self) {
        let mm = &self.bench.mm;
        mm.verify_machine().unwrap();
        mm.snapshot(&mut |_| {});
        mm.dump(&mut |_| {});
        for id in self.bench.blocks(self.dimm) {
            _ = mm.explain_offline(id);
        }
        _ = (mm.stats(), mm.zones().count(), mm.nodes().count(), mm.blocks().count());
    }

    /// Fills the zones with single pages, and frees every other one: the free lists become as long as they can.
    fn fragment(&self, holder: &'static Holder<Tiny>) -> Vec<Pfn> {
        let mm = &self.bench.mm;
        while holder.take_in_zone(&self.bench, Order::ZERO).is_some() {}
        let (kept, freed): (Vec<_>, Vec<_>) =
            holder.handles().into_iter().partition(|handle| handle % 2 == 0);
        freed.into_iter().for_each(|handle| holder.release(&self.bench, handle));
        let mut kernels: Vec<_> =
            std::iter::from_fn(|| mm.alloc(Order::ZERO).ok().map(|pages| pages.into_raw()))
                .collect();
        // Room for what operations need.
        for pfn in kernels.split_off(kernels.len() / 2).into_iter().step_by(2) {
            mm.free_pages(pfn).unwrap();
        }
        kept.into_iter().skip(64).step_by(2).for_each(|handle| holder.release(&self.bench, handle));
        kernels
    }

    /// Requests of every kind.
    fn request(&self) {
        let mm = &self.bench.mm;
        let largest = Request::from(self.order(self.block / 2)).with_meta_of_each();
        drop(mm.alloc(largest).unwrap());
        drop(mm.alloc(largest.zeroed()).unwrap());
        for end in [MIB, self.boot.start().get(), self.boot.end().get(), u64::MAX] {
            drop(mm.alloc(Request::from(Order::ZERO).below(Pfn::new(end / 4096))));
        }
        let pages: Vec<_> = (0..500).map_while(|_| mm.alloc(Order::ZERO).ok()).collect();
        pages.into_iter().step_by(2).for_each(drop);
        while mm.zero_ahead() {}
        drop(mm.alloc(Request::from(Order::ZERO).zeroed()));
    }

    /// Adds memory of each placement, converts it, empties it with pages in use, and removes it.
    fn operate(&self, holder: &'static Holder<Tiny>) {
        let (bench, mm) = (&self.bench, &self.bench.mm);
        for placement in Placement::ALL {
            bench.add(self.dimm, placement);
            bench.online(self.dimm);
            for _ in 0..40 {
                holder.take_in_zone(bench, Order::ZERO);
            }
            if placement == Placement::PerRange {
                mm.convert(self.dimm).unwrap();
            }
            for id in bench.blocks(self.dimm) {
                mm.start_offline(id).unwrap().cancel();
            }
            bench.offline(self.dimm);
            bench.remove(self.dimm);
        }
        let ids = bench.blocks(self.boot);
        mm.take_contig(NodeId::ZERO, 2 * self.block).unwrap();
        mm.release().unwrap();
        mm.offline(ids[0]).unwrap();
        mm.take(TakeList::parse(&format!("0:{}", ids[0].get())).unwrap().pieces()).unwrap();
        mm.release().unwrap();
    }
}

/// Everything that the manager does, on a machine of so many blocks, each of so many bytes. Returns for each place that
/// locks the longest hold.
fn holds(blocks: u64, block: u64) -> Vec<Hold> {
    take_holds();
    let rig = Rig::new(blocks, block);
    let (bench, mm) = (&rig.bench, &rig.bench.mm);
    let holder = Holder::register(bench);
    rig.request();
    rig.operate(holder);
    bench.add(rig.dimm, Placement::PerBlock);
    for (index, id) in bench.blocks(rig.dimm).into_iter().enumerate() {
        mm.online(id, [ZoneKind::Movable, ZoneKind::Normal][index % 2]).unwrap();
    }
    let kernels = rig.fragment(holder);
    rig.look();
    for end in [MIB, 32 * MIB, rig.boot.end().get(), rig.dimm.end().get()] {
        drop(mm.alloc(Request::from(Order::ZERO).below(Pfn::new(end / 4096))));
        drop(mm.alloc(Request::from(rig.order(rig.block)).below(Pfn::new(end / 4096))));
    }
    mm.compact(NodeId::ZERO, ZoneKind::Movable, rig.order(rig.block / 4)).unwrap();
    // A free page, one of an owner, one for tables, and one of the reserve.
    let mut tables = Vec::new();
    mm.machine().tables().visit_tables(&mut |table| tables.push(table.frame.get() / 4096));
    for pfn in tables.into_iter().map(Pfn::new) {
        _ = mm.poison(pfn);
    }
    for handle in holder.handles().into_iter().take(20) {
        mm.poison(holder.at(handle).unwrap().0).unwrap();
    }
    kernels.into_iter().for_each(|pfn| mm.free_pages(pfn).unwrap());
    rig.look();
    take_holds()
}

/// Holds of locks that other CPUs wait for. That of a conversion holds off look-ups of its own CPU while the descriptors
/// of a block are copied.
fn waited_for(mut holds: Vec<Hold>) -> Vec<Hold> {
    holds.retain(|hold| !hold.at.file().ends_with("memmap/mod.rs"));
    holds
}

/// Fails unless each place that locks does so on the `large` machine for about as long as on the `small` one.
fn compare(small: &[Hold], large: &[Hold], what: &str) {
    for hold in large {
        let before = small.iter().find(|before| before.at == hold.at);
        let before = before.map_or(0, |before| before.accesses);
        assert!(hold.accesses <= 2 * before + 50, "{what}: {hold:?}, on a small machine {before}");
    }
}

#[test]
fn no_lock_is_held_longer_the_more_memory_there_is_or_the_larger_its_blocks_are() {
    let small = waited_for(holds(4, MIB));
    assert!(small.len() > 30, "{small:?}");
    for (blocks, block) in [(128, MIB), (4, 64 * MIB)] {
        let large = waited_for(holds(blocks, block));
        compare(&small, &large, &format!("{blocks} blocks of {block:#x} bytes"));
        for hold in small.iter().chain(&large) {
            assert!(hold.accesses <= MOST, "{hold:?}");
        }
    }
}
