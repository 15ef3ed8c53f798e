//! `cargo xtask ci`: everything a change has to pass, in one command; and with `--full` what takes longer.

mod address;
mod libraries;
mod memcheck;
mod races;

use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::{arch, lint, root, test, tool};

/// The long storms: `cargo xtask test` with each of these options.
const CYCLES: [&[&str]; 4] = [
    &["--arch", "host", "--rounds", "2000", "storm_threads"],
    &["--arch", "x86_64", "--rounds", "2000", "all_cpus"],
    &["--arch", "aarch64", "--rounds", "2000", "all_cpus"],
    &["--arch", "ppc64", "--rounds", "2000", "all_cpus"],
];

/// Runs the checks, each although another fails, and closes with a line for each.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// All checks, also those that need more tools or take long: features, supply, semver, address, memcheck, races and cycles
    #[arg(long, conflicts_with = "checks")]
    full: bool,

    /// Compare the interfaces of the libraries with this commit [default: the last tag]
    #[arg(long)]
    baseline_rev: Option<String>,

    /// Only these checks [default: lint, loom and test]
    #[arg(value_enum)]
    checks: Vec<Check>,
}

/// One of the checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Check {
    /// Format, clippy, documentation and the repository's own rules
    Lint,
    /// Models of what CPUs share, under every interleaving
    Loom,
    /// The tests on the host and in QEMU
    Test,
    /// Each library with each of its features alone, and with all
    Features,
    /// Licences, sources and versions of dependencies, and whether each is used: cargo-deny and cargo-machete
    Supply,
    /// The interfaces of the libraries against those of the last release: cargo-semver-checks
    Semver,
    /// Host suites under AddressSanitizer, which must also find a planted fault
    Address,
    /// A short storm under valgrind's memcheck, which must also find two planted faults
    Memcheck,
    /// Storms of the host's threads under ThreadSanitizer, which must also find two planted races
    Races,
    /// 2,000 cycles of memory that comes and goes while all CPUs, or the threads of the host, are busy
    Cycles,
}

impl Args {
    /// The checks that run.
    fn checks(&self) -> Vec<Check> {
        match (self.full, self.checks.as_slice()) {
            (true, _) => Check::value_variants().to_vec(),
            (false, []) => vec![Check::Lint, Check::Loom, Check::Test],
            (false, checks) => checks.to_vec(),
        }
    }
}

impl Check {
    fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Makes sure that what it needs is there, as far as it does not do so itself before it begins.
    fn ready(self) -> Result<()> {
        match self {
            Self::Races => races::Tools::find().map(drop),
            Self::Supply => libraries::find("deny").and_then(|()| libraries::find("machete")),
            Self::Semver => libraries::find("semver-checks"),
            Self::Memcheck => memcheck::ready(),
            Self::Lint
            | Self::Loom
            | Self::Test
            | Self::Features
            | Self::Address
            | Self::Cycles => Ok(()),
        }
    }

    /// Runs it; returns whether it passed.
    fn run(self, root: &Path, args: &Args) -> Result<bool> {
        match self {
            Self::Lint => Ok(lint::main(root)? == ExitCode::SUCCESS),
            Self::Loom => loom(root),
            Self::Test => tests(root, &[]),
            Self::Features => libraries::features(root),
            Self::Supply => libraries::supply(root),
            Self::Semver => libraries::semver(root, args.baseline_rev.as_deref()),
            Self::Address => address::run(root),
            Self::Memcheck => memcheck::run(root),
            Self::Races => races::run(root),
            Self::Cycles => {
                CYCLES.iter().try_fold(true, |good, words| Ok(good & tests(root, words)?))
            }
        }
    }
}

/// Runs the checks.
///
/// # Errors
/// When something that a check needs is missing: nothing runs then.
pub(crate) fn main(root: &Path, args: &Args) -> Result<ExitCode> {
    let checks = args.checks();
    for check in &checks {
        check.ready().with_context(|| format!("the check `{}` cannot run", check.name()))?;
    }
    let mut summary = String::new();
    let mut good = true;
    for check in checks {
        let started = Instant::now();
        let passed = check.run(root, args).unwrap_or_else(|error| {
            eprintln!("{}: {error:#}", check.name());
            false
        });
        let (seconds, result) = (started.elapsed().as_secs(), if passed { "ok" } else { "FAILED" });
        // Writing to a string cannot fail.
        let _ = writeln!(summary, "{:<9}{result:<8}{seconds:>6} s", check.name());
        good &= passed;
    }
    print!("{summary}");
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs `cargo xtask test` with the options `words`; returns whether all tests passed.
fn tests(root: &Path, words: &[&str]) -> Result<bool> {
    let args: test::Args = arch::parsed(words)?;
    Ok(test::main(root, &args)? == ExitCode::SUCCESS)
}

/// Whether the models of what CPUs share hold under every interleaving. They are built with a `cfg` of their own, so
/// in a directory of their own, too.
fn loom(root: &Path) -> Result<bool> {
    let mut command = tool::cargo(root);
    command.env("RUSTFLAGS", "--cfg loom");
    command.env("CARGO_TARGET_DIR", root::target_dir(root).join("loom"));
    let packages = ["-p", "hotmem-paging", "-p", "hotmem", "-p", "hotmem-vm"];
    command.args(["test", "--release"]).args(packages).args(["--test", "loom"]);
    Ok(command.status().context("cannot start cargo test for loom")?.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checks(words: &[&str]) -> Vec<String> {
        let args: Args = arch::parsed(words).unwrap();
        args.checks().into_iter().map(Check::name).collect()
    }

    /// What `--full` runs.
    const LONG: [&str; 10] = [
        "lint", "loom", "test", "features", "supply", "semver", "address", "memcheck", "races",
        "cycles",
    ];

    #[test]
    fn the_long_checks_run_with_full_or_by_name() {
        assert_eq!(checks(&[]), ["lint", "loom", "test"]);
        assert_eq!(checks(&["--full"]), LONG);
        assert_eq!(checks(&["races", "lint"]), ["races", "lint"]);
        assert!(arch::parsed::<Args>(&["--full", "lint"]).is_err());
    }

    #[test]
    fn each_long_storm_is_a_command_of_its_own_with_the_full_number_of_cycles() {
        for words in CYCLES {
            let args: test::Args = arch::parsed(words).unwrap();
            assert!(args.selects_cycles(2000), "{words:?}");
        }
    }
}
