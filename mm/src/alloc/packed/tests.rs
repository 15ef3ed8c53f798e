//! Pieces of frames, on a machine with pages of 64 KiB.

// UNSAFETY: frees tables that were never allocated, in fake RAM.
#![expect(unsafe_code)]

extern crate std;

use super::*;
use crate::NodeId;
use crate::Placement;
use crate::addr::PhysRange;
use crate::paging::{Mapper, TableFrame, TableFrames};
use crate::testing::{Bench, FakeMachine, Lmb, Random, Setup, Shape, range};
use std::collections::BTreeMap;
use std::vec;
use std::vec::Vec;

const PAGE: u64 = 64 << 10;
const WINDOW: u64 = 4 << 30;

fn bench(window: u64) -> Bench<Lmb> {
    let ram = vec![(0, 512 << 20, 0)];
    Bench::new(&Setup { ram, block: 256 << 20, window: (WINDOW, window), kernelcore: None })
}

/// Frames that are free or can be freed: of the reserve, and of the allocator.
fn held(bench: &Bench<Lmb>) -> (u64, u64) {
    (bench.mm.allocator().frames.reserve().1, bench.mm.allocator().frames.system_pages())
}

#[test]
fn as_many_pieces_fit_a_frame_as_it_has_room_for_beside_its_header() {
    for (bytes, pieces) in [(256, 255), (512, 127), (4096, 15), (8192, 7), (PAGE / 2, 1)] {
        let bench = bench(64 << 30);
        let (free, _) = held(&bench);
        let first = bench.mm.allocator().table_frames().take(bytes).unwrap();
        let frame = first.at().align_down(PAGE);
        let mut taken = vec![first];
        for _ in 1..pieces {
            let piece = bench.mm.allocator().table_frames().take(bytes).unwrap();
            let at = piece.at();
            assert!(at.is_aligned(bytes) && at.align_down(PAGE) == frame && at != frame);
            taken.push(piece);
        }
        assert_eq!(held(&bench).0, free - 1);
        let next = bench.mm.allocator().table_frames().take(bytes).unwrap();
        assert_ne!(next.at().align_down(PAGE), frame);
        assert_eq!(held(&bench).0, free - 2);

        taken.sort_unstable_by_key(TableFrame::at);
        assert!(taken.windows(2).all(|two| two[0].at() < two[1].at()));
        bench.mm.allocator().table_frames().give_back(next);
        taken.into_iter().for_each(|piece| bench.mm.allocator().table_frames().give_back(piece));
        assert_eq!(held(&bench).0, free);
    }
}

#[test]
fn pieces_of_all_sizes_come_and_go_in_any_order_and_no_two_overlap() {
    // Without a window every frame is the allocator's; with one, the reserve's.
    for window in [0, 64 << 30] {
        let bench = bench(window);
        let before = (held(&bench), bench.snapshot());
        let mut random = Random::new(window + 1);
        let mut taken: BTreeMap<PhysAddr, TableFrame> = BTreeMap::new();
        for _ in 0..20_000 {
            if random.below(100) < 53 {
                let bytes = [256, 4096, 1024, PAGE][random.below(4) as usize];
                let piece = bench.mm.allocator().table_frames().take(bytes).unwrap();
                let at = piece.at();
                assert!(at.is_aligned(bytes));
                let below = taken.range(..at.add(bytes)).next_back();
                assert!(below.is_none_or(|(below, frame)| below.add(frame.bytes()) <= at));
                taken.insert(at, piece);
            } else if let Some(&at) = taken.keys().nth(random.below(200) as usize) {
                let piece = taken.remove(&at).unwrap();
                bench.mm.allocator().table_frames().give_back(piece);
            }
        }
        let small = taken.values().filter(|piece| piece.bytes() < PAGE).count() as u64;
        assert_eq!(bench.mm.allocator().frames.packed.lock().pieces(), small);
        taken.into_values().for_each(|piece| bench.mm.allocator().table_frames().give_back(piece));
        assert_eq!((held(&bench), bench.snapshot()), before);
    }
}

#[test]
fn a_budget_is_what_its_tables_take() {
    let bench = bench(64 << 30);
    let (free, _) = held(&bench);
    let mut budget = Budget::default();
    for (bytes, count) in [(256, 256), (4096, 30), (PAGE, 3)] {
        budget.add::<FakeMachine<Lmb>>(bytes, count);
        (0..count).for_each(|_| {
            let _used = bench.mm.allocator().table_frames().take(bytes).unwrap().into_raw();
        });
    }
    assert_eq!(budget.frames(), 2 + 2 + 3);
    assert_eq!(free - held(&bench).0, budget.frames());
}

#[test]
fn the_reserve_holds_all_tables_of_a_window_that_is_filled_in_any_order() {
    const BLOCK: u64 = 256 << 20;
    for seed in 1..5 {
        let bench = bench(16 << 30);
        let before = held(&bench);
        let mut random = Random::new(seed);
        let mut blocks: Vec<PhysRange> =
            (0..64).map(|i| range(WINDOW + i * BLOCK, BLOCK)).collect();
        for i in (1..blocks.len()).rev() {
            blocks.swap(i, random.below(i as u64 + 1) as usize);
        }
        for &block in &blocks {
            bench.plug(block);
            let added = bench.mm.hot_add(block, NodeId::default(), Placement::PerBlock).unwrap();
            assert_eq!(added.system_bytes, 0);
        }
        bench.check();
        for &block in blocks.iter().rev() {
            bench.remove(block);
        }
        bench.check();
        assert_eq!(held(&bench), before);
    }
}

#[test]
fn a_table_from_before_the_manager_stays_where_it_is() {
    let bench = bench(64 << 30);
    let before = (held(&bench), bench.snapshot());
    let machine = bench.mm.machine();
    let mut boot = None;
    bench.mm.allocator().memmap.alone().mapper().visit_tables(&mut |table| {
        boot = boot.or((table.bytes == 4096).then_some(table.frame));
    });
    let boot = boot.unwrap();
    let word = |offset| machine.mmu().load(Lmb::LINEAR_BASE.add(boot.get() + offset));
    let bytes: Vec<_> = (0..4096).step_by(8).map(word).collect();
    // SAFETY: a table of fake RAM; the manager should detect that it is in use.
    let in_use = unsafe { TableFrame::new(boot, 4096) };
    bench.mm.allocator().table_frames().give_back(in_use);
    assert_eq!((held(&bench), bench.snapshot()), before);
    assert_eq!(bench.mm.allocator().frames.packed.lock().pieces(), 0);
    assert_eq!((0..4096).step_by(8).map(word).collect::<Vec<_>>(), bytes);
}
