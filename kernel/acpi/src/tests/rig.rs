//! Everything between a `device_add` and the memory manager, on the host: tables compiled from
//! source, a model of the controller, the evaluator, the driver, and the real memory manager on its
//! fake machine.

use std::boxed::Box;
use std::collections::BTreeMap;
use std::string::String;
use std::vec;
use std::vec::Vec;

use hotmem::testing::{Bench, FakeMachine, Setup, Tiny, range};
use hotmem::{Block, BlockState, PhysAddr, PhysRange};
use hotmem_aml::{Limits, Space};
use hotmem_aml_fakes::{Layout, Ost, compile};

use super::board::Wire;
use super::firmware::{self, Memory, RSDP, fix, put};
use crate::{AcpiSource, Tables};
use hotmem_hotplug::Latch;
use hotmem_hotplug::{Clock, Hotplug, Policy};

pub(super) const MIB: u64 = 1 << 20;
/// Where DIMMs are plugged, and the block size of the fake machine.
pub(super) const WINDOW: u64 = 64 * MIB;
pub(super) const BLOCK: u64 = MIB;

/// A clock that stands still: 1000 everywhere.
#[derive(Clone, Copy, Debug)]
pub(super) struct Still;

impl Clock for Still {
    fn instructions(&self) -> Option<u64> {
        Some(1000)
    }
}

pub(super) struct Rig {
    pub(super) bench: &'static Bench<Tiny>,
    pub(super) wire: Wire,
    pub(super) latch: &'static Latch,
    pub(super) hotplug: Hotplug<'static, AcpiSource<Wire>, FakeMachine<Tiny>, Still>,
    /// Which event says that something happened: a GPE, or line 0 of an event device.
    event: Option<u8>,
    dimms: BTreeMap<u32, PhysRange>,
}

/// The registers of `moved.asl`.
pub(super) fn moved() -> Layout {
    Layout {
        space: Space::SystemMemory,
        base: 0xFEDD_0000,
        read: [0x28, 0x2C, 0x20, 0x24, 0x18],
        write: [0x08, 0x0C, 0x10],
        flags: 0,
        bits: [4, 5, 6, 7],
    }
}

/// The registers of `reduced.asl`.
pub(super) fn reduced() -> Layout {
    Layout::qemu(Space::SystemMemory, 0xD000_0000)
}

/// A firmware with one DSDT, on a machine with or without fixed hardware.
pub(super) fn firmware(dsdt: &[u8], hardware_reduced: bool) -> Memory {
    firmware_with(dsdt, hardware_reduced, &[])
}

/// The same, with more records in its MADT.
pub(super) fn firmware_with(dsdt: &[u8], hardware_reduced: bool, records: &[&[u8]]) -> Memory {
    firmware_beside(dsdt, hardware_reduced, records, &[])
}

/// The same, with more tables.
pub(super) fn firmware_beside(
    dsdt: &[u8],
    hardware_reduced: bool,
    records: &[&[u8]],
    tables: &[Vec<u8>],
) -> Memory {
    let mut fadt = firmware::fadt(276);
    put(&mut fadt, 140, 8, 0x1000_0000);
    put(&mut fadt, 112, 4, u64::from(hardware_reduced) << 20);
    fix(&mut fadt, 9);
    let sci = firmware::source_override(9, 9, 0x0D);
    let madt = firmware::madt(&[&[sci.as_slice()], records].concat());
    let near = firmware::affinity(1, WINDOW, 512 * MIB, 3);
    let usual = [fadt, madt, firmware::srat(2, &[near])];
    let mut memory = firmware::memory(2, &[usual.as_slice(), tables].concat());
    memory.pieces.push((0x1000_0000, dsdt.to_vec()));
    memory
}

/// A memory manager with 16 MiB of memory and room for DIMMs.
pub(super) fn bench() -> &'static Bench<Tiny> {
    let ram = vec![(0, 16 * MIB, 0)];
    Box::leak(Box::new(Bench::new(&Setup {
        ram,
        block: BLOCK,
        window: (WINDOW, 512 * MIB),
        kernelcore: None,
    })))
}

impl Rig {
    /// The machine of a table in `kernel/aml/fakes/data`, running, with nothing plugged.
    pub(super) fn new(table: &str, layout: Layout, event: Option<u8>) -> Self {
        Self::on(Wire::new(layout, 4), table, event, Policy::default())
    }

    /// The same, on a board that was prepared.
    pub(super) fn on(wire: Wire, table: &str, event: Option<u8>, policy: Policy) -> Self {
        Self::with(wire, &compile(table).unwrap(), event, policy)
    }

    pub(super) fn with(wire: Wire, dsdt: &[u8], event: Option<u8>, policy: Policy) -> Self {
        Self::over(wire, &firmware(dsdt, event.is_none()), event, policy)
    }

    /// The machine of a firmware, with its persistent memory.
    pub(super) fn over(wire: Wire, memory: &Memory, event: Option<u8>, policy: Policy) -> Self {
        Self::keeping(wire, memory, event, policy, &[])
    }

    /// The same, with ranges that persistent memory which comes later must not have.
    pub(super) fn keeping(
        wire: Wire,
        memory: &Memory,
        event: Option<u8>,
        policy: Policy,
        kept: &[PhysRange],
    ) -> Self {
        let tables = Tables::new(memory, RSDP).unwrap();
        let latch: &'static Latch = Box::leak(Box::new(Latch::new()));
        let mut source = AcpiSource::new(&tables, wire.clone(), latch, Limits::DEFAULT).unwrap();
        source.find_pmem(&tables, &[range(0, 16 * MIB)], PhysAddr::new(1 << 40)).unwrap();
        source.keep_out(kept.iter().copied()).unwrap();
        source.arm().unwrap();
        let bench = bench();
        let hotplug = Hotplug::new(source, &bench.mm, Still, policy).unwrap();
        Self { bench, wire, latch, hotplug, event, dimms: BTreeMap::new() }
    }

    /// Plugs a DIMM of `len` bytes, `at` bytes into the window, as `device_add` does.
    pub(super) fn plug(&mut self, slot: u32, at: u64, len: u64, node: u32) -> PhysRange {
        let dimm = range(WINDOW + at, len);
        self.bench.plug(dimm);
        self.dimms.insert(slot, dimm);
        let start = dimm.start().get();
        self.wire.0.borrow_mut().controller.plug(slot as usize, start, len, node);
        self.signal();
        dimm
    }

    /// Requests the eject of a DIMM, as `device_del` does.
    pub(super) fn unplug(&mut self, slot: u32) {
        self.wire.0.borrow_mut().controller.request_eject(slot as usize);
        self.signal();
    }

    /// Announces a DIMM once more.
    pub(super) fn announce(&mut self, slot: u32) {
        self.wire.0.borrow_mut().controller.slots[slot as usize].inserting = true;
        self.signal();
    }

    /// The event that says that something happened.
    pub(super) fn signal(&mut self) {
        match self.event {
            Some(event) => self.wire.0.borrow_mut().gpe_status |= 1 << event,
            None => {
                let controller = &mut self.wire.0.borrow_mut().controller;
                controller.doorbell = Some((Space::SystemMemory, 0xD000_8000, 4));
                controller.forgets = true;
                self.latch.raise(0, 900);
            }
        }
    }

    /// Runs the main loop until nothing is left to do. Returns what it wrote.
    pub(super) fn run(&mut self) -> String {
        let mut out = String::new();
        for _ in 0..10_000 {
            self.wire.interrupt(self.latch, 900);
            if !self.hotplug.run_one(&mut out) && !self.wire.interrupt(self.latch, 900) {
                self.pull_ejected();
                self.bench.check();
                assert!(!self.hotplug.has_work());
                return out;
            }
        }
        panic!("the main loop never rests: {out}");
    }

    /// What was reported to the firmware since the last call: slot, event, status.
    pub(super) fn reported(&mut self) -> Vec<(u32, u32, u32)> {
        let reports = core::mem::take(&mut self.wire.0.borrow_mut().controller.reports);
        reports.into_iter().map(|Ost { slot, event, status }| (slot, event, status)).collect()
    }

    /// The states of the blocks of a range; those that are not there are left out.
    pub(super) fn states(&self, range: PhysRange) -> Vec<BlockState> {
        self.blocks(range).iter().map(|block| block.state).collect()
    }

    pub(super) fn blocks(&self, range: PhysRange) -> Vec<Block> {
        self.bench.mm.blocks_in(range).filter_map(|id| self.bench.mm.block(id)).collect()
    }

    /// Unplugs what the controller ejected from the fake machine, which fails if anything still translates
    /// to it.
    fn pull_ejected(&mut self) {
        let ejected = core::mem::take(&mut self.wire.0.borrow_mut().controller.ejected);
        for slot in ejected {
            let dimm = self.dimms.remove(&slot).unwrap();
            self.bench.unplug(dimm);
        }
    }
}
