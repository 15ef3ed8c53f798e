//! The layout and the costs on arm64, for each of its three granules, in the kernel's own page-table
//! formats and address space.

use hotmem::geometry::Geometry;
use hotmem::testing::{Bench, FakeMachine, Setup, Shape, range};
use hotmem::{PhysAddr, Placement, VirtAddr};
use hotmem_arch::aarch64::Aarch64 as Kernel;
use hotmem_arch::aarch64::pte::Stage1;
use hotmem_arch::contract::Layout;
use hotmem_tests::layout::{groups_of, tables_of};
use hotmem_tests::memory::{GIB, KIB, MIB};

/// arm64 with pages of 2^`SHIFT` bytes and Linux's sections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arm64<const SHIFT: u32>;

impl<const SHIFT: u32> Shape for Arm64<SHIFT> {
    type Format = Stage1<SHIFT>;
    const SECTION_SHIFT: u32 = if SHIFT == 16 { 29 } else { 27 };
    const LINEAR_BASE: VirtAddr = Kernel::LINEAR_BASE;
    const VMEMMAP_BASE: VirtAddr = Kernel::VMEMMAP_BASE;
    const PHYS_LIMIT: PhysAddr = Kernel::PHYS_LIMIT;
}

/// The address where DIMMs are plugged.
const WINDOW: u64 = 4 * GIB;

fn booted<const SHIFT: u32>() -> Bench<Arm64<SHIFT>> {
    let block = FakeMachine::<Arm64<SHIFT>>::SECTION_BYTES;
    let ram = vec![(GIB, 2 * block, 0)];
    Bench::new(&Setup { ram, block, window: (WINDOW, 64 * GIB), kernelcore: None })
}

/// The sections and pages of each memmap of `bytes`.
fn layout_of<const SHIFT: u32>(bytes: u64, placement: Placement) -> Vec<(u64, u64)> {
    groups_of(&booted::<SHIFT>(), range(WINDOW, bytes), placement)
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

fn tables<const SHIFT: u32>(bytes: u64) -> Vec<u64> {
    tables_of(&booted::<SHIFT>(), range(WINDOW, bytes))
}

/// 4 KiB for each GiB of linear map; the memmap's table spans 64 GiB, and exists already for boot memory. With
/// larger pages one table of the linear map spans 64 GiB or 4 TiB and exists from boot.
#[test]
fn a_range_costs_the_tables_that_its_span_needs() {
    assert_eq!(tables::<12>(GIB), [4 * KIB]);
    assert_eq!(tables::<12>(8 * GIB), [4 * KIB; 8]);
    assert_eq!(tables::<14>(GIB), []);
    assert_eq!(tables::<14>(32 * GIB), [16 * KIB; 4]);
    assert_eq!(tables::<16>(32 * GIB), []);
}
