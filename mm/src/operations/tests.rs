//! Refusals that need access to the manager's internals: a reader that stays, a mapper with an error.

extern crate std;

mod meanwhile;
mod part;
mod whole;

use super::leaving::Leaving;
use super::{ConvertError, RemoveError};
use crate::addr::PfnRange;
use crate::addr::{PhysAddr, PhysRange, VirtAddr, VirtRange};
use crate::geometry::Geometry;
use crate::paging::{Attr, Mapper, Mapping};
use crate::testing::{Bench, FakeMachine, Setup, Tiny, range};
use crate::{Order, Placement};
use core::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::boxed::Box;

const MIB: u64 = 1 << 20;
const KIB: u64 = 1 << 10;
/// The address of the DIMM.
const DIMM: u64 = 64 * MIB;

/// A machine with blocks of one section and a plugged DIMM of four.
fn bench() -> Bench<Tiny> {
    bench_of(MIB)
}

/// The same with blocks of so many bytes.
fn bench_of(block: u64) -> Bench<Tiny> {
    let ram = [(0, 16 * MIB, 0)].into_iter().collect();
    let bench = Bench::new(&Setup { ram, block, window: (DIMM, 64 * MIB), kernelcore: None });
    bench.plug(range(DIMM, 4 * MIB));
    bench
}

#[test]
fn a_range_that_a_reader_does_not_leave_is_not_removed() {
    let bench = bench();
    let before = bench.snapshot();
    let dimm = range(DIMM, 4 * MIB);
    bench.add(dimm, Placement::PerRange);
    let added = bench.snapshot();

    // As one whose thread was preempted: it costs that removal and no other operation.
    let guard = bench.mm.allocator().memmap.readers().enter(7, || 0, &crate::lock::relax);
    for _ in 0..2 {
        assert_eq!(bench.mm.remove(dimm), Err(RemoveError::ReadersStay(7)));
        let last = bench.mm.blocks_in(dimm).last().unwrap();
        let stays = ConvertError::ReadersStay(last, 7);
        assert_eq!(bench.mm.convert(dimm), Err(stays));
        let text = std::format!("{last}; blocks above it are converted");
        assert!(std::format!("{stays}").contains(&text));
        bench.check();
        assert_eq!(bench.snapshot(), added);
        assert!(bench.mm.take_pages(Order::ZERO).is_ok_and(|pfn| bench.mm.free_pages(pfn).is_ok()));
        assert!(bench.mm.page_info(FakeMachine::<Tiny>::pfns(dimm).start).is_some());
    }
    drop(guard);

    bench.remove(dimm);
    assert_eq!(bench.snapshot(), before);
    bench.unplug(dimm);
}

#[test]
fn a_part_that_a_reader_does_not_leave_is_not_removed_from_its_block() {
    let bench = bench();
    let before = bench.snapshot();
    let parts = [range(DIMM, MIB / 2), range(DIMM + MIB / 2, MIB / 2)];
    for part in parts {
        bench.add(part, Placement::PerBlock);
    }
    bench.online(range(DIMM, MIB));
    let id = bench.blocks(parts[0])[0];
    // The block's words and the record are in the memmap of the first one.
    for part in [parts[1], parts[0]] {
        bench.mm.offline_part(id, part).unwrap();
        let offline = bench.snapshot();
        let guard = bench.mm.allocator().memmap.readers().enter(7, || 0, &crate::lock::relax);
        assert_eq!(bench.mm.remove(part), Err(RemoveError::ReadersStay(7)));
        bench.check();
        assert_eq!(bench.snapshot(), offline);
        drop(guard);
        bench.mm.remove(part).unwrap();
        bench.check();
        bench.add(part, Placement::PerBlock);
    }
    bench.offline(range(DIMM, MIB));
    parts.into_iter().for_each(|part| _ = bench.remove(part));
    assert_eq!(bench.snapshot(), before);
}

fn unmap(bench: &Bench<Tiny>, virt: VirtAddr, len: u64) {
    let mut gather = bench.mm.allocator().gather(bench.mm.allocator().memmap.alone());
    let range = VirtRange::new(virt, len).unwrap();
    bench.mm.allocator().memmap.alone().mapper().unmap(range, &mut gather).unwrap();
    gather.flush().unwrap();
}

fn map(bench: &Bench<Tiny>, virt: VirtAddr, phys: u64, len: u64) {
    let phys = PhysAddr::new(phys);
    let mapping = Mapping { virt, phys, len, attr: Attr::WRITE, max_leaf: len };
    bench
        .mm
        .allocator()
        .memmap
        .alone()
        .mapper()
        .map(&mapping, &bench.mm.allocator().table_frames())
        .unwrap();
}

/// Copies the contents at `from` in the linear map to `to`.
fn copy(bench: &Bench<Tiny>, from: u64, to: u64, len: u64) {
    let linear = |at: u64| bench.mm.linear_virt(range(at, 8)).start();
    for offset in (0..len).step_by(8) {
        let word = bench.mm.machine().mmu().load(linear(from + offset));
        bench.mm.machine().mmu().store(linear(to + offset), word);
    }
}

#[test]
fn a_block_whose_record_was_overwritten_is_not_removed_and_harms_no_other() {
    let bench = bench();
    for placement in Placement::ALL {
        bench.add(range(DIMM, 2 * MIB), placement);
        bench.add(range(DIMM + 2 * MIB, MIB), Placement::PerBlock);
        let memmap = bench.mm.allocator().memmap.alone();
        let record = memmap.section(DIMM / MIB).unwrap().word().record();
        let word = &memmap.page(record).payload()[4];
        let sound = word.load(Ordering::Relaxed);
        let id = bench.mm.block_at(PhysAddr::new(DIMM));
        // The first could be the word of a block, but for its seal.
        for garbage in [0xaaaa_aaaa_aaaa_aaaa, u64::MAX] {
            word.store(garbage, Ordering::Relaxed);
            for len in [MIB, 2 * MIB] {
                let refused = bench.mm.remove(range(DIMM, len));
                assert_eq!(refused, Err(RemoveError::Broken(id)), "{placement}, {garbage:#x}");
            }
        }
        assert!(bench.mm.block(id).is_some_and(|block| block.poisoned && !block.taken));
        assert_eq!(bench.mm.release(), Ok(0));
        bench.mm.remove(range(DIMM + 2 * MIB, MIB)).unwrap();
        word.store(sound, Ordering::Relaxed);
        bench.remove(range(DIMM, 2 * MIB));
    }
}

#[test]
fn a_range_whose_memmap_shares_a_leaf_with_its_neighbour_is_not_removed() {
    let bench = bench();
    let before = bench.snapshot();
    let halves: [PhysRange; 2] = [range(DIMM, 2 * MIB), range(DIMM + 2 * MIB, 2 * MIB)];
    halves.iter().for_each(|&half| _ = bench.add(half, Placement::PerRange));
    let added = bench.snapshot();

    // As with a mapper that uses a larger leaf than requested: one over the memmaps of both.
    let (each, both) = (32 * KIB, 64 * KIB);
    let virt = bench.mm.memmap_virt(FakeMachine::<Tiny>::pfns(halves[0])).start();
    copy(&bench, halves[1].start().get(), DIMM + each, each);
    unmap(&bench, virt, both);
    map(&bench, virt, DIMM, both);
    for half in halves {
        let refused = bench.mm.remove(half);
        assert!(matches!(refused, Err(RemoveError::CutsLeaf(_))), "{refused:?}");
    }

    // Mapped correctly, both are removed.
    unmap(&bench, virt, both);
    for (nth, half) in (0..).zip(halves) {
        for page in (0..each).step_by(4096) {
            map(&bench, virt.add(nth * each + page), half.start().get() + page, 4096);
        }
    }
    bench.check();
    assert_eq!(bench.snapshot(), added);
    halves.iter().for_each(|&half| _ = bench.remove(half));
    assert_eq!(bench.snapshot(), before);
}

#[test]
fn a_look_up_finds_a_whole_block_or_none_while_it_is_hidden_and_shown() {
    let ram = [(0, 16 * MIB, 0)].into_iter().collect();
    let setup = Setup { ram, block: 4 * MIB, window: (DIMM, 64 * MIB), kernelcore: None };
    let bench: &'static Bench<Tiny> = Box::leak(Box::new(Bench::new(&setup)));
    let (mm, dimm) = (&bench.mm, range(DIMM, 4 * MIB));
    let pfns = FakeMachine::<Tiny>::pfns(dimm);
    bench.plug(dimm);
    bench.add(dimm, Placement::PerBlock);
    let id = mm.block_at(dimm.start());
    mm.poison(pfns.start.add(900)).unwrap();
    // Another CPU's operation runs just before one access of the look-up.
    static LEFT: AtomicI64 = AtomicI64::new(0);
    static LEAVES: AtomicBool = AtomicBool::new(false);
    mm.machine().mmu().on_access(move || match LEFT.fetch_sub(1, Ordering::Relaxed) {
        1 if LEAVES.load(Ordering::Relaxed) => leaving(bench, pfns).hide().unwrap(),
        1 => leaving(bench, pfns).show(),
        _ => {}
    });
    for leaves in [true, false] {
        for nth in 1..50 {
            if !leaves {
                leaving(bench, pfns).hide().unwrap();
            }
            LEAVES.store(leaves, Ordering::Relaxed);
            LEFT.store(nth, Ordering::Relaxed);
            let found = mm.block(id);
            assert!(found.is_none_or(|block| block.poisoned), "access {nth}: {found:?}");
            LEFT.store(0, Ordering::Relaxed);
            leaving(bench, pfns).show();
        }
    }
    bench.remove(dimm);
}

fn leaving(bench: &Bench<Tiny>, pfns: PfnRange) -> Leaving<'_, FakeMachine<Tiny>> {
    let allocator = bench.mm.allocator();
    Leaving::of(allocator, allocator.memmap.alone(), pfns)
}
