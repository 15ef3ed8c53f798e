//! Guests on the manager's fake machine: each invariant is broken on purpose, and memory moves without a CPU.

// UNSAFETY: implements a function of the contract that is unsafe.
#![expect(unsafe_code)]

use crate::held::Held;
use crate::space::Space;
use crate::switch::{self, Fresh};
use crate::verify::Violation;
use crate::word::{PageWord, TableWord};
use crate::{Name, Platform, Program, State, VmError, VmId, Vms};
use core::ptr::NonNull;
use hotmem::paging::{Gather, GuestAddr, GuestRange, Mapper, TableFrames, TablePlace};
use hotmem::testing::{Bench, FakeMachine, Holder, Setup, Tiny, on_cpu, range};
use hotmem::{BlockId, Geometry, NodeId, Order, Pfn, Placement, ZoneKind};
use hotmem_arch::contract::{
    GuestSpace, Guests, KernelStart, LinuxFiles, Misdeed, NoGuests, NoKernel, Put,
};
use hotmem_arch::host::SoftVcpu;
use hotmem_arch::x86_64::pte::X86Pte4;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

mod ahead;
mod leaks;
mod order;
mod vcpus;

type Fake = FakeMachine<Tiny>;

const MIB: u64 = 1 << 20;
const WINDOW: u64 = 64 * MIB;
const FIRST: u64 = WINDOW / MIB;
const PAGE: u64 = 4096;
/// The frame number of a guest's first page.
const RAM: u64 = (1 << 30) / PAGE;

thread_local! {
    /// Flushes so far.
    static FLUSHES: Cell<u64> = const { Cell::new(0) };
    /// The tag and the root of the last flush.
    static FLUSHED: Cell<Option<(u16, u64)>> = const { Cell::new(None) };
    /// Instructions so far.
    static TIME: Cell<u64> = const { Cell::new(0) };
    /// CPUs that were interrupted, a bit for each.
    static KICKED: Cell<u64> = const { Cell::new(0) };
    /// How often virtualization was turned on.
    static ENABLED: Cell<u64> = const { Cell::new(0) };
    /// Called once, when an extent is copied.
    static AT_COPY: Cell<Option<Box<dyn FnOnce()>>> = const { Cell::new(None) };
    /// Called at each flush.
    static AT_FLUSH: Cell<Option<&'static dyn Fn()>> = const { Cell::new(None) };
    /// Pages that were copied.
    static COPIED: Cell<u64> = const { Cell::new(0) };
    /// The CPUs do not mark what guests write.
    static NO_MARKS: Cell<bool> = const { Cell::new(false) };
    /// What the CPU has cached of guests: by page its target, and whether it was marked as written.
    static CACHED: RefCell<BTreeMap<u64, (u64, bool)>> = const { RefCell::new(BTreeMap::new()) };
}

/// Virtualization without a CPU: tables and flushes only. A flush reaches all CPUs, or waits until they have left the guest.
#[derive(Debug)]
struct Soft<const REACHES: bool = true>;

impl<const REACHES: bool> Guests for Soft<REACHES> {
    type GuestFormat = X86Pte4;
    type Vcpu = SoftVcpu;

    const GUEST_RAM: GuestAddr = GuestAddr::new(RAM * PAGE);
    const GUEST_LIMIT: GuestAddr = GuestAddr::new(1 << 36);
    const MOST_CPUS: usize = 4;
    const GUEST_FLUSH_REACHES_ALL: bool = REACHES;

    fn marks_writes() -> bool {
        !NO_MARKS.get()
    }

    fn enable_guests() -> Result<(), NoGuests> {
        ENABLED.set(ENABLED.get() + 1);
        Ok(())
    }

    fn publish_guest_entries() {}

    fn drop_guest_translations(space: &GuestSpace, _ranges: &[GuestRange]) {
        FLUSHES.set(FLUSHES.get() + 1);
        FLUSHED.set(Some((space.tag(), space.root().get())));
        CACHED.with_borrow_mut(BTreeMap::clear);
        if let Some(act) = AT_FLUSH.get() {
            act();
        }
    }

    unsafe fn copy_guest_memory(from: NonNull<u8>, to: NonNull<u8>, bytes: usize) {
        if let Some(act) = AT_COPY.take() {
            act();
        }
        COPIED.set(COPIED.get() + bytes as u64 / PAGE);
        // SAFETY: by the contract of this function.
        unsafe { to.copy_from_nonoverlapping(from, bytes) };
    }

    /// The kernel begins two bytes before the end of the first page, the file system two before the end of memory.
    fn linux(
        files: &LinuxFiles<'_>,
        ram: GuestRange,
        _cpus: usize,
        put: &mut Put<'_>,
    ) -> Result<KernelStart, NoKernel> {
        put(ram.start().add(PAGE - 2), files.kernel)?;
        put(ram.start().add(ram.len() - 2), files.initrd)?;
        Ok(KernelStart { entry: ram.start(), arguments: [1, 2, 3, 4] })
    }

    fn payload() -> &'static [u8] {
        b"a program"
    }
}

impl<const REACHES: bool> Platform for Soft<REACHES> {
    type Guests = Self;

    fn instructions() -> u64 {
        TIME.set(TIME.get() + 1);
        TIME.get()
    }

    fn timestamp() -> u64 {
        TIME.get()
    }

    fn disable_interrupts() {}

    fn enable_interrupts() {}

    fn kick(cpu: usize) {
        KICKED.set(KICKED.get() | 1 << cpu);
    }
}

/// 16 MiB at boot, four movable blocks of 1 MiB, and guests.
fn machine() -> (&'static Bench<Tiny>, Vms<Fake, Soft>) {
    let setup = Setup {
        ram: vec![(0, 16 * MIB, 0)],
        block: MIB,
        window: (WINDOW, 64 * MIB),
        kernelcore: None,
    };
    let bench: &'static Bench<Tiny> = Box::leak(Box::new(Bench::new(&setup)));
    let memory = range(WINDOW, 4 * MIB);
    bench.plug(memory);
    bench.mm.hot_add(memory, NodeId::ZERO, Placement::PerBlock).unwrap();
    (FIRST..FIRST + 4).for_each(|block| online(bench, block));
    (bench, Vms::register(&bench.mm).unwrap())
}

fn online(bench: &Bench<Tiny>, block: u64) {
    bench.mm.online(BlockId::new(block), ZoneKind::Movable).unwrap();
}

fn guest(vms: &Vms<Fake, Soft>, name: &str, bytes: u64) -> VmId {
    vms.create(Name::new(name).unwrap(), bytes, Order::ZERO, None, 1, &Program::Payload).unwrap()
}

/// The frame that page `page` of a guest lies in.
fn pfn<const REACHES: bool>(vms: &Vms<Fake, Soft<REACHES>>, id: VmId, page: u64) -> Pfn {
    let at = GuestAddr::new((RAM + page) * PAGE);
    let leaf = vms.host.with_space(id.number(), |space| space.tables.translate(at));
    Fake::pfn(leaf.flatten().unwrap().target(at))
}

/// Clears the leaf of a page, whatever invariant that breaks.
fn clear(vms: &Vms<Fake, Soft>, id: VmId, page: u64) {
    let at = GuestAddr::new((RAM + page) * PAGE);
    vms.host.with_space(id.number(), |space| {
        let mut gather = Gather::keeping_tables(space.tables.tlb(), vms.frames(id));
        let unmapped = space.tables.unmap(GuestRange::new(at, PAGE).unwrap(), &mut gather);
        gather.conclude(unmapped).unwrap();
    });
}

/// Has page `page` of a guest lie in `pfn`, whatever invariant that breaks.
fn point(vms: &Vms<Fake, Soft>, id: VmId, page: u64, pfn: Pfn) {
    clear(vms, id, page);
    let fresh = Fresh { pfn, order: Order::ZERO };
    vms.host.with_space(id.number(), |space| {
        let counted = space.pages_held.clone();
        space.map(RAM + page, &fresh, &vms.frames(id)).unwrap();
        space.pages_held = counted;
    });
}

#[test]
fn a_guest_takes_no_boot_memory_and_leaves_nothing_behind() {
    let (bench, vms) = machine();
    let before = bench.snapshot();
    let boot = |bench: &Bench<Tiny>| {
        let blocks = bench.mm.blocks().filter(|block| block.boot);
        blocks.map(|block| block.counts.free).sum::<u64>()
    };
    let free = boot(bench);
    let id = guest(&vms, "a", MIB);
    assert_eq!(boot(bench), free);
    vms.verify().unwrap();
    bench.mm.verify_machine().unwrap();
    vms.kill(id).unwrap();
    assert_eq!(vms.state(id), State::Absent);
    vms.verify().unwrap();
    assert_eq!(bench.snapshot(), before);
}

#[test]
fn every_page_and_table_of_a_guest_moves_and_a_batch_is_flushed_once() {
    let (bench, vms) = machine();
    let id = guest(&vms, "a", MIB);
    let code = bench.mm.private(pfn(&vms, id, 0));
    assert_eq!(code, Ok(PageWord { vm: id.number(), frame: RAM }.encode()));
    for round in 0..3 {
        for block in FIRST..FIRST + 4 {
            let before = vms.status().next().unwrap();
            let flushes = FLUSHES.get();
            bench.mm.offline(BlockId::new(block)).unwrap();
            vms.verify().unwrap();
            let after = vms.status().next().unwrap();
            assert!(after.blocks.iter().all(|(held, _)| held.get() != block));
            assert!(after.table_blocks.iter().all(|(held, _)| held.get() != block));
            let (pages, tables) =
                (after.moved.pages - before.moved.pages, after.moved.tables - before.moved.tables);
            let most = pages.div_ceil(32) + tables + 2;
            assert!(FLUSHES.get() - flushes <= most, "round {round}: {pages} pages");
            online(bench, block);
        }
    }
    let moved = vms.status().next().unwrap().moved;
    assert!(moved.pages >= 256 && moved.tables >= 4, "{moved:?}");
    assert!(moved.longest_pause > 0);
    vms.kill(id).unwrap();
    vms.verify().unwrap();
}

#[test]
fn a_linux_guest_begins_with_its_files_in_memory_and_starts_once() {
    let (bench, vms) = machine();
    let name = Name::new("a").unwrap();
    let files = LinuxFiles { kernel: b"kernel", initrd: b"fs", command_line: b"" };
    let id = vms.create(name, 8 * PAGE, Order::ZERO, None, 1, &Program::Linux(files)).unwrap();
    let byte = |at: u64| {
        let read = |space: &mut Space<Fake, Soft>| switch::byte(&bench.mm, &space.tables, at);
        vms.host.with_space(id.number(), read).flatten()
    };
    let bytes = |at: u64, len: u64| {
        (at..at + len).map(|at| byte(RAM * PAGE + at)).collect::<Option<Vec<_>>>().unwrap()
    };
    assert_eq!(bytes(PAGE - 3, 9), b"\0kernel\0\0");
    assert_eq!(bytes(8 * PAGE - 3, 3), b"\0fs");
    assert_eq!(byte((RAM + 8) * PAGE), None);
    assert_eq!(vms.status().next().unwrap().program, "linux");
    vms.start(id, 0, Misdeed::None, &[0]).unwrap();
    vms.change_state(id, State::Done);
    assert_eq!(vms.start(id, 0, Misdeed::None, &[0]), Err(VmError::State(name, State::Done)));
    vms.kill(id).unwrap();
    vms.verify().unwrap();
}

#[test]
fn a_linux_guest_whose_files_do_not_fit_leaves_nothing() {
    let (bench, vms) = machine();
    let before = bench.snapshot();
    let name = Name::new("a").unwrap();
    let files = LinuxFiles { kernel: b"kernel", initrd: b"fs ", command_line: b"" };
    let made = vms.create(name, 8 * PAGE, Order::ZERO, None, 1, &Program::Linux(files));
    assert_eq!(made, Err(VmError::NoKernel(NoKernel("it does not fit the guest's memory"))));
    assert_eq!(vms.find(name), Err(VmError::Unknown(name)));
    vms.verify().unwrap();
    assert_eq!(bench.snapshot(), before);
}

#[test]
fn two_guests_lie_in_one_block_and_both_move() {
    let (bench, vms) = machine();
    let (a, b) = (guest(&vms, "a", MIB / 4), guest(&vms, "b", MIB / 4));
    for block in FIRST..FIRST + 4 {
        bench.mm.offline(BlockId::new(block)).unwrap();
        vms.verify().unwrap();
        online(bench, block);
    }
    assert!(vms.status().all(|guest| guest.moved.pages >= 64));
    vms.kill(a).unwrap();
    vms.verify().unwrap();
    vms.kill(b).unwrap();
    vms.verify().unwrap();
}

#[test]
fn a_guest_for_which_memory_runs_out_leaves_nothing() {
    let (bench, vms) = machine();
    let before = bench.snapshot();
    let free = bench.mm.stats().pages.free;
    let name = Name::new("a").unwrap();
    let large = vms.create(name, (free + 1) * PAGE, Order::ZERO, None, 1, &Program::Payload);
    assert_eq!(large, Err(VmError::TooLarge { pages: free + 1, free }));
    // The floor of boot memory is not for movable memory, so this one fails half-way.
    let most = vms.create(name, free * PAGE, Order::ZERO, None, 1, &Program::Payload);
    assert!(matches!(most, Err(VmError::Memory(_) | VmError::Map(_))), "{most:?}");
    assert_eq!(vms.find(name), Err(VmError::Unknown(name)));
    vms.verify().unwrap();
    assert_eq!(bench.snapshot(), before);
}

#[test]
fn invariant_8_a_leaf_that_shows_the_extent_of_another_place_is_found() {
    let (_, vms) = machine();
    let (a, b) = (guest(&vms, "a", MIB / 4), guest(&vms, "b", MIB / 4));
    let (first, second) = (pfn(&vms, a, 1), pfn(&vms, a, 2));
    point(&vms, a, 1, second);
    let found = Violation::Leaf { vm: a.number(), frame: RAM + 1, pfn: second };
    assert_eq!(vms.verify(), Err(found));
    assert!(found.to_string().starts_with("invariant 8: "));
    point(&vms, a, 1, first);
    vms.verify().unwrap();

    let own = pfn(&vms, b, 3);
    point(&vms, b, 3, first);
    let found = Violation::Leaf { vm: b.number(), frame: RAM + 3, pfn: first };
    assert_eq!(vms.verify(), Err(found), "a frame in two guests");
    point(&vms, b, 3, own);
    vms.verify().unwrap();
}

#[test]
fn invariant_8_an_extent_without_a_leaf_is_found() {
    let (_, vms) = machine();
    let id = guest(&vms, "a", MIB / 4);
    clear(&vms, id, 5);
    assert_eq!(vms.verify(), Err(Violation::Pages { used: 64, mapped: 63 }));
}

#[test]
fn a_page_that_is_mapped_again_while_it_moves_is_not_freed() {
    let (bench, vms) = machine();
    let id = guest(&vms, "a", MIB / 4);
    let vms: &'static Vms<Fake, Soft> = Box::leak(Box::new(vms));
    let before: Vec<_> = (0..64).map(|page| pfn(vms, id, page)).collect();
    AT_COPY.set(Some(Box::new(move || {
        vms.host.with_space(id.number(), |space| {
            let at = |page: u64| GuestAddr::new((RAM + page) * PAGE);
            let gone = (0..64).find(|&page| space.tables.translate(at(page)).is_none()).unwrap();
            let fresh = Fresh { pfn: before[gone as usize], order: Order::ZERO };
            let counted = space.pages_held.clone();
            space.map(RAM + gone, &fresh, &vms.frames(id)).unwrap();
            space.pages_held = counted;
        });
    })));
    let block = bench.mm.block_at(Fake::address(pfn(vms, id, 0)));
    bench.mm.offline(block).unwrap();
    assert!(AT_COPY.take().is_none(), "nothing was copied");
    vms.verify().unwrap();
    bench.mm.verify().unwrap();
}

#[test]
fn invariant_9_a_leaf_that_shows_other_memory_is_found() {
    let (bench, vms) = machine();
    let id = guest(&vms, "a", MIB / 4);
    let own = pfn(&vms, id, 1);
    let kernel = bench.mm.alloc(Order::ZERO).unwrap();
    // A kernel's page, a page of descriptors, a free page, and one of the guest's tables.
    let mut table = None;
    vms.visit_tables(id, &mut |at| table = Some(Fake::pfn(at.frame)));
    let memmap = Pfn::new(WINDOW / PAGE);
    for other in [kernel.pfn(), memmap, Pfn::new(FIRST * 256 + 255), table.unwrap()] {
        point(&vms, id, 1, other);
        let found = Violation::Foreign { vm: id.number(), pfn: other };
        assert_eq!(vms.verify(), Err(found), "{other}");
        assert!(found.to_string().starts_with("invariant 9: "));
    }
    point(&vms, id, 1, own);
    vms.verify().unwrap();
}

#[test]
fn invariant_9_a_table_that_is_another_extent_is_found() {
    let (bench, vms) = machine();
    let id = guest(&vms, "a", MIB / 4);
    let frames = vms.frames(id);
    let mut last = None;
    vms.visit_tables(id, &mut |at| last = Some((at.level, at.virt.get(), at.frame)));
    let (level, first, from) = last.unwrap();
    let place = TablePlace { level, first };

    let extra = frames.take_for(PAGE, TablePlace { level: 1, first: 1 << 39 }).unwrap();
    let linked = vms.mm().stats().pages.free;
    assert_eq!(vms.verify(), Err(Violation::Tables { used: 5, linked: 4 }), "{linked} free");
    let at = extra.at();
    let old = vms
        .host
        .with_space(id.number(), |space| space.tables.relocate(place, from, extra).unwrap());
    let found = Violation::Table { vm: id.number(), pfn: Fake::pfn(at) };
    assert_eq!(vms.verify(), Err(found));
    let back = old.unwrap();
    let extra =
        vms.host.with_space(id.number(), |space| space.tables.relocate(place, at, back).unwrap());
    frames.give_back(extra.unwrap());
    vms.verify().unwrap();
    let word = TableWord::decode(bench.mm.private(Fake::pfn(from)).unwrap());
    assert_eq!((word.vm, word.level), (id.number(), level));
}

#[test]
fn invariant_10_memory_that_is_moving_without_a_move_is_found() {
    let (_, vms) = machine();
    let id = guest(&vms, "a", MIB / 4);
    let at = GuestRange::new(GuestAddr::new(RAM * PAGE), PAGE).unwrap();
    vms.host.with_space(id.number(), |space| space.mark(at));
    let found = Violation::Moving { vm: id.number() };
    assert_eq!(vms.verify(), Err(found));
    assert!(found.to_string().starts_with("invariant 10: "));
}

#[test]
fn invariant_11_bytes_counted_for_a_block_that_holds_others_are_found() {
    let (_, vms) = machine();
    let id = guest(&vms, "a", MIB / 4);
    let found = Violation::Held { vm: id.number() };
    let change = |change: &dyn Fn(&mut Held, &mut Held)| {
        vms.host.with_space(id.number(), |space| {
            change(&mut space.pages_held, &mut space.tables_held);
        });
        vms.verify()
    };
    let block = BlockId::new(FIRST + 1);
    assert_eq!(change(&|pages, _| pages.add(block, PAGE)), Err(found));
    assert_eq!(change(&|pages, _| pages.remove(block, PAGE)), Ok(()));
    assert_eq!(change(&|_, tables| tables.add(block, PAGE)), Err(found));
    assert_eq!(change(&|_, tables| tables.remove(block, PAGE)), Ok(()));
    assert!(found.to_string().starts_with("invariant 11: "));
}

#[test]
fn a_guest_that_does_not_run_is_not_paused_and_one_that_runs_is_not_started() {
    let (_, vms) = machine();
    let id = guest(&vms, "a", MIB / 4);
    let name = Name::new("a").unwrap();
    assert_eq!(vms.pause(id), Err(VmError::State(name, State::Ready)));
    vms.start(id, 1, Misdeed::None, &[0]).unwrap();
    assert!(vms.runs() && vms.runs_on(0) && !vms.runs_on(1));
    let again = vms.start(id, 1, Misdeed::None, &[0]);
    assert_eq!(again, Err(VmError::State(name, State::Runs)));
    vms.pause(id).unwrap();
    assert!(!vms.runs());
    vms.start(id, 1, Misdeed::None, &[1]).unwrap();
    assert!(vms.runs_on(1));
    vms.kill(id).unwrap();
    vms.verify().unwrap();
}

#[test]
fn guests_are_created_and_ended_by_the_cpu_that_changes_their_tables_and_no_other() {
    let (_, vms) = machine();
    let id = guest(&vms, "a", MIB / 4);
    on_cpu(1, || {
        let name = Name::new("b").unwrap();
        let made = vms.create(name, MIB / 4, Order::ZERO, None, 1, &Program::Payload);
        assert_eq!((made, vms.kill(id)), (Err(VmError::NotHere(1)), Err(VmError::NotHere(1))));
    });
    vms.kill(id).unwrap();
    vms.verify().unwrap();
}
