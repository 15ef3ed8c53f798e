//! `cargo xtask test`: the suites on the host and in QEMU, with one closing line for both.

mod host;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use clap::ValueEnum;

use crate::suite;

/// Runs the tests and closes with a line `N passed, N failed`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// Where to run: tests on this host, scenarios in QEMU, or both
    #[arg(long, value_enum, default_value_t = Where::All)]
    arch: Where,

    /// Run only tests whose name holds this text
    filter: Option<String>,
}

/// Which suites to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Where {
    /// Tests on this host
    Host,
    /// Scenarios in QEMU
    #[value(name = "x86_64")]
    X86_64,
    /// Both
    All,
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
    pub(crate) const fn all() -> Self {
        Self { arch: Where::All, filter: None }
    }
}

/// Runs the command.
///
/// # Errors
/// When a suite cannot even start, for want of a tool; a suite that runs and fails is counted.
pub(crate) fn main(root: &Path, args: &Args) -> Result<ExitCode> {
    let filter = args.filter.as_deref();
    let mut counts = Counts::default();
    if args.arch != Where::X86_64 {
        counts = counts.plus(host::run(root, filter)?);
    }
    if args.arch != Where::Host {
        counts = counts.plus(suite::run(root, filter)?);
    }

    println!("{} passed, {} failed", counts.passed, counts.failed);
    if counts == Counts::default() {
        eprintln!("error: no test has such a name");
        return Ok(ExitCode::FAILURE);
    }
    Ok(if counts.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
