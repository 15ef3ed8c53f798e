//! How much of a DIMM is usable.

use hotmem::testing::range;
use hotmem::{NodeId, Placement, ZoneKind};
use hotmem_tests::memory::{MIB, REAL_WINDOW, real};

/// The share of a DIMM that is usable, in hundredths of a per cent: the least over all alignments. The second figure is
/// that of a system that uses whole blocks only.
fn usable(size: u64) -> (u64, u64) {
    let bench = real(256 * MIB, 128 * MIB, 4 << 30);
    let unit = bench.mm.subsection();
    assert_eq!(unit, 2 * MIB);
    bench.plug(range(REAL_WINDOW, 2 << 30));
    let (mut least, mut others) = (u64::MAX, u64::MAX);
    for at in (0..128 * MIB).step_by(unit as usize) {
        let dimm = range(REAL_WINDOW + at, size);
        for placement in [Placement::PerRange, Placement::PerBlock] {
            let added = bench.mm.hot_add(dimm, NodeId::ZERO, placement).unwrap();
            assert_eq!(added.placement, placement);
            let managed = bench
                .mm
                .blocks_in(dimm)
                .map(|id| bench.mm.online(id, ZoneKind::Movable).unwrap().counts.managed);
            let managed = managed.sum::<u64>() * 4096;
            for id in bench.mm.blocks_in(dimm) {
                bench.mm.offline(id).unwrap();
            }
            bench.mm.remove(dimm).unwrap();
            least = least.min(managed * 10_000 / size);
        }
        let first = dimm.start().get().next_multiple_of(128 * MIB);
        let whole = (dimm.end().get() / (128 * MIB) * (128 * MIB)).saturating_sub(first);
        others = others.min(whole * 10_000 / size);
    }
    bench.check();
    (least, others)
}

#[test]
fn at_least_98_per_cent_of_a_dimm_are_usable_whatever_its_size_and_place() {
    println!("| DIMM | usable, at the worst place | in whole blocks of 128 MiB |");
    println!("|---|---|---|");
    for mib in [4, 8, 16, 32, 64, 100, 128, 192, 256, 512, 1000, 1024] {
        let (least, others) = usable(mib * MIB);
        let per_cent = |value: u64| format!("{}.{:02} %", value / 100, value % 100);
        println!("| {mib} MiB | {} | {} |", per_cent(least), per_cent(others));
        assert!(least >= 9_800, "{mib} MiB: {least}");
    }
}
