//! A short storm on the fake machine under valgrind's memcheck: nothing depends on a value that was never written, and
//! nothing uses memory that was freed.
//!
//! It is built without optimisation. An optimised program also computes with the value of a `None`, which has none, and
//! drops the result: memcheck reports that.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::address::{PLANTED, finds, host};
use crate::setup::{self, Program};
use crate::{root, tool};

/// The storm: its seed, and its events, of which each takes a third of a second.
const SEED: u64 = 1;
const EVENTS: u64 = 100;
/// The faults that are planted, as cargo selects them, and what memcheck says of each.
const FAULTS: [(&[&str], &str); 2] = [
    (PLANTED, "Invalid read"),
    (
        &["--package", "hotmem-paging", "--lib", "planted_use_of_memory_that_was_never_written"],
        "depends on uninitialised value",
    ),
];
/// What the program of a log says that did what it must.
const PLAYED: &str = "storm: played ";
/// How programs are run: a report is a failure.
const RUNNER: &str = "valgrind --quiet --error-exitcode=99 --leak-check=no";

/// Makes sure that valgrind is there.
///
/// # Errors
/// When it is not, and cannot be installed.
pub(super) fn ready() -> Result<()> {
    setup::ensure(&[Program::VALGRIND])
}

/// Runs the storm; returns whether the planted faults were found, and no other.
///
/// # Errors
/// When cargo does not start, or does not name the host.
pub(super) fn run(root: &Path) -> Result<bool> {
    let mut found = true;
    for (test, report) in FAULTS {
        found &= finds(&mut cargo(root, &[&["test", "--quiet"], test].concat())?, &[report])?;
    }

    let log = root::target_dir(root).join("memcheck/storm.log");
    let events = hotmem_storm::generate(SEED, EVENTS, 0);
    tool::write_atomically(&log, hotmem_storm::write("for memcheck", &events).as_bytes())?;
    let words = ["run", "--quiet", "--profile", "test", "--package", "hotmem-storm-host"];
    let mut storm = cargo(root, &words)?;
    storm.args(["--", "--alone", "--replay"]).arg(&log).stderr(Stdio::inherit());
    let storm = storm.output().context("cannot start cargo run")?;
    let text = String::from_utf8_lossy(&storm.stdout);
    print!("{text}");
    Ok(found & storm.status.success() & text.contains(PLAYED))
}

/// A cargo that runs programs under memcheck.
fn cargo(root: &Path, words: &[&str]) -> Result<Command> {
    let host = host("rustc")?;
    let runner = format!("CARGO_TARGET_{}_RUNNER", host.replace('-', "_").to_uppercase());
    let mut command = tool::cargo(root);
    command.args(words).args(["--target", &host, "--target-dir"]);
    command.arg(root::target_dir(root).join("memcheck"));
    command.env("CARGO_PROFILE_TEST_OPT_LEVEL", "0").env(runner, RUNNER).stdin(Stdio::null());
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_run_under_memcheck_and_are_built_apart_from_others() {
        let command = cargo(Path::new("/r"), &["test"]).unwrap();
        let mut envs =
            command.get_envs().filter_map(|(name, value)| Some((name.to_str()?, value?)));
        let is_runner = |name: &str| name.starts_with("CARGO_TARGET_") && name.ends_with("_RUNNER");
        assert!(envs.any(|(name, value)| is_runner(name) && value == RUNNER));
        assert!(command.get_args().any(|word| Path::new(word).ends_with("memcheck")));
    }
}
