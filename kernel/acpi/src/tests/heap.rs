//! A hot-add must work when no memory is left: after the start, nothing on the way from an interrupt
//! to the firmware's answer may ask the heap for anything.

// UNSAFETY: counts what goes to the system's allocator, behind the trait that is unsafe.
#![expect(unsafe_code)]

use core::cell::Cell;
use core::fmt;
use core::ops::Range;
use std::alloc::{GlobalAlloc, Layout as Memory, System};
use std::boxed::Box;

use hotmem::{
    AddError, Added, Block, BlockId, BlockState, Group, NodeId, OfflineError, OnlineError,
    PageCounts, Pfn, PfnRange, PhysAddr, PhysRange, Placement, PoisonError, Progress, RemoveError,
    Removed, ZoneKind,
};
use hotmem_aml::Limits;
use hotmem_aml_fakes::{Machine, compile, tables};

use super::board::Wire;
use super::firmware::RSDP;
use super::rig::{Still, firmware, moved};
use crate::{AcpiSource, Tables};
use hotmem_hotplug::Latch;
use hotmem_hotplug::{Hotplug, Offlining, Policy, Stage, Verbs, View};

std::thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, with a count for each thread.
struct Counting;

// SAFETY: every call is passed on unchanged to the system's allocator, which keeps the promises.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Memory) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Memory) {
        // SAFETY: the caller's promises are passed on; `alloc` got it from the same allocator.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const BLOCK: u64 = 128 << 20;
const BLOCKS: usize = 64;

/// Memory blocks that only have states: 64 of them from address 0 on.
struct States([Option<BlockState>; BLOCKS]);

impl States {
    fn set(&mut self, range: PhysRange, state: Option<BlockState>) {
        for id in self.block_numbers(range) {
            self.0[id as usize] = state;
        }
    }

    fn change(&mut self, id: BlockId, state: BlockState) -> Block {
        self.0[id.get() as usize] = Some(state);
        self.block(id).unwrap()
    }
}

impl View for States {
    fn page_bytes(&self) -> u64 {
        4096
    }

    fn is_ram(&self, address: PhysAddr) -> bool {
        self.0.get((address.get() / BLOCK) as usize).is_some_and(Option::is_some)
    }

    fn block_numbers(&self, range: PhysRange) -> Range<u64> {
        range.start().get() / BLOCK..range.end().get().div_ceil(BLOCK)
    }

    fn block_range(&self, id: BlockId) -> Option<PhysRange> {
        PhysRange::new(PhysAddr::new(id.get() * BLOCK), BLOCK)
    }

    fn block(&self, id: BlockId) -> Option<Block> {
        Some(Block {
            id,
            pfns: PfnRange::new(Pfn::new(id.get() * BLOCK / 4096), BLOCK / 4096),
            state: self.0[id.get() as usize]?,
            node: NodeId::default(),
            placement: Placement::PerRange,
            boot: false,
            poisoned: false,
            taken: false,
            group: None,
            counts: PageCounts::default(),
        })
    }

    fn block_in(&self, range: PhysRange) -> Option<BlockId> {
        self.block_numbers(range).map(BlockId::new).find(|&id| self.block(id).is_some())
    }

    fn group(&self, _head: Pfn) -> Option<Group> {
        None
    }

    fn auto_zone(&self, _ranges: &[PhysRange], _node: NodeId) -> Option<ZoneKind> {
        Some(ZoneKind::Movable)
    }
}

/// A block that goes offline at once.
#[derive(Debug)]
struct AtOnce(Block);

impl Offlining for AtOnce {
    fn step(self, _budget: u64) -> Result<Stage<Self>, OfflineError> {
        Ok(Stage::Done)
    }

    fn progress(&self) -> Progress {
        Progress { block: self.0.id, phase: "moving", steps: 0, found: 0, moved: 0 }
    }
}

impl Verbs for States {
    type Offline = AtOnce;

    fn start_offline(&mut self, id: BlockId) -> Result<AtOnce, OfflineError> {
        Ok(AtOnce(self.change(id, BlockState::Offline)))
    }

    unsafe fn add(
        &mut self,
        range: PhysRange,
        _node: NodeId,
        placement: Placement,
    ) -> Result<Added, AddError> {
        self.set(range, Some(BlockState::Offline));
        Ok(Added { range, placement, system_bytes: 0 })
    }

    fn online(&mut self, id: BlockId, zone: ZoneKind) -> Result<Block, OnlineError> {
        Ok(self.change(id, BlockState::Online(zone)))
    }

    fn offline(&mut self, id: BlockId) -> Result<(), OfflineError> {
        self.change(id, BlockState::Offline);
        Ok(())
    }

    fn remove(&mut self, range: PhysRange) -> Result<Removed, RemoveError> {
        self.set(range, None);
        Ok(Removed { range, system_bytes: 0 })
    }

    fn poison(&mut self, pfn: Pfn) -> Result<(), PoisonError> {
        Err(PoisonError::NotMemory(pfn))
    }
}

/// A console that only counts.
#[derive(Default)]
struct Count(usize);

impl fmt::Write for Count {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 += text.len();
        Ok(())
    }
}

/// Plugs and ejects every slot of a machine. Answers how often the heap was asked meanwhile.
fn allocations(wire: &Wire, dsdt: &[u8], event: u8, slots: usize) -> u64 {
    let memory = firmware(dsdt, false);
    let tables = Tables::new(&memory, RSDP).unwrap();
    let latch: &'static Latch = Box::leak(Box::new(Latch::new()));
    let mut source = AcpiSource::new(&tables, wire.clone(), latch, Limits::DEFAULT).unwrap();
    source.arm().unwrap();
    let verbs = States([None; BLOCKS]);
    let mut hotplug = Hotplug::new(source, verbs, Still, Policy::default()).unwrap();
    // The model keeps a record of what happens to it; the record is none of the kernel's.
    wire.0.borrow_mut().reserve(1 << 22);

    let mut out = Count::default();
    let mut run = || {
        wire.0.borrow_mut().gpe_status |= 1 << event;
        while wire.interrupt(latch, 1) || hotplug.has_work() {
            while hotplug.run_one(&mut out) {}
        }
    };
    run();
    let before = ALLOCATIONS.get();
    for slot in 0..slots {
        let at = (slot as u64 + 2) * BLOCK;
        wire.0.borrow_mut().controller.plug(slot, at, BLOCK, 1);
    }
    run();
    for slot in 0..slots {
        wire.0.borrow_mut().controller.request_eject(slot);
    }
    run();
    let asked = ALLOCATIONS.get() - before;

    let board = wire.0.borrow();
    assert_eq!(board.controller.ejected.len(), slots);
    assert_eq!(
        board.controller.reports.iter().filter(|report| report.status == 0).count(),
        2 * slots
    );
    assert!(out.0 > slots * 100);
    asked
}

#[test]
fn the_count_counts() {
    let before = ALLOCATIONS.get();
    drop(Box::new(7u64));
    assert!(ALLOCATIONS.get() > before);
}

#[test]
fn no_heap_is_used_between_the_interrupt_and_the_answer() {
    let wire = Wire::new(moved(), 4);
    assert_eq!(allocations(&wire, &compile("moved").unwrap(), 0x1B, 4), 0);
}

#[test]
fn no_heap_is_used_on_qemus_largest_machine() {
    use hotmem_aml::Space;
    use hotmem_aml_fakes::Layout;
    let found = tables(Machine::Q35, 256, &[]).unwrap();
    let wire = Wire::new(Layout::qemu(Space::SystemIo, 0xA00), 256);
    assert_eq!(allocations(&wire, &found.dsdt, 3, 48), 0);
}
