//! The layout and the costs on ppc64, for both of its page sizes, in the kernel's own page-table formats
//! and address space: sections of 16 MiB, sixteen in a logical memory block of 256 MiB.

use hotmem::paging::Mapper;
use hotmem::testing::{Bench, FakeMachine, Setup, Shape, range};
use hotmem::{
    BlockId, BlockSize, GeometryError, NodeId, PhysAddr, Placement, TakeList, VirtAddr, ZoneKind,
};
use hotmem_arch::contract::Layout;
use hotmem_arch::ppc64::Ppc64 as Kernel;
use hotmem_arch::ppc64::pte::Radix;
use hotmem_tests::layout::{groups_of, tables_of};
use hotmem_tests::memory::{
    GIB, KIB, MIB, Sequence, assert_same, block_range, fail_each_allocation,
};

/// ppc64 with pages of 2^`SHIFT` bytes.
#[derive(Clone, Copy, Debug)]
struct Ppc64<const SHIFT: u32>;

impl<const SHIFT: u32> Shape for Ppc64<SHIFT> {
    type Format = Radix<SHIFT>;
    const SECTION_SHIFT: u32 = Kernel::SECTION_SHIFT;
    const LINEAR_BASE: VirtAddr = Kernel::LINEAR_BASE;
    const VMEMMAP_BASE: VirtAddr = Kernel::VMEMMAP_BASE;
    const PHYS_LIMIT: PhysAddr = Kernel::PHYS_LIMIT;
}

const LMB: u64 = 1 << Kernel::BLOCK_SHIFT;
/// The address where DIMMs are plugged: right above boot memory.
const WINDOW: u64 = GIB;

fn booted<const SHIFT: u32>() -> Bench<Ppc64<SHIFT>> {
    with_window(64 * GIB)
}

fn with_window<const SHIFT: u32>(bytes: u64) -> Bench<Ppc64<SHIFT>> {
    let ram = vec![(0, WINDOW, 0)];
    Bench::new(&Setup { ram, block: LMB, window: (WINDOW, bytes), kernelcore: None })
}

/// The sections and pages of each memmap of `bytes`.
fn layout_of<const SHIFT: u32>(bytes: u64, placement: Placement) -> Vec<(u64, u64)> {
    groups_of(&booted::<SHIFT>(), range(WINDOW, bytes), placement)
}

#[test]
fn an_lmb_of_64k_pages_is_described_by_four_pages_a_quarter_for_each_section() {
    assert_eq!(layout_of::<16>(LMB, Placement::PerBlock), [(16, 4)]);
    assert_eq!(layout_of::<16>(GIB, Placement::PerBlock), [(16, 4); 4]);
    assert_eq!(layout_of::<16>(GIB, Placement::PerRange), [(64, 16)]);
    assert_eq!(layout_of::<16>(64 * GIB, Placement::PerRange), [(4096, 1024)]);
}

#[test]
fn an_lmb_of_4k_pages_is_described_by_64_pages_for_each_section() {
    assert_eq!(layout_of::<12>(LMB, Placement::PerBlock), [(16, 1024)]);
    assert_eq!(layout_of::<12>(GIB, Placement::PerRange), [(64, 4096)]);
}

/// A linear-map table has leaves of 2 MiB and spans 1 GiB. With 64 KiB pages a table of the memmap covers 2 GiB, and
/// has 32 entries.
#[test]
fn a_range_costs_the_tables_that_its_span_needs() {
    assert_eq!(tables_of(&booted::<16>(), range(2 * GIB, 2 * GIB)), [4 * KIB, 4 * KIB, 256]);
    assert_eq!(tables_of(&booted::<12>(), range(WINDOW, GIB)), [4 * KIB]);
}

#[test]
fn the_tables_of_64_gib_of_64k_pages_fit_a_handful_of_pages() {
    let reserve = booted::<16>().mm.stats().reserve_free;
    assert!((1..=8).contains(&reserve), "{reserve} pages");
}

#[test]
fn a_block_with_less_than_two_memmap_pages_is_refused_by_size() {
    let refused = BlockSize::new::<FakeMachine<Ppc64<16>>>(64 * MIB);
    let (block, smallest) = (64 * MIB, 128 * MIB);
    assert_eq!(refused, Err(GeometryError::TooSmall { block, smallest }));
    assert!(BlockSize::new::<FakeMachine<Ppc64<16>>>(smallest).is_ok());
    assert!(BlockSize::new::<FakeMachine<Ppc64<12>>>(16 * MIB).is_ok());
}

/// E13: their descriptors are adjacent, and share tables, but never a page.
#[test]
fn e13_adjacent_ranges_are_removed_in_any_order() {
    let dimms: Vec<_> = (0..6).map(|nth| range(WINDOW + nth * LMB, LMB)).collect();
    for placement in Placement::ALL {
        for sequence in Sequence::ALL {
            let bench = with_window::<16>(0);
            let before = bench.snapshot();
            dimms.iter().for_each(|&dimm| bench.plug(dimm));
            for dimm in Sequence::Random(3).arrange(dimms.clone()) {
                bench.add(dimm, placement);
                bench.online(dimm);
            }
            for dimm in sequence.arrange(dimms.clone()) {
                bench.offline(dimm);
                bench.remove(dimm);
            }
            assert_same(&before, &bench.snapshot());
        }
    }
}

#[test]
fn any_allocation_of_an_add_may_fail() {
    let bench = with_window::<16>(0);
    let before = bench.snapshot();
    // Reaches into the next table of the linear map and of the memmap.
    let dimm = range(WINDOW + 512 * MIB, 4 * GIB);
    bench.plug(dimm);
    for placement in Placement::ALL {
        let add = || bench.mm.hot_add(dimm, NodeId::default(), placement);
        let remove = |_| _ = bench.remove(dimm);
        let (_, failures) = fail_each_allocation(&bench, add, remove);
        assert!(failures >= 5, "{placement}: only {failures} allocations");
        bench.online(dimm);
        bench.offline(dimm);
        bench.remove(dimm);
        assert_same(&before, &bench.snapshot());
    }
}

#[test]
fn boot_memory_of_any_size_is_described_and_counted_to_the_page() {
    let page = 64 * KIB;
    for mib in [256, 257, 300, 512, 520, 640, 1000] {
        let ram = vec![(0, mib * MIB, 0)];
        let setup = Setup { ram, block: LMB, window: (4 * GIB, GIB), kernelcore: None };
        let bench = Bench::<Ppc64<16>>::new(&setup);
        assert_eq!(bench.mm.stats().pages.present, mib * MIB / page);
        let holes = vec![(0, 100 * MIB, 0), (mib * MIB, 33 * MIB, 0)];
        let bench = Bench::<Ppc64<16>>::new(&Setup { ram: holes, ..setup });
        assert_eq!(bench.mm.stats().pages.present, 133 * MIB / page);
    }
}

#[test]
fn boot_blocks_are_taken_out_of_the_linear_map_and_released() {
    let ram = vec![(0, 2 * GIB, 0)];
    let setup = Setup { ram, block: LMB, window: (4 * GIB, GIB), kernelcore: Some(512 * MIB) };
    let bench = Bench::<Ppc64<16>>::new(&setup);
    let before = bench.snapshot();
    let blocks = [5, 6, 7].map(BlockId::new);
    for id in blocks {
        assert!(bench.mm.offline(id).is_ok());
    }
    let list = TakeList::parse("0:5-7").map(|list| bench.mm.take(list.pieces()));
    assert_eq!(list, Ok(Ok(3)));
    bench.check();
    for id in blocks {
        let at = Kernel::LINEAR_BASE.add(block_range(&bench, id).start().get());
        assert_eq!(bench.mm.tables().translate(at), None);
    }
    assert_eq!(bench.mm.release(), Ok(3));
    for id in blocks {
        assert!(bench.mm.online(id, ZoneKind::Movable).is_ok());
    }
    bench.check();
    assert_same(&before, &bench.snapshot());
}
