//! Runs commands and writes their output.

use super::bench;
use super::command::{Command, CpusCommand, HotplugCommand, Shown};
use super::cpus::{self, CpuError};
use super::fault::{Pending, Sites};
use super::held::Held;
use super::holds;
use super::machinery::Machinery;
use super::mapping::Mapping;
use super::memory::Lives;
use super::movers::Movers;
use super::parse::parse;
use super::pmem;
use super::refused::Refused;
use super::snapshot::Saved;
use super::together::{self, Churning};
use super::usage::{Sample, UseError, Used};
use super::{page, show, table, usage, walk};
use crate::movers::Shared;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::{self, Write};
use hotmem::{
    BlockId, Machine, MhpFlags, Mm, Mover, NodeId, OnlineAs, Order, Pages, Pfn, PhysRange,
    Placement, Progress, TooManyOwners, ZoneKind,
};
use hotmem_hotplug::{
    Clock, EjectProgress, Failure, GrowthRefused, Hotplug, HotplugSource, Operation, Step, StepLine,
};

/// Pages that each of several CPUs uses at most.
const SHARE: u64 = 4096;

/// The next step after a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// Wait for the next one.
    Prompt,
    /// Leave the machine with this code.
    Exit(u8),
}

/// The monitor of a machine's memory.
#[derive(Debug)]
pub struct Monitor<'m, M: Shared> {
    mm: &'m Mm<M>,
    /// The owner of the pages that `use` allocates.
    held: Arc<Mover>,
    /// The pages that the operator allocated.
    allocated: Vec<Pages<'m, M>>,
    lives: Lives<'m, M>,
    movers: Movers<M>,
    saved: Saved,
    /// The CPUs that allocate and free.
    churning: Option<Churning<M>>,
    /// The step that is to fail.
    pending: Pending,
    /// The first error in using memory: no later success clears it.
    broken: Option<UseError>,
}

impl<M: Shared> Monitor<'static, M> {
    /// A monitor of `mm`, whose kernel asks `sites` before what can fail.
    ///
    /// # Errors
    ///
    /// [`TooManyOwners`] if the monitor cannot register as an owner of pages.
    pub fn new(mm: &'static Mm<M>, sites: Sites) -> Result<Self, TooManyOwners> {
        let held = Arc::new(mm.register(&Held)?);
        Ok(Self {
            mm,
            held,
            allocated: Vec::new(),
            lives: Lives::new(mm),
            movers: Movers::new(mm, sites.steps)?,
            saved: Saved::default(),
            churning: None,
            pending: Pending::new(sites),
            broken: None,
        })
    }

    /// Runs a line and writes its output.
    pub fn run<S: HotplugSource, C: Clock>(
        &mut self,
        line: &str,
        hotplug: &mut Hotplug<'_, S, M, C>,
        machinery: &impl Machinery,
        out: &mut dyn Write,
    ) -> After {
        let command = match parse(line) {
            Ok(Some(command)) => Ok(command),
            Ok(None) => return After::Prompt,
            Err(error) => Err(Refused::Command(error)),
        };
        let done = command.and_then(|command| {
            self.with_fault(command, hotplug, machinery, out).map(|()| command)
        });
        // If the console fails, there is nowhere left to report it.
        let _ = match &done {
            Ok(_) => writeln!(out, "ok"),
            Err(refused) => writeln!(out, "error: {refused}"),
        };
        match done {
            Ok(Command::Exit(code)) => After::Exit(code),
            _ => After::Prompt,
        }
    }

    /// Executes a command. If a fault was pending for it, shows what became of that.
    fn with_fault<S: HotplugSource, C: Clock>(
        &mut self,
        command: Command,
        hotplug: &mut Hotplug<'_, S, M, C>,
        machinery: &impl Machinery,
        out: &mut dyn Write,
    ) -> Result<(), Refused<'static>> {
        let due = self.pending.begin(command.kind());
        let done = self.execute(command, hotplug, machinery, out);
        if let Some(due) = due {
            writeln!(out, "{}", self.pending.end(due))?;
        }
        done
    }

    fn execute<S: HotplugSource, C: Clock>(
        &mut self,
        command: Command,
        hotplug: &mut Hotplug<'_, S, M, C>,
        machinery: &impl Machinery,
        out: &mut dyn Write,
    ) -> Result<(), Refused<'static>> {
        match command {
            Command::Hotplug(command) => self.hotplug(command, hotplug, out)?,
            Command::Pool(command) => self.movers.pool(command, out)?,
            Command::Cache(command) => self.movers.cache(command, out)?,
            Command::Life(life) => self.lives.run(life, machinery, out)?,
            Command::Vm(command) => machinery.vm(command, out)?,
            Command::Use(sample) => self.use_memory(sample, machinery, out)?,
            Command::Bench { json } => self.bench(json, machinery, out)?,
            Command::Show(shown, json) => self.show(shown, json, machinery, out)?,
            Command::Walk(at) => walk::write(self.mm, at, |at| machinery.peek(at), out)?,
            Command::Peek(at, cpu) => {
                let word = machinery.peek_on(cpu, at)?.ok_or(Refused::Faults(at))?;
                writeln!(out, "{word:#x}")?;
            }
            Command::Verdict => self.verdict(hotplug, machinery, out)?,
            Command::Log(level) => log::set_max_level(level),
            Command::Cpus(command) => self.cpus(command, machinery, out)?,
            Command::Crash(crash, cpu) => machinery.crash(crash, cpu)?,
            Command::Exit(_) => {}
            Command::Alloc(order, cpu) => {
                let pfn = self.alloc(order, cpu, machinery)?;
                writeln!(out, "{pfn}, {} pages", order.pages())?;
            }
            Command::Free(pfn) => self.free(pfn)?,
            Command::Fault(fault) => {
                let became = self.pending.set(self.mm, fault)?;
                became.map_or(Ok(()), |became| writeln!(out, "{became}"))?;
            }
            Command::Verify => verify(self.mm, machinery)?,
            Command::SnapshotSave => writeln!(out, "{} facts saved", self.saved.save(self.mm)?)?,
            Command::SnapshotCheck => {
                let count = self.saved.check(self.mm, out)?;
                writeln!(out, "{count} facts are the same")?;
            }
        }
        Ok(())
    }

    /// A command to the driver of hotplug.
    fn hotplug<S: HotplugSource, C: Clock>(
        &self,
        command: HotplugCommand,
        hotplug: &mut Hotplug<'_, S, M, C>,
        mut out: &mut dyn Write,
    ) -> Result<(), Refused<'static>> {
        match command {
            HotplugCommand::Add(range, flags) => {
                hotplug.operator_add(range, asked(range, flags), &mut out)?;
            }
            HotplugCommand::Remove(range) => hotplug.operator_remove(range, &mut out)?,
            HotplugCommand::Online(id, way) => {
                hotplug.operator_online(id, self.zone(id, way), &mut out)?;
            }
            HotplugCommand::Offline(id) => hotplug.operator_offline(id, &mut out)?,
            HotplugCommand::Status => eject_status(hotplug.ejecting(), out)?,
            HotplugCommand::Cancel => {
                if !hotplug.cancel_eject(&mut out) {
                    return Err(Refused::Because("no eject is under way"));
                }
            }
            HotplugCommand::Firmware { json } => {
                hotplug.source().write_firmware(json, out)?;
                out.write_str(if json { "\n" } else { "" })?;
            }
            HotplugCommand::Pmem(command) => pmem::run(command, hotplug, out)?,
            HotplugCommand::Growth(Some(growth)) => hotplug.set_growth(growth)?,
            HotplugCommand::Growth(None) => {
                let growth = hotplug.growth().ok_or(GrowthRefused::NoDevice)?;
                writeln!(out, "{growth}")?;
            }
        }
        Ok(())
    }

    /// A command about CPUs.
    fn cpus(
        &mut self,
        command: CpusCommand,
        machinery: &impl Machinery,
        out: &mut dyn Write,
    ) -> Result<(), Refused<'static>> {
        match command {
            CpusCommand::Show { json: true } => cpus::json(machinery.cpus(), out)?,
            CpusCommand::Show { json: false } => cpus::text(machinery.cpus(), out)?,
            CpusCommand::Churn { masked } => self.churn(machinery, masked)?,
            CpusCommand::Hold(pages) => self.hold_on_others(machinery, pages)?,
            CpusCommand::Rest => self.rest(machinery)?,
            CpusCommand::Tick(hertz) => machinery.tick(hertz)?,
            CpusCommand::Start(hardware) => {
                let number = machinery.start_cpu(hardware)?;
                writeln!(out, "CPU {number} is up")?;
            }
        }
        Ok(())
    }

    /// Allocates for the operator, on the CPU `cpu`. Returns the first page.
    fn alloc(
        &mut self,
        order: Order,
        cpu: usize,
        machinery: &impl Machinery,
    ) -> Result<Pfn, Refused<'static>> {
        let full = |_| "the kernel heap has no room for the list of pages";
        self.allocated.try_reserve(1).map_err(full)?;
        let (job, found) = together::allocate(self.mm, order);
        machinery.do_on(cpu, &job)?;
        let pages = found.lock().take().ok_or(CpuError::NotDone(cpu, "has not allocated"))??;
        let pfn = pages.pfn();
        self.allocated.push(pages);
        Ok(pfn)
    }

    /// Frees what the operator allocated. Other kernel memory is refused: it is in use.
    fn free(&mut self, pfn: Pfn) -> Result<(), Refused<'static>> {
        let at = self.allocated.iter().position(|pages| pages.pfn() == pfn);
        let Some(at) = at else {
            // Most invalid page numbers get a more precise error from this call.
            self.mm.private(pfn)?;
            return Err(Refused::NotAllocated(pfn));
        };
        drop(self.allocated.swap_remove(at));
        Ok(())
    }

    /// The zone for a block that comes online this way. A missing block is refused later.
    fn zone(&self, id: BlockId, way: OnlineAs) -> ZoneKind {
        let node = self.mm.block(id).map_or(NodeId::ZERO, |block| block.node);
        let range = self.mm.block_range(id).unwrap_or_default();
        self.mm.zone_of(range, node, way)
    }

    /// Shows state, as JSON or as text.
    fn show(
        &self,
        shown: Shown,
        json: bool,
        machinery: &impl Machinery,
        out: &mut dyn Write,
    ) -> Result<(), Refused<'static>> {
        let (mm, heap) = (self.mm, || machinery.heap());
        match (shown, json) {
            (Shown::Help, true) => table::help_json(out)?,
            (Shown::Help, false) => table::help(out)?,
            (Shown::Blocks, true) => show::blocks_json(mm, out)?,
            (Shown::Blocks, false) => show::blocks_text(mm, out)?,
            (Shown::Shares, true) => show::shares_json(mm, out)?,
            (Shown::Shares, false) => show::shares_text(mm, out)?,
            (Shown::Stats, true) => show::stats_json(mm, heap(), out)?,
            (Shown::Stats, false) => show::stats_text(mm, heap(), out)?,
            (Shown::Zones, true) => show::zones_json(mm, out)?,
            (Shown::Zones, false) => show::zones_text(mm, out)?,
            (Shown::Page(pfn), _) => {
                let info = mm.page_info(pfn).ok_or(Refused::NoPage(pfn))?;
                if json { page::json(&info, out)? } else { page::text(&info, out)? }
            }
            (Shown::Mapping(pfn), _) => {
                mm.page_info(pfn).ok_or(Refused::NoPage(pfn))?;
                let mapping = Mapping::of(mm, pfn);
                if json { mapping.json(machinery, out)? } else { mapping.text(machinery, out)? }
            }
            (Shown::Holds, _) => {
                let holds =
                    machinery.holds().ok_or("the image does not record how long locks are held")?;
                if json { holds::json(holds, out)? } else { holds::text(holds, out)? }
            }
        }
        Ok(())
    }

    fn use_memory(
        &mut self,
        sample: Sample,
        machinery: &impl Machinery,
        out: &mut dyn Write,
    ) -> Result<(), Refused<'static>> {
        let mut report = |done, total| {
            // If the console fails, the closing line fails as well.
            let _ = writeln!(out, "hotmem: progress {done} of {total}");
        };
        let instructions = || machinery.instructions();
        let result = usage::run(self.mm, &self.held, sample, instructions, &mut report);
        let used = result.unwrap_or_default();
        let Used { touched_bytes, first, second, .. } = used;
        let operation = Operation::Use { touched_bytes, passes: [first, second] };
        let error = result.as_ref().err().map(|error| Failure(error));
        let step = Step { range: None, operation, instructions: None, error };
        writeln!(out, "{}", StepLine { step: &step, mm: self.mm })?;
        if let Err(error) = result
            && error != UseError::Nothing
        {
            self.broken.get_or_insert(error);
        }
        result?;
        self.use_on_each_cpu(used, machinery, out)
    }

    /// Has all CPUs use memory at the same time, if there are several; each gets a share of the pages that one CPU
    /// used.
    fn use_on_each_cpu(
        &mut self,
        used: Used,
        machinery: &impl Machinery,
        out: &mut dyn Write,
    ) -> Result<(), Refused<'static>> {
        let up = machinery.cpus().filter(|cpu| cpu.state == "up").count() as u64;
        if up < 2 {
            return Ok(());
        }
        let share = (used.pages / up).min(SHARE);
        let (job, fault) = together::share(self.mm, &self.held, share);
        machinery.begin_on_others(&job)?;
        machinery.do_here(&*job);
        machinery.wait_for_others()?;
        if let Some(error) = fault.lock().take() {
            self.broken.get_or_insert(error);
            return Err(error.into());
        }
        writeln!(out, "{up} CPUs used {share} pages each, at the same time")?;
        Ok(())
    }

    /// Measures the cost of allocations, between two checks of every invariant.
    fn bench(
        &self,
        json: bool,
        machinery: &impl Machinery,
        out: &mut dyn Write,
    ) -> Result<(), Refused<'static>> {
        verify(self.mm, machinery)?;
        // A quarter of the free pages, since some are movable, and a list that fits half of the heap.
        let (pages, (_, heap)) = (self.mm.stats().pages.free / 4, machinery.heap());
        let most = pages.min(heap / 2 / size_of::<Pages<'_, M>>() as u64);
        let costs = bench::run(self.mm, most as usize, || machinery.instructions())?;
        verify(self.mm, machinery)?;
        if json {
            bench::json(&costs, out)?
        } else {
            bench::text(&costs, out)?
        }
        Ok(())
    }

    /// Has the other CPUs allocate and free until [`rest`](Self::rest), with interrupts disabled if they are `masked`.
    fn churn(&mut self, machinery: &impl Machinery, masked: bool) -> Result<(), Refused<'static>> {
        let (job, churning) = Churning::new(self.mm, &self.movers.pool, masked);
        machinery.begin_on_others(&job).inspect_err(|_| churning.rest())?;
        self.churning = Some(churning);
        Ok(())
    }

    /// Has each of the other CPUs hold `pages` pages until [`rest`](Self::rest), as soon as this one sleeps.
    fn hold_on_others<T: Machinery>(
        &mut self,
        machinery: &T,
        pages: u64,
    ) -> Result<(), Refused<'static>> {
        let (job, holding) = Churning::hold(self.mm, pages, T::first_sleeps);
        machinery.begin_on_others(&job).inspect_err(|_| holding.rest())?;
        self.churning = Some(holding);
        Ok(())
    }

    fn rest(&mut self, machinery: &impl Machinery) -> Result<(), Refused<'static>> {
        let churning = self.churning.take().ok_or("no CPU is running cpus churn or hold")?;
        churning.rest();
        machinery.wait_for_others()?;
        match churning.fault() {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }

    /// Writes the verdict on everything that happened so far, including the invariants.
    fn verdict<S: HotplugSource, C: Clock>(
        &self,
        hotplug: &Hotplug<'_, S, M, C>,
        machinery: &impl Machinery,
        out: &mut dyn Write,
    ) -> fmt::Result {
        match (self.broken, verify(self.mm, machinery)) {
            (Some(error), _) => writeln!(out, "hotmem: verdict fail: {error}"),
            (None, Err(broken)) => writeln!(out, "hotmem: verdict fail: {broken}"),
            (None, Ok(())) => writeln!(out, "hotmem: verdict {}", hotplug.verdict()),
        }
    }
}

/// Writes the progress of an eject under way.
fn eject_status(ejecting: Option<EjectProgress>, out: &mut dyn Write) -> fmt::Result {
    let Some(EjectProgress { device, block }) = ejecting else {
        return writeln!(out, "no eject is under way");
    };
    let Some(Progress { block, phase, steps, found, moved, beyond }) = block else {
        return writeln!(out, "{device}: between two blocks");
    };
    write!(out, "{device}: {block} {phase}, {moved} of {found} pages moved, {steps} steps")?;
    if beyond > 0 {
        write!(out, ", one of them {beyond} pages beyond its budget")?;
    }
    writeln!(out)
}

/// Checks every invariant, and that the machine enforces the permissions in the page tables.
fn verify<M: Machine>(mm: &Mm<M>, machinery: &impl Machinery) -> Result<(), Refused<'static>> {
    mm.verify_machine()?;
    machinery.try_protection()?;
    Ok(machinery.verify_guests()?)
}

/// The placement that the operator asked for. Flags are a hint: an invalid combination is ignored, with one warning.
fn asked(range: PhysRange, flags: Option<MhpFlags>) -> Placement {
    let Some(flags) = flags else { return Placement::default() };
    Placement::from_flags(flags).unwrap_or_else(|| {
        log::warn!("{range}: invalid memmap flags {:#x} are ignored", flags.bits());
        Placement::Boot
    })
}
