//! `cargo xtask test`: the suites on the host and in QEMU, with one closing line for both.

mod host;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use clap::ValueEnum;

use crate::arch::{self, Arch, BuildChoices, MachineChoices};
use crate::machine::{Config, QemuDir};
use crate::suite::{self, Run};

/// Runs the tests and closes with a line `N passed, N failed`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// Where to run: tests on this host, scenarios in QEMU of an architecture, or all of them
    #[arg(long, value_enum, default_value_t = Where::All)]
    arch: Where,

    #[command(flatten)]
    build: BuildChoices,

    #[command(flatten)]
    machine: MachineChoices,

    #[command(flatten)]
    qemu: QemuDir,

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
    /// The host, and every architecture that has a kernel
    All,
}

impl Where {
    /// The architectures whose scenarios run.
    fn archs(self) -> Vec<Arch> {
        match self {
            Self::Host => Vec::new(),
            Self::X86_64 => vec![Arch::X86_64],
            Self::Aarch64 => vec![Arch::Aarch64],
            Self::Ppc64 => vec![Arch::Ppc64],
            Self::All => Arch::with_kernel().collect(),
        }
    }
}

/// How many tests went which way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Tests that held.
    pub(crate) passed: u64,
    /// Tests that did not, or could not run.
    pub(crate) failed: u64,
}

impl Counts {
    /// Both together.
    pub(crate) const fn plus(self, other: Self) -> Self {
        Self { passed: self.passed + other.passed, failed: self.failed + other.failed }
    }
}

impl Args {
    /// Everything, as CI runs it.
    pub(crate) fn all() -> Self {
        let (build, machine, qemu) = Default::default();
        Self { arch: Where::All, build, machine, qemu, filter: None }
    }
}

impl Args {
    /// What runs in QEMU: on a machine that was asked for, everything; with no wish, everything on the usual
    /// machine of each architecture, and a sample on its others.
    ///
    /// # Errors
    /// When an architecture has no kernel, or lacks an option that was given.
    fn runs(&self) -> Result<Vec<Run<'_>>> {
        let filter = self.filter.as_deref();
        let wish = (&self.build, &self.machine) != (&Default::default(), &Default::default());
        let mut runs = Vec::new();
        for arch in self.arch.archs() {
            arch.ensure_kernel()?;
            let qemu = || self.qemu.clone();
            let usual = self.machine.config(self.build.image(arch)?)?;
            let usual = Config { qemu: qemu(), ..usual };
            runs.push(Run { name: arch.to_string(), usual, sample: false, filter });
            let samples = if wish { &[] } else { arch.about().samples };
            for words in samples {
                let name = format!("{arch} {}", words.join(" "));
                let usual = Config { qemu: qemu(), ..arch::read(arch, words)? };
                runs.push(Run { name, usual, sample: true, filter });
            }
        }
        Ok(runs)
    }
}

/// Runs the command.
///
/// # Errors
/// When a suite cannot even start, for want of a tool; a suite that runs and fails is counted.
pub(crate) fn main(root: &Path, args: &Args) -> Result<ExitCode> {
    let mut counts = Counts::default();
    // Wrong options are told before anything runs.
    let runs = args.runs()?;
    if matches!(args.arch, Where::Host | Where::All) {
        counts = counts.plus(host::run(root, args.filter.as_deref())?);
    }
    for run in runs {
        counts = counts.plus(suite::run(root, run)?);
    }

    println!("{} passed, {} failed", counts.passed, counts.failed);
    if counts == Counts::default() {
        eprintln!("error: no test has such a name");
        return Ok(ExitCode::FAILURE);
    }
    Ok(if counts.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn names(words: &[&str]) -> Vec<(String, bool)> {
        let line = Line::try_parse_from([&["test"], words].concat()).unwrap();
        line.args.runs().unwrap().into_iter().map(|run| (run.name, run.sample)).collect()
    }

    #[test]
    fn without_a_wish_each_kernel_runs_everything_once_and_a_sample_on_other_machines() {
        let all = names(&[]);
        let whole: Vec<_> = all.iter().filter(|(_, sample)| !sample).collect();
        assert_eq!(whole.len(), Arch::with_kernel().count());
        let samples: usize = Arch::with_kernel().map(|arch| arch.about().samples.len()).sum();
        assert_eq!(all.len() - whole.len(), samples);
        assert!(names(&["--arch", "host"]).is_empty());
    }

    #[test]
    fn a_machine_that_was_asked_for_is_the_only_one_and_runs_everything() {
        let x86 = names(&["--arch", "x86_64", "--machine", "pc"]);
        assert_eq!(x86, [("x86_64".into(), false)]);
    }
}
