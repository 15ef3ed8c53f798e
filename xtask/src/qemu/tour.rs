//! The tour itself: boot, plug, use, unplug, check; each chapter explains what happened.
//!
//! A tour never decides by itself that all is well. It checks what it can see from outside (QEMU's
//! events against the kernel's own words) and leaves the verdict to the kernel.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};

use super::guest_report::Program;
use super::options::{Args, Touch};
use super::page::{Entry, INNER};
use super::picture;
use super::report::Report;
use super::walked;
use crate::layout::hanging;
use crate::machine::{
    Add, Config, DESCRIPTOR, Dimm, Exit, Geometry, Kind, Machine, Offline, Online, Placement,
    Remove, Request, Step, Use, Verdict,
};
use crate::progress::{Bar, Progress};
use crate::size::{DimmSpec, both, counted, human, signed};

/// A tour in progress.
pub(crate) struct Tour<'a> {
    pub(super) machine: &'a mut Machine,
    pub(super) config: &'a Config,
    pub(super) args: &'a Args,
    pub(super) report: &'a mut Report,
    /// The sizes the kernel works with, which may differ from the configured ones.
    pub(super) geometry: Geometry,
    /// Bytes that the adds so far took from memory elsewhere, and the removes did not give back.
    ///
    /// The invariant holds for all DIMMs together: two of them may share a table, which the first takes and
    /// the last gives back.
    pub(super) elsewhere: i64,
}

impl<'a> Tour<'a> {
    /// A tour of `machine`, printed and recorded in `report`.
    pub(crate) fn new(
        machine: &'a mut Machine,
        config: &'a Config,
        args: &'a Args,
        report: &'a mut Report,
    ) -> Self {
        let geometry = Geometry::default();
        Self { machine, config, args, report, geometry, elsewhere: 0 }
    }

    /// Goes on it.
    ///
    /// # Errors
    /// When something does not happen, or contradicts what the kernel says.
    pub(crate) fn run(mut self) -> Result<Verdict> {
        if let Some(why) = self.boot()? {
            return self.declined(why);
        }
        if self.went_without_dimms()? {
            return self.check();
        }
        let mut plugged = Vec::new();
        for (index, &spec) in self.args.dimms.iter().enumerate() {
            plugged.extend(self.plug(spec)?);
            if let (0, Some(guest), Some(dimm)) = (index, self.args.guest.spec, plugged.first())
                && let Some(refused) = self.create_guest(guest, dimm)?
            {
                return Ok(refused);
            }
        }
        if let Some(guest) = self.args.guest.spec.filter(|_| !plugged.is_empty()) {
            let dimm = plugged.remove(0);
            match guest.program {
                Program::Payload => self.pull(&dimm)?,
                Program::Linux => self.pull_from_linux(&dimm)?,
                Program::Own => self.pull_from_own(&dimm)?,
            }
        }
        if !plugged.is_empty() {
            self.use_memory()?;
        }
        for dimm in &plugged {
            self.unplug(dimm)?;
        }
        self.check()
    }

    /// Waits for the next step, which has to be of the kind `T`, and records it.
    pub(super) fn next<T: Kind>(&mut self) -> Result<T> {
        let waiting = Progress::on_terminal("The kernel works on it");
        let step = self.machine.next_step();
        waiting.into_iter().for_each(Progress::clear);
        let step = step?;
        self.report.steps.extend(self.machine.take_scrubs().into_iter().map(Step::Scrub));
        self.report.steps.push(step.clone());
        T::expected(step)
    }

    /// Boots; returns the kernel's reason if it declines to start.
    fn boot(&mut self) -> Result<Option<String>> {
        self.report.chapter("Boot");
        if let Some(why) = self.machine.wait_start()? {
            return Ok(Some(why));
        }
        let stats = self.machine.json("stats --json")?;
        let reserved = stats["reserved_for_hotplug"].as_u64();
        self.report.reserved_for_hotplug = reserved;
        self.geometry = Geometry::of(&stats)?;
        self.report.page_size = self.geometry.page;
        self.machine.run("snapshot save")?;

        self.report.text(
            "The kernel is up and waits for hotplug events. What it knows about memory is saved as a snapshot, \
             to compare with at the end.",
        );
        self.report.fact("memory at boot", both(self.config.memory.bytes()));
        let reserved = reserved.context("`stats --json` lacks `reserved_for_hotplug`")?;
        self.report.fact("set aside for page tables", both(reserved));
        let Geometry { page, section, block } = self.geometry;
        self.report.fact("page, section, block", [page, section, block].map(human).join(", "));
        Ok(None)
    }

    /// The end of a tour that never began.
    fn declined(&mut self, why: String) -> Result<Verdict> {
        let exit = self.machine.wait_exit()?;
        ensure!(exit == Exit::Left(1), "the kernel cannot start: {why}, but {exit}");
        self.report.push(Entry::Quote(why.clone()));
        self.report
            .text("The kernel cannot start on this machine, or with these options, and says so.");
        Ok(Verdict::Refused(why))
    }

    /// Plugs a DIMM; `None` if the kernel refuses it.
    fn plug(&mut self, spec: DimmSpec) -> Result<Option<Dimm>> {
        // A file is behind the first DIMM of a tour with a guest: what is left there is read afterwards.
        let first = self.report.steps.is_empty() && self.args.guest.spec.is_some();
        let fill = self.args.fill.or(first.then_some(0));
        let dimm = self.machine.plug(spec, fill)?;
        let Dimm { id, start, size, node, .. } = &dimm;
        self.report.chapter(format!("Plug {id}: {} at {start:#x}, node {node}", human(*size)));

        let add: Add = self.next()?;
        ensure!(
            (add.start(), add.size()) == (*start, *size),
            "the kernel added {:#x}+{:#x}, but {id} is {start:#x}+{size:#x}",
            add.start(),
            add.size(),
        );
        self.compare_status(&dimm, Request::Insertion, add.ost, add.error.is_none())?;
        if let Some(why) = add.error {
            self.report.push(Entry::Quote(why));
            self.report.text("The kernel refused this DIMM. Nothing has changed.");
            return Ok(None);
        }
        self.elsewhere = self.elsewhere.saturating_add(add.system_bytes);
        let online = self.online(&add)?;
        self.explain_plug(&add, &online)?;
        Ok(Some(dimm))
    }

    /// The online steps of a range: one by policy, or one for each block that is put online here.
    fn online(&mut self, add: &Add) -> Result<Vec<Online>> {
        if !self.args.stays_offline() {
            return Ok(vec![self.next::<Online>()?.good()?]);
        }
        let block = self.geometry.block;
        let numbers = add.start() / block..add.end().div_ceil(block);
        let mut steps = Vec::new();
        for number in numbers {
            self.machine.run(&format!("online {number}"))?;
            steps.push(self.next::<Online>()?.good()?);
        }
        Ok(steps)
    }

    fn explain_plug(&mut self, add: &Add, online: &[Online]) -> Result<()> {
        let arrival = self.config.image.arch.about().arrival;
        self.report.text(format!(
            "{arrival}, mapped it, and made room for its page descriptors (the memmap: {DESCRIPTOR} bytes for \
             each page).",
        ));
        self.report.text(if self.args.stays_offline() {
            "Its policy is to leave memory offline: each block was put online by a command."
        } else {
            "Then it put all of it online."
        });
        let drawing = self.drawing(add, online)?;
        self.report.push(Entry::Lines(drawing));
        self.report.fact("usable now", both(online.iter().map(Online::managed).sum()));
        self.report.fact("taken from memory elsewhere", signed(add.system_bytes));
        for (name, translation) in walked::of_add(self.machine, add, self.geometry.page)? {
            self.report.fact(name, translation);
        }
        Ok(())
    }

    /// The picture of a range, with a line above it and its legend below.
    pub(super) fn drawing(&mut self, add: &Add, online: &[Online]) -> Result<Vec<String>> {
        let blocks = self.machine.blocks()?.into_iter();
        let states: BTreeMap<_, _> = blocks.map(|block| (block.block, block.state)).collect();
        let Geometry { page, block, .. } = self.geometry;
        let (start, end, size) = (add.start(), add.end(), both(add.size()));
        let count = end.div_ceil(block) - start / block;
        let (blocks, unit) = (counted(count, "block"), human(block));
        let range = format!("{start:#x}..{end:#x}  ");
        let mut lines = vec![String::new()];
        lines.extend(hanging(&range, &format!("{size}, {blocks} of {unit}"), INNER));
        lines.extend(picture::draw(add, online, &states, (page, block)));
        lines.push(match add.placement {
            Placement::Boot => ". usable      (the memmap lies in boot memory)".into(),
            _ => "M memmap      . usable".into(),
        });
        lines.push(String::new());
        Ok(lines)
    }

    pub(super) fn use_memory(&mut self) -> Result<()> {
        self.report.chapter("Use it");
        let all = self.args.touch == Some(Touch::All);
        let mut bar = Bar::start("Using memory");
        let command = if all { "use all" } else { "use" };
        self.machine.run_slowly(command, &mut |done, total| bar.at(done, total))?;
        drop(bar);
        let touched = self.next::<Use>()?.good()?.touched_bytes;
        self.report.text(if touched == self.usable() {
            "Every page was allocated one by one and freed again, twice; then all of them were written and read \
             back through the linear map."
        } else {
            "This is much memory, so a sample was used: pages were allocated by 64 and freed again, twice; then \
             one of each 64 was written and read back through the linear map. `--touch all` takes every page."
        });
        self.report.fact("written and read back", both(touched));
        self.explain_cpus()
    }

    /// What each CPU did meanwhile.
    fn explain_cpus(&mut self) -> Result<()> {
        let cpus = self.machine.cpus()?;
        let missing = cpus.iter().find(|cpu| cpu.state != "up");
        ensure!(missing.is_none(), "CPU {missing:?} is not up");
        if cpus.len() > 1 {
            let idle = cpus.iter().find(|cpu| cpu.allocated == 0);
            ensure!(idle.is_none(), "CPU {idle:?} allocated nothing");
            let lost = cpus.iter().find(|cpu| cpu.allocated != cpu.freed);
            ensure!(lost.is_none(), "CPU {lost:?} did not free what it allocated");
            let all = cpus.iter().map(|cpu| cpu.allocated).sum::<u64>();
            let up = cpus.len();
            self.report.text(format!(
                "Then {up} CPUs did the same at the same time, each with a share of the pages.",
            ));
            self.report.fact("used at the same time", format!("{all} pages by {up} CPUs"));
        }
        Ok(())
    }

    /// How often CPUs dropped translations because another one asked them to, where no instruction does it for them.
    fn explain_flushes(&mut self) {
        let asked = self.report.cpus.iter().filter(|cpu| cpu.flushes > 0);
        let asked: Vec<_> =
            asked.map(|cpu| format!("CPU {}: {}", cpu.number, cpu.flushes)).collect();
        if !asked.is_empty() {
            self.report.fact("flushes for another CPU", asked.join(", "));
        }
    }

    /// Bytes that the page allocator got from the DIMMs that are still there: they go in the order in which they came.
    fn usable(&self) -> u64 {
        let steps = &self.report.steps;
        let gone = steps.iter().filter(|step| matches!(step, Step::Remove(_))).count();
        let managed = steps.iter().filter_map(|step| match step {
            Step::Online(online) => Some(online.managed()),
            _ => None,
        });
        managed.skip(gone).sum()
    }

    fn unplug(&mut self, dimm: &Dimm) -> Result<()> {
        self.report.chapter(format!("Unplug {}", dimm.id));
        self.map(format!("before {} goes", dimm.id))?;
        self.machine.unplug(dimm)?;
        self.next::<Offline>()?.good()?;
        let remove = self.next::<Remove>()?.good()?;
        self.machine.wait_deleted(dimm)?;
        self.compare_status(dimm, Request::Ejection, remove.ost, true)?;
        self.elsewhere = self.elsewhere.saturating_add(remove.system_bytes);

        let departure = self.config.image.arch.about().departure;
        let cleared = if self.args.clears() {
            "cleared what had been allocated there"
        } else {
            "left it as it was (scrub=off, since QEMU would need as much memory of this machine)"
        };
        self.report.text(format!(
            "QEMU asked for the DIMM back. The kernel took every block out of use, {cleared}, removed the memmap \
             and all translations of the range, and {departure}.",
        ));
        self.report.checked("the DIMM is gone");
        self.map(format!("after {} went", dimm.id))
    }

    /// Records a map of memory.
    pub(super) fn map(&mut self, when: String) -> Result<()> {
        self.report.maps.push(self.machine.map(when)?);
        Ok(())
    }

    /// Compares the status that the firmware got for a DIMM with what a step claims, and with what was done.
    pub(super) fn compare_status(
        &mut self,
        dimm: &Dimm,
        request: Request,
        claimed: Option<u64>,
        done: bool,
    ) -> Result<()> {
        let (id, status) = (&dimm.id, self.machine.status(dimm, request)?);
        ensure!(
            claimed == status,
            "{id}: the kernel says it reported to the firmware {claimed:x?}, but QEMU got {status:x?}",
        );
        let Some(status) = status else { return Ok(()) };
        let meaning = if status == 0 { "success" } else { "failure" };
        ensure!(
            (status == 0) == done,
            "the kernel reported {meaning} to firmware ({request:?} of {id}), which is wrong",
        );
        self.report
            .checked(format!("the kernel reported {meaning} to firmware (_OST {status:#x})"));
        Ok(())
    }

    fn check(&mut self) -> Result<Verdict> {
        self.report.chapter("Check");
        ensure!(
            self.elsewhere == 0,
            "of what the adds took elsewhere, the removes did not give back {} bytes",
            self.elsewhere
        );
        self.report.checked("what the adds took elsewhere was given back");
        self.machine.run("snapshot check")?;
        self.report.checked("memory looks exactly as it did before");
        self.machine.run("verify")?;
        self.report.checked("every invariant holds");
        self.report.cpus = self.machine.cpus()?;
        self.explain_flushes();

        let verdict = self.machine.verdict()?;
        let exit = self.machine.exit(0)?;
        ensure!(exit == Exit::Left(0), "the kernel's verdict is {verdict}, but {exit}");
        self.report.checked("the guest exited with the requested code");
        let refusals = self.report.steps.iter().any(|step| step.error().is_some());
        ensure!(
            !(verdict == Verdict::Pass && refusals),
            "the kernel's verdict is pass, but it refused a step",
        );
        Ok(verdict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::parsed;
    use crate::machine::fake::{Fake, Habit};
    use crate::qemu::page::Page;

    /// The outcome of a tour with `options` of a kernel with `habit`, and its report.
    fn tour(options: &[&str], habit: Habit) -> (Result<Verdict>, Report) {
        let args: Args = parsed(options).unwrap();
        let config = args.config().unwrap();
        let mut report = Report::new(&config, Page::Silent);
        let mut machine = Fake::start(habit, &config).unwrap();
        let verdict = Tour::new(&mut machine, &config, &args, &mut report).run();
        (verdict, report)
    }

    fn failure(habit: Habit) -> String {
        format!("{:#}", tour(&[], habit).0.unwrap_err())
    }

    #[test]
    fn a_kernel_that_does_everything_right_passes() {
        let (verdict, report) = tour(&["--dimm", "1G", "--dimm", "2G@1"], Habit::Good);
        assert_eq!(verdict.unwrap(), Verdict::Pass);
        let operations: Vec<_> = report.steps.iter().map(Step::operation).collect();
        assert_eq!(
            operations,
            [
                "add", "online", "add", "online", "use", "offline", "scrub", "remove", "offline",
                "scrub", "remove"
            ]
        );
        assert_eq!(report.reserved_for_hotplug, Some(135168));
        let cpus: Vec<_> = report.cpus.iter().map(|cpu| (cpu.number, cpu.flushes)).collect();
        assert_eq!(cpus, [(0, 0), (1, 3)]);
        let chapters = report.entries().iter().filter_map(|entry| match entry {
            Entry::Chapter(_, title) => Some(title.as_str()),
            _ => None,
        });
        assert_eq!(
            chapters.collect::<Vec<_>>(),
            [
                "Boot",
                "Plug dimm0: 1 GiB at 0x100000000, node 0",
                "Plug dimm1: 2 GiB at 0x180000000, node 0",
                "Use it",
                "Unplug dimm0",
                "Unplug dimm1",
                "Check"
            ]
        );
    }

    #[test]
    fn blocks_that_stay_offline_are_put_online_one_by_one() {
        let (verdict, report) = tour(&["--cmdline", "policy=offline"], Habit::Good);
        assert_eq!(verdict.unwrap(), Verdict::Pass);
        assert_eq!(report.steps.iter().filter(|step| step.operation() == "online").count(), 8);
    }

    #[test]
    fn a_refusal_is_the_kernels_verdict_and_ends_without_use() {
        let words = ["--dimm", "100M", "--cmdline", "blocks=whole"];
        let (verdict, report) = tour(&words, Habit::Good);
        assert!(matches!(verdict.unwrap(), Verdict::Refused(why) if why.contains("0x6400000")));
        assert_eq!(report.steps.len(), 1);
    }

    #[test]
    fn a_dimm_that_is_no_whole_blocks_passes() {
        let (verdict, report) = tour(&["--dimm", "200M"], Habit::Good);
        assert_eq!(verdict.unwrap(), Verdict::Pass);
        let online = report.steps.iter().find_map(|step| match step {
            Step::Online(online) => Some(online.managed()),
            _ => None,
        });
        assert_eq!(online, Some(200 << 20));
    }

    #[test]
    fn a_kernel_that_cannot_start_and_says_why_refuses() {
        let (verdict, report) = tour(&[], Habit::Declines);
        assert!(matches!(verdict.unwrap(), Verdict::Refused(why) if why == "no such pages"));
        assert!(report.steps.is_empty());
    }

    #[test]
    fn a_wrong_exit_code_is_a_failure_even_if_the_verdict_is_success() {
        assert!(failure(Habit::ExitsWrong).contains("the guest exited with 7"));
        assert!(failure(Habit::Killed).contains("killed by signal 9"));
    }

    #[test]
    fn a_status_that_the_firmware_never_got_is_found_out() {
        assert!(failure(Habit::LiesToUs).contains("QEMU got Some(1)"));
    }

    #[test]
    fn memory_that_was_not_given_back_is_found_out() {
        assert!(failure(Habit::Keeps4K).contains("did not give back 4096 bytes"));
    }

    #[test]
    fn a_table_that_two_dimms_share_is_given_back_by_the_last() {
        let (verdict, report) = tour(&["--dimm", "1G", "--dimm", "1G"], Habit::Shares);
        assert_eq!(verdict.unwrap(), Verdict::Pass);
        let bytes = report.steps.iter().filter_map(|step| match step {
            Step::Add(add) => Some(add.system_bytes),
            Step::Remove(remove) => Some(remove.system_bytes),
            _ => None,
        });
        assert_eq!(bytes.collect::<Vec<_>>(), [8192, 4096, -4096, -8192]);
    }

    #[test]
    fn the_block_size_is_the_kernels_whatever_the_options_say() {
        let words = "policy=offline block=1G";
        let (verdict, report) = tour(&["--dimm", "2G", "--cmdline", words], Habit::Good);
        assert_eq!(verdict.unwrap(), Verdict::Pass);
        assert_eq!(report.steps.iter().filter(|step| step.operation() == "online").count(), 2);
    }

    #[test]
    fn a_failed_check_of_the_snapshot_fails_the_tour() {
        assert!(failure(Habit::Leaks).contains("snapshot check` failed: section 32 differs"));
    }

    #[test]
    fn a_cpu_that_does_nothing_or_did_not_come_fails_the_tour() {
        assert!(failure(Habit::Lazy).contains("allocated nothing"));
        assert!(failure(Habit::Alone).contains("is not up"));
    }

    #[test]
    fn a_guest_that_dies_in_the_middle_fails_the_tour() {
        assert!(failure(Habit::Panics).contains("the kernel panicked"));
        assert!(failure(Habit::Vanishes).contains("gone"));
    }
}
