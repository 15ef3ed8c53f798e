//! The walker on test formats; the storms also run on the real ones, in `hotmem-arch`.

// UNSAFETY: takes over the root of a fake machine.
#![expect(unsafe_code)]

mod gather;
mod marks;
mod relocate;

use super::{
    Attr, Entry, Gather, MapError, Mapper, Mapping, OutOfFrames, PteFormat, TableFrames, Tables,
};
use super::{NotFlushed, RelocateError, TableFrame, TablePlace, UnmapError};
use crate::addr::{Guest, GuestAddr, PhysAddr, PhysRange, VirtAddr, VirtRange, Virtual};
use crate::testing::{FakeRam, FakeTables, FaultPlan, RecordingTlb, SoftMmu};
use crate::testing::{GranulePte, OddPte, ShallowPte, TinyPte};
use crate::testing::{check_format, fail_each_allocation, on_cpu, storm};
use std::sync::Arc;

extern crate std;

const PAGE: u64 = 4096;
const LARGE: u64 = 64 << 10;
const HUGE: u64 = 1 << 20;
const VIRT: u64 = 0x4000_0000;

type Mmu<F> = Arc<SoftMmu<F>>;

struct Machine<F: PteFormat = TinyPte> {
    mmu: Mmu<F>,
    plan: Arc<FaultPlan>,
    tables: Tables<F, Mmu<F>, Mmu<F>>,
    frames: FakeTables<F>,
}

impl Machine {
    fn new() -> Self {
        Self::start()
    }
}

impl<F: PteFormat> Machine<F> {
    fn start() -> Self {
        let ram = FakeRam::new();
        ram.plug(PhysRange::new(PhysAddr::new(0), 2 * HUGE).unwrap(), None);
        let mmu = SoftMmu::new(ram, PhysAddr::new(0));
        let plan = Arc::new(FaultPlan::never());
        let range = PhysRange::new(PhysAddr::new(HUGE), HUGE).unwrap();
        let frames = FakeTables::new(&mmu, range, &plan);
        Self { tables: mmu.tables(), mmu, plan, frames }
    }

    fn map(&self, virt: u64, phys: u64, len: u64, max_leaf: u64) -> Result<(), MapError> {
        let (virt, phys) = (VirtAddr::new(virt), PhysAddr::new(phys));
        let mapping = Mapping { virt, phys, len, attr: Attr::WRITE, max_leaf };
        self.tables.map(&mapping, &self.frames)
    }

    fn gather(&self) -> Gather<'_, Mmu<F>, &FakeTables<F>> {
        Gather::new(self.tables.tlb(), &self.frames)
    }

    fn unmap(&self, virt: u64, len: u64) -> Result<(), UnmapError> {
        let mut gather = self.gather();
        let result = self.tables.unmap(range(virt, len), &mut gather);
        let result = gather.conclude(result);
        self.mmu.assert_coherent();
        result
    }

    fn leaves(&self) -> std::vec::Vec<(u64, u64)> {
        let mut leaves = std::vec::Vec::new();
        let all = range(0, u64::MAX);
        self.tables.visit(all, &mut |leaf| leaves.push((leaf.virt.get(), leaf.len)));
        leaves
    }
}

fn range(start: u64, len: u64) -> VirtRange {
    VirtRange::new(VirtAddr::new(start), len).unwrap()
}

#[test]
fn a_mapping_is_published_once_whatever_its_size_and_not_at_all_if_it_fails() {
    let machine = Machine::<TinyPte>::new();
    // SAFETY: the machine's own tables are not used; the root and the frames are its plugged RAM.
    let tables: Tables<TinyPte, _, _> =
        unsafe { Tables::new(PhysAddr::new(0), Arc::clone(&machine.mmu), RecordingTlb::default()) };
    let map = |virt: u64, len: u64| {
        let (virt, phys) = (VirtAddr::new(virt), PhysAddr::new(0));
        let mapping = Mapping { virt, phys, len, attr: Attr::WRITE, max_leaf: PAGE };
        tables.map(&mapping, &machine.frames)
    };
    assert_eq!((map(VIRT, PAGE), tables.tlb().take().published), (Ok(()), 1));
    assert_eq!((map(VIRT + LARGE, 17 * PAGE), tables.tlb().take().published), (Ok(()), 1));
    let taken = MapError::AlreadyMapped { at: VirtAddr::new(VIRT) };
    assert_eq!((map(VIRT, PAGE), tables.tlb().take().published), (Err(taken), 0));
}

#[test]
fn tables_that_may_be_damaged_are_read_only_if_the_caller_wants_it() {
    let machine = Machine::new();
    machine.map(VIRT, 0, PAGE, PAGE).unwrap();
    let mut known = std::vec::Vec::new();
    machine.tables.visit_tables(&mut |table| known.push(table));
    let mut seen = std::vec::Vec::new();
    let mut examine = |wanted: usize| {
        seen.clear();
        let strange = machine.tables.examine(&mut |table| {
            seen.push(table);
            table.level < wanted
        });
        (strange, seen.clone())
    };
    let levels = TinyPte::LEVELS.len();
    assert_eq!(examine(levels), (None, known.clone()));

    // An entry of the last table leads to a table that is not there.
    let last = *known.last().unwrap();
    let (above, outside) = (known[known.len() - 2], PhysAddr::new(1 << 30));
    let index = TinyPte::LEVELS[above.level].index(last.virt.get()) as u64;
    let slot = above.frame.add(8 * index);
    let right = machine.mmu.peek(slot);
    machine.mmu.poke(slot, TinyPte::encode(Entry::Table(outside), above.level));
    let (strange, seen) = examine(last.level);
    assert_eq!((strange, seen.last().map(|table| table.frame)), (None, Some(outside)));
    machine.mmu.poke(slot, right);

    // A word that no entry encodes to is named, and leads nowhere.
    let at = last.frame.add(8 * 5);
    let word = (1..64)
        .map(|bit| 1 << bit)
        .find(|&word| TinyPte::decode(word, last.level) == Entry::Absent);
    machine.mmu.poke(at, word.unwrap());
    let found = examine(levels).0.unwrap();
    assert_eq!((found.at, found.word), (at, word.unwrap()));
    assert_eq!(found.virt, last.virt.add(5 * PAGE));
}

#[test]
fn the_test_formats_keep_the_invariants() {
    check_format::<TinyPte>(1);
    check_format::<OddPte>(2);
    check_format::<ShallowPte>(3);
    check_format::<GranulePte>(4);
}

#[test]
fn a_storm_over_small_tables_agrees_with_the_model() {
    for seed in 0..8 {
        storm::<TinyPte, Virtual>(seed, 250);
    }
}

#[test]
fn a_storm_over_uneven_tables_agrees_with_the_model() {
    for seed in 0..8 {
        storm::<OddPte, Virtual>(seed, 150);
    }
}

#[test]
fn a_storm_over_the_tables_of_a_guest_agrees_with_the_model() {
    for seed in 0..4 {
        storm::<TinyPte, Guest>(seed, 120);
        fail_each_allocation::<OddPte, Guest>(seed, 20);
    }
}

#[test]
fn a_refusal_by_a_guests_tables_names_the_guest_address() {
    let ram = FakeRam::new();
    ram.plug(PhysRange::new(PhysAddr::new(0), 2 * HUGE).unwrap(), None);
    let mmu = SoftMmu::<TinyPte>::new(ram, PhysAddr::new(0));
    let range = PhysRange::new(PhysAddr::new(HUGE), HUGE).unwrap();
    let frames = FakeTables::new(&mmu, range, &Arc::new(FaultPlan::never()));
    let tables = mmu.tables::<Guest>();
    let (virt, phys) = (GuestAddr::new(VIRT), PhysAddr::new(0));
    let mapping = Mapping { virt, phys, len: PAGE, attr: Attr::WRITE, max_leaf: PAGE };
    tables.map(&mapping, &frames).unwrap();
    let taken = tables.map(&mapping, &frames).unwrap_err();
    assert_eq!(std::format!("{taken:?}"), "AlreadyMapped { at: GuestAddr(0x40000000) }");
}

#[test]
fn a_mapping_that_runs_out_of_frames_leaves_no_trace() {
    for seed in 0..4 {
        fail_each_allocation::<TinyPte, Virtual>(seed, 60);
        fail_each_allocation::<OddPte, Virtual>(seed, 60);
    }
}

#[test]
fn the_largest_leaf_that_fits_is_used_up_to_the_limit() {
    let machine = Machine::new();
    machine.map(VIRT - LARGE, HUGE - LARGE, LARGE + HUGE + PAGE, HUGE).unwrap();
    assert_eq!(machine.leaves(), [(VIRT - LARGE, LARGE), (VIRT, HUGE), (VIRT + HUGE, PAGE)]);
    machine.unmap(VIRT - LARGE, LARGE + HUGE + PAGE).unwrap();

    machine.map(VIRT, 0, HUGE, LARGE).unwrap();
    assert_eq!(machine.leaves().len(), 16);
    machine.unmap(VIRT, HUGE).unwrap();

    machine.map(VIRT, 0, LARGE, 0).unwrap();
    assert_eq!(machine.leaves().len(), 16, "base pages are always allowed");
}

#[test]
fn a_range_that_is_not_whole_pages_is_refused() {
    let machine = Machine::new();
    for (virt, phys, len) in [(VIRT + 8, 0, PAGE), (VIRT, 8, PAGE), (VIRT, 0, PAGE + 8)] {
        let error =
            MapError::Misaligned { virt: VirtAddr::new(virt), phys: PhysAddr::new(phys), len };
        assert_eq!(machine.map(virt, phys, len, HUGE), Err(error));
    }
    assert_eq!(machine.map(VIRT, 0, 0, HUGE), Ok(()));
    assert_eq!(machine.leaves(), []);
}

#[test]
fn an_address_that_the_format_cannot_name_is_refused() {
    let machine = Machine::new();
    let top = 1 << 32;
    for (virt, phys, len) in [
        (top, 0, PAGE),
        (top - PAGE, 0, 2 * PAGE),
        (VIRT, 1 << 48, PAGE),
        (VIRT, (1 << 48) - PAGE, 2 * PAGE),
        (VIRT, 0u64.wrapping_sub(PAGE), PAGE),
        (0u64.wrapping_sub(PAGE), 0, 2 * PAGE),
    ] {
        let error = machine.map(virt, phys, len, HUGE).unwrap_err();
        assert!(matches!(error, MapError::BeyondFormat { .. }), "{error}");
    }
    let error = machine.unmap(top - PAGE, 2 * PAGE).unwrap_err();
    assert_eq!(error, UnmapError::BeyondFormat { range: range(top - PAGE, 2 * PAGE) });
    assert_eq!(machine.tables.translate(VirtAddr::new(top)), None);

    machine.map(top - PAGE, (1 << 48) - PAGE, PAGE, HUGE).unwrap();
    machine.unmap(top - PAGE, PAGE).unwrap();
}

#[test]
#[should_panic(expected = "a frame for a page table was dropped")]
fn a_frame_that_is_neither_used_nor_freed_fails_a_test() {
    drop(Machine::new().frames.take(PAGE).unwrap());
}

#[test]
fn an_mmu_that_has_less_than_its_format_gets_no_larger_leaf_and_no_higher_address() {
    let mut machine = Machine::new();
    machine.tables = machine.tables.limited(LARGE, PhysAddr::new(2 * HUGE));
    for (phys, len) in [(2 * HUGE, PAGE), (2 * HUGE - PAGE, 2 * PAGE), (0, 3 * HUGE)] {
        let error = machine.map(VIRT, phys, len, HUGE).unwrap_err();
        assert!(matches!(error, MapError::BeyondFormat { .. }), "{error}");
    }
    machine.map(VIRT, 0, 2 * HUGE, HUGE).unwrap();
    let leaf = machine.tables.translate(VirtAddr::new(VIRT)).unwrap();
    assert_eq!(leaf.len, LARGE);
    // The tables that it reported as needed are those that it made.
    let (mut predicted, mut made) = (0, 0);
    machine.tables.tables_for(range(VIRT, 2 * HUGE), HUGE, &mut |_, count| predicted += count);
    machine.tables.visit_tables(&mut |table| made += u64::from(table.level > 0));
    assert_eq!(made, predicted);
    machine.unmap(VIRT, 2 * HUGE).unwrap();
}

#[test]
fn mapping_over_something_changes_nothing() {
    let machine = Machine::new();
    machine.map(VIRT + HUGE, 0, HUGE, HUGE).unwrap();
    let (leaves, frames) = (machine.leaves(), machine.frames.used());

    // From below: leaves and tables are made and undone. Inside the leaf: nothing is even begun.
    let taken = |at| Err(MapError::AlreadyMapped { at: VirtAddr::new(at) });
    assert_eq!(machine.map(VIRT + PAGE, PAGE, 2 * HUGE, HUGE), taken(VIRT + HUGE));
    assert_eq!(machine.map(VIRT + HUGE + PAGE, 0, PAGE, PAGE), taken(VIRT + HUGE + PAGE));
    // A table with a leaf prevents a large leaf: the error names that leaf.
    machine.map(VIRT + 3 * PAGE, 0, PAGE, PAGE).unwrap();
    assert_eq!(machine.map(VIRT, 0, HUGE, HUGE), taken(VIRT + 3 * PAGE));
    machine.unmap(VIRT + 3 * PAGE, PAGE).unwrap();

    assert_eq!(machine.leaves(), leaves);
    assert_eq!(machine.frames.used(), frames);
}

#[test]
fn running_out_of_frames_names_the_requested_size() {
    let machine = Machine::new();
    machine.plan.arm(2);
    let out = OutOfFrames { bytes: 128 };
    assert_eq!(machine.map(VIRT, 0, PAGE, PAGE), Err(MapError::OutOfFrames(out)));
    assert_eq!(machine.frames.used(), []);
}

#[test]
fn a_live_leaf_is_never_split() {
    let machine = Machine::new();
    machine.map(VIRT, 0, 2 * HUGE, HUGE).unwrap();
    let leaves = machine.leaves();
    let cut = |at| Err(UnmapError::CutsLeaf { at: VirtAddr::new(at), len: HUGE });
    assert_eq!(machine.unmap(VIRT - PAGE, HUGE + 2 * PAGE), cut(VIRT + HUGE));
    assert_eq!(machine.unmap(VIRT + PAGE, 2 * HUGE - PAGE), cut(VIRT));
    assert_eq!(machine.unmap(VIRT + PAGE, PAGE), cut(VIRT));
    assert_eq!(machine.leaves(), leaves);
}

#[test]
fn unmapping_passes_over_holes() {
    let machine = Machine::new();
    machine.map(VIRT, 0, PAGE, PAGE).unwrap();
    machine.map(VIRT + 5 * HUGE, 0, 3 * HUGE, HUGE).unwrap();
    machine.map(VIRT + 64 * HUGE, 0, 17 * LARGE, LARGE).unwrap();
    machine.unmap(0, 1 << 32).unwrap();
    assert_eq!(machine.leaves(), []);
    assert_eq!(machine.frames.used(), []);
    machine.unmap(VIRT, HUGE).unwrap();
}

#[test]
fn a_root_full_of_leaves_stays() {
    let machine = Machine::<ShallowPte>::start();
    for max_leaf in [LARGE, PAGE] {
        machine.map(0, 0, 16 * HUGE, max_leaf).unwrap();
        machine.unmap(0, 16 * HUGE).unwrap();
        assert_eq!(machine.leaves(), []);
        assert_eq!(machine.frames.used(), []);
    }
    machine.map(LARGE, 0, LARGE, LARGE).unwrap();
    assert_eq!(machine.leaves(), [(LARGE, LARGE)]);
}

#[test]
fn nothing_is_freed_before_the_flush() {
    let machine = Machine::new();
    machine.map(VIRT, 0, 4 << 16, PAGE).unwrap();
    let frames = machine.frames.used();
    let mut gather = machine.gather();
    machine.tables.unmap(range(VIRT, 4 << 16), &mut gather).unwrap();
    assert_eq!(machine.leaves(), []);
    assert_eq!((machine.mmu.flushes(), machine.frames.used()), (0, frames));
    gather.flush().unwrap();
    assert_eq!((machine.mmu.flushes(), machine.frames.used().len()), (1, 0));
}

#[test]
fn a_gather_that_is_full_flushes_before_it_frees() {
    let machine = Machine::new();
    // 2,304 KiB of small pages: 36 last-level tables, more than a gather holds.
    machine.map(VIRT, 0, 36 << 16, PAGE).unwrap();
    let all = machine.frames.used().len();
    machine.mmu.speculate();
    let mut gather = machine.gather();
    machine.tables.unmap(range(VIRT, 36 << 16), &mut gather).unwrap();
    assert_eq!((machine.mmu.flushes(), all - machine.frames.used().len()), (1, 32));
    gather.flush().unwrap();
    assert_eq!((machine.mmu.flushes(), machine.frames.used().len()), (2, 0));
    machine.mmu.assert_coherent();
}

#[test]
fn every_range_of_a_gather_is_flushed_in_one_round_on_every_cpu() {
    let machine = Machine::new();
    machine.mmu.start_cpus(3);
    for page in [3, 2, 1, 0, 8, 10, 12, 14, 19] {
        machine.map(VIRT + page * PAGE, 0, PAGE, PAGE).unwrap();
    }
    machine.mmu.speculate();
    let mut gather = machine.gather();
    for page in [3, 2, 1, 0] {
        machine.tables.unmap(range(VIRT + page * PAGE, PAGE), &mut gather).unwrap();
    }
    // More ranges than a gather keeps apart, the last of them below the others.
    for page in [8, 10, 14, 19, 12] {
        machine.tables.unmap(range(VIRT + page * PAGE, PAGE), &mut gather).unwrap();
    }
    assert_eq!(machine.mmu.flushes(), 0);
    gather.flush().unwrap();
    assert_eq!(machine.mmu.flushes(), 1);
    machine.mmu.assert_coherent();
}

#[test]
#[should_panic(expected = "stale TLB entry for 0x40000000")]
fn a_flush_that_misses_a_cpu_leaves_a_stale_entry() {
    let machine = Machine::new();
    machine.mmu.start_cpus(3);
    machine.map(VIRT, 0, PAGE, PAGE).unwrap();
    machine.map(VIRT + PAGE, 0, PAGE, PAGE).unwrap();
    on_cpu(2, || machine.mmu.load(VirtAddr::new(VIRT)));
    machine.mmu.miss(Some(2));
    machine.unmap(VIRT, PAGE).unwrap();
}

#[test]
fn a_flush_that_fails_names_the_cpu_and_strands_the_tables() {
    let machine = Machine::new();
    machine.mmu.start_cpus(3);
    machine.map(VIRT, 0, 2 << 16, PAGE).unwrap();
    let used = machine.frames.used();
    machine.mmu.speculate();
    machine.mmu.silence(Some(1));
    let mut gather = machine.gather();
    let unmapped = machine.tables.unmap(range(VIRT, 2 << 16), &mut gather);
    let failed = NotFlushed { cpu: 1 };
    assert_eq!(gather.conclude(unmapped), Err(UnmapError::NotFlushed(failed)));
    assert_eq!(machine.frames.used(), used, "a table that CPU 1 may walk is free");
    // The undo of a mapping needs a flush, too.
    machine.plan.arm(3);
    let refused = machine.map(VIRT, 0, 32 << 16, PAGE);
    assert_eq!(refused, Err(MapError::NotFlushed(failed)));
    assert_eq!(machine.leaves(), []);
    machine.plan.disarm();
    machine.mmu.silence(None);
    machine.map(VIRT, 0, PAGE, PAGE).unwrap();
    machine.unmap(VIRT, PAGE).unwrap();
}

#[test]
fn a_gather_without_anything_in_it_flushes_nothing() {
    let machine = Machine::new();
    machine.unmap(VIRT, HUGE).unwrap();
    assert_eq!(machine.mmu.flushes(), 0);
}

#[test]
fn tables_are_seen_root_first_with_their_spans() {
    let machine = Machine::new();
    machine.map(VIRT + LARGE, 0, PAGE, PAGE).unwrap();
    let mut seen = std::vec::Vec::new();
    machine.tables.visit_tables(&mut |t| seen.push((t.level, t.bytes, t.virt.get(), t.span)));
    let spans = [
        (0, 2048, 0, 1 << 32),
        (1, 128, VIRT, 16 * HUGE),
        (2, 128, VIRT, HUGE),
        (3, 128, VIRT + LARGE, LARGE),
    ];
    assert_eq!(seen, spans);
}

#[test]
fn a_visit_shows_every_leaf_that_the_range_touches() {
    let machine = Machine::new();
    machine.map(VIRT, 0, 3 * HUGE, HUGE).unwrap();
    let mut seen = std::vec::Vec::new();
    let middle = range(VIRT + HUGE - PAGE, 2 * PAGE);
    machine.tables.visit(middle, &mut |leaf| seen.push(leaf.virt.get()));
    assert_eq!(seen, [VIRT, VIRT + HUGE]);
}
