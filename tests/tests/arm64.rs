//! The layout and the costs on arm64, for each of its three granules, in the kernel's own page-table
//! formats and address space.

use hotmem::geometry::Geometry;
use hotmem::paging::Mapper;
use hotmem::testing::{Bench, FakeMachine, Setup, Shape, range};
use hotmem::{Machine, PhysAddr, PhysRange, Placement, VirtAddr};
use hotmem_arch::aarch64::layout;
use hotmem_arch::aarch64::pte::Stage1;
use hotmem_tests::memory::{GIB, KIB, MIB, assert_same};

/// arm64 with pages of 2^`SHIFT` bytes and Linux's sections.
#[derive(Clone, Copy, Debug)]
struct Arm64<const SHIFT: u32>;

impl<const SHIFT: u32> Shape for Arm64<SHIFT> {
    type Format = Stage1<SHIFT>;
    const SECTION_SHIFT: u32 = if SHIFT == 16 { 29 } else { 27 };
    const LINEAR_BASE: VirtAddr = layout::LINEAR_BASE;
    const VMEMMAP_BASE: VirtAddr = layout::VMEMMAP_BASE;
    const PHYS_LIMIT: PhysAddr = layout::PHYS_LIMIT;
}

/// Where DIMMs are plugged.
const WINDOW: u64 = 4 * GIB;

fn booted<const SHIFT: u32>() -> Bench<Arm64<SHIFT>> {
    let block = FakeMachine::<Arm64<SHIFT>>::SECTION_BYTES;
    let ram = vec![(GIB, 2 * block, 0)];
    Bench::new(&Setup { ram, block, window: (WINDOW, 64 * GIB), kernelcore: None })
}

/// Adds and removes `bytes`; answers with the sections and pages of each memmap.
///
/// In between nothing may be wasted: each page of the range is usable or a page of descriptors that
/// the range needs.
fn layout_of<const SHIFT: u32>(bytes: u64, placement: Placement) -> Vec<(u64, u64)> {
    let bench = booted::<SHIFT>();
    let before = bench.snapshot();
    let dimm = range(WINDOW, bytes);
    bench.plug(dimm);
    assert_eq!(bench.add(dimm, placement).system_bytes, 0);
    bench.online(dimm);

    let page = FakeMachine::<Arm64<SHIFT>>::PAGE_BYTES;
    let blocks = bench.blocks(dimm);
    let blocks = blocks.into_iter().filter_map(|id| bench.mm.block(id));
    let counts: Vec<_> = blocks.map(|block| (block.counts, block.group)).collect();
    let memmap: u64 = counts.iter().map(|(counts, _)| counts.memmap).sum();
    let managed: u64 = counts.iter().map(|(counts, _)| counts.managed).sum();
    assert_eq!(memmap * page, bytes / page * 64, "descriptors, and nothing beside them");
    assert_eq!((managed + memmap) * page, bytes);

    let mut heads: Vec<_> = counts.iter().filter_map(|(_, group)| *group).collect();
    heads.dedup();
    let groups = heads.into_iter().filter_map(|head| bench.mm.group(head));
    let found = groups.map(|group| (group.sections, group.pfns.pages())).collect();

    bench.offline(dimm);
    bench.remove(dimm);
    assert_same(&before, &bench.snapshot());
    found
}

#[test]
fn a_gibibyte_of_4k_pages_has_the_heads_and_pages_of_x86_64() {
    assert_eq!(layout_of::<12>(GIB, Placement::PerRange), [(8, 4096)]);
    assert_eq!(layout_of::<12>(GIB, Placement::PerBlock), [(1, 512); 8]);
}

#[test]
fn a_section_of_16k_pages_is_described_by_512_kib() {
    assert_eq!(layout_of::<14>(128 * MIB, Placement::PerBlock), [(1, 512 * KIB / (16 * KIB))]);
    assert_eq!(layout_of::<14>(GIB, Placement::PerRange), [(8, 256)]);
    assert_eq!(layout_of::<14>(GIB, Placement::PerBlock), [(1, 32); 8]);
}

#[test]
fn a_section_of_64k_pages_is_512_mib_and_described_by_512_kib() {
    assert_eq!(layout_of::<16>(512 * MIB, Placement::PerBlock), [(1, 512 * KIB / (64 * KIB))]);
    assert_eq!(layout_of::<16>(GIB, Placement::PerRange), [(2, 16)]);
    assert_eq!(layout_of::<16>(GIB, Placement::PerBlock), [(1, 8); 2]);
}

#[test]
fn eight_gibibytes_are_described_at_their_head() {
    assert_eq!(layout_of::<12>(8 * GIB, Placement::PerRange), [(64, 32768)]);
    assert_eq!(layout_of::<14>(8 * GIB, Placement::PerRange), [(64, 2048)]);
    assert_eq!(layout_of::<16>(8 * GIB, Placement::PerRange), [(16, 128)]);
}

/// The tables that are there for the linear map and the memmap of one aligned range, beyond those that
/// a machine with nothing plugged has: their sizes, largest span first.
fn tables<const SHIFT: u32>(bytes: u64) -> Vec<u64> {
    let bench = booted::<SHIFT>();
    let table_bytes = || {
        let mut found = Vec::new();
        bench.mm.machine().mapper().visit_tables(&mut |table| found.push(table.bytes));
        found
    };
    let before = table_bytes();
    let dimm: PhysRange = range(WINDOW, bytes);
    bench.plug(dimm);
    bench.add(dimm, Placement::PerRange);
    let mut after = table_bytes();
    for bytes in before {
        let known = after.iter().position(|&other| other == bytes);
        assert!(known.is_some(), "a table of {bytes} bytes is gone");
        known.map(|known| after.swap_remove(known));
    }
    bench.remove(dimm);
    after
}

/// 4 KiB for each GiB of linear map; the memmap's table spans 64 GiB, and boot memory has it already.
/// With larger pages one table of the linear map spans 64 GiB or 4 TiB and is there from boot.
#[test]
fn a_range_costs_the_tables_that_its_span_needs() {
    assert_eq!(tables::<12>(GIB), [4 * KIB]);
    assert_eq!(tables::<12>(8 * GIB), [4 * KIB; 8]);
    assert_eq!(tables::<14>(GIB), []);
    assert_eq!(tables::<14>(32 * GIB), [16 * KIB; 4]);
    assert_eq!(tables::<16>(32 * GIB), []);
}
