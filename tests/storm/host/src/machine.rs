//! The driver of the fake machine: the memory manager, the driver of hotplug and the monitor, in this process.

use std::panic::{AssertUnwindSafe, catch_unwind};

use anyhow::{Result, bail, ensure};
use hotmem::testing::{Bench, CPUS, FakeMachine, FaultPlan, Setup, Tiny, become_cpu, range};
use hotmem::{BlockState, PhysRange, ZoneKind};
use hotmem_hotplug::{DeviceId, Hotplug, Policy, Quiet};
use hotmem_lab::fault::Faults;
use hotmem_lab::monitor::{Monitor, Sites};
use hotmem_lab::testing::Blank;
use hotmem_storm::{
    Driver, End, Layout, REGION_BLOCKS, REGIONS, Reply, SLOT_BLOCKS, SLOTS, WINDOW_BLOCKS, undoes,
};

use crate::firmware::{Firmware, OPERATORS};

const BLOCK: u64 = 1 << 20;
const PAGE: u64 = 4096;
/// Boot memory, and how much of it stays system memory.
const RAM: u64 = 16 * BLOCK;
const CORE: u64 = 12 * BLOCK;
/// The first block behind boot memory.
const WINDOW: u64 = 64;
/// Pages of an eject between two events: a block takes several.
const BUDGET: u64 = 24;
/// More steps than all requests that can be open take.
const ENOUGH: u64 = 1_000_000;

/// A machine, which lives as long as the process.
pub(crate) struct Machine {
    bench: &'static Bench<Tiny>,
    firmware: Firmware,
    /// Steps of the lab.
    faults: &'static Faults,
    hotplug: Hotplug<'static, Firmware, FakeMachine<Tiny>, ()>,
    monitor: Monitor<'static, FakeMachine<Tiny>>,
    layout: Layout,
    /// Events so far: each is on another CPU.
    events: usize,
    plant: Option<Plant>,
}

/// A fault on purpose, by which a storm fails: a word is damaged when memory that was converted is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plant {
    Waits,
    Converted,
    Done,
}

impl Machine {
    /// Boots; with `plant`, has a fault. Of persistent memory `written` holds data.
    pub(crate) fn boot(plant: bool, written: [bool; REGIONS]) -> Result<Self> {
        let window = (WINDOW * BLOCK, 64 * BLOCK);
        let setup = Setup { ram: vec![(0, RAM, 0)], block: BLOCK, window, kernelcore: Some(CORE) };
        let bench: &'static Bench<Tiny> = Box::leak(Box::new(Bench::new(&setup)));
        let regions = regions().map(|first| range(first * BLOCK, REGION_BLOCKS * BLOCK));
        let firmware = Firmware::new(bench, regions, written);
        let hotplug = Hotplug::new(firmware.clone(), &bench.mm, (), Policy::default());
        let faults: &'static Faults = Box::leak(Box::default());
        let sites = Sites { steps: faults, firmware: Box::leak(Box::default()) };
        let (Ok(hotplug), Ok(monitor)) = (hotplug, Monitor::new(&bench.mm, sites)) else {
            bail!("no room for the driver or the monitor");
        };
        let layout = layout(bench)?;
        let plant = plant.then_some(Plant::Waits);
        let mut machine =
            Self { bench, firmware, faults, hotplug, monitor, layout, events: 0, plant };
        machine.hotplug.set_budget(BUDGET);
        machine.give_window()?;
        Ok(machine)
    }

    /// Plugs the operator's memory as a device that the kernel refuses, since it does not begin with a subsection.
    fn give_window(&mut self) -> Result<()> {
        let whole = range(WINDOW * BLOCK - PAGE, WINDOW_BLOCKS * BLOCK + PAGE);
        self.bench.plug(whole);
        self.firmware.insert(OPERATORS, whole);
        self.run(ENOUGH);
        ensure!(self.hotplug.plugged().len() == 1, "the operator's memory is not known");
        self.check()
    }

    /// Does so many steps of the kernel's main loop, or all that there are.
    fn run(&mut self, steps: u64) {
        let mut left = steps;
        while left > 0 && self.hotplug.run_one(&mut Quiet) {
            left -= 1;
        }
    }

    fn range(&self, slot: usize, blocks: u64) -> PhysRange {
        range(self.layout.slots[slot] * BLOCK, blocks * BLOCK)
    }

    /// Does the fault that was planted, once its time has come.
    fn damage(&mut self, line: &str, done: bool) {
        let begins = |word| done && line.starts_with(word);
        match self.plant {
            Some(Plant::Waits) if begins("convert") => self.plant = Some(Plant::Converted),
            Some(Plant::Converted) if begins("remove") => {
                self.plant = Some(Plant::Done);
                let words = self.bench.words();
                if let Some(word) = words.iter().find(|word| word.name == "free pages") {
                    let mmu = self.bench.mm.machine().mmu();
                    mmu.poke(word.at, mmu.peek(word.at) ^ 1);
                }
            }
            _ => {}
        }
    }
}

fn device(slot: usize) -> DeviceId {
    DeviceId::new(u16::try_from(slot).unwrap_or(u16::MAX))
}

/// The first blocks of persistent memory, behind those of the last slot.
fn regions() -> [u64; REGIONS] {
    let first = WINDOW + WINDOW_BLOCKS + SLOT_BLOCKS * SLOTS as u64;
    std::array::from_fn(|region| first + REGION_BLOCKS * region as u64)
}

fn layout(bench: &Bench<Tiny>) -> Result<Layout> {
    let movable = BlockState::Online(ZoneKind::Movable);
    let boot = bench.mm.blocks().filter(|block| block.state == movable);
    let boot: Vec<u64> = boot.map(|block| block.id.get()).collect();
    let [.., last, next] = boot[..] else { bail!("only {boot:?} can go offline") };
    let slots = std::array::from_fn::<_, SLOTS, _>(|slot| {
        WINDOW + WINDOW_BLOCKS + SLOT_BLOCKS * slot as u64
    });
    let (regions, boot) = (Some(regions()), [last, next]);
    Ok(Layout { block: BLOCK, page: PAGE, window: WINDOW, slots, regions, boot })
}

impl Driver for Machine {
    fn layout(&self) -> Layout {
        self.layout
    }

    fn command(&mut self, line: &str) -> Result<Reply> {
        let mut out = String::new();
        self.monitor.run(line, &mut self.hotplug, &Blank::default(), &mut out);
        let mut lines: Vec<String> = out.lines().map(str::to_owned).collect();
        let Some(last) = lines.pop() else { bail!("no reply to `{line}`") };
        let error = last.strip_prefix("error: ").map(str::to_owned);
        ensure!(last == "ok" || error.is_some(), "`{line}` ends by `{last}`");
        self.damage(line, error.is_none());
        Ok(Reply { lines, error })
    }

    fn plug(&mut self, slot: usize, blocks: u64) -> Result<()> {
        let range = self.range(slot, blocks);
        self.bench.plug(range);
        self.firmware.insert(device(slot), range);
        Ok(())
    }

    fn ask_back(&mut self, slot: usize, times: u32) -> Result<()> {
        (0..times).for_each(|_| self.firmware.ask_back(device(slot)));
        Ok(())
    }

    fn end(&mut self, slot: usize) -> Result<End> {
        self.run(ENOUGH);
        Ok(if self.firmware.has(device(slot)) { End::Kept } else { End::Gone })
    }

    /// Another machine with the same DIMMs.
    fn reset(&mut self, asked: [bool; SLOTS]) -> Result<()> {
        let (dimms, before) = (self.firmware.dimms(), self.bench);
        let written = self.firmware.written();
        become_cpu(0);
        *self = Self { events: self.events, plant: self.plant, ..Self::boot(false, written)? };
        before.mm.machine().mmu().ram().turn_off();
        for (device, range) in dimms {
            self.bench.plug(range);
            self.firmware.insert(device, range);
        }
        let asked = (0..SLOTS).filter(|&slot| asked[slot]).map(device);
        // Some have gone already.
        let (there, firmware) = (|one: &DeviceId| self.firmware.has(*one), &self.firmware);
        asked.filter(there).for_each(|one| firmware.ask_back(one));
        self.run(ENOUGH);
        Ok(())
    }

    fn runs_guests(&self) -> bool {
        false
    }

    fn may_ask_again(&self) -> bool {
        false
    }

    /// One event is one turn at least: the next one is on another CPU. The last of them has no cache.
    fn turn(&mut self, turns: u64) {
        self.events += 1;
        become_cpu(self.events % (CPUS + 1));
        self.run(turns);
    }

    /// Kinds of steps take turns. Only what undoes itself, or says how far it got, has others than allocations fail.
    fn fault(&mut self, line: &str, nth: u64) -> Result<bool> {
        let is_known = undoes(line) || line.starts_with("pmem add ");
        let (kind, nth) = if is_known { ((nth - 1) % 4, (nth - 1) / 4 + 1) } else { (0, nth) };
        let machine = self.bench.mm.machine();
        match kind {
            0 => machine.plan().arm(nth),
            1 => machine.tables().refusals().arm(nth),
            2 => machine.busy().arm(nth),
            // A listener objects, or a page does not move.
            _ => self.faults.arm(nth),
        }
        Ok(true)
    }

    fn no_fault(&mut self) {
        let machine = self.bench.mm.machine();
        let plans = [machine.plan(), machine.tables().refusals(), machine.busy()];
        plans.into_iter().for_each(FaultPlan::disarm);
        self.faults.disarm();
    }

    fn check(&mut self) -> Result<()> {
        // The fake machine panics where a real one would misbehave.
        let checked = catch_unwind(AssertUnwindSafe(|| self.bench.check()));
        if let Err(panic) = checked {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            bail!("{}", text.or(panic.downcast_ref().copied()).unwrap_or("a check panicked"));
        }
        match self.firmware.take_lie() {
            Some(lie) => bail!(lie),
            None => Ok(()),
        }
    }
}
