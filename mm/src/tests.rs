//! Tests that need the crate's internals: readers that stay, memory at physical address 0, and RAM that no fake
//! machine has.

// UNSAFETY: vouches for the frames of an allocator that withholds some.
#![expect(unsafe_code)]

extern crate std;

use crate::memmap::section::Section;
use crate::testing::{Bench, CPUS, FakeMachine, Setup, Tiny, WatchedLock, range};
use crate::{
    BlockSize, BootMemory, CpuCaches, EarlyFrames, FreeError, MAX_NODES, Mm, NodeId, NodeTable,
    Order, Owner, PageState, Pfn, PhysAddr, PhysRange, Placement, RemoveError,
};
use std::vec::Vec;

const MIB: u64 = 1 << 20;
const PAGE: u64 = 4096;
/// Boot memory of most of these machines.
const RAM: u64 = 32 * MIB;
/// The address where DIMMs are plugged.
const WINDOW: u64 = 0x4000_0000;

fn machine() -> Bench<Tiny> {
    let ram = [(0, RAM, 0)].into_iter().collect();
    Bench::new(&Setup { ram, block: MIB, window: (WINDOW, 64 * MIB), kernelcore: None })
}

#[test]
fn a_removal_refused_because_a_reader_stays_is_refused_again_while_it_stays() {
    for placement in Placement::ALL {
        let bench = machine();
        let before = bench.snapshot();
        let dimm = range(WINDOW, 4 * MIB);
        bench.plug(dimm);
        bench.add(dimm, placement);
        let added = bench.snapshot();
        let refused = || {
            let refused = bench.mm.remove(dimm);
            assert!(matches!(refused, Err(RemoveError::ReadersStay(0 | 1))), "{refused:?}");
            bench.check();
            assert_eq!(bench.snapshot(), added);
        };

        let first = bench.mm.allocator().memmap.readers().enter(0, || 0, &crate::lock::relax);
        refused();
        refused();
        // The next one keeps the range as well, and counts in the other set.
        let second = bench.mm.allocator().memmap.readers().enter(1, || 0, &crate::lock::relax);
        refused();
        drop(first);
        refused();
        refused();
        drop(second);

        bench.remove(dimm);
        bench.unplug(dimm);
        assert_eq!(bench.snapshot(), before);
    }
}

#[test]
fn of_an_extent_at_boot_that_fills_its_subsections_only_the_head_is_written() {
    // The last section ends in extents of 128, 64, 32, 16, 4, 2 and 1 pages; a subsection has four.
    let bench = given(&[(range(0, RAM - 9 * PAGE), 0)]);
    let memmap = bench.mm.allocator().memmap.alone();
    let mut sizes = 0_u32;
    let last = RAM / PAGE - 9;
    let mut pfn = Pfn::new(last - 247);
    while pfn.get() < last {
        let (head, state) = memmap.extent_of(pfn).unwrap();
        let PageState::Free { order } = state else { panic!("{pfn}: {state:?}") };
        assert_eq!(head, pfn);
        let section = memmap.section_at(pfn).unwrap();
        let part = Section::<FakeMachine<Tiny>>::part(pfn);
        assert_eq!(section.record().initialised().has(part), order.pages() < 4, "{pfn}: {order}");
        sizes |= 1 << order.get();
        pfn = pfn.add(order.pages());
    }
    assert_eq!(sizes, 0b1111_0111);
}

#[test]
fn pages_of_boot_of_tables_and_of_the_memmap_have_no_owners_word() {
    let bench = machine();
    let before = bench.snapshot();
    let refused = |pfn, why| {
        assert_eq!(bench.mm.set_private(pfn, 0), Err(why));
        assert_eq!(bench.mm.private(pfn), Err(why));
    };

    // Among them the pages whose descriptors hold the sections' records.
    let mut heads = 0;
    for pfn in (0..RAM / PAGE).map(Pfn::new) {
        let info = bench.mm.page_info(pfn).unwrap();
        if let Some(PageState::Used { owner: Owner::Boot, .. }) = info.state {
            let head = info.head == Some(pfn);
            heads += u64::from(head);
            let (own, inside) =
                (FreeError::NotYours(pfn, Owner::Boot), FreeError::NotAllocated(pfn));
            refused(pfn, if head { own } else { inside });
        }
    }
    assert!(heads > 0, "boot holds nothing");
    for number in 0..RAM / MIB {
        let record = bench.mm.allocator().memmap.alone().section(number).unwrap().word().record();
        assert!(bench.mm.set_private(record, 0).is_err(), "record of section {number}");
    }

    for owner in [Owner::Table, Owner::Memmap] {
        let pfn = bench.alloc_as(Order::ZERO, owner).unwrap();
        refused(pfn, FreeError::NotYours(pfn, owner));
        bench.mm.allocator().free_of(pfn, |holder| holder == owner).unwrap();
        bench.mm.allocator().frames.uncount_system(1);
    }
    bench.check();
    assert_eq!(bench.snapshot(), before);
}

/// A machine with [`RAM`] whose manager is given other ranges.
fn given(ram: &[(PhysRange, u32)]) -> Bench<Tiny> {
    let (machine, mut early) = FakeMachine::start(&[range(0, RAM)], MIB);
    boot(machine, &mut early, ram, &[])
}

fn boot(
    machine: FakeMachine<Tiny>,
    early: &mut dyn EarlyFrames,
    ram: &[(PhysRange, u32)],
    window: &[PhysRange],
) -> Bench<Tiny> {
    let ram: Vec<_> =
        ram.iter().map(|&(range, node)| (range, NodeId::new(node).unwrap())).collect();
    let block_size = BlockSize::new::<FakeMachine<Tiny>>(MIB).unwrap();
    let bench = Bench::over(machine);
    bench.mm.start(&BootMemory { ram: &ram, block_size, window, kernelcore: None }, early).unwrap();
    bench.check();
    bench
}

/// Pages present on each node that has any.
fn present(bench: &Bench<Tiny>) -> Vec<(u32, u64)> {
    bench.mm.zones().map(|zone| (zone.node.get(), zone.counts.present)).collect()
}

#[test]
fn ram_ranges_may_touch_anywhere_and_only_a_page_that_none_has_whole_is_lost() {
    let (all, section) = (RAM / PAGE, MIB / PAGE);
    for (cut, lost) in [(16 * MIB, 0), (16 * MIB + PAGE, 0), (16 * MIB + PAGE + PAGE / 2, 1)] {
        let ranges = [range(0, cut), range(cut, RAM - cut)];
        let bench = given(&[(ranges[0], 0), (ranges[1], 0)]);
        assert_eq!(present(&bench), [(0, all - lost)]);
        let touched = Pfn::new(cut / PAGE);
        let state = bench.mm.page_info(touched).unwrap().state;
        assert_eq!(state == Some(PageState::Hole), lost == 1, "{state:?} at {touched}");

        // A block counts for the node of its first page.
        let bench = given(&[(ranges[0], 0), (ranges[1], 1)]);
        let whole = cut.div_ceil(MIB) * section;
        assert_eq!(present(&bench), [(0, whole - lost), (1, all - whole)]);
    }
}

#[test]
fn ram_without_a_whole_page_is_not_used() {
    let all = RAM / PAGE;
    let crumbs = [
        range(40 * MIB, 1),
        range(40 * MIB + 0x800, 0x400),
        range(40 * MIB + 0x800, PAGE),
        range(40 * MIB + 1, 2 * PAGE - 2),
    ];
    for crumb in crumbs {
        for node in [0, 1] {
            let bench = given(&[(range(0, RAM), 0), (crumb, node)]);
            assert_eq!(present(&bench), [(0, all)], "{crumb} on node {node}");
            assert_eq!(bench.mm.blocks().count() as u64, RAM / MIB);
            assert_eq!(bench.mm.page_info(Pfn::new(40 * MIB / PAGE)), None);
        }
    }
}

/// Memory of 16 MiB whose first free page is at physical address 0, and above it a MiB that holds the machine's
/// tables and has no free page.
const LOW: u64 = 16 * MIB;

/// A machine whose early allocator returns address 0 next.
fn from_zero() -> (FakeMachine<Tiny>, impl EarlyFrames) {
    let (machine, mut early) = FakeMachine::<Tiny>::start(&[range(LOW, MIB), range(0, LOW)], MIB);
    let mut free = Vec::new();
    early.free_ranges(&mut |range| free.push(range));
    let rest = free[0];
    assert_eq!(early.take(rest.len(), PAGE), Some(rest.start()));
    (machine, early)
}

fn boot_from_zero(window: &[PhysRange]) -> Bench<Tiny> {
    let (machine, mut early) = from_zero();
    boot(machine, &mut early, &[(range(0, LOW), 0), (range(LOW, MIB), 0)], window)
}

fn node_at_zero(bench: &Bench<Tiny>) -> bool {
    bench.mm.allocator().memmap.sections().nodes().any(|node| node == PhysAddr::new(0))
}

/// Adds and removes a DIMM.
fn come_and_go(bench: &Bench<Tiny>, dimm: PhysRange, placement: Placement) {
    let before = bench.snapshot();
    bench.plug(dimm);
    bench.add(dimm, placement);
    bench.online(dimm);
    bench.offline(dimm);
    bench.remove(dimm);
    bench.unplug(dimm);
    assert_eq!(bench.snapshot(), before);
}

#[test]
fn a_section_node_may_lie_at_physical_address_0() {
    let bench = boot_from_zero(&[]);
    assert!(node_at_zero(&bench));
    assert_eq!(present(&bench), [(0, (LOW + MIB) / PAGE)]);
    // A DIMM under the same node, and one under another.
    for at in [LOW + MIB, WINDOW] {
        for placement in Placement::ALL {
            come_and_go(&bench, range(at, 4 * MIB), placement);
        }
    }
}

#[test]
fn a_table_reserve_at_physical_address_0_loses_no_frame() {
    let bench = boot_from_zero(&[range(WINDOW, 64 * MIB)]);
    let (reserve, free) = bench.mm.allocator().frames.reserve();
    assert_eq!(reserve[0].start(), PhysAddr::new(0));
    let dimm = range(WINDOW, 32 * MIB);
    bench.plug(dimm);
    for _ in 0..4 {
        bench.add(dimm, Placement::PerRange);
        assert!(bench.mm.allocator().frames.reserve().1 < free, "no frame was taken");
        bench.remove(dimm);
        assert_eq!(bench.mm.allocator().frames.reserve(), (reserve, free));
    }

    // Each frame is in the reserve, exactly once.
    let mut frames: Vec<_> =
        (0..free).map(|_| bench.mm.allocator().table_frames().take_frame().unwrap()).collect();
    assert_eq!(bench.mm.allocator().frames.system_pages(), 0);
    frames.sort();
    let all: Vec<_> = (0..free).map(|nth| PhysAddr::new(nth * PAGE)).collect();
    assert_eq!(frames, all);
    frames
        .into_iter()
        .rev()
        .for_each(|frame| bench.mm.allocator().table_frames().return_frame(frame));
    assert_eq!(bench.mm.allocator().frames.reserve(), (reserve, free));
    bench.check();
}

/// Leaves page 0 free for the manager to take over.
struct ZeroLeft<E>(E);

// SAFETY: every guarantee is the inner allocator's, which this one restricts.
unsafe impl<E: EarlyFrames> EarlyFrames for ZeroLeft<E> {
    fn take(&mut self, bytes: u64, align: u64) -> Option<PhysAddr> {
        self.0.take(bytes, align)
    }

    fn free_ranges(&self, each: &mut dyn FnMut(PhysRange)) {
        each(range(0, PAGE));
        self.0.free_ranges(each);
    }
}

#[test]
fn the_allocator_may_allocate_page_0_for_a_section_node() {
    let (machine, mut early) = from_zero();
    assert_eq!(early.take(PAGE, PAGE), Some(PhysAddr::new(0)));
    let ram = [(range(0, LOW), 0), (range(LOW, MIB), 0)];
    let bench = boot(machine, &mut ZeroLeft(early), &ram, &[]);
    assert!(!node_at_zero(&bench));

    // Only the last eight of all pages are free, and page 0: an add allocates the node first.
    let mut held: Vec<_> = std::iter::from_fn(|| bench.mm.take_pages(Order::ZERO).ok()).collect();
    held.sort();
    let zero = held.remove(0);
    assert_eq!(zero, Pfn::new(0));
    for pfn in held.drain(held.len() - 8..) {
        bench.mm.free_pages(pfn).unwrap();
    }
    bench.mm.free_pages(zero).unwrap();
    let before = bench.snapshot();

    let dimm = range(WINDOW, MIB);
    bench.plug(dimm);
    bench.add(dimm, Placement::PerRange);
    assert!(node_at_zero(&bench));
    assert!(bench.mm.block(bench.mm.block_at(dimm.start())).is_some());
    assert_eq!(bench.mm.free_pages(zero), Err(FreeError::NotYours(zero, Owner::Table)));
    bench.online(dimm);
    bench.offline(dimm);
    bench.remove(dimm);
    assert_eq!(bench.snapshot(), before);
}

#[test]
fn a_manager_of_one_node_and_one_cpu_takes_at_most_16_kib() {
    let table = size_of::<NodeTable<1>>();
    let others = size_of::<Mm<FakeMachine<Tiny>>>() - size_of::<FakeMachine<Tiny>>();
    let (caches, cache) = (size_of::<CpuCaches<CPUS, WatchedLock>>(), size_of::<CpuCaches<1>>());
    let nodes = size_of::<NodeTable<MAX_NODES, WatchedLock>>();
    let one = others - nodes - caches + table + cache;
    assert!(one <= 16 << 10, "{one} bytes, {table} of them for the node, {cache} for the CPU");
}
