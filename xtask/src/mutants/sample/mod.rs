//! Faults that were not thought of: cargo-mutants makes them of every expression, and a sample of them is tried.
//!
//! ```text
//!   possible   all that cargo-mutants makes
//!   choice     the next one: spread over the lines of the sources
//!   suites     the tests for it, fast ones first; watch runs them until the first failure
//!   record     tests/mutants.md: what became of those that were tried
//! ```

mod choice;
mod possible;
mod record;
mod suites;
mod watch;

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use self::possible::Possible;
use self::record::{NO_PROGRAM, Record, Row, SURVIVED};
use self::suites::Suite;
use self::watch::{End, watch};
use crate::mutants::program::Program;
use crate::mutants::tree::Tree;

/// The profile of the root's Cargo.toml that programs are built with.
const PROFILE: &str = "mutants";

/// Which faults are tried, and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample<'a> {
    /// So many new ones that compile; otherwise those that survived, unless the reason is known.
    pub(super) new: Option<usize>,
    /// Only of this package.
    pub(super) package: Option<&'a str>,
    /// By the package's own tests and those that exercise most of it, without all others.
    pub(super) quick: bool,
}

/// Tries faults, and writes what becomes of each into the record; succeeds if none survives.
///
/// # Errors
///
/// Without cargo-mutants; with changes that are not committed, since a row names the commit; when what fails with a
/// fault fails without it: a test, a suite that does not end, or the compiler.
pub(super) fn main(root: &Path, sample: Sample<'_>) -> Result<ExitCode> {
    let packages = match sample.package {
        Some(package) => vec![known(package)?],
        None => possible::PACKAGES.to_vec(),
    };
    // First, since it may wait for another run: what is read below is of the files that are copied here.
    let tree = Tree::of(root)?;
    let commit = commit(root)?;
    let all = possible::all(root, &packages)?;
    let mut open = Record::read(root)?.open(&all).into_iter();
    let mut next = || match sample.new {
        Some(_) => Ok(choice::next(&all, &Record::read(root)?, &commit)),
        None => anyhow::Ok(open.next()),
    };
    let (mut survived, mut programs) = (0, 0);
    while programs < sample.new.unwrap_or(usize::MAX) {
        let Some(fault) = next()? else { break };
        let begun = Instant::now();
        let killer = tried(&tree, fault, sample.quick)?;
        let result = killer.as_ref().map_or_else(|| SURVIVED.to_owned(), Killer::text);
        // What another row of this commit names was checked then.
        let known = Record::read(root)?.is_known(&result, &commit);
        match &killer {
            Some(Killer::Test(suite, test)) if !known => {
                check(&tree, suite, &["--exact", test.as_str()])?;
            }
            Some(Killer::Suite(suite, _)) if !known => check(&tree, suite, &suite.words())?,
            Some(Killer::Compiler(suite)) => _ = built(&tree, suite).context("without a fault")?,
            _ => {}
        }
        let seconds = begun.elapsed().as_secs();
        println!("{seconds:>5} s  {}: {result}", fault.name);
        survived += usize::from(killer.is_none());
        programs += usize::from(!matches!(killer, Some(Killer::Compiler(_))));
        // Read again: a reason may have been written meanwhile.
        let mut record = Record::read(root)?;
        record.put(Row::new(&fault.name, &result, seconds, &commit));
        record.write(root)?;
    }
    Ok(if survived == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The package of this name.
fn known(package: &str) -> Result<&str> {
    let all = possible::PACKAGES;
    ensure!(all.contains(&package), "'{package}' is not sampled; these are: {}", all.join(", "));
    Ok(package)
}

/// The short name of the commit whose files are in `root`.
fn commit(root: &Path) -> Result<String> {
    let git = |words: &[&str]| {
        let output = Command::new("git").current_dir(root).args(words).output().context("git")?;
        ensure!(output.status.success(), "git {}: {}", words.join(" "), output.status);
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let others = format!(":!{}", record::FILE);
    let changed = git(&["status", "--porcelain", "--untracked-files=no", "--", ".", &others])?;
    ensure!(
        changed.is_empty(),
        "these changes are not committed, and rows name commits:\n{changed}"
    );
    git(&["rev-parse", "--short=12", "HEAD"])
}

/// What notices a fault, if anything does. The tree is afterwards as it was.
fn tried(tree: &Tree, fault: &Possible, quick: bool) -> Result<Option<Killer>> {
    let path = tree.files().join(&fault.file);
    let right = fs::read_to_string(&path).with_context(|| fault.file.clone())?;
    let written = tree.write(&fault.file, &fault.apply(&right)?);
    let (first, others) = suites::of(&fault.package);
    let others = if quick { &[] } else { others };
    let result = written.and_then(|()| killer(tree, first.iter().chain(others)));
    tree.write(&fault.file, &right)?;
    result
}

/// What notices a fault.
enum Killer {
    /// A test of a suite.
    Test(Suite, String),
    /// A suite that does not come to its end.
    Suite(Suite, String),
    /// The compiler, which does not take this suite's program.
    Compiler(Suite),
}

impl Killer {
    fn text(&self) -> String {
        match self {
            Self::Test(Suite { program, .. }, test) => format!("killed by `{test}` ({program})"),
            Self::Suite(Suite { program, .. }, why) => format!("killed by {why} ({program})"),
            Self::Compiler(_) => NO_PROGRAM.to_owned(),
        }
    }
}

/// The first of the suites that notices the fault in the tree, if one does.
fn killer<'a>(tree: &Tree, suites: impl Iterator<Item = &'a Suite>) -> Result<Option<Killer>> {
    for &suite in suites {
        let program = match built(tree, &suite) {
            Ok(program) => program,
            Err(error) if is_refused(&error) => return Ok(Some(Killer::Compiler(suite))),
            Err(error) => return Err(error),
        };
        let mut command = program.command();
        command.args(suite.words());
        match watch(command, suite.patience())? {
            End::Passed => {}
            End::Failed(test) => return Ok(Some(Killer::Test(suite, test))),
            End::Broken(why) => return Ok(Some(Killer::Suite(suite, why))),
        }
    }
    Ok(None)
}

/// Whether a program was not built because the compiler refuses it: then the first reason is printed.
fn is_refused(error: &anyhow::Error) -> bool {
    let text = format!("{error:#}");
    let why = text.lines().find(|line| line.starts_with("error"));
    println!("         {}", why.unwrap_or_default());
    text.contains("error: could not compile")
}

/// Its program, of the tree as it is.
fn built(tree: &Tree, suite: &Suite) -> Result<Program> {
    Program::build(tree, &format!("--profile {PROFILE} {}", suite.program))
}

/// Checks that the tests that `words` choose pass without a fault: otherwise their failure shows nothing.
fn check(tree: &Tree, suite: &Suite, words: &[&str]) -> Result<()> {
    let mut command = built(tree, suite)?.command();
    command.args(words);
    let end = watch(command, suite.patience())?;
    let Suite { program, .. } = suite;
    ensure!(end == End::Passed, "{words:?} fails without a fault ({program}): {end:?}");
    Ok(())
}
