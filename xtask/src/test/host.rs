//! The host's tests: `cargo test` over the workspace, its output read line by line and counted.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;

use anyhow::{Context, Result};

use super::Counts;
use crate::arch::Arch;
use crate::progress::Progress;
use crate::setup::{self, Program};
use crate::tool;

/// Lines of cargo's own output shown when it fails without a failing test.
const TAIL: usize = 60;

/// Runs all tests of the workspace whose names hold `filter`.
///
/// # Errors
/// When a program that they need is missing, or cargo does not start.
pub(crate) fn run(root: &Path, filter: Option<&str>) -> Result<Counts> {
    // The AML evaluator is compared with ACPICA's, on tables that QEMU makes.
    setup::ensure(&[Program::ACPIEXEC, Program::IASL, Arch::X86_64.about().qemu])?;

    let progress = Progress::start("Tests on the host");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut child = Command::new(cargo)
        .current_dir(root)
        .args(["test", "--workspace", "--no-fail-fast"])
        .args(filter)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start cargo test")?;

    let (sender, lines) = mpsc::channel();
    if let Some(pipe) = child.stdout.take() {
        tool::forward(pipe, sender.clone(), Line::Test);
    }
    if let Some(pipe) = child.stderr.take() {
        tool::forward(pipe, sender.clone(), Line::Cargo);
    }
    drop(sender);
    let mut reader = Reader::default();
    for line in lines {
        if let Some(shown) = reader.take(line) {
            shown.lines().for_each(|line| progress.line(line));
        }
        progress.detail(&reader.now);
    }

    let status = child.wait().context("cannot wait for cargo test")?;
    progress.done();
    if !status.success() && reader.counts.failed == 0 {
        // It did not compile, or a test ended its whole program.
        let start = reader.cargo.len().saturating_sub(TAIL);
        reader.cargo.iter().skip(start).for_each(|line| eprintln!("{line}"));
        eprintln!("cargo test failed ({status}) without naming a test");
        reader.counts.failed += 1;
    }
    Ok(reader.counts)
}

/// A line, by where it came from.
enum Line {
    /// From a test program.
    Test(String),
    /// From cargo itself.
    Cargo(String),
}

/// What was read so far.
#[derive(Default)]
struct Reader {
    counts: Counts,
    /// Output of the test program that runs now.
    program: Vec<String>,
    cargo: Vec<String>,
    /// What happens now, for the progress line.
    now: String,
}

impl Reader {
    /// Takes a line; answers with text to show: the whole output of a test program that failed.
    fn take(&mut self, line: Line) -> Option<String> {
        let line = match line {
            Line::Cargo(line) => {
                line.trim().clone_into(&mut self.now);
                self.cargo.push(line);
                return None;
            }
            Line::Test(line) => line,
        };
        if line.starts_with("running ") {
            self.program.clear();
        }
        if let Some(name) = line.strip_prefix("test ").and_then(|rest| rest.split(" ... ").next()) {
            self.now =
                format!("{} passed, {} failed, {name}", self.counts.passed, self.counts.failed);
        }
        let counts = counts_in(&line);
        self.program.push(line);
        let counts = counts?;
        self.counts = self.counts.plus(counts);
        (counts.failed > 0).then(|| self.program.join("\n"))
    }
}

/// The counts of a line `test result: ok. 12 passed; 0 failed; ...`.
fn counts_in(line: &str) -> Option<Counts> {
    let rest = line.strip_prefix("test result: ")?;
    let (_, figures) = rest.split_once(". ")?;
    let number = |name: &str| {
        let mut parts = figures.split("; ");
        parts.find_map(|part| part.trim().strip_suffix(name)?.trim().parse().ok())
    };
    Some(Counts { passed: number("passed")?, failed: number("failed")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> (Counts, Vec<String>) {
        let mut reader = Reader::default();
        let shown =
            lines.iter().filter_map(|line| reader.take(Line::Test((*line).to_owned()))).collect();
        (reader.counts, shown)
    }

    #[test]
    fn the_programs_results_are_added_up() {
        let (counts, shown) = read(&[
            "running 2 tests",
            "test a ... ok",
            "test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.05s",
            "running 1 test",
            "test result: ok. 1 passed; 0 failed; 3 ignored; 0 measured; 0 filtered out; finished in 0.00s",
        ]);
        assert_eq!(counts, Counts { passed: 3, failed: 0 });
        assert!(shown.is_empty());
    }

    #[test]
    fn a_program_with_a_failure_is_shown_whole_and_others_are_not() {
        let (counts, shown) = read(&[
            "running 1 test",
            "test fine ... ok",
            "test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.05s",
            "running 1 test",
            "test broken ... FAILED",
            "panicked at here",
            "test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.05s",
        ]);
        assert_eq!(counts, Counts { passed: 1, failed: 1 });
        assert!(
            shown.len() == 1 && shown[0].contains("panicked at here") && !shown[0].contains("fine")
        );
    }

    #[test]
    fn other_lines_have_no_counts() {
        assert_eq!(counts_in("test result"), None);
        assert_eq!(counts_in("12 passed; 0 failed"), None);
    }
}
