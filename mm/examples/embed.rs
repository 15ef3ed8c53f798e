//! The least that a kernel must write to use hotmem: three small traits and a page-table format.
//!
//! `cargo run -p hotmem --example embed` plays the kernel on the host. Its "physical memory" is one allocation, in
//! place of a kernel's linear map; its page tables are real tables in that memory, but no MMU walks them, so
//! descriptors are found by a walk in software.

// UNSAFETY: vouches for the pointers into the allocation that serves as physical memory.
#![expect(unsafe_code)]
#![expect(clippy::expect_used, reason = "an example may stop where a kernel must not")]

use hotmem::paging::{
    Attr, Entry, LeafTest, Level, Mapper, Mapping, NotFlushed, OutOfFrames, PteFormat, TableFrame,
    TableFrames, Tables, Tlb,
};
use hotmem::{
    BlockSize, BootMemory, CpuCaches, EarlyFrames, Geometry, Machine, Meta, Mm, MovableOps, Move,
    NodeId, NodeTable, Order, Page, Pfn, PhysAddr, PhysMem, PhysRange, Placement, Sizes, SpinLock,
    VirtAddr, VirtRange, ZoneKind,
};
use std::alloc::{Layout, alloc_zeroed};
use std::cell::Cell;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};

const MIB: u64 = 1 << 20;
const BOOT_RAM: u64 = 128 * MIB;
const ALL_RAM: u64 = 512 * MIB;
const LINEAR: VirtAddr = VirtAddr::new(0xffff_8000_0000_0000);
const VMEMMAP: VirtAddr = VirtAddr::new(0xffff_c000_0000_0000);

/// Four levels of 512 entries: an address, bit 0 for present, bit 1 for a leaf.
struct Format;

// SAFETY: only the walker itself walks these tables, no MMU.
unsafe impl PteFormat for Format {
    const LEVELS: &'static [Level] = &[
        Level { shift: 39, bits: 9, leaf: false },
        Level { shift: 30, bits: 9, leaf: false },
        Level { shift: 21, bits: 9, leaf: true },
        Level { shift: 12, bits: 9, leaf: true },
    ];
    const PHYS_LIMIT: u64 = 1 << 48;

    fn encode(entry: Entry, _level: usize) -> u64 {
        match entry {
            Entry::Absent => 0,
            Entry::Table(at) => at.get() | 1,
            Entry::Leaf(at, _) => at.get() | 3,
        }
    }

    fn decode(word: u64, _level: usize) -> Entry {
        let at = PhysAddr::new(word & !0xfff);
        match word & 3 {
            1 => Entry::Table(at),
            3 => Entry::Leaf(at, Attr::WRITE),
            _ => Entry::Absent,
        }
    }

    fn leaf_test(_level: usize) -> LeafTest {
        LeafTest { mask: 3, value: 3 }
    }

    fn canonical(low: u64) -> u64 {
        // The upper half of a sign-extended address space.
        if low >> 47 == 1 { low | 0xffff << 48 } else { low }
    }
}

/// Physical memory: a pointer to byte 0.
#[derive(Clone, Copy)]
struct Ram(NonNull<u8>);

impl Ram {
    fn new() -> Self {
        let layout = Layout::from_size_align(ALL_RAM as usize, 4096).expect("a fixed layout");
        // SAFETY: the layout's size is not zero.
        Self(NonNull::new(unsafe { alloc_zeroed(layout) }).expect("512 MiB of host memory"))
    }

    fn at(self, at: PhysAddr) -> NonNull<u8> {
        assert!(at.get() < ALL_RAM, "no RAM at {at}");
        // SAFETY: in bounds of the allocation, by the assertion.
        unsafe { self.0.add(at.get() as usize) }
    }
}

/// The walker's access to its tables.
// SAFETY: pointers into one allocation that no other code uses.
unsafe impl PhysMem for Ram {
    fn linear_base(&self) -> VirtAddr {
        LINEAR
    }

    fn pointer(&self, at: PhysAddr) -> NonNull<u8> {
        self.at(at)
    }
}

/// No MMU, so nothing to flush. A kernel executes `invlpg`, `tlbi` or `tlbie` here.
struct NoTlb;

// SAFETY: no translations are cached: descriptors are looked up in the tables each time.
unsafe impl Tlb for NoTlb {
    fn publish(&self) {}
    fn flush(&self, _ranges: &[VirtRange]) -> Result<(), NotFlushed> {
        Ok(())
    }
}

/// The machine: sizes, pointers, page tables.
struct Demo {
    ram: Ram,
    tables: Tables<Format, Ram, NoTlb>,
}

impl Sizes for Demo {
    const PAGE_SHIFT: u32 = 12;
    const SECTION_SHIFT: u32 = 27;
}

// SAFETY: pointers into one allocation that no other code uses.
unsafe impl PhysMem for Demo {
    fn linear_base(&self) -> VirtAddr {
        LINEAR
    }

    fn pointer(&self, at: PhysAddr) -> NonNull<u8> {
        self.ram.at(at)
    }
}

// SAFETY: a descriptor is at the address that the tables give.
unsafe impl Machine for Demo {
    type Mapper = Tables<Format, Ram, NoTlb>;
    type Nodes = NodeTable<1>;
    type Caches = CpuCaches<1>;
    type Lock = SpinLock;
    type Meta = Uses;

    fn vmemmap_base(&self) -> VirtAddr {
        VMEMMAP
    }

    fn phys_limit(&self) -> PhysAddr {
        PhysAddr::new(1 << 40)
    }

    unsafe fn mapper(&self) -> &Self::Mapper {
        &self.tables
    }

    /// There is no MMU, so this walks the tables. With a lock around the mapper that is not possible: the manager
    /// accesses descriptors while the mapper is in use.
    fn descriptor(&self, pfn: Pfn) -> NonNull<Page> {
        let virt = VMEMMAP.add(pfn.get() * 64);
        let leaf = self.tables.translate(virt).expect("a mapped descriptor");
        self.ram.at(leaf.target(virt)).cast()
    }

    /// The host's caches are coherent with every reader of the memory. A kernel flushes line by line.
    fn clean(&self, _range: VirtRange) {}
}

/// This kernel's metadata in the descriptor of each page that it allocates: the number of its users.
struct Uses(AtomicU32);

impl Meta for Uses {
    const NEW: Self = Self(AtomicU32::new(1));

    fn moved(&self) -> Self {
        Self(AtomicU32::new(self.count()))
    }
}

impl Uses {
    fn count(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// An owner of one movable page, which follows the page in every migration.
struct Note {
    ram: OnceLock<Ram>,
    page: Mutex<Pfn>,
}

static NOTE: Note = Note { ram: OnceLock::new(), page: Mutex::new(Pfn::new(0)) };

// SAFETY: a pointer to an allocation that lives as long as the program.
unsafe impl Sync for Ram {}
// SAFETY: as above.
unsafe impl Send for Ram {}

impl Note {
    fn pfn(&self) -> Pfn {
        *self.page.lock().expect("no panic with the lock held")
    }

    fn word(&self, pfn: Pfn) -> NonNull<u64> {
        self.ram.get().expect("set in main").at(Demo::address(pfn)).cast()
    }

    fn write(&self, value: u64) {
        // SAFETY: the page is this owner's, aligned, and no other code uses it.
        unsafe { self.word(self.pfn()).write(value) };
    }

    fn read(&self) -> u64 {
        // SAFETY: as in `write`.
        unsafe { self.word(self.pfn()).read() }
    }
}

impl MovableOps for Note {
    fn name(&self) -> &'static str {
        "note"
    }

    fn isolate(&self, moves: &[Move]) {
        moves.iter().filter(|one| one.from().pfn != self.pfn()).for_each(Move::refuse);
    }

    fn migrate(&self, moves: &[Move]) {
        for one in moves {
            for (from, to) in one.pages() {
                let (from, to) = (self.word(from).cast::<u8>(), self.word(to).cast::<u8>());
                // SAFETY: both are whole pages of the allocation, disjoint, and this owner may read and write them.
                unsafe { to.copy_from_nonoverlapping(from, Demo::PAGE_BYTES as usize) };
            }
            *self.page.lock().expect("no panic with the lock held") = one.to();
        }
    }
}

/// The allocator that a kernel boots with: memory above its mark is free.
struct Bump(Cell<u64>);

impl Bump {
    fn bump(&self, bytes: u64, align: u64) -> Option<PhysAddr> {
        let start = self.0.get().next_multiple_of(align);
        self.0.set(start + bytes);
        (start + bytes <= BOOT_RAM).then_some(PhysAddr::new(start))
    }
}

// SAFETY: the bump pointer passes each byte once.
unsafe impl EarlyFrames for Bump {
    fn take(&mut self, bytes: u64, align: u64) -> Option<PhysAddr> {
        self.bump(bytes, align)
    }

    fn free_ranges(&self, each: &mut dyn FnMut(PhysRange)) {
        each(range(self.0.get(), BOOT_RAM - self.0.get()));
    }
}

impl TableFrames for Bump {
    fn take(&self, bytes: u64) -> Result<TableFrame, OutOfFrames> {
        let at = self.bump(bytes, bytes).ok_or(OutOfFrames { bytes })?;
        // SAFETY: the bump pointer passes each byte once.
        Ok(unsafe { TableFrame::new(at, bytes) })
    }

    fn give_back(&self, frame: TableFrame) {
        let _unused = frame.into_raw();
    }
}

fn range(start: u64, len: u64) -> PhysRange {
    PhysRange::new(PhysAddr::new(start), len).expect("a range that does not wrap")
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let ram = Ram::new();
    let root = PhysAddr::new(0x1000);
    // SAFETY: the root is zeroed RAM of this allocation, and only this value accesses it.
    let tables = unsafe { Tables::new(root, ram, NoTlb) };
    let mut early = Bump(Cell::new(0x2000));
    let linear = Mapping {
        virt: LINEAR,
        phys: PhysAddr::new(0),
        len: BOOT_RAM,
        attr: Attr::WRITE,
        max_leaf: 128 * MIB,
    };
    tables.map(&linear, &early)?;
    let mm = Mm::new(Demo { ram, tables });

    let node = NodeId::default();
    let dimm = range(BOOT_RAM, 256 * MIB);
    let boot = BootMemory {
        ram: &[(range(0, BOOT_RAM), node)],
        block_size: BlockSize::new::<Demo>(128 * MIB)?,
        window: &[dimm],
        kernelcore: None,
    };
    // SAFETY: the allocation that serves as RAM has no other use.
    unsafe { mm.boot(&boot, &mut early) }?;

    // SAFETY: nor has the part of it that serves as a DIMM.
    let added = unsafe { mm.add(dimm, node, Placement::PerRange) }?;
    println!("added {dimm}: {} bytes of system memory", added.system_bytes);
    for id in mm.blocks_in(dimm) {
        let block = mm.online(id, ZoneKind::Movable)?;
        println!("{id}: {} pages usable, {} memmap", block.counts.managed, block.counts.memmap);
    }

    NOTE.ram.get_or_init(|| ram);
    let mover = mm.register(&NOTE)?;
    let page = mm.alloc_movable(Order::ZERO, &mover, 0)?;
    *NOTE.page.lock().expect("no panic with the lock held") = page;
    NOTE.write(0x686f_746d_656d);
    mm.with_meta(page, 0, &mover, |uses| uses.0.fetch_add(1, Ordering::Relaxed))?;
    println!("a page of it: {:?}", mm.page_info(page));

    for id in mm.blocks_in(dimm) {
        mm.offline(id)?;
    }
    println!("{dimm} is offline; the page moved to {} and holds {:#x}", NOTE.pfn(), NOTE.read());
    println!("{} use it", mm.with_meta(NOTE.pfn(), 0, &mover, Uses::count)?);
    mm.remove(dimm)?;
    mm.free_movable(NOTE.pfn(), &mover)?;
    mm.verify()?;
    println!("removed {dimm}, every invariant holds");
    Ok(())
}
