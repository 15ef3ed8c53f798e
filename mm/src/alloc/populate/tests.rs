//! Pages behind a memmap are freed after the last CPU has lost its way to them, or not at all.

use super::*;
use crate::addr::PfnRange;
use crate::geometry::Geometry;
use crate::testing::{Bench, FakeMachine, Setup, Tiny, range};

const MIB: u64 = 1 << 20;
/// What the memmap describes: no memory is there.
const DIMM: u64 = 64 * MIB;

fn bench() -> Bench<Tiny> {
    let ram = [(0, 16 * MIB, 0)].into();
    Bench::new(&Setup { ram, block: MIB, window: (DIMM, 64 * MIB), kernelcore: None })
}

fn described() -> PfnRange {
    FakeMachine::<Tiny>::pfns(range(DIMM, 2 * MIB))
}

/// Pages of memmaps in system memory, and free pages.
fn pages(bench: &Bench<Tiny>) -> (u64, u64) {
    let stats = bench.mm.stats();
    (stats.system_pages, stats.pages.free)
}

#[test]
fn pages_of_a_memmap_are_freed_after_no_cpu_reaches_them_by_it() {
    let bench = bench();
    let populate = Populate::of(bench.mm.allocator(), bench.mm.allocator().memmap.alone());
    let before = pages(&bench);
    populate.fill(described()).unwrap();
    assert_ne!(pages(&bench), before);
    // The fake machine panics if a page is given up to which a CPU has a translation.
    bench.mm.machine().mmu().speculate();
    populate.empty(described()).unwrap();
    assert_eq!(pages(&bench).0, before.0);
    bench.mm.machine().mmu().assert_coherent();
}

#[test]
fn pages_of_a_memmap_that_stays_mapped_stay_in_use() {
    let bench = bench();
    let populate = Populate::of(bench.mm.allocator(), bench.mm.allocator().memmap.alone());
    let refusals = bench.mm.machine().tables().refusals();
    populate.fill(described()).unwrap();
    let filled = pages(&bench);
    refusals.arm(1);
    populate.empty(described()).unwrap();
    assert!(refusals.fired());
    refusals.disarm();
    assert_eq!(pages(&bench), filled);
    populate.empty(described()).unwrap();
    assert_ne!(pages(&bench), filled);
}
