//! The manager beside other allocators on a hosted machine.
//!
//! The program `alloc` of `tests/hosted` does the work. Valgrind counts the instructions of a short and of a long run,
//! which differ by the work alone: not by a start, nor by what a first use costs. The time is the median of some runs
//! without valgrind.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use super::Row;
use crate::build::linked;
use crate::progress::Progress;
use crate::setup::{self, Program};
use crate::tool;

/// The manager, among the allocators.
pub(super) const HOTMEM: &str = "hotmem";
/// The program that does the work.
const PROGRAM: &str = "alloc";
/// Pairs of the short run that instructions are counted of, at least a round, and of what the long run has more.
const SHORT: u64 = 1_000;
const MORE: u64 = 10_000;
/// Pairs of a run that is timed, at least two rounds, and how many such runs there are.
const TIMED: u64 = 500_000;
const RUNS: usize = 5;
/// Cases that threads do together, and the pairs of each thread: enough for a tenth of a second.
const TOGETHER: [&str; 3] = ["hot", "batch64", "order9"];
const TOGETHER_PAIRS: u64 = 10_000_000;

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

/// Times the manager with one thread and with `threads`, each on its own CPU, and prints both and their ratio.
///
/// # Errors
/// When the program does not build or fails, as it does where there are fewer CPUs.
pub(super) fn scaling(
    root: &Path,
    threads: u32,
    wanted: impl Fn(&str, &str) -> bool,
) -> Result<()> {
    ensure!(cfg!(target_os = "linux"), "the hosted machine needs Linux");
    let program = build(root)?;
    let list =
        tool::output_of(&program, &[] as &[&str]).context("it does not say what it can do")?;
    println!("{}", Speeds::head(threads));
    for work in together_of(&works(&list)?).filter(|work| wanted(HOTMEM, &work.case)) {
        let rounds = TOGETHER_PAIRS / work.pairs;
        let time = |threads| median(|| together(&program, &work.case, rounds, threads));
        println!("{}", Speeds::of(work, rounds, threads, time)?);
    }
    Ok(())
}

/// The works that threads do together.
fn together_of(works: &[Work]) -> impl Iterator<Item = &Work> {
    let named = |work: &&Work| TOGETHER.contains(&work.case.as_str());
    works.iter().filter(|work| work.allocator == HOTMEM).filter(named)
}

/// A case, and the pairs of one thread and of all, in millions a second.
#[derive(Debug, Clone, PartialEq)]
struct Speeds {
    case: String,
    one: f64,
    all: f64,
}

impl Speeds {
    /// The line above the rows.
    fn head(threads: u32) -> String {
        let many = format!("{threads} threads");
        format!("{:<16} {:>12} {many:>12}   (million pairs a second)", "case", "1 thread")
    }

    /// From the nanoseconds that one thread took, and the slowest of `threads`, for `rounds` each.
    fn of(
        work: &Work,
        rounds: u64,
        threads: u32,
        time: impl Fn(u32) -> Result<u64>,
    ) -> Result<Self> {
        let speed = |threads: u32| -> Result<f64> {
            let pairs = (u64::from(threads) * rounds * work.pairs) as f64;
            Ok(pairs * 1000.0 / time(threads)? as f64)
        };
        Ok(Self { case: work.case.clone(), one: speed(1)?, all: speed(threads)? })
    }
}

impl fmt::Display for Speeds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { case, one, all } = self;
        write!(f, "{case:<16} {one:>12.1} {all:>12.1}   {:.2} times", all / one)
    }
}

/// The nanoseconds of the slowest of some threads.
fn together(program: &Path, case: &str, rounds: u64, threads: u32) -> Result<u64> {
    let words = ["threads", &threads.to_string(), case, &rounds.to_string()].map(String::from);
    nanoseconds(&finished(Command::new(program).args(words))?)
}

/// The median of some runs.
fn median(run: impl Fn() -> Result<u64>) -> Result<u64> {
    let mut times = (0..RUNS).map(|_| run()).collect::<Result<Vec<_>>>()?;
    times.sort_unstable();
    Ok(times[RUNS / 2])
}

/// Builds the program. Returns where it is.
fn build(root: &Path) -> Result<PathBuf> {
    let progress = Progress::start("Building the benchmark");
    let mut command = tool::cargo(root);
    command.args(["build", "--release", "--package", "hotmem-hosted"]);
    command.args(["--bin", PROGRAM, "--message-format", "json-render-diagnostics"]);
    let program = linked(&mut command, PROGRAM)?;
    progress.done();
    Ok(program)
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
    let median = median(|| time(program, work, rounds))?;
    let pairs = |rounds: u64| (rounds * work.pairs) as f64;
    Ok(Row {
        allocator: work.allocator.clone(),
        case: work.case.clone(),
        instructions: more as f64 / pairs(long - short),
        ns: Some(median as f64 / pairs(rounds)),
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
    nanoseconds(&run(&mut Command::new(program), work, rounds)?)
}

fn nanoseconds(output: &std::process::Output) -> Result<u64> {
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().with_context(|| format!("`{text}` is not a time"))
}

fn run(command: &mut Command, work: &Work, rounds: u64) -> Result<std::process::Output> {
    finished(command.args([&work.allocator, &work.case, &rounds.to_string()]))
}

/// What a command prints, which must not fail.
fn finished(command: &mut Command) -> Result<std::process::Output> {
    let line = tool::shown(command);
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("cannot start `{line}`"))?;
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

    fn work(allocator: &str, case: &str, pairs: u64) -> Work {
        Work { allocator: allocator.into(), case: case.into(), pairs }
    }

    #[test]
    fn threads_do_the_cases_of_the_manager_that_scale_and_no_others() {
        let list = "hotmem hot 1\nhotmem bulk 1000000\nhotmem batch64 64\nfree-list hot 1\n";
        let works = works(list).unwrap();
        let found: Vec<_> = together_of(&works).cloned().collect();
        assert_eq!(found, [work("hotmem", "hot", 1), work("hotmem", "batch64", 64)]);
    }

    #[test]
    fn the_ratio_that_is_printed_is_that_of_the_speeds_beside_it() {
        // A hundred rounds of 64 pairs: 6,400 pairs in 64 us, and three times as many in 96 us.
        let time = |threads| Ok(if threads == 1 { 64_000 } else { 96_000 });
        let speeds = Speeds::of(&work("hotmem", "batch64", 64), 100, 3, time).unwrap();
        assert_eq!(speeds, Speeds { case: "batch64".into(), one: 100.0, all: 200.0 });
        let (head, row) = (Speeds::head(3), speeds.to_string());
        assert_eq!(head, "case                 1 thread    3 threads   (million pairs a second)");
        assert_eq!(row, "batch64                 100.0        200.0   2.00 times");
        let words: Vec<_> = row.split_whitespace().collect();
        let number = |index: usize| words[index].parse::<f64>().unwrap();
        assert!((number(2) / number(1) - number(3)).abs() < 0.005);
        let failed = Speeds::of(&work("hotmem", "hot", 1), 1, 2, |_| bail!("no CPU"));
        assert_eq!(failed.unwrap_err().to_string(), "no CPU");
    }
}
