//! `cargo xtask test`: the suites on the host and in QEMU, with one closing line for both.

mod host;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use clap::ValueEnum;

use crate::arch::{Arch, BuildChoices, MachineChoices};
use crate::suite;

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
        let (build, machine) = Default::default();
        Self { arch: Where::All, build, machine, filter: None }
    }
}

/// Runs the command.
///
/// # Errors
/// When a suite cannot even start, for want of a tool; a suite that runs and fails is counted.
pub(crate) fn main(root: &Path, args: &Args) -> Result<ExitCode> {
    let filter = args.filter.as_deref();
    let mut counts = Counts::default();
    // Wrong options are told before anything runs.
    let machines = args.arch.archs().into_iter().map(|arch| {
        arch.ensure_kernel()?;
        args.machine.config(args.build.image(arch)?)
    });
    let machines = machines.collect::<Result<Vec<_>>>()?;
    if matches!(args.arch, Where::Host | Where::All) {
        counts = counts.plus(host::run(root, filter)?);
    }
    for machine in machines {
        counts = counts.plus(suite::run(root, machine, filter)?);
    }

    println!("{} passed, {} failed", counts.passed, counts.failed);
    if counts == Counts::default() {
        eprintln!("error: no test has such a name");
        return Ok(ExitCode::FAILURE);
    }
    Ok(if counts.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
