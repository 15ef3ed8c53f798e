//! The scenarios that run in QEMU: each boots the real image, drives it by QMP and its monitor, and
//! ends by proving that nothing is left behind.
//!
//! A scenario is a name (a sentence about behaviour) and a function. What the kernel cannot do yet
//! fails; nothing is skipped but what a machine cannot show (a second mainboard where there is one, say).

mod acceptance;
mod alone;
mod cpus;
mod events;
mod faults;
mod figures;
mod guest_memory;
mod guests;
mod kernel;
mod lab;
mod layout;
mod life;
mod linux;
mod logged;
mod monitor;
mod nodes;
mod odd;
mod outcomes;
mod own;
mod pmem;
mod power;
mod processors;
mod refusals;
mod scripts;
mod scrub;
mod storm;
mod taken;
mod vcpus;
mod virtio_mem;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use anyhow::{Error, Result};

use crate::arch::Arch;
use crate::machine::Config;
use crate::progress::Progress;
use crate::test::results::{Case, Suite};
use crate::{root, tool};
use lab::Lab;
pub(crate) use lab::Storm;
pub(crate) use logged::play_on;

/// Machines at once; each may hold a few GiB of touched memory.
const MOST_AT_ONCE: usize = 4;

/// One thing that has to be so.
pub(crate) struct Scenario {
    /// A sentence, in snake case.
    name: &'static str,
    /// Whether machines like this one can show it.
    on: fn(&Lab) -> bool,
    run: fn(&Lab) -> Result<()>,
}

/// Lists functions as scenarios under their own names; `name if condition` runs where the condition holds, and
/// `name => |lab| ...` is one of several that a function runs.
macro_rules! scenarios {
    ($($name:ident $(if $on:expr)? $(=> $run:expr)?),* $(,)?) => {
        &[$($crate::suite::Scenario {
            name: stringify!($name),
            on: $crate::suite::scenarios!(@ $($on,)? |_| true),
            run: $crate::suite::scenarios!(@ $($run,)? $name),
        }),*]
    };
    (@ $first:expr $(, $other:expr)?) => { $first };
}
use scenarios;

/// Holds on x86_64: for scenarios that depend on its addresses, its exceptions or its instructions.
fn on_x86_64(lab: &Lab) -> bool {
    lab.arch() == Arch::X86_64
}

/// Holds on machines that ACPI describes.
fn on_acpi(lab: &Lab) -> bool {
    lab.arch() != Arch::Ppc64
}

/// Holds on machines that run guests.
fn runs_guests(lab: &Lab) -> bool {
    lab.runs_guests() == Some(true)
}

/// Holds on machines that run kernels as guests.
fn runs_kernels(lab: &Lab) -> bool {
    // A GICv2 has no list registers that are system registers.
    let has_controller = lab.room(&[]).is_ok_and(|config| config.gic != Some(2));
    runs_guests(lab) && lab.about().linux.is_some() && has_controller
}

/// Holds on machines that run guests, and whose CPUs mark what these write.
fn copies_ahead(lab: &Lab) -> bool {
    runs_guests(lab) && lab.arch() != Arch::Ppc64
}

/// Holds on ppc64: for scenarios that depend on its hypervisor.
fn on_ppc64(lab: &Lab) -> bool {
    lab.arch() == Arch::Ppc64
}

/// All scenarios, by topic.
const TOPICS: &[(&str, &[Scenario])] = &[
    ("kernel", kernel::SCENARIOS),
    ("layout", layout::SCENARIOS),
    ("odd", odd::SCENARIOS),
    ("refusals", refusals::SCENARIOS),
    ("events", events::SCENARIOS),
    ("monitor", monitor::SCENARIOS),
    ("cpus", cpus::SCENARIOS),
    ("nodes", nodes::SCENARIOS),
    ("acceptance", acceptance::SCENARIOS),
    ("scripts", scripts::SCENARIOS),
    ("logged", logged::SCENARIOS),
    ("outcomes", outcomes::SCENARIOS),
    ("life", life::SCENARIOS),
    ("power", power::SCENARIOS),
    ("processors", processors::SCENARIOS),
    ("scrub", scrub::SCENARIOS),
    ("taken", taken::SCENARIOS),
    ("faults", faults::SCENARIOS),
    ("figures", figures::SCENARIOS),
    ("guests", guests::SCENARIOS),
    ("vcpus", vcpus::SCENARIOS),
    ("guest_memory", guest_memory::SCENARIOS),
    ("linux", linux::SCENARIOS),
    ("own", own::SCENARIOS),
    ("virtio_mem", virtio_mem::SCENARIOS),
    ("pmem", pmem::SCENARIOS),
    (ALONE, alone::SCENARIOS),
];

/// The topic of images without a lab.
const ALONE: &str = "alone";

/// What is shown on every machine.
const SAMPLE: [&str; 8] = [
    "kernel::unknown_options_are_reported_and_change_nothing",
    "layout::eight_blocks_per_block_have_a_memmap_in_each",
    "layout::eight_blocks_with_their_memmap_in_boot_memory_are_usable_whole",
    "layout::a_dimm_belongs_to_the_node_the_firmware_names",
    "events::eight_dimms_in_one_event_are_all_added_and_all_removed",
    "events::inserts_and_ejects_in_one_event_are_distinguished",
    "monitor::the_guest_exits_with_the_code_that_was_typed",
    "alone::hotplug_events_are_served_without_a_monitor",
];

/// One run of the scenarios.
#[derive(Debug)]
pub(crate) struct Run<'a> {
    /// What it is a run of, for the reader.
    pub(crate) name: String,
    /// What follows `cargo xtask test --arch` to run on such machines.
    pub(crate) words: Vec<String>,
    /// What machines are like unless a scenario says otherwise.
    pub(crate) usual: Config,
    /// Which storms there are.
    pub(crate) storm: Storm,
    /// Only the sample?
    pub(crate) sample: bool,
    /// Only scenarios whose `topic::name` holds this.
    pub(crate) filter: Option<&'a str>,
}

impl Run<'_> {
    /// The scenarios it runs, by `topic::name`.
    pub(crate) fn scenarios(&self) -> impl Iterator<Item = (String, &'static Scenario)> {
        let lab = Lab::new(PathBuf::new(), self.usual.clone(), self.storm);
        // What an image without a lab can show has a topic of its own.
        let topics =
            TOPICS.iter().filter(move |(topic, _)| (*topic == ALONE) != self.usual.image.lab);
        let all = topics.flat_map(|(topic, scenarios)| {
            scenarios.iter().map(move |one| (format!("{topic}::{}", one.name), one))
        });
        all.filter(move |(_, one)| (one.on)(&lab))
            .filter(|(name, _)| !self.sample || SAMPLE.contains(&name.as_str()))
            .filter(|(name, _)| self.filter.is_none_or(|filter| name.contains(filter)))
    }

    /// The command that runs the scenario `name` alone.
    fn repeat(&self, name: &str) -> String {
        let words = self.words.iter().map(|word| tool::quoted(word)).collect::<Vec<_>>();
        format!("cargo xtask test --arch {} {name}", words.join(" "))
    }

    /// Where the console of the scenario `name` goes when it fails.
    fn log(&self, root: &Path, name: &str) -> PathBuf {
        let plain =
            |text: &str| text.replace(|c: char| !c.is_ascii_alphanumeric() && c != '-', "_");
        let dir = root::target_dir(root).join("logs").join(plain(&self.name));
        dir.join(format!("{}.log", name.replace("::", ".")))
    }
}

/// Runs scenarios on `image`. One that was not built fails every scenario.
pub(crate) fn run(root: &Path, run: &Run<'_>, image: Result<PathBuf>) -> Suite {
    let chosen: Vec<_> = run.scenarios().collect();
    let program = match image {
        Ok(program) => program,
        Err(error) => {
            let failure = format!("{error:#}");
            eprintln!("{failure}");
            let case = |(name, _)| Case { name, seconds: None, failure: Some(failure.clone()) };
            return Suite::of(&run.name, 0.0, chosen.into_iter().map(case).collect());
        }
    };

    let lab = Lab::new(program, run.usual.clone(), run.storm);
    let started = Instant::now();
    let mut cases = Vec::new();
    run_all(run, &lab, &chosen, |progress, finished| {
        cases.push(report(progress, root, run, finished));
    });
    Suite::of(&run.name, started.elapsed().as_secs_f32(), cases)
}

/// What became of a scenario.
struct Finished<'a> {
    name: &'a str,
    seconds: f32,
    result: Result<()>,
}

/// Runs scenarios, as many at once as there are processors, and passes each to `ended` as it ends.
fn run_all(
    run: &Run<'_>,
    lab: &Lab,
    chosen: &[(String, &Scenario)],
    mut ended: impl FnMut(&Progress, &Finished<'_>),
) {
    let (count, seed) = (chosen.len(), run.storm.seed);
    let progress =
        Progress::start(format!("{count} scenarios in QEMU for {}, seed {seed}", run.name));
    let workers = thread::available_parallelism().map_or(1, |count| count.get().min(MOST_AT_ONCE));
    let next = AtomicUsize::new(0);
    let (sender, finished) = mpsc::channel();

    thread::scope(|scope| {
        for _ in 0..workers {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                // Relaxed: only that no two workers get the same number matters.
                while let Some((name, scenario)) = chosen.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    let started = Instant::now();
                    let result = (scenario.run)(lab);
                    let seconds = started.elapsed().as_secs_f32();
                    // The receiver lives until all workers are done.
                    let _ = sender.send(Finished { name, seconds, result });
                }
            });
        }
        drop(sender);
        for (count, one) in finished.iter().enumerate() {
            ended(&progress, &one);
            progress.detail(&format!("{} of {}", count + 1, chosen.len()));
        }
    });
    progress.done();
}

/// Prints how a scenario went, with what is known of a failure and how to see it again.
fn report(progress: &Progress, root: &Path, run: &Run<'_>, one: &Finished<'_>) -> Case {
    let Finished { name, seconds, result } = one;
    let failure = result.as_ref().err().map(|error| explained(root, run, name, error));
    progress.line(&match &failure {
        None => format!("test {name} ... ok ({seconds:.1} s)"),
        Some(text) => format!("test {name} ... FAILED ({seconds:.1} s)\n{text}\n"),
    });
    Case { name: (*name).to_owned(), seconds: Some(*seconds), failure }
}

/// What is known of a failure. Writes the console of its machine, if it had one, to a file.
fn explained(root: &Path, run: &Run<'_>, name: &str, error: &Error) -> String {
    let text = format!("{error:#}\n  repeat: {}", run.repeat(name));
    let Some(failure) = error.downcast_ref::<lab::Failure>() else {
        return text;
    };
    let path = run.log(root, name);
    let log = failure.console.join("\n") + "\n";
    match tool::write_in_folder(&path, log.as_bytes()) {
        Ok(()) => format!("{text}\n  console: {}", path.display()),
        Err(error) => format!("{text}\n  console: not kept: {error:#}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn the_sample_is_of_scenarios_that_there_are() {
        let names: Vec<_> = TOPICS
            .iter()
            .flat_map(|(topic, all)| all.iter().map(move |one| format!("{topic}::{}", one.name)))
            .collect();
        for one in SAMPLE {
            assert!(names.iter().any(|name| name == one), "{one}");
        }
    }

    #[test]
    fn every_scenario_has_a_name_of_its_own() {
        let mut names: Vec<_> =
            TOPICS.iter().flat_map(|(_, all)| all.iter().map(|one| one.name)).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    fn x86(words: &[&str]) -> Run<'static> {
        let usual = Config::of(Arch::X86_64);
        let words = words.iter().map(|&word| word.to_owned()).collect();
        let storm = Storm { seed: 1, rounds: 1, cycles: 1, changes: 1 };
        Run { name: "x86_64 --machine pc".into(), words, usual, storm, sample: false, filter: None }
    }

    #[test]
    fn the_command_that_repeats_a_scenario_runs_that_one_alone() {
        let all: Vec<_> = x86(&[]).scenarios().map(|(name, _)| name).collect();
        for name in &all {
            assert_eq!(
                all.iter().filter(|other| other.contains(name.as_str())).count(),
                1,
                "{name}"
            );
        }
        assert_eq!(
            x86(&["x86_64", "--machine", "a b"]).repeat("kernel::x"),
            "cargo xtask test --arch x86_64 --machine 'a b' kernel::x"
        );
    }

    #[test]
    fn a_failure_names_the_command_that_repeats_it_and_keeps_the_console() {
        let scratch = Scratch::new().unwrap();
        let failure = lab::Failure::new("wrong", &["hotmem: ready", "hotmem> "]);
        let error = Error::from(failure).context("in the middle");
        let text = explained(scratch.path(), &x86(&["x86_64"]), "kernel::x", &error);
        let repeat = "in the middle: wrong\n  repeat: cargo xtask test --arch x86_64 kernel::x";
        assert!(text.contains(repeat), "{text}");
        let path = text.rsplit_once("console: ").unwrap().1;
        assert!(path.ends_with("logs/x86_64_--machine_pc/kernel.x.log"), "{path}");
        assert_eq!(std::fs::read_to_string(path).unwrap(), "hotmem: ready\nhotmem> \n");
        std::fs::remove_file(path).unwrap();
    }
}
