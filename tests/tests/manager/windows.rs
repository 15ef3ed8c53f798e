//! The windows of virtual addresses: they belong to the manager, a loader may have mapped them before, and a kernel
//! maps other addresses beside them.

// UNSAFETY: maps a kernel's own addresses in fake page tables.
#![expect(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use hotmem::paging::{Attr, MapError, Mapper, Mapping, Translation};
use hotmem::testing::{Bench, FakeMachine, Shape, Tiny, range};
use hotmem::{
    AddError, BlockSize, BootError, BootMemory, EarlyTables, Mm, NodeId, Order, OwnMapError,
    PhysAddr, PhysRange, Placement, VirtAddr, VirtRange, ZoneKind,
};
use hotmem_arch::x86_64::pte::X86Pte4;
use hotmem_tests::memory::{GIB, MIB, REAL_WINDOW, Real, TINY_WINDOW, assert_same, tiny};

/// A loader mapped all memory that may ever exist, with leaves of 1 GiB: eight memory blocks.
#[derive(Clone, Copy, Debug)]
struct Complete;

impl Shape for Complete {
    type Format = X86Pte4;
    const SECTION_SHIFT: u32 = 27;
    const LINEAR_BASE: VirtAddr = Real::LINEAR_BASE;
    const VMEMMAP_BASE: VirtAddr = Real::VMEMMAP_BASE;
    const PHYS_LIMIT: PhysAddr = PhysAddr::new(8 * GIB);
    const LINEAR_MAP_IS_COMPLETE: bool = true;
}

/// The memmap begins inside the linear map.
#[derive(Clone, Copy, Debug)]
struct Overlapping;

impl Shape for Overlapping {
    type Format = <Tiny as Shape>::Format;
    const SECTION_SHIFT: u32 = Tiny::SECTION_SHIFT;
    const LINEAR_BASE: VirtAddr = Tiny::LINEAR_BASE;
    const VMEMMAP_BASE: VirtAddr = VirtAddr::new(0x4000_0000);
    const PHYS_LIMIT: PhysAddr = Tiny::PHYS_LIMIT;
}

/// Boots with `ram` and `window`, after a loader has mapped `mapping`.
fn boot_after<S: Shape>(
    ram: PhysRange,
    window: PhysRange,
    mapping: Option<Mapping>,
) -> (Mm<FakeMachine<S>>, Result<(), BootError>) {
    let (machine, mut early) = FakeMachine::<S>::start(&[ram], MIB);
    let loader = EarlyTables::new(&mut early);
    mapping.iter().for_each(|mapping| machine.tables().map(mapping, &loader).unwrap());
    let mm = Mm::new(machine);
    let block_size = BlockSize::new::<FakeMachine<S>>(1 << S::SECTION_SHIFT).unwrap();
    let (ram, window) = ([(ram, NodeId::default())], [window]);
    let memory = BootMemory { ram: &ram, block_size, window: &window, kernelcore: None };
    let booted = mm.start(&memory, &mut early);
    (mm, booted)
}

#[test]
fn memory_is_added_and_removed_under_a_linear_map_that_is_complete_from_the_start() {
    let (ram, dimm) = (range(0, GIB), range(REAL_WINDOW, 2 * GIB));
    let (mm, booted) = boot_after::<Complete>(ram, dimm, None);
    assert_eq!(booted, Ok(()));
    let bench = Bench { stubborn: mm.register(&hotmem::testing::Stubborn).unwrap(), mm };
    bench.plug(dimm);
    let leaf = |at: u64| bench.mm.walk(Complete::LINEAR_BASE.add(at)).leaf;
    let before = (bench.snapshot(), leaf(REAL_WINDOW));
    assert_eq!(before.1.map(|leaf| leaf.len), Some(GIB));
    for placement in [Placement::PerRange, Placement::PerBlock, Placement::Boot] {
        bench.add(dimm, placement);
        bench.online(dimm);
        let held = bench.alloc_movable_zone(Order::ZERO).unwrap();
        bench.mm.free_pages(held).unwrap();
        bench.offline(dimm);
        bench.remove(dimm);
        assert_same(&before.0, &bench.snapshot());
        assert_eq!(leaf(REAL_WINDOW), before.1, "{placement}");
    }
}

#[test]
fn a_range_that_a_complete_linear_map_lacks_is_not_added() {
    let (ram, window) = (range(0, GIB), range(REAL_WINDOW, 2 * GIB));
    let (mm, booted) = boot_after::<Complete>(ram, window, None);
    assert_eq!(booted, Ok(()));
    // Memory that a loader maps read-only does not count as mapped either.
    let last = VirtRange::new(Complete::LINEAR_BASE.add(REAL_WINDOW + GIB), GIB).unwrap();
    let (_, mut early) = FakeMachine::<Tiny>::start(&[range(0, MIB)], MIB);
    let frames = EarlyTables::new(&mut early);
    let mut gather = hotmem::paging::Gather::new(mm.tables().tlb(), &frames);
    mm.tables().unmap(last, &mut gather).unwrap();
    gather.flush().unwrap();
    mm.machine().plug(window);
    let added = mm.hot_add(window, NodeId::default(), Placement::PerBlock);
    let at = PhysAddr::new(REAL_WINDOW + GIB);
    assert_eq!(added, Err(AddError::NotInLinearMap(at)));
    assert_eq!(mm.verify(), Ok(()));
    let first = range(REAL_WINDOW, GIB);
    assert!(mm.hot_add(first, NodeId::default(), Placement::PerBlock).is_ok());
    assert_eq!(mm.verify(), Ok(()));
}

#[test]
fn a_window_that_a_loader_mapped_is_refused_at_boot_by_name() {
    let (ram, window) = (range(0, 16 * MIB), range(TINY_WINDOW, 64 * MIB));
    let page = |virt: VirtAddr, phys: u64| Mapping {
        virt,
        phys: PhysAddr::new(phys),
        len: 4096,
        attr: Attr::WRITE,
        max_leaf: 4096,
    };
    let linear = Tiny::LINEAR_BASE.add(TINY_WINDOW + 5 * MIB);
    let descriptor = Tiny::VMEMMAP_BASE.add((TINY_WINDOW + 9 * MIB) / 4096 * 64);
    for mapping in [
        // As `add` would have mapped it; to another address; a memmap; the first and another page of RAM's memmap.
        page(linear, TINY_WINDOW + 5 * MIB),
        page(linear, 0x4000),
        page(descriptor, 0x4000),
        page(Tiny::VMEMMAP_BASE, 0x4000),
        page(Tiny::VMEMMAP_BASE.add(11 * 4096), 0x4000),
    ] {
        let (mm, booted) = boot_after::<Tiny>(ram, window, Some(mapping));
        let Mapping { virt, phys, len, attr, .. } = mapping;
        let leaf = Translation { virt, phys, len, attr };
        assert_eq!(booted, Err(BootError::WindowMapped(leaf)));
        let text = BootError::WindowMapped(leaf).to_string();
        assert!(text.contains(&virt.to_string()) && text.contains(&phys.to_string()), "{text}");
        assert_eq!(mm.blocks().count(), 0);
    }
    // The manager ignores mappings past the window.
    let beside = page(Tiny::LINEAR_BASE.add(TINY_WINDOW + 64 * MIB), 0x4000);
    assert_eq!(boot_after::<Tiny>(ram, window, Some(beside)).1, Ok(()));
}

#[test]
fn windows_that_share_addresses_are_refused_at_boot() {
    let booted = boot_after::<Overlapping>(range(0, 16 * MIB), range(TINY_WINDOW, MIB), None).1;
    let (linear, vmemmap) = (Overlapping::LINEAR_BASE, Overlapping::VMEMMAP_BASE);
    let limit = Overlapping::PHYS_LIMIT;
    assert_eq!(booted, Err(BootError::Windows { linear, vmemmap, limit }));
}

/// Addresses in neither window of a [`Tiny`] machine.
const OWN: VirtAddr = VirtAddr::new(0xc000_0000);

fn own(virt: VirtAddr, phys: u64, len: u64) -> Mapping {
    Mapping { virt, phys: PhysAddr::new(phys), len, attr: Attr::WRITE, max_leaf: len }
}

#[test]
fn a_kernel_maps_its_own_addresses_without_the_reserve_and_leaves_nothing_behind() {
    let bench = tiny(MIB);
    let before = (bench.snapshot(), bench.mm.stats());
    let pages = bench.mm.alloc(Order::new(2).unwrap()).unwrap();
    let phys = pages.pfn().get() * 4096;
    let mapping = own(OWN, phys, 4 * 4096);
    // SAFETY: the addresses are not in use, and the pages belong to the test.
    unsafe { bench.mm.map_own(&mapping) }.unwrap();
    assert_eq!(bench.mm.stats().reserve_free, before.1.reserve_free);
    bench.mm.machine().mmu().store(OWN.add(0x2008), 77);
    let walk = bench.mm.walk(OWN.add(0x2008));
    assert_eq!(walk.leaf.map(|leaf| leaf.target(OWN.add(0x2008)).get()), Some(phys + 0x2008));
    assert_eq!(walk.tables().map(|table| table.level).collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert_eq!(bench.mm.verify(), Ok(()));
    // SAFETY: as above.
    let again = unsafe { bench.mm.map_own(&mapping) };
    assert_eq!(again, Err(OwnMapError::Map(MapError::AlreadyMapped { at: OWN })));
    let range = VirtRange::new(OWN, 4 * 4096).unwrap();
    // SAFETY: the addresses are no longer in use.
    unsafe { bench.mm.unmap_own(range) }.unwrap();
    drop(pages);
    assert_eq!(bench.mm.walk(OWN).leaf, None);
    bench.check();
    assert_same(&before.0, &bench.snapshot());
}

#[test]
fn a_kernel_does_not_map_in_the_managers_windows() {
    let bench = tiny(MIB);
    let before = bench.snapshot();
    for virt in [
        Tiny::LINEAR_BASE.add(TINY_WINDOW),
        Tiny::VMEMMAP_BASE.add(TINY_WINDOW / 64),
        // The last page before a window, and one page of it.
        Tiny::VMEMMAP_BASE.add(4096_u64.wrapping_neg()),
    ] {
        let mapping = own(virt, 0x4000, 2 * 4096);
        let range = VirtRange::new(virt, 2 * 4096).unwrap();
        // SAFETY: the call is refused.
        let mapped = unsafe { bench.mm.map_own(&mapping) };
        assert_eq!(mapped, Err(OwnMapError::InWindow(range)));
        // SAFETY: the call is refused.
        let unmapped = unsafe { bench.mm.unmap_own(range) };
        assert_eq!(unmapped, Err(OwnMapError::InWindow(range)));
    }
    assert_same(&before, &bench.snapshot());
    let dimm = range(TINY_WINDOW, MIB);
    bench.plug(dimm);
    bench.add(dimm, Placement::PerBlock);
    let id = bench.blocks(dimm)[0];
    bench.mm.online(id, ZoneKind::Movable).unwrap();
    bench.check();
}
