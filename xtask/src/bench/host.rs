//! The manager beside other allocators on a hosted machine.
//!
//! The program `alloc` of `tests/hosted` does the work. Valgrind counts the instructions of a short and of a long run,
//! which differ by the work alone: not by a start, nor by what a first use costs. The time is the median of some runs
//! without valgrind.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use super::Row;
use crate::build::linked_program;
use crate::progress::Progress;
use crate::setup::{self, Program};
use crate::tool;

/// The program that does the work.
const PROGRAM: &str = "alloc";
/// Pairs of the short run that instructions are counted of, at least a round, and of what the long run has more.
const SHORT: u64 = 1_000;
const MORE: u64 = 10_000;
/// Pairs of a run that is timed, at least two rounds, and how many such runs there are.
const TIMED: u64 = 500_000;
const RUNS: usize = 5;

/// What the program can do.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Work {
    allocator: String,
    case: String,
    pairs: u64,
}

/// Measures the `wanted` cases of every allocator, and shows each when it is measured.
///
/// # Errors
/// When valgrind is missing or does not work, or the program does not build or fails.
pub(super) fn rows(
    root: &Path,
    wanted: impl Fn(&str, &str) -> bool,
    show: impl Fn(&Row),
) -> Result<Vec<Row>> {
    ensure!(cfg!(target_os = "linux"), "the hosted machine needs Linux");
    setup::ensure(&[Program::VALGRIND])?;
    let program = build(root)?;
    let list =
        tool::output_of(&program, &[] as &[&str]).context("it does not say what it can do")?;
    let works = works(&list)?.into_iter().filter(|work| wanted(&work.allocator, &work.case));
    works.map(|work| measure(&program, &work).inspect(&show)).collect()
}

/// Builds the program. Returns where it is.
fn build(root: &Path) -> Result<PathBuf> {
    let progress = Progress::start("Building the benchmark");
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root).args(["build", "--release", "--package", "hotmem-hosted"]);
    command.args(["--bin", PROGRAM, "--message-format", "json-render-diagnostics"]);
    let output = command.stderr(Stdio::inherit()).output().context("cannot start cargo")?;
    ensure!(output.status.success(), "`{}` failed ({})", tool::shown(&command), output.status);
    progress.done();
    let text = String::from_utf8_lossy(&output.stdout);
    linked_program(&text, PROGRAM).context("cargo does not say where the program is")
}

/// What the program says it can do.
fn works(list: &str) -> Result<Vec<Work>> {
    let work = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        let [allocator, case, pairs] = words.as_slice() else { bail!("`{line}` is not a case") };
        let pairs = pairs.parse().with_context(|| format!("`{line}` has no number of pairs"))?;
        ensure!(pairs > 0, "`{line}` has no pairs");
        Ok(Work { allocator: (*allocator).into(), case: (*case).into(), pairs })
    };
    list.lines().map(work).collect()
}

fn measure(program: &Path, work: &Work) -> Result<Row> {
    let short = (SHORT / work.pairs).max(1);
    let long = short + (MORE / work.pairs).max(1);
    let more = count(program, work, long)?.saturating_sub(count(program, work, short)?);
    let rounds = (TIMED / work.pairs).max(2);
    let mut times = (0..RUNS).map(|_| time(program, work, rounds)).collect::<Result<Vec<_>>>()?;
    times.sort_unstable();
    let pairs = |rounds: u64| (rounds * work.pairs) as f64;
    Ok(Row {
        allocator: work.allocator.clone(),
        case: work.case.clone(),
        instructions: more as f64 / pairs(long - short),
        ns: Some(times[RUNS / 2] as f64 / pairs(rounds)),
    })
}

/// The instructions of a run, all of them.
fn count(program: &Path, work: &Work, rounds: u64) -> Result<u64> {
    let mut command = Command::new(Program::VALGRIND.name);
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(program);
    let output = run(&mut command, work, rounds)?;
    let text = String::from_utf8_lossy(&output.stderr);
    collected(&text).with_context(|| format!("valgrind does not say how many: {text}"))
}

/// The nanoseconds of the rounds of a run.
fn time(program: &Path, work: &Work, rounds: u64) -> Result<u64> {
    let output = run(&mut Command::new(program), work, rounds)?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().with_context(|| format!("`{text}` is not a time"))
}

fn run(command: &mut Command, work: &Work, rounds: u64) -> Result<std::process::Output> {
    command.args([&work.allocator, &work.case, &rounds.to_string()]).stdin(Stdio::null());
    let line = tool::shown(command);
    let output = command.output().with_context(|| format!("cannot start `{line}`"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`{line}` failed ({}): {text}", output.status);
    Ok(output)
}

/// The number of instructions that callgrind prints when it ends.
fn collected(text: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.split_once("Collected :"))?.1;
    rest.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_valgrind_and_the_program_say_is_read() {
        let text = "==7== Events    : Ir\n==7== Collected : 4561463\n==7== \n";
        assert_eq!(collected(text), Some(4_561_463));
        assert_eq!(collected("==7== Collected : many"), None);
        let batch = Work { allocator: "free-list".into(), case: "batch64".into(), pairs: 64 };
        assert_eq!(works("free-list batch64 64\n").unwrap(), [batch]);
        for wrong in ["hotmem hot", "hotmem hot x", "hotmem hot 0", "error"] {
            assert!(works(wrong).is_err(), "{wrong}");
        }
    }
}
