//! AT5: the flags of the patch series are a hint; flags that cannot be honoured cost one warning.
//!
//! A suite of its own because it sets the process's logger.
#![expect(clippy::panic, reason = "a suite fails by a panic")]

use core::cell::RefCell;

use hotmem::geometry::Geometry;
use hotmem::paging::Mapper;
use hotmem::testing::{Bench, FakeMachine, range};
use hotmem::{Fact, MhpFlags, NodeId, PhysRange, Placement};
use hotmem_tests::memory::{GIB, MIB, REAL_WINDOW, Real, assert_same, real};

const BLOCK: u64 = 128 * MIB;
const PAGE: u64 = 4096;

thread_local! {
    /// Warnings that this thread logged.
    static WARNINGS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

struct Warnings;

impl log::Log for Warnings {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        if record.level() <= log::Level::Warn {
            WARNINGS.with_borrow_mut(|all| all.push(record.args().to_string()));
        }
    }

    fn flush(&self) {}
}

/// Removes the range, and checks that it leaves no trace.
fn leave(bench: &Bench<Real>, dimm: PhysRange, before: &[Fact]) {
    bench.remove(dimm);
    assert_same(before, &bench.snapshot());
    bench.unplug(dimm);
}

/// Adds with `flags`, which the machine cannot honour; returns the warning that was logged, the only one.
fn warning_of(bench: &Bench<Real>, flags: MhpFlags) -> String {
    // Another test may have set it already: it is the same logger.
    let _ = log::set_logger(&Warnings);
    log::set_max_level(log::LevelFilter::Trace);
    WARNINGS.take();

    let dimm = range(REAL_WINDOW, GIB);
    let before = bench.snapshot();
    bench.plug(dimm);
    let added = bench.mm.hot_add_memory(NodeId::default(), dimm, flags);
    let added = added.unwrap_or_else(|error| panic!("{error}"));
    let mut warnings = WARNINGS.take();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert_eq!(added.placement, Placement::Boot);
    assert_eq!(added.system_bytes, 16 * MIB);
    assert!(bench.blocks(dimm).iter().all(|&id| {
        bench.mm.block(id).is_some_and(|b| b.placement == Placement::Boot && b.group.is_none())
    }));
    let virt = bench.mm.memmap_virt(FakeMachine::<Real>::pfns(dimm));
    bench.mm.tables().visit(virt, &mut |leaf| assert!(!dimm.contains(leaf.phys)));
    bench.check();
    bench.online(dimm);
    for id in bench.blocks(dimm) {
        assert_eq!(bench.mm.block(id).map(|b| b.counts.managed), Some(BLOCK / PAGE));
    }
    bench.offline(dimm);
    leave(bench, dimm, &before);
    assert_eq!(WARNINGS.take(), [""; 0]);
    warnings.remove(0)
}

#[test]
fn at05_both_flags_or_unknown_ones_are_dropped_with_one_warning() {
    let bench = real(256 * MIB, BLOCK, 64 * GIB);
    let unknown = MhpFlags::from_bits_retain(1 << 7);
    for flags in [MhpFlags::all(), unknown, MhpFlags::MEMMAP_DEVICE | unknown] {
        let warning = warning_of(&bench, flags);
        assert!(warning.contains(&format!("{:#x}", flags.bits())), "{warning}");
    }
}

#[test]
fn at05_a_machine_without_self_hosting_drops_any_flag_with_one_warning() {
    let bench = real(256 * MIB, BLOCK, 64 * GIB);
    bench.mm.machine().allow_self_hosting(false);
    for flags in [MhpFlags::MEMMAP_DEVICE, MhpFlags::MEMMAP_MEMBLOCK, MhpFlags::all()] {
        warning_of(&bench, flags);
    }
}

#[test]
fn at05_valid_flags_are_honoured_without_a_warning() {
    let _ = log::set_logger(&Warnings);
    log::set_max_level(log::LevelFilter::Trace);
    let bench = real(256 * MIB, BLOCK, 64 * GIB);
    let dimm = range(REAL_WINDOW, GIB);
    let meanings = [
        (MhpFlags::empty(), Placement::Boot),
        (MhpFlags::MEMMAP_DEVICE, Placement::PerRange),
        (MhpFlags::MEMMAP_MEMBLOCK, Placement::PerBlock),
    ];
    for (flags, placement) in meanings {
        let before = bench.snapshot();
        bench.plug(dimm);
        let added = bench.mm.hot_add_memory(NodeId::default(), dimm, flags).unwrap();
        assert_eq!(added.placement, placement);
        leave(&bench, dimm, &before);
    }
    assert_eq!(WARNINGS.take(), [""; 0]);
}

#[test]
fn at06_while_self_hosting_is_off_the_memmap_comes_from_system_memory_without_a_warning() {
    let _ = log::set_logger(&Warnings);
    let bench = real(512 * MIB, BLOCK, 8 * GIB);
    let before = bench.snapshot();
    let dimm = range(REAL_WINDOW, GIB);
    bench.plug(dimm);
    assert!(bench.mm.self_hosting());
    bench.mm.set_self_hosting(false);
    WARNINGS.take();
    for placement in [Placement::PerRange, Placement::PerBlock] {
        let added = bench.add(dimm, placement);
        assert_eq!((added.placement, added.system_bytes), (Placement::Boot, 16 * MIB));
        bench.remove(dimm);
        assert_same(&before, &bench.snapshot());
    }
    assert_eq!(WARNINGS.take(), Vec::<String>::new());
    bench.mm.set_self_hosting(true);
    assert_eq!(bench.add(dimm, Placement::PerRange).placement, Placement::PerRange);
    leave(&bench, dimm, &before);
}
