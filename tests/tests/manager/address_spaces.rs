//! Kernels with a root table for each address space: root entries copied from the manager's root stay valid,
//! whatever memory is added or removed later.

// UNSAFETY: makes a second address space of fake RAM.
#![expect(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use hotmem::paging::{Mapper, PteFormat, Tables, Translation};
use hotmem::testing::{
    Bench, FakeMachine, Setup, ShallowPte, Shape, SoftMmu, Tiny, TinyPte, TinyShared, range,
};
use hotmem::{
    BlockSize, BootError, BootMemory, Fact, Geometry, Machine, NodeId, Order, PhysAddr, PhysRange,
    Placement, Subject, TakeList, VirtAddr,
};
use hotmem_arch::x86_64::pte::X86Pte4;
use hotmem_tests::memory::{
    GIB, KIB, MIB, REAL_WINDOW, Real, TINY_WINDOW, assert_same, fail_each_allocation,
};

/// A shape like another, whose address spaces share the root entries of the windows.
macro_rules! shared {
    ($name:ident, $like:ty, $format:ty) => {
        #[derive(Clone, Copy, Debug)]
        struct $name;

        impl Shape for $name {
            type Format = $format;
            const SECTION_SHIFT: u32 = <$like>::SECTION_SHIFT;
            const LINEAR_BASE: VirtAddr = <$like>::LINEAR_BASE;
            const VMEMMAP_BASE: VirtAddr = <$like>::VMEMMAP_BASE;
            const PHYS_LIMIT: PhysAddr = <$like>::PHYS_LIMIT;
            const SHARES_ROOT_ENTRIES: bool = true;
        }
    };
}

shared!(Small, Tiny, TinyPte);
shared!(Packed, TinyShared, TinyPte);
shared!(X86, Real, X86Pte4);

/// Two windows of 8 MiB of memory under a root that could hold leaves itself.
#[derive(Clone, Copy, Debug)]
struct Shallow;

impl Shape for Shallow {
    type Format = ShallowPte;
    const SECTION_SHIFT: u32 = 16;
    const LINEAR_BASE: VirtAddr = VirtAddr::new(0);
    const VMEMMAP_BASE: VirtAddr = VirtAddr::new(0x80_0000);
    const PHYS_LIMIT: PhysAddr = PhysAddr::new(0x80_0000);
    const SHARES_ROOT_ENTRIES: bool = true;
}

type Mmu<S> = SoftMmu<<S as Shape>::Format>;

/// An address space with a root of its own, created at some point of a test.
struct Space<'b, S: Shape> {
    bench: &'b Bench<S>,
    tables: Tables<S::Format, &'b Mmu<S>, &'b Mmu<S>>,
    /// The entries that it copied: their offsets in a root, and their values.
    copied: Vec<(u64, u64)>,
}

fn root<S: Shape>(bench: &Bench<S>) -> PhysAddr {
    bench.mm.tables().inner().root()
}

impl<'b, S: Shape> Space<'b, S> {
    /// Copies the root entries of both windows.
    fn new(bench: &'b Bench<S>) -> Self {
        let (mmu, level) = (bench.mm.machine().mmu(), S::Format::LEVELS[0]);
        let pages = level.table_bytes().div_ceil(FakeMachine::<S>::PAGE_BYTES);
        let frame = bench.mm.take_pages(Order::fitting(pages)).unwrap();
        let own = FakeMachine::<S>::address(frame);
        mmu.clear(own, level.table_bytes());
        let descriptors = S::PHYS_LIMIT.get() / FakeMachine::<S>::PAGE_BYTES * 64;
        let windows = [(S::LINEAR_BASE, S::PHYS_LIMIT.get()), (S::VMEMMAP_BASE, descriptors)];
        let indices = windows
            .into_iter()
            .flat_map(|(base, len)| level.index(base.get())..=level.index(base.add(len - 1).get()));
        let copied: Vec<_> = indices
            .map(|index| {
                let at = 8 * index as u64;
                let word = mmu.peek(root(bench).add(at));
                mmu.poke(own.add(at), word);
                (at, word)
            })
            .collect();
        // SAFETY: the root is a copy of one of this format, and the tables are never changed through it.
        let tables = unsafe { Tables::new(own, mmu, mmu) };
        Self { bench, tables, copied }
    }

    fn leaf(&self, at: VirtAddr) -> Option<Translation> {
        self.tables.translate(at)
    }

    /// Checks that it sees of `dimm` and its descriptors what the manager's tables map, and has no stale entry.
    #[track_caller]
    fn check(&self, dimm: PhysRange, there: bool) {
        let (mm, mmu) = (&self.bench.mm, self.bench.mm.machine().mmu());
        for id in mm.blocks_in(dimm) {
            let block = mm.block_range(id).unwrap();
            for at in [
                mm.linear_virt(block).start(),
                mm.memmap_virt(FakeMachine::<S>::pfns(block)).start(),
            ] {
                assert_eq!(self.leaf(at), mm.walk(at).leaf, "{at}");
                assert_eq!(self.leaf(at).is_some(), there, "{at}");
            }
        }
        let mut tables = vec![];
        mm.tables().visit_tables(&mut |table| tables.push(table.frame));
        for &(at, word) in &self.copied {
            assert_eq!(mmu.peek(root(self.bench).add(at)), word, "the entry at {at:#x} changed");
            assert_ne!(word, 0, "no table in the entry at {at:#x}");
        }
        self.tables.visit_tables(&mut |table| {
            let known = table.level == 0 || tables.contains(&table.frame);
            assert!(known, "the table at {} is free", table.frame);
        });
    }
}

fn bench<S: Shape>(ram: u64, block: u64, window: PhysRange) -> Bench<S> {
    Bench::new(&Setup {
        ram: vec![(0, ram, 0)],
        block,
        window: (window.start().get(), window.len()),
        kernelcore: Some(ram / 2),
    })
}

/// Memory is added and removed, in every way, under an address space that was created before.
fn live<S: Shape>(bench: &Bench<S>, dimm: PhysRange) {
    let space = Space::new(bench);
    let before = bench.snapshot();
    bench.plug(dimm);
    for placement in Placement::ALL {
        space.check(dimm, false);
        let add = || bench.mm.hot_add(dimm, NodeId::ZERO, placement);
        fail_each_allocation(bench, add, |_| _ = bench.remove(dimm));
        space.check(dimm, true);
        bench.online(dimm);
        if placement == Placement::PerRange {
            bench.mm.convert(dimm).unwrap();
            space.check(dimm, true);
        }
        // And under one that is created while the memory is there.
        let late = Space::new(bench);
        late.check(dimm, true);
        let own = FakeMachine::<S>::pfn(late.tables.root());
        bench.offline(dimm);
        bench.remove(dimm);
        late.check(dimm, false);
        space.check(dimm, false);
        bench.mm.free_pages(own).unwrap();
        assert_same(&before, &bench.snapshot());
    }
}

#[test]
fn an_address_space_sees_memory_that_is_added_later_and_none_that_is_removed() {
    let small = range(TINY_WINDOW, 8 * MIB);
    live(&bench::<Small>(16 * MIB, MIB, small), small);
    live(&bench::<Packed>(16 * MIB, MIB, small), small);
    let real = range(REAL_WINDOW, GIB);
    live(&bench::<X86>(GIB, 128 * MIB, real), real);
}

#[test]
fn memory_outside_the_windows_that_firmware_names_is_seen_as_well() {
    let none = range(TINY_WINDOW, 0);
    live(&bench::<Small>(16 * MIB, MIB, none), range(0x4000_0000, 4 * MIB));
    // Past the first 512 GiB: in another entry of the root.
    let none = range(REAL_WINDOW, 0);
    live(&bench::<X86>(GIB, 128 * MIB, none), range(0x200_0000_0000, GIB));
}

#[test]
fn boot_memory_that_is_taken_disappears_from_an_address_space_until_its_release() {
    let bench = bench::<Small>(48 * MIB, MIB, range(TINY_WINDOW, 8 * MIB));
    let space = Space::new(&bench);
    // All addresses that one entry of the root translates.
    let taken = range(32 * MIB, 16 * MIB);
    for id in bench.blocks(taken) {
        bench.mm.offline(id).unwrap();
    }
    let list = TakeList::parse("0:32-47").unwrap();
    assert_eq!(bench.mm.take(list.pieces()), Ok(16));
    bench.check();
    let at = bench.mm.linear_virt(taken).start();
    assert_eq!(space.leaf(at), None);
    assert_eq!(bench.mm.release(), Ok(16));
    assert_eq!(space.leaf(at), bench.mm.walk(at).leaf);
    bench.check();
}

#[test]
fn without_shared_entries_an_address_space_does_not_see_added_memory() {
    let dimm = range(TINY_WINDOW, 4 * MIB);
    let bench = bench::<Tiny>(16 * MIB, MIB, dimm);
    let space = Space::new(&bench);
    bench.plug(dimm);
    bench.add(dimm, Placement::PerBlock);
    let at = bench.mm.linear_virt(dimm).start();
    assert!(bench.mm.walk(at).leaf.is_some());
    assert_eq!(space.leaf(at), None);
}

#[test]
fn entries_that_are_shared_cost_one_table_each() {
    fn tables<S: Shape>() -> (Vec<(usize, u64)>, u64) {
        let bench = bench::<S>(16 * MIB, MIB, range(TINY_WINDOW, 8 * MIB));
        let facts = bench.snapshot();
        let tables = facts.iter().filter_map(|fact| match *fact {
            Fact::Tables(level, count) => Some((level, count)),
            _ => None,
        });
        (tables.collect(), bench.mm.stats().pages.free)
    }
    // 2 GiB of memory and 32 MiB of descriptors, 16 MiB for each entry: 130 tables below the root.
    let ((own, most), (shared, free)) = (tables::<Tiny>(), tables::<Small>());
    assert_eq!(shared[1], (1, 130));
    assert_eq!((own[0], &own[2..]), (shared[0], &shared[2..]));
    // A table is a page. Each entry keeps one; the two below it serve the next entry, and are left over in both windows.
    assert_eq!(most - free, 130 - own[1].1 + 2 * 2);
}

/// Boots a [`Shallow`] machine whose RAM is mapped with leaves of `leaf` bytes at the most.
fn boot_shallow(leaf: u64) -> (Bench<Shallow>, Result<(), BootError>) {
    let ram = range(0, 2 * MIB);
    let (machine, mut early) = FakeMachine::<Shallow>::start(&[ram], leaf);
    let bench = Bench::over(machine);
    let memory = BootMemory {
        ram: &[(ram, NodeId::ZERO)],
        block_size: BlockSize::new::<FakeMachine<Shallow>>(512 * KIB).unwrap(),
        window: &[range(4 * MIB, 2 * MIB)],
        kernelcore: None,
    };
    let booted = bench.mm.start(&memory, &mut early);
    (bench, booted)
}

#[test]
fn a_leaf_in_an_entry_that_is_to_be_shared_is_refused_at_boot() {
    let (_, booted) = boot_shallow(64 * KIB);
    assert_eq!(booted, Err(BootError::RootEntry(VirtAddr::new(0))));
}

#[test]
fn no_leaf_takes_an_entry_that_is_shared() {
    let (bench, booted) = boot_shallow(4 * KIB);
    assert_eq!(booted, Ok(()));
    live(&bench, range(4 * MIB, MIB));
}

#[test]
fn a_shared_entry_whose_table_is_missing_is_named() {
    let bench = bench::<Small>(16 * MIB, MIB, range(TINY_WINDOW, 8 * MIB));
    let machine = bench.mm.machine();
    let entry = machine.root_entry_bytes().unwrap();
    let (mmu, at) = (machine.mmu(), Small::LINEAR_BASE.add(5 * entry));
    mmu.poke(root(&bench).add(8 * 5), 0);
    let found = bench.mm.verify_machine().unwrap_err();
    assert_eq!(found.what, "a shared root entry points to a table");
    assert_eq!(found.of, Subject::Address(at));
}
