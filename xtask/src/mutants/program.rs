//! A program of tests, built of the tree with the fault.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::tree::Tree;
use crate::tool;

/// Time after which a test counts as one that does not return.
const PATIENCE: Duration = Duration::from_secs(300);
/// Time between two looks at a test that runs.
const PAUSE: Duration = Duration::from_millis(20);

/// What a test did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Passed,
    Failed,
    /// It did not return, and was ended.
    Hung,
}

/// A program of tests, or this program itself, which runs scenarios.
pub(super) struct Program {
    file: PathBuf,
    /// The folder of its package.
    home: PathBuf,
    /// The words before the name of a test.
    words: Vec<String>,
    /// Where a scenario's image is built.
    build: Option<PathBuf>,
}

/// Whether the words of a suite name a machine in QEMU.
pub(super) fn is_machine(suite: &str) -> bool {
    suite.starts_with("--arch ")
}

/// The command that a suite's words follow.
pub(super) fn runner(suite: &str) -> &'static str {
    if is_machine(suite) { "cargo xtask test" } else { "cargo test" }
}

impl Program {
    /// Builds the program that `cargo test` runs with these words.
    ///
    /// # Errors
    ///
    /// When it does not compile, or the words name more than one.
    pub(super) fn build(tree: &Tree, suite: &str) -> Result<Self> {
        if is_machine(suite) {
            return Self::with_image(tree, suite);
        }
        let mut cargo = tool::cargo(tree.files());
        cargo.args(["test", "--no-run", "--message-format=json-render-diagnostics"]);
        cargo.args(suite.split_whitespace());
        // Lints would refuse a fault that leaves something unused, or always overflows. One stays: it ends a constant that
        // takes for ever. A model is built with a `cfg` of its own, so in a folder of its own, too.
        const ALLOWED: &str = "-Awarnings -Aarithmetic_overflow -Aunconditional_panic";
        match suite.ends_with("--test loom") {
            true => cargo
                .env("CARGO_TARGET_DIR", tree.build().join("loom"))
                .env("RUSTFLAGS", format!("--cfg loom {ALLOWED}")),
            false => cargo.env("CARGO_TARGET_DIR", tree.build()).env("RUSTFLAGS", ALLOWED),
        };
        let output = cargo.stdin(Stdio::null()).output().context("cannot start cargo test")?;
        if !output.status.success() {
            bail!("does not compile: {}", String::from_utf8_lossy(&output.stderr));
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let mut programs = text.lines().filter_map(program);
        let program = programs.next().with_context(|| format!("'{suite}' names no tests"))?;
        ensure!(programs.next().is_none(), "'{suite}' names more than one program of tests");
        Ok(program)
    }

    /// This program itself, with the image of the tree for the machine of a suite.
    fn with_image(tree: &Tree, suite: &str) -> Result<Self> {
        let file = std::env::current_exe().context("the path of this program")?;
        let (home, build) = (tree.files().to_path_buf(), Some(tree.build().to_path_buf()));
        let words = ["build"].into_iter().chain(suite.split_whitespace());
        let mut program = Self { file, home, words: words.map(str::to_owned).collect(), build };
        let output = program.command().output().context("cannot build an image")?;
        if !output.status.success() {
            bail!("no image: {}", String::from_utf8_lossy(&output.stderr));
        }
        if let Some(first) = program.words.first_mut() {
            "test".clone_into(first);
        }
        Ok(program)
    }

    /// The command, without the name of a test.
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(&self.file);
        command.current_dir(&self.home).env("CARGO_MANIFEST_DIR", &self.home);
        command.envs(self.build.iter().map(|build| ("CARGO_TARGET_DIR", build)));
        command.env("RUST_BACKTRACE", "0").args(&self.words).stdin(Stdio::null());
        command
    }

    /// Whether it has tests of this name.
    ///
    /// # Errors
    ///
    /// When it does not start.
    pub(super) fn has(&self, test: &str) -> Result<bool> {
        let output = self.command().args([test, "--list"]).output();
        let output = output.with_context(|| self.file.display().to_string())?;
        let text = String::from_utf8_lossy(&output.stdout);
        let is_one = |line: &str| line.ends_with(": test") || line.ends_with(test);
        Ok(text.lines().any(is_one))
    }

    /// Runs the tests whose name contains `test`.
    ///
    /// # Errors
    ///
    /// When it does not start.
    pub(super) fn run(&self, test: &str) -> Result<Outcome> {
        // The failure of a mutant is what is expected, so that nobody needs to read it.
        let mut command = self.command();
        command.arg(test).stdout(Stdio::null()).stderr(Stdio::null());
        let mut running = command.spawn().with_context(|| self.file.display().to_string())?;
        let begun = Instant::now();
        loop {
            if let Some(status) = running.try_wait()? {
                return Ok(if status.success() { Outcome::Passed } else { Outcome::Failed });
            }
            if begun.elapsed() > PATIENCE {
                running.kill()?;
                running.wait()?;
                return Ok(Outcome::Hung);
            }
            thread::sleep(PAUSE);
        }
    }
}

/// The program of tests that a line of cargo's messages announces.
fn program(line: &str) -> Option<Program> {
    let message: Value = serde_json::from_str(line).ok()?;
    let is_test = message["profile"]["test"] == true;
    let file = message["executable"].as_str().filter(|_| is_test)?;
    let manifest = PathBuf::from(message["manifest_path"].as_str()?);
    let home = manifest.parent()?.to_path_buf();
    Some(Program { file: file.into(), home, words: Vec::new(), build: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_of_tests_are_read_from_the_messages_of_cargo() {
        let line = |test, file| {
            format!(
                r#"{{"manifest_path":"/a/b/Cargo.toml","profile":{{"test":{test}}},"executable":{file}}}"#
            )
        };
        let found = program(&line("true", r#""/t/x""#)).unwrap();
        assert_eq!((found.file, found.home), ("/t/x".into(), "/a/b".into()));
        for other in [line("false", r#""/t/x""#), line("true", "null"), "Compiling".to_owned()] {
            assert!(program(&other).is_none(), "{other}");
        }
    }

    #[test]
    fn a_program_that_fails_is_not_one_that_passes() {
        let of = |file: &str| Program {
            file: file.into(),
            home: "/".into(),
            words: Vec::new(),
            build: None,
        };
        assert_eq!(of("true").run("any").unwrap(), Outcome::Passed);
        assert_eq!(of("false").run("any").unwrap(), Outcome::Failed);
        assert!(of("/no/such/program").run("any").is_err());
    }
}
