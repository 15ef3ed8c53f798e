//! The scenarios that run in QEMU: each boots the real image, drives it by QMP and its monitor, and
//! ends by proving that nothing is left behind.
//!
//! A scenario is a name (a sentence about behaviour) and a function. What the kernel cannot do yet
//! fails; nothing is skipped but what a machine cannot show (a second mainboard where there is one, say).

mod acceptance;
mod answers;
mod events;
mod faults;
mod figures;
mod kernel;
mod lab;
mod layout;
mod life;
mod monitor;
mod order;
mod refusals;
mod taken;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use anyhow::Result;

use crate::arch::Arch;
use crate::build;
use crate::machine::Config;
use crate::progress::Progress;
use crate::setup;
use crate::test::Counts;
use lab::Lab;

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

/// Lists functions as scenarios under their own names; `name if condition` runs where the condition holds.
macro_rules! scenarios {
    ($($name:ident $(if $on:expr)?),* $(,)?) => {
        &[$($crate::suite::Scenario {
            name: stringify!($name),
            on: $crate::suite::scenarios!(@on $($on)?),
            run: $name,
        }),*]
    };
    (@on) => { |_| true };
    (@on $on:expr) => { $on };
}
use scenarios;

/// Holds on x86_64: for what is said in its addresses, its exceptions or its instructions.
fn on_x86_64(lab: &Lab) -> bool {
    lab.arch() == Arch::X86_64
}

/// Holds on ppc64: for what is said of its hypervisor.
fn on_ppc64(lab: &Lab) -> bool {
    lab.arch() == Arch::Ppc64
}

/// All scenarios, by topic.
const TOPICS: [(&str, &[Scenario]); 11] = [
    ("kernel", kernel::SCENARIOS),
    ("layout", layout::SCENARIOS),
    ("refusals", refusals::SCENARIOS),
    ("events", events::SCENARIOS),
    ("monitor", monitor::SCENARIOS),
    ("acceptance", acceptance::SCENARIOS),
    ("answers", answers::SCENARIOS),
    ("life", life::SCENARIOS),
    ("taken", taken::SCENARIOS),
    ("faults", faults::SCENARIOS),
    ("figures", figures::SCENARIOS),
];

/// What is shown on every machine.
const SAMPLE: [&str; 8] = [
    "kernel::words_that_mean_nothing_are_told_and_change_nothing",
    "layout::eight_blocks_per_device_have_one_memmap_at_their_start",
    "layout::eight_blocks_per_block_have_a_memmap_in_each",
    "layout::eight_blocks_with_their_memmap_in_boot_memory_are_usable_whole",
    "layout::a_dimm_belongs_to_the_node_the_firmware_names",
    "events::eight_dimms_in_one_event_are_all_taken_and_all_given_back",
    "events::inserts_and_ejects_in_one_event_are_told_apart",
    "monitor::the_guest_exits_with_the_code_it_is_told",
];

/// One run of the scenarios.
#[derive(Debug)]
pub(crate) struct Run<'a> {
    /// What it is a run of, for the reader.
    pub(crate) name: String,
    /// What machines are like unless a scenario says otherwise.
    pub(crate) usual: Config,
    /// Only the sample?
    pub(crate) sample: bool,
    /// Only scenarios whose `topic::name` holds this.
    pub(crate) filter: Option<&'a str>,
}

/// Runs scenarios.
///
/// # Errors
/// When QEMU or a toolchain is missing. An image that does not build fails every scenario.
pub(crate) fn run(root: &Path, run: Run<'_>) -> Result<Counts> {
    let Run { name, usual, sample, filter } = run;
    let lab = Lab::new(PathBuf::new(), usual);
    let chosen: Vec<_> = TOPICS
        .iter()
        .flat_map(|(topic, scenarios)| {
            scenarios.iter().map(move |one| (format!("{topic}::{}", one.name), one))
        })
        .filter(|(_, one)| (one.on)(&lab))
        .filter(|(name, _)| !sample || SAMPLE.contains(&name.as_str()))
        .filter(|(name, _)| filter.is_none_or(|filter| name.contains(filter)))
        .collect();
    if chosen.is_empty() {
        return Ok(Counts::default());
    }
    setup::ready_to_run(lab.usual())?;
    let program = match build::image(root, lab.image()) {
        Ok(program) => program,
        Err(error) => {
            eprintln!("{error:#}");
            let failed = u64::try_from(chosen.len())?;
            return Ok(Counts { passed: 0, failed });
        }
    };

    Ok(run_all(&name, &lab.with_program(program), &chosen))
}

/// What became of a scenario.
struct Finished<'a> {
    name: &'a str,
    seconds: f32,
    result: Result<()>,
}

/// Runs scenarios, as many at once as there are processors, and prints each as it ends.
fn run_all(name: &str, lab: &Lab, chosen: &[(String, &Scenario)]) -> Counts {
    let progress = Progress::start(format!("{} scenarios in QEMU for {name}", chosen.len()));
    let workers = thread::available_parallelism().map_or(1, |count| count.get().min(MOST_AT_ONCE));
    let next = AtomicUsize::new(0);
    let (sender, finished) = mpsc::channel();
    let mut counts = Counts::default();

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
        for one in finished {
            counts = counts.plus(tell(&progress, &one));
            progress.detail(&format!("{} passed, {} failed", counts.passed, counts.failed));
        }
    });
    progress.done();
    counts
}

/// Prints how a scenario went, with what is known of a failure.
fn tell(progress: &Progress, Finished { name, seconds, result }: &Finished<'_>) -> Counts {
    match result {
        Ok(()) => {
            progress.line(&format!("test {name} ... ok ({seconds:.1} s)"));
            Counts { passed: 1, failed: 0 }
        }
        Err(error) => {
            progress.line(&format!("test {name} ... FAILED ({seconds:.1} s)\n{error:#}\n"));
            Counts { passed: 0, failed: 1 }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
