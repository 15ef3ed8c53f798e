//! `cargo xtask test`: the suites on the host and in QEMU, with one closing line for both.

mod host;
pub(crate) mod results;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::arch::{self, Arch, Choices};
use crate::machine::Config;
use crate::progress::Progress;
use crate::suite::{self, Run, Storm};
use crate::{build, foreign, setup, tool};
use results::{Counts, Suite};

/// CPUs of the machines in QEMU.
const CPUS: u32 = 4;

/// Rounds of a storm, and of one with `--long`.
const STORM: u64 = 40;
const LONG_STORM: u64 = 5000;
/// Cycles of memory that comes and goes while all CPUs, or threads of the host, are busy; and with `--long`.
const CYCLES: u64 = 30;
const LONG_CYCLES: u64 = 2000;
/// Changes of memory at random beside a virtio-mem device, and with `--long`.
const CHANGES: u64 = 30;
const LONG_CHANGES: u64 = 1000;

/// Runs the tests and closes with a line `N passed, N failed`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// Where to run: tests on this host, scenarios in QEMU of an architecture, or all of them
    #[arg(long, value_enum, default_value_t = Where::All)]
    arch: Where,

    #[command(flatten)]
    choices: Choices,

    /// Under five minutes: tests beside the code, and a few scenarios on the usual machines
    #[arg(long, conflicts_with = "long")]
    quick: bool,

    /// All scenarios on every machine, instead of a sample on the less usual ones
    #[arg(long)]
    long: bool,

    /// The number that the requests and pauses of storms follow from [default: another one each time]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    /// Rounds of a storm [default: 40, with --long 5000; with all CPUs or threads busy 30, with --long 2000; beside a virtio-mem device 30, with --long 1000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    rounds: Option<u64>,

    /// Print the names of the tests instead of running them
    #[arg(long, conflicts_with = "junit")]
    list: bool,

    /// Write the results to this file, in the XML of JUnit
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,

    /// Run only tests whose name holds this text
    filter: Option<String>,
}

/// Which suites to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Where {
    /// Tests on this host
    Host,
    /// Scenarios in QEMU for x86
    #[value(name = "x86_64")]
    X86_64,
    /// Scenarios in QEMU for Arm
    Aarch64,
    /// Scenarios in QEMU for Power
    Ppc64,
    /// A kernel that is not ours, with our libraries, in QEMU for x86
    Foreign,
    /// The host, every architecture that has a kernel, and the foreign kernel
    All,
}

impl Where {
    /// The architectures whose scenarios run.
    fn archs(self) -> Vec<Arch> {
        match self {
            Self::Host | Self::Foreign => Vec::new(),
            Self::X86_64 => vec![Arch::X86_64],
            Self::Aarch64 => vec![Arch::Aarch64],
            Self::Ppc64 => vec![Arch::Ppc64],
            Self::All => Arch::all().collect(),
        }
    }
}

impl Args {
    /// What runs in QEMU: on a machine that was asked for, everything; with no wish, everything on the usual
    /// machine of each architecture, and a sample on its others. Runs in which no scenario has a name that was
    /// asked for are left out.
    ///
    /// # Errors
    /// When an architecture has no kernel, or lacks an option that was given.
    fn runs(&self) -> Result<Vec<Run<'_>>> {
        let mut runs = Vec::new();
        let storm = self.storm();
        for arch in self.arch.archs() {
            let words = self.choices.wishes();
            let wish = !words.is_empty();
            let usual = self.choices.config(arch, CPUS)?;
            runs.push(self.run(arch, words, usual, storm, self.quick));
            if self.quick || wish {
                continue;
            }
            for &words in arch.about().samples {
                let config = arch::read(arch, words, CPUS)?;
                let words = words.iter().map(|&word| word.to_owned()).collect();
                runs.push(self.run(arch, words, config, storm, !self.long));
            }
        }
        runs.retain(|run| run.scenarios().next().is_some());
        Ok(runs)
    }

    /// One run on machines that the options `words` describe.
    fn run(
        &self,
        arch: Arch,
        mut words: Vec<String>,
        usual: Config,
        storm: Storm,
        sample: bool,
    ) -> Run<'_> {
        words.insert(0, arch.to_string());
        let name = words.join(" ");
        let usual = Config { qemu: self.choices.qemu.clone(), ..usual };
        Run {
            name,
            words: [words, self.choices.qemu.words()].concat(),
            usual,
            storm,
            sample,
            filter: self.filter(),
        }
    }

    /// Which storms there are.
    fn storm(&self) -> Storm {
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // Short enough to be typed.
        let seed = self.seed.unwrap_or_else(|| u64::from(now().subsec_micros()));
        let rounds = self.rounds.unwrap_or(if self.long { LONG_STORM } else { STORM });
        let cycles = self.rounds.unwrap_or(if self.long { LONG_CYCLES } else { CYCLES });
        let changes = self.rounds.unwrap_or(if self.long { LONG_CHANGES } else { CHANGES });
        Storm { seed, rounds, cycles, changes }
    }

    /// What names have to hold.
    fn filter(&self) -> Option<&str> {
        self.filter.as_deref()
    }

    /// Which tests of the host run.
    fn host(&self) -> host::Choice<'_> {
        let rounds = self.rounds.or(self.long.then_some(LONG_CYCLES));
        host::Choice { quick: self.quick, filter: self.filter(), rounds }
    }

    /// Does this run storms of so many cycles, on the host or in QEMU, and no others?
    #[cfg(test)]
    pub(crate) fn selects_cycles(&self, cycles: u64) -> bool {
        self.filter.is_some() && self.storm().cycles == cycles
    }

    /// Does the kernel run that is not ours?
    const fn is_foreign(&self) -> bool {
        matches!(self.arch, Where::Foreign) || (matches!(self.arch, Where::All) && !self.quick)
    }

    /// Do tests on the host run?
    const fn on_host(&self) -> bool {
        matches!(self.arch, Where::Host | Where::All)
    }
}

/// Runs the command.
///
/// # Errors
/// When a suite cannot start because a tool is missing; a suite that runs and fails is counted.
pub(crate) fn main(root: &Path, args: &Args) -> Result<ExitCode> {
    // Wrong options are reported before anything runs.
    let runs = args.runs()?;
    if args.list {
        return list(root, args, &runs);
    }
    let mut suites = run_all(root, args, &runs)?;
    if args.is_foreign() {
        suites.push(foreign::run(root, &args.choices.qemu, args.filter())?);
    }
    print!("{}", results::table(&suites));
    if let Some(path) = &args.junit {
        tool::write_atomically(path, results::junit(&suites).as_bytes())?;
    }
    let counts = results::total(&suites);
    println!("{} passed, {} failed", counts.passed, counts.failed);
    if counts == Counts::default() {
        eprintln!("error: no test has such a name");
        return Ok(ExitCode::FAILURE);
    }
    Ok(if counts.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs the host's tests and `runs`. The images are built meanwhile, one after the other: a compiler at
/// its last step keeps one processor busy, and most scenarios two.
fn run_all(root: &Path, args: &Args, runs: &[Run<'_>]) -> Result<Vec<Suite>> {
    // What is missing is reported before anything runs, too.
    runs.iter().try_for_each(|run| setup::ready_to_run(&run.usual))?;
    thread::scope(|scope| {
        let (sender, images) = mpsc::channel();
        scope.spawn(move || {
            let mut built =
                runs.iter().map(|run| build::image(root, run.usual.image, &["--quiet"]));
            // When the tests were given up, the receiver is gone, and no further image is built.
            let _ = built.try_for_each(|image| sender.send(image));
        });
        let mut suites = Vec::new();
        if args.on_host() {
            suites = host::run(root, args.host())?;
        }
        for run in runs {
            let building = Progress::start(format!("The image for {}", run.name));
            let image = images.recv().context("no image was built")?;
            building.done();
            suites.push(suite::run(root, run, image));
        }
        Ok(suites)
    })
}

/// Prints the names of the tests that would run.
fn list(root: &Path, args: &Args, runs: &[Run<'_>]) -> Result<ExitCode> {
    if args.on_host() {
        host::list(root, args.host())?;
    }
    for run in runs {
        run.scenarios().for_each(|(name, _)| println!("{}: {name}", run.name));
    }
    if args.is_foreign() {
        foreign::list(args.filter());
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::parsed;

    fn names(words: &[&str]) -> Vec<(String, bool)> {
        let args: Args = parsed(words).unwrap();
        args.runs().unwrap().into_iter().map(|run| (run.name, run.sample)).collect()
    }

    #[test]
    fn without_a_wish_each_kernel_runs_everything_once_and_a_sample_on_other_machines() {
        let all = names(&[]);
        let whole: Vec<_> = all.iter().filter(|(_, sample)| !sample).collect();
        assert_eq!(whole.len(), Arch::all().count());
        let samples: usize = Arch::all().map(|arch| arch.about().samples.len()).sum();
        assert_eq!(all.len() - whole.len(), samples);
        assert!(names(&["--arch", "host"]).is_empty());
    }

    #[test]
    fn a_machine_that_was_asked_for_is_the_only_one_and_runs_everything() {
        let x86 = names(&["--arch", "x86_64", "--machine", "pc"]);
        assert_eq!(x86, [("x86_64 --machine pc".into(), false)]);
    }

    #[test]
    fn quick_is_a_sample_on_the_usual_machines_and_long_is_everything_on_all() {
        let quick = names(&["--quick"]);
        assert_eq!(quick.len(), Arch::all().count());
        assert!(quick.iter().all(|(_, sample)| *sample));
        let long = names(&["--long"]);
        assert_eq!(long.len(), names(&[]).len());
        assert!(long.iter().all(|(_, sample)| !sample));
        assert!(parsed::<Args>(&["--quick", "--long"]).is_err());
    }

    #[test]
    fn a_run_without_a_scenario_of_the_name_builds_nothing() {
        let alone: Vec<_> = names(&["alone::"]).into_iter().map(|(name, _)| name).collect();
        assert_eq!(alone, ["x86_64 --no-lab", "ppc64 --no-lab"]);
        assert_eq!(names(&["--arch", "ppc64", "--no-lab"]).len(), 1);
        assert!(names(&["no_such_name"]).is_empty());
    }

    #[test]
    fn a_storm_is_repeated_by_its_seed_and_is_longer_with_long() {
        let storm = |words: &[&str]| parsed::<Args>(words).unwrap().storm();
        let again = storm(&["--seed", "7", "--rounds", "20"]);
        assert_eq!(again, Storm { seed: 7, rounds: 20, cycles: 20, changes: 20 });
        assert_eq!((storm(&[]).rounds, storm(&["--long"]).rounds), (40, 5000));
        assert_eq!((storm(&[]).changes, storm(&["--long"]).changes), (30, 1000));
        assert_eq!(storm(&["--rounds", "4000"]).changes, 4000);
        assert!(parsed::<Args>(&["--rounds", "0"]).is_err());
        let threads = |words: &[&str]| parsed::<Args>(words).unwrap().host().rounds;
        assert_eq!((threads(&[]), threads(&["--long"])), (None, Some(2000)));
        assert_eq!(threads(&["--long", "--rounds", "20"]), Some(20));
    }

    #[test]
    fn another_qemu_runs_what_the_usual_one_runs() {
        assert_eq!(names(&["--qemu-dir", "/q"]), names(&[]));
    }

    #[test]
    fn the_options_of_a_run_make_the_same_machine_again() {
        for words in [
            &["--arch", "aarch64", "--page-size", "64K", "--el", "1", "--gic", "2"] as &[&str],
            &["--arch", "x86_64", "--machine", "pc"],
            &["--arch", "aarch64", "--no-lab"],
            &["--arch", "ppc64", "--cpu", "power10", "--firmware", "slof", "--qemu-dir", "/q d"],
        ] {
            let args: Args = parsed(words).unwrap();
            let run = args.runs().unwrap().remove(0);
            let again = run.words.iter().map(String::as_str);
            let again: Args =
                parsed(&["--arch"].into_iter().chain(again).collect::<Vec<_>>()).unwrap();
            assert_eq!(again.runs().unwrap().remove(0).usual, run.usual);
        }
    }
}
