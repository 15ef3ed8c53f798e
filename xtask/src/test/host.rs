//! The host's tests: `cargo test` over the workspace, its output read line by line and counted.

use std::io::{BufReader, pipe};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::results::{Case, Counts, Suite};
use crate::arch::Arch;
use crate::progress::Progress;
use crate::setup::{self, Program};
use crate::tool;

/// Lines of output shown when cargo fails without a failing test.
const TAIL: usize = 60;

/// Which of the host's tests run, and for how long.
#[derive(Clone, Copy)]
pub(super) struct Choice<'a> {
    /// Without the suites in `tests/`.
    pub(super) quick: bool,
    /// What names have to hold.
    pub(super) filter: Option<&'a str>,
    /// Cycles of the storm of threads, if not as few as usual.
    pub(super) rounds: Option<u64>,
}

/// `cargo test` over the workspace.
fn cargo_test(root: &Path, choice: Choice<'_>) -> Command {
    let mut command = tool::cargo(root);
    command.args(["test", "--workspace", "--no-fail-fast"]).stdin(Stdio::null());
    command.args(["--features", "xtask/watch"]);
    if choice.quick {
        command.args(["--lib", "--bins"]);
    }
    if let Some(rounds) = choice.rounds {
        command.env("HOTMEM_ROUNDS", rounds.to_string());
    }
    command
}

/// Prints the names of the tests that would run.
///
/// # Errors
/// When they do not compile.
pub(crate) fn list(root: &Path, choice: Choice<'_>) -> Result<()> {
    let mut command = cargo_test(root, choice);
    command.args(["--quiet"]).args(choice.filter).args(["--", "--list"]).stderr(Stdio::inherit());
    let output = command.output().context("cannot start cargo test")?;
    ensure!(output.status.success(), "cargo test failed ({})", output.status);
    let text = String::from_utf8_lossy(&output.stdout);
    let names = text.lines().filter_map(|line| line.strip_suffix(": test"));
    names.for_each(|name| println!("host: {name}"));
    Ok(())
}

/// Runs tests of the workspace.
///
/// # Errors
/// When a program that they need is missing, or cargo does not start.
pub(crate) fn run(root: &Path, choice: Choice<'_>) -> Result<Vec<Suite>> {
    // The AML evaluator is compared with ACPICA's, on tables that QEMU makes.
    setup::ensure(&[Program::ACPIEXEC, Program::IASL, Arch::X86_64.about().qemu])?;

    let progress = Progress::start("Tests on the host");
    // One pipe for both outputs keeps cargo's names of test programs before what those say.
    let (output, input) = pipe().context("cannot make a pipe")?;
    let mut command = cargo_test(root, choice);
    command.args(choice.filter).stdout(input.try_clone()?).stderr(input);
    let mut child = command.spawn().context("cannot start cargo test")?;
    // The command holds our copies of the pipe's other end.
    drop(command);

    let mut reader = Reader::default();
    let mut output = BufReader::new(output);
    while let Some(line) = tool::next_line(&mut output) {
        if let Some(shown) = reader.take(line) {
            shown.lines().for_each(|line| progress.line(line));
        }
        progress.detail(&reader.now);
    }

    let status = child.wait().context("cannot wait for cargo test")?;
    progress.done();
    if !status.success() && reader.counts.failed == 0 {
        // It did not compile, or a test ended its whole program.
        let start = reader.program.len().saturating_sub(TAIL);
        let text = reader.program.iter().skip(start).map(String::as_str).collect::<Vec<_>>();
        let text =
            format!("cargo test failed ({status}) without naming a test\n{}", text.join("\n"));
        eprintln!("{text}");
        let case = Case { name: "cargo test".into(), seconds: None, failure: Some(text) };
        reader.suites.push(Suite::of("host", 0.0, vec![case]));
    }
    Ok(reader.suites)
}

/// What was read so far.
#[derive(Default)]
struct Reader {
    suites: Vec<Suite>,
    /// The sum over all suites.
    counts: Counts,
    /// The test program that runs now, and its cases.
    name: String,
    cases: Vec<Case>,
    /// Its output, and cargo's before it.
    program: Vec<String>,
    /// What happens now, for the progress line.
    now: String,
}

impl Reader {
    /// Takes a line; returns text to show: the whole output of a test program that failed.
    fn take(&mut self, line: String) -> Option<String> {
        if let Some(name) = program_in(&line) {
            self.name = name;
        }
        if line.starts_with("running ") {
            self.program.clear();
        }
        if let Some((name, result)) =
            line.strip_prefix("test ").and_then(|rest| rest.rsplit_once(" ... "))
        {
            self.now =
                format!("{} passed, {} failed, {name}", self.counts.passed, self.counts.failed);
            let failure = (result == "FAILED").then(String::new);
            if result == "ok" || failure.is_some() {
                self.cases.push(Case { name: name.to_owned(), seconds: None, failure });
            }
        } else if self.cases.is_empty() {
            line.trim().clone_into(&mut self.now);
        }
        let result = counts_in(&line).map(|counts| (counts, seconds_in(&line)));
        self.program.push(line);
        let (counts, seconds) = result?;
        self.end(counts, seconds)
    }

    /// Ends the program that runs now.
    fn end(&mut self, counts: Counts, seconds: f32) -> Option<String> {
        self.counts = self.counts.plus(counts);
        let mut cases = std::mem::take(&mut self.cases);
        let mut shown = (counts.failed > 0).then(|| self.program.join("\n"));
        for case in &mut cases {
            if let (Some(failure), Some(shown)) = (&mut case.failure, &mut shown) {
                failure.clone_from(shown);
                // libtest adds remarks such as ` - should panic`.
                let name = case.name.split(" - ").next().unwrap_or_default();
                shown.push_str(&format!("\nrepeat: cargo xtask test --arch host {name}"));
            }
        }
        let name = format!("host {}", self.name);
        self.suites.push(Suite { name, seconds, counts, cases });
        shown
    }
}

/// The name of the test program in cargo's line `Running tests/at.rs (target/debug/deps/at-0123)` or
/// `Doc-tests hotmem`.
fn program_in(line: &str) -> Option<String> {
    let line = line.trim_start();
    if let Some(name) = line.strip_prefix("Doc-tests ") {
        return Some(format!("{name} (documentation)"));
    }
    let (source, path) = line.strip_prefix("Running ")?.strip_suffix(')')?.split_once(" (")?;
    let file = Path::new(path).file_name()?.to_str()?;
    let name = file.rsplit_once('-').map_or(file, |(name, _)| name);
    let unit = if source.starts_with("unittests") { " (unit)" } else { "" };
    Some(format!("{name}{unit}"))
}

/// The seconds at the end of a line `test result: ok. 12 passed; ...; finished in 0.05s`.
fn seconds_in(line: &str) -> f32 {
    let text = line.rsplit_once("finished in ").and_then(|(_, text)| text.strip_suffix('s'));
    text.and_then(|text| text.parse().ok()).unwrap_or_default()
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
        let shown = lines.iter().filter_map(|line| reader.take((*line).to_owned())).collect();
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
    fn each_program_is_a_suite_with_its_name_its_time_and_its_cases() {
        let mut reader = Reader::default();
        for line in [
            "     Running unittests src/lib.rs (target/debug/deps/hotmem_tests-5b1e)",
            "     Running tests/at.rs (target/debug/deps/at-0123)",
            "running 2 tests",
            "test at01 ... ok",
            "test at02 - should panic ... FAILED",
            "test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.25s",
        ] {
            reader.take(line.to_owned());
        }
        let [suite] = reader.suites.as_slice() else { panic!("{:?}", reader.suites) };
        assert_eq!((suite.name.as_str(), suite.seconds), ("host at", 1.25));
        assert_eq!(suite.counts, Counts { passed: 1, failed: 1 });
        assert_eq!(suite.cases[1].name, "at02 - should panic");
        assert!(suite.cases[1].failure.as_ref().is_some_and(|text| text.contains("at02")));
        assert_eq!(program_in("   Doc-tests hotmem").unwrap(), "hotmem (documentation)");
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
