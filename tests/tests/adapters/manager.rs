//! A manager over an `OffsetPageTable`, and the crate's `map_to` with frames of that manager.

// UNSAFETY: vouches for the memory of the host that serves as RAM.
#![expect(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use crate::arena::{Arena, MIB};
use crate::strict::Strict;
use hotmem::paging::testing::RecordingTlb;
use hotmem::paging::x86_64::LockedTables;
use hotmem::paging::{Attr, Mapper as _, Mapping};
use hotmem::{
    BlockSize, BootMemory, CpuCaches, EarlyFrames, EarlyTables, Fact, Geometry as _, Machine, Mm,
    NodeId, NodeTable, Page, Pfn, PhysAddr, PhysMem, PhysRange, Placement, Sizes, SpinLock,
    VirtAddr, ZoneKind,
};
use std::ptr::NonNull;
use x86_64::structures::paging::{FrameAllocator, FrameDeallocator, PhysFrame};
use x86_64::structures::paging::{OffsetPageTable, Size2MiB, Size4KiB};

const LINEAR: VirtAddr = VirtAddr::new(0xffff_8000_0000_0000);
const VMEMMAP: VirtAddr = VirtAddr::new(0xffff_c000_0000_0000);
const BOOT: u64 = 64 * MIB;
const DIMM: u64 = 64 * MIB;

/// Memory of the host, with the crate's tables. No CPU walks them, so descriptors are found by a walk in software.
struct Host {
    tables: LockedTables<OffsetPageTable<'static>, RecordingTlb, Strict>,
    arena: Arena,
}

impl Sizes for Host {
    const PAGE_SHIFT: u32 = 12;
    const SECTION_SHIFT: u32 = 24;
}

// SAFETY: pointers into memory of no other use.
unsafe impl PhysMem for Host {
    fn linear_base(&self) -> VirtAddr {
        LINEAR
    }

    fn pointer(&self, at: PhysAddr) -> NonNull<u8> {
        self.arena.at(at)
    }
}

// SAFETY: a descriptor is where the tables say.
unsafe impl Machine for Host {
    type Mapper = LockedTables<OffsetPageTable<'static>, RecordingTlb, Strict>;
    type Nodes = NodeTable<1>;
    type Caches = CpuCaches<1>;
    type Lock = SpinLock;
    type Meta = ();

    fn vmemmap_base(&self) -> VirtAddr {
        VMEMMAP
    }

    fn phys_limit(&self) -> PhysAddr {
        PhysAddr::new(1 << 36)
    }

    unsafe fn mapper(&self) -> &Self::Mapper {
        &self.tables
    }

    fn descriptor(&self, pfn: Pfn) -> NonNull<Page> {
        let (_, target) = self.arena.walk(VMEMMAP.add(pfn.get() * 64));
        self.arena.at(target.unwrap().0).cast()
    }
}

/// Memory above a mark.
struct Bump(u64);

// SAFETY: the mark passes each byte once.
unsafe impl EarlyFrames for Bump {
    fn take(&mut self, bytes: u64, align: u64) -> Option<PhysAddr> {
        let at = self.0.next_multiple_of(align);
        self.0 = at + bytes;
        (self.0 <= BOOT).then_some(PhysAddr::new(at))
    }

    fn free_ranges(&self, each: &mut dyn FnMut(PhysRange)) {
        each(range(self.0, BOOT - self.0));
    }
}

fn range(start: u64, len: u64) -> PhysRange {
    PhysRange::new(PhysAddr::new(start), len).unwrap()
}

fn booted() -> Mm<Host> {
    let arena = Arena::new(BOOT + DIMM);
    let tables = arena.offset_table();
    // SAFETY: only this value and the walk of `Host` use the tables.
    let tables = unsafe { LockedTables::new(tables, arena.root(), RecordingTlb::default()) };
    let mut early = Bump(0x2000);
    let (virt, phys, attr) = (LINEAR, PhysAddr::new(0), Attr::WRITE);
    let linear = Mapping { virt, phys, len: BOOT, attr, max_leaf: 2 * MIB };
    tables.map(&linear, &EarlyTables::new(&mut early)).unwrap();
    let mm = Mm::new(Host { tables, arena });
    let boot = BootMemory {
        ram: &[(range(0, BOOT), NodeId::ZERO)],
        block_size: BlockSize::new::<Host>(16 * MIB).unwrap(),
        window: &[range(BOOT, DIMM)],
        kernelcore: None,
    };
    // SAFETY: the arena has no other use.
    unsafe { mm.boot(&boot, &mut early) }.unwrap();
    mm
}

fn facts(mm: &Mm<Host>) -> Vec<Fact> {
    let mut facts = Vec::new();
    mm.snapshot(&mut |fact| facts.push(fact));
    facts
}

#[test]
fn memory_comes_and_goes_over_an_offset_page_table_and_nothing_is_left() {
    let mm = booted();
    let (dimm, before) = (range(BOOT, DIMM), facts(&mm));
    for placement in Placement::ALL {
        // SAFETY: this part of the arena has no other use.
        unsafe { mm.add(dimm, NodeId::ZERO, placement) }.unwrap();
        for id in mm.blocks_in(dimm) {
            mm.online(id, ZoneKind::Movable).unwrap();
        }
        mm.verify().unwrap();
        mm.verify_machine().unwrap();
        for id in mm.blocks_in(dimm) {
            mm.offline(id).unwrap();
        }
        mm.remove(dimm).unwrap();
        mm.verify_machine().unwrap();
        assert_eq!(facts(&mm), before);
    }
}

#[test]
fn the_manager_gives_the_crate_frames_of_every_size_and_takes_them_back() {
    let mm = booted();
    let free = || mm.zones().map(|zone| zone.counts.free).sum::<u64>();
    mm.drain_caches();
    let before = free();
    let mut frames = &mm;
    let small: PhysFrame<Size4KiB> = frames.allocate_frame().unwrap();
    let large: PhysFrame<Size2MiB> = frames.allocate_frame().unwrap();
    mm.drain_caches();
    assert_eq!(before - free(), 1 + 512);
    assert!(mm.is_ram(Host::pfn(PhysAddr::new(large.start_address().as_u64()))));
    // SAFETY: nothing uses the frame.
    unsafe { frames.deallocate_frame(small) };
    // SAFETY: nor this one.
    unsafe { frames.deallocate_frame(large) };
    mm.drain_caches();
    assert_eq!(free(), before);
}
