//! The tour itself: boot, plug, use, unplug, check; each chapter explains what happened.
//!
//! A tour never decides by itself that all is well. It checks what it can see from outside (QEMU's
//! events against the kernel's own words) and leaves the verdict to the kernel.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::options::{Args, Touch};
use super::page::Page;
use super::picture;
use super::report::Report;
use super::walked;
use crate::machine::{
    Add, Config, DESCRIPTOR, Dimm, Geometry, Machine, Online, Placement, Step, Verdict,
};
use crate::size::{both, counted, human, signed};

/// A tour in progress.
pub(crate) struct Tour<'a> {
    machine: &'a mut Machine,
    config: &'a Config,
    args: &'a Args,
    page: &'a Page,
    report: &'a mut Report,
    chapters: usize,
    /// The sizes the kernel works with, whatever it was told.
    geometry: Geometry,
    /// Bytes that the adds so far took from memory elsewhere, and the removes did not give back.
    ///
    /// The law holds for all DIMMs together: two of them may share a table, which the first takes and
    /// the last gives back.
    elsewhere: i64,
}

impl<'a> Tour<'a> {
    /// A tour of `machine`, told on `page` and recorded in `report`.
    pub(crate) fn new(
        machine: &'a mut Machine,
        config: &'a Config,
        args: &'a Args,
        page: &'a Page,
        report: &'a mut Report,
    ) -> Self {
        let geometry = Geometry::default();
        Self { machine, config, args, page, report, chapters: 0, geometry, elsewhere: 0 }
    }

    /// Goes on it.
    ///
    /// # Errors
    /// When something does not happen, or contradicts what the kernel says.
    pub(crate) fn run(mut self) -> Result<Verdict> {
        if let Some(why) = self.boot()? {
            return self.declined(why);
        }
        let mut plugged = Vec::new();
        for index in 0..self.args.dimms.len() {
            plugged.extend(self.plug(index)?);
        }
        if !plugged.is_empty() {
            self.use_memory()?;
        }
        for dimm in &plugged {
            self.unplug(dimm)?;
        }
        self.check()
    }

    fn chapter(&mut self, title: &str) {
        self.chapters += 1;
        self.page.chapter(self.chapters, title);
    }

    /// Waits for the next step and records it.
    fn step(&mut self) -> Result<Step> {
        let step = self.machine.next_step()?;
        self.report.steps.push(step.clone());
        Ok(step)
    }

    /// Boots; answers with the kernel's reason if it declines to start.
    fn boot(&mut self) -> Result<Option<String>> {
        self.chapter("Boot");
        if let Some(why) = self.machine.wait_start()? {
            return Ok(Some(why));
        }
        let stats = self.machine.json("stats --json")?;
        let reserved = find_number(&stats, "reserved_for_hotplug");
        self.report.reserved_for_hotplug = reserved;
        self.geometry = Geometry::of(&stats)?;
        self.report.page_size = self.geometry.page;
        self.machine.run("snapshot save")?;

        self.page.text(
            "The kernel is up and waits for hotplug events. What it knows about memory is saved as a snapshot, \
             to compare with at the end.",
        );
        self.page.fact("memory at boot", &both(self.config.memory.bytes()));
        let reserved = reserved.context("`stats --json` does not tell `reserved_for_hotplug`")?;
        self.page.fact("set aside for page tables", &both(reserved));
        let Geometry { page, section, block } = self.geometry;
        let sizes = [page, section, block].map(human).join(", ");
        self.page.fact("page, section, block", &sizes);
        Ok(None)
    }

    /// The end of a tour that never began.
    fn declined(&mut self, why: String) -> Result<Verdict> {
        let exit = self.machine.wait_exit()?;
        ensure!(exit == self.machine.left(1), "the kernel cannot start: {why}, but {exit}");
        self.page.quote(&why);
        self.page
            .text("The kernel cannot start on this machine, or with these options, and says so.");
        Ok(Verdict::Refused(why))
    }

    /// Plugs the DIMM number `index`; `None` if the kernel refuses it.
    fn plug(&mut self, index: usize) -> Result<Option<Dimm>> {
        let spec = *self.args.dimms.get(index).context("no such DIMM")?;
        let dimm = self.machine.plug(spec, self.args.fill)?;
        self.chapter(&format!(
            "Plug {}: {} at {:#x}, node {}",
            dimm.id,
            human(dimm.size),
            dimm.start,
            dimm.node
        ));

        let Step::Add(add) = self.step()? else {
            bail!("the kernel did not report the add first");
        };
        ensure!(
            (add.start(), add.size()) == (dimm.start, dimm.size),
            "the kernel added {:#x}+{:#x}, but {} is {:#x}+{:#x}",
            add.start(),
            add.size(),
            dimm.id,
            dimm.start,
            dimm.size,
        );
        self.compare_status("insertion", add.ost, add.error.is_none(), &dimm)?;
        if let Some(why) = &add.error {
            self.page.quote(why);
            self.page.text("The kernel refused this DIMM. Nothing has changed.");
            return Ok(None);
        }
        self.elsewhere = self.elsewhere.saturating_add(add.system_bytes);
        let online = self.online(&add)?;
        self.explain_plug(&add, &online)?;
        Ok(Some(dimm))
    }

    /// The online steps of a range: one by policy, or one for each block we have to put online.
    fn online(&mut self, add: &Add) -> Result<Vec<Online>> {
        let mut steps = Vec::new();
        if self.args.stays_offline() {
            let block = self.geometry.block;
            for number in add.start() / block..add.end() / block {
                self.machine.run(&format!("online {number}"))?;
                steps.push(self.online_step()?);
            }
        } else {
            steps.push(self.online_step()?);
        }
        Ok(steps)
    }

    fn online_step(&mut self) -> Result<Online> {
        match self.step()? {
            Step::Online(Online { error: Some(why), .. }) => bail!("going online failed: {why}"),
            Step::Online(step) => Ok(step),
            other => bail!("the kernel reported {} instead of online", other.verb()),
        }
    }

    fn explain_plug(&mut self, add: &Add, online: &[Online]) -> Result<()> {
        let states = block_states(&self.machine.json("blocks --json")?);
        let block_size = self.geometry.block;
        let arrival = self.config.image.arch.about().arrival;
        self.page.text(&format!(
            "{arrival}, mapped it, and made room for its page descriptors (the memmap: {DESCRIPTOR} bytes for \
             each page).",
        ));
        self.page.text(if self.args.stays_offline() {
            "Its policy is to leave memory offline: it was told to put each block online."
        } else {
            "Then it put all of it online."
        });
        self.page.line("");
        let (start, end, size) = (add.start(), add.end(), both(add.size()));
        let blocks = counted(end / block_size - start / block_size, "block");
        let unit = human(block_size);
        self.page.line(&format!("{start:#x}..{end:#x}  {size}, {blocks} of {unit}"));
        for row in picture::draw(add, online, &states, self.geometry.page) {
            self.page.line(&format!("  {row}"));
        }
        let legend = match add.placement {
            Placement::Boot => "  . usable      (the memmap lies in boot memory)",
            _ => "  M memmap      . usable",
        };
        self.page.line(legend);
        self.page.line("");

        let managed =
            online.iter().flat_map(|step| &step.blocks).map(|block| block.managed_bytes).sum();
        self.page.fact("usable now", &both(managed));
        self.page.fact("taken from memory elsewhere", &signed(add.system_bytes));
        for (name, translation) in walked::of_add(self.machine, add, self.geometry.page)? {
            self.page.fact(name, &translation);
        }
        Ok(())
    }

    fn use_memory(&mut self) -> Result<()> {
        self.chapter("Use it");
        let all = self.args.touch == Some(Touch::All);
        self.machine.run(if all { "use all" } else { "use" })?;
        let Step::Use(used) = self.step()? else {
            bail!("the kernel did not report the use");
        };
        if let Some(why) = used.error {
            bail!("using the memory failed: {why}");
        }
        let usable: u64 = self.report.steps.iter().map(managed_by).sum();
        let which =
            if used.touched_bytes == usable { "all of them" } else { "a sample of each block" };
        self.page.text(&format!(
            "Every page was allocated one by one and freed again, twice; then pages ({which}) were written and \
             read back through the linear map.",
        ));
        self.page.fact("written and read back", &both(used.touched_bytes));
        Ok(())
    }

    fn unplug(&mut self, dimm: &Dimm) -> Result<()> {
        self.chapter(&format!("Unplug {}", dimm.id));
        self.machine.unplug(dimm)?;
        let Step::Offline(offline) = self.step()? else {
            bail!("the kernel did not report the offline first");
        };
        if let Some(why) = offline.error {
            bail!("going offline failed: {why}");
        }
        let Step::Remove(remove) = self.step()? else {
            bail!("the kernel did not report the remove");
        };
        if let Some(why) = remove.error {
            bail!("the remove failed: {why}");
        }
        self.machine.wait_deleted(dimm)?;
        self.compare_status("ejection", remove.ost, true, dimm)?;
        self.elsewhere = self.elsewhere.saturating_add(remove.system_bytes);

        let departure = self.config.image.arch.about().departure;
        self.page.text(&format!(
            "QEMU asked for the DIMM back. The kernel took every block out of use, removed the memmap and all \
             translations of the range, and {departure}.",
        ));
        self.page.checked("the DIMM is gone");
        Ok(())
    }

    /// Compares the status a step claims with what the firmware got, and with what was done.
    fn compare_status(
        &mut self,
        what: &str,
        claimed: Option<u64>,
        done: bool,
        dimm: &Dimm,
    ) -> Result<()> {
        let told = match what {
            "insertion" => self.machine.insertion_status(dimm)?,
            _ => self.machine.ejection_status(dimm)?,
        };
        ensure!(
            claimed == told,
            "{}: the kernel says it answered the firmware with {claimed:x?}, but QEMU got {told:x?}",
            dimm.id,
        );
        let Some(told) = told else { return Ok(()) };
        let meaning = if told == 0 { "success" } else { "failure" };
        ensure!(
            (told == 0) == done,
            "the firmware was told of {meaning} at the {what} of {}, which is not so",
            dimm.id,
        );
        self.page.checked(&format!("the firmware was told of {meaning} (_OST {told:#x})"));
        Ok(())
    }

    fn check(&mut self) -> Result<Verdict> {
        self.chapter("Check");
        ensure!(
            self.elsewhere == 0,
            "of what the adds took elsewhere, the removes did not give back {} bytes",
            self.elsewhere
        );
        self.page.checked("what the adds took elsewhere was given back");
        self.machine.run("snapshot check")?;
        self.page.checked("memory looks exactly as it did before");
        self.machine.run("verify")?;
        self.page.checked("every law holds");

        let verdict = self.machine.verdict()?;
        let exit = self.machine.exit(0)?;
        ensure!(exit == self.machine.left(0), "the kernel's verdict is {verdict}, but {exit}");
        self.page.checked("the guest exited as it was told");
        let refusals = self.report.steps.iter().any(|step| step.error().is_some());
        ensure!(
            !(verdict == Verdict::Pass && refusals),
            "the kernel's verdict is pass, but it refused a step",
        );
        Ok(verdict)
    }
}

/// Bytes that an online step gave to the page allocator.
fn managed_by(step: &Step) -> u64 {
    match step {
        Step::Online(online) => online.blocks.iter().map(|block| block.managed_bytes).sum(),
        _ => 0,
    }
}

/// The number under `key`, anywhere in `value`.
fn find_number(value: &Value, key: &str) -> Option<u64> {
    match value {
        Value::Object(map) => map
            .get(key)
            .and_then(Value::as_u64)
            .or_else(|| map.values().find_map(|inner| find_number(inner, key))),
        Value::Array(list) => list.iter().find_map(|inner| find_number(inner, key)),
        _ => None,
    }
}

/// Block number and state, from every object that has both.
fn block_states(value: &Value) -> BTreeMap<u64, String> {
    let mut states = BTreeMap::new();
    let inner: Vec<&Value> = match value {
        Value::Object(map) => map.values().collect(),
        Value::Array(list) => list.iter().collect(),
        _ => Vec::new(),
    };
    if let (Some(block), Some(state)) = (value["block"].as_u64(), value["state"].as_str()) {
        states.insert(block, state.to_owned());
    }
    for value in inner {
        states.append(&mut block_states(value));
    }
    states
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::*;
    use crate::machine::fake::{Fake, Habit};

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    /// The outcome of a tour with `options` of a kernel with `habit`, and its report.
    fn tour(options: &[&str], habit: Habit) -> (Result<Verdict>, Report) {
        let args = Line::try_parse_from([&["qemu"], options].concat()).unwrap().args;
        let config = args.config().unwrap();
        let mut report = Report::new(&config);
        let mut machine = Fake::start(habit, &config).unwrap();
        let verdict = Tour::new(&mut machine, &config, &args, &Page::plain(), &mut report).run();
        (verdict, report)
    }

    fn failure(habit: Habit) -> String {
        format!("{:#}", tour(&[], habit).0.unwrap_err())
    }

    #[test]
    fn a_kernel_that_does_everything_right_passes() {
        let (verdict, report) = tour(&["--dimm", "1G", "--dimm", "2G@1"], Habit::Good);
        assert_eq!(verdict.unwrap(), Verdict::Pass);
        let verbs: Vec<_> = report.steps.iter().map(Step::verb).collect();
        assert_eq!(
            verbs,
            ["add", "online", "add", "online", "use", "offline", "remove", "offline", "remove"]
        );
        assert_eq!(report.reserved_for_hotplug, Some(135168));
    }

    #[test]
    fn blocks_that_stay_offline_are_put_online_one_by_one() {
        let (verdict, report) = tour(&["--cmdline", "policy=offline"], Habit::Good);
        assert_eq!(verdict.unwrap(), Verdict::Pass);
        assert_eq!(report.steps.iter().filter(|step| step.verb() == "online").count(), 8);
    }

    #[test]
    fn a_refusal_is_the_kernels_verdict_and_ends_without_use() {
        let (verdict, report) = tour(&["--dimm", "100M"], Habit::Good);
        assert!(matches!(verdict.unwrap(), Verdict::Refused(why) if why.contains("0x6400000")));
        assert_eq!(report.steps.len(), 1);
    }

    #[test]
    fn a_kernel_that_cannot_start_and_says_why_refuses() {
        let (verdict, report) = tour(&[], Habit::Declines);
        assert!(matches!(verdict.unwrap(), Verdict::Refused(why) if why == "no such pages"));
        assert!(report.steps.is_empty());
    }

    #[test]
    fn a_wrong_exit_code_is_no_pass_though_the_verdict_was() {
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
        assert_eq!(report.steps.iter().filter(|step| step.verb() == "online").count(), 2);
    }

    #[test]
    fn a_failed_check_of_the_snapshot_fails_the_tour() {
        assert!(failure(Habit::Leaks).contains("snapshot check` failed: section 32 differs"));
    }

    #[test]
    fn a_guest_that_dies_in_the_middle_fails_the_tour() {
        assert!(failure(Habit::Panics).contains("the kernel panicked"));
        assert!(failure(Habit::Vanishes).contains("gone"));
    }

    #[test]
    fn numbers_and_states_are_found_wherever_they_are() {
        let value =
            json!({"a": [{"block": 3, "state": "online"}, {"x": {"reserved_for_hotplug": 7}}]});
        assert_eq!(find_number(&value, "reserved_for_hotplug"), Some(7));
        assert_eq!(block_states(&value).get(&3).map(String::as_str), Some("online"));
        assert_eq!(
            find_number(&json!({"reserved_for_hotplug": null}), "reserved_for_hotplug"),
            None
        );
    }
}
