//! `cargo xtask mutants`: one fault at a time is put into a copy of the code, and the test that is named for it must
//! fail.
//!
//! ```text
//!   mutant, table            the faults, each with its test
//!   tree                     target/mutants/tree: the files that Git knows, as they are now, one of them with a fault;
//!                            target/mutants/build: what is built of it, so that each fault compiles one package again
//!   program                  the test program: built by cargo, run with a limit; or a scenario in QEMU, with its image
//!   sample                   faults that cargo-mutants makes instead, tried by all tests that could notice them
//! ```

mod mutant;
mod program;
mod sample;
mod table;
mod tree;

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use self::mutant::Mutant;
use self::program::{Outcome, Program};
use self::sample::Sample;
use self::tree::Tree;

/// Which faults are tried.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Those whose description, file or test contains this [default: all]
    filter: Option<String>,

    /// Print them, one on a line, and try none
    #[arg(long)]
    list: bool,

    /// Try N of those that cargo-mutants makes instead and that compile, none that tests/mutants.md has, and write
    /// what becomes of them there
    #[arg(long, value_name = "N", conflicts_with_all = ["filter", "list"])]
    sample: Option<usize>,

    /// Of this package only
    #[arg(long, value_name = "P", requires = "sample")]
    package: Option<String>,

    /// Run only the tests that notice most; `--survivors` runs the others, too
    #[arg(long, requires = "sample")]
    quick: bool,

    /// Try those again that tests/mutants.md says survived, without a reason
    #[arg(long, conflicts_with_all = ["filter", "list", "sample"])]
    survivors: bool,
}

/// Tries faults; succeeds if the test of each fails by it.
///
/// # Errors
///
/// A filter that no fault has; a text that is not in its file exactly once; a test that fails without a fault.
pub(crate) fn main(root: &Path, args: &Args) -> Result<ExitCode> {
    if args.sample.is_some() || args.survivors {
        let package = args.package.as_deref();
        return sample::main(root, Sample { new: args.sample, package, quick: args.quick });
    }
    let chosen = chosen(args.filter.as_deref())?;
    if args.list {
        for Mutant { what, file, suite, test, .. } in chosen {
            println!("{file}: {what} ({} {suite} {test})", program::runner(suite));
        }
        return Ok(ExitCode::SUCCESS);
    }
    for mutant in &chosen {
        mutant.apply(&mutant.read(root)?)?;
    }
    let tree = Tree::of(root)?;
    check_tests(&tree, &chosen)?;

    let (mut killed, mut survived) = (0, 0);
    for mutant in chosen {
        let begun = Instant::now();
        let outcome = kill(&tree, mutant)?;
        let seconds = begun.elapsed().as_secs_f64();
        let (file, what) = (mutant.file, mutant.what);
        let name = match &outcome {
            Ok(Outcome::Failed) => "killed",
            Ok(Outcome::Passed) => "SURVIVED",
            Ok(Outcome::Hung) => "HUNG",
            Err(_) => "BROKEN",
        };
        println!("{name:<8} {seconds:6.1} s  {file}: {what}");
        if let Err(error) = &outcome {
            println!("{error:#}");
        }
        if matches!(outcome, Ok(Outcome::Failed)) { killed += 1 } else { survived += 1 }
    }
    println!("{killed} killed, {survived} survived");
    Ok(if survived == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The faults that `filter` names.
fn chosen(filter: Option<&str>) -> Result<Vec<&'static Mutant>> {
    let wanted = |mutant: &&Mutant| {
        let words = [mutant.what, mutant.file, mutant.test];
        filter.is_none_or(|text| words.iter().any(|word| word.contains(text)))
    };
    let chosen: Vec<_> = table::all().filter(wanted).collect();
    ensure!(!chosen.is_empty(), "no mutant has '{}'", filter.unwrap_or_default());
    Ok(chosen)
}

/// Checks that each test is there, and passes without a fault: otherwise its failure would show nothing.
fn check_tests(tree: &Tree, mutants: &[&Mutant]) -> Result<()> {
    let mut suites: Vec<_> = mutants.iter().map(|mutant| mutant.suite).collect();
    suites.sort_unstable();
    suites.dedup();
    for suite in suites {
        let program = Program::build(tree, suite)?;
        let mut tests: Vec<_> = mutants.iter().filter(|mutant| mutant.suite == suite).collect();
        tests.sort_unstable_by_key(|mutant| mutant.test);
        tests.dedup_by_key(|mutant| mutant.test);
        for Mutant { test, .. } in tests {
            let runner = program::runner(suite);
            ensure!(program.has(test)?, "`{runner} {suite}` has no test '{test}'");
            let outcome = program.run(test)?;
            ensure!(outcome == Outcome::Passed, "{test} fails without a fault ({suite})");
        }
    }
    Ok(())
}

/// What the test of a fault does with it.
///
/// # Errors
///
/// When the copy is not as it was afterwards: the next test would fail by this fault.
fn kill(tree: &Tree, mutant: &Mutant) -> Result<Result<Outcome>> {
    let right = mutant.read(tree.files())?;
    let written = tree.write(mutant.file, &mutant.apply(&right)?);
    let built = written.and_then(|()| Program::build(tree, mutant.suite));
    let outcome = built.and_then(|program| program.run(mutant.test));
    tree.write(mutant.file, &right)?;
    Ok(outcome.with_context(|| format!("{}: {}", mutant.file, mutant.what)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documents_have_the_number_of_mutants() {
        let count = table::all().count();
        for (text, words) in [
            (include_str!("../../../README.md"), format!("fails by it | {count} |")),
            (include_str!("../../../CHANGELOG.md"), format!("xtask mutants`: {count} faults")),
            (include_str!("../../../tests/README.md"), format!("lists {count} faults")),
        ] {
            assert!(text.contains(&words), "{words}");
        }
    }

    #[test]
    fn a_filter_that_no_mutant_has_is_an_error() {
        let error = chosen(Some("no such thing")).unwrap_err().to_string();
        assert!(error.contains("no such thing"), "{error}");
        assert_eq!(chosen(None).unwrap().len(), table::all().count());
    }

    #[test]
    fn a_filter_is_a_part_of_the_description_the_file_or_the_test() {
        let first = table::all().next().unwrap();
        for text in [first.what, first.file, first.test] {
            let found = chosen(Some(text)).unwrap();
            assert!(found.iter().any(|mutant| mutant.what == first.what), "{text}");
        }
    }
}
