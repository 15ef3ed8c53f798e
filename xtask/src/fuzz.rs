//! `cargo xtask fuzz`: inputs that coverage guides, for everything that reads hostile bytes.
//!
//! ```text
//!   tests/fuzz/corpus/TARGET   the inputs to begin with; `cargo test -p hotmem-fuzz` runs them, and others near them
//!   target/fuzz/corpus/TARGET  those of all runs so far
//!   target/fuzz/faults/TARGET  inputs that fail: TARGET's program runs one that is its argument
//!   tests/fuzz/faults/TARGET   those that failed before the mend that came with them
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::progress::Progress;
use crate::{root, tool};

/// Seconds after which an input counts as one that does not return.
const PATIENCE: u32 = 20;
/// Bytes of the longest input.
const LONGEST: u32 = 1 << 14;

/// What to run.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The targets, as the folders in tests/fuzz/corpus are called [default: all, one after the other]
    targets: Vec<String>,

    /// Seconds for each
    #[arg(long, value_name = "N", default_value_t = 600, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,

    /// Afterwards keep the shortest inputs that reach the same code, and make these the ones to begin with
    #[arg(long)]
    keep: bool,
}

/// The places of inputs and programs.
#[derive(Debug)]
struct Places {
    /// The package of the targets.
    package: PathBuf,
    /// What is built and found.
    built: PathBuf,
}

/// Runs targets; succeeds if no input fails.
///
/// # Errors
/// A target that does not exist; tools that are missing.
pub(crate) fn main(root: &Path, args: &Args) -> Result<ExitCode> {
    let places =
        Places { package: root.join("tests/fuzz"), built: root::target_dir(root).join("fuzz") };
    let targets = chosen(&args.targets, &places.all()?)?;
    places.build()?;
    let mut good = true;
    for target in &targets {
        let runs = places.run(target, args.seconds)?;
        println!("{target:<16}{}", runs.as_deref().unwrap_or("FAILED: see target/fuzz/faults"));
        good &= runs.is_some();
        if args.keep && runs.is_some() {
            places.keep(target)?;
        }
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The targets to run.
fn chosen(wanted: &[String], all: &[String]) -> Result<Vec<String>> {
    if wanted.is_empty() {
        return Ok(all.to_vec());
    }
    for name in wanted {
        ensure!(all.contains(name), "there is no target '{name}'; there are: {}", all.join(", "));
    }
    Ok(wanted.to_vec())
}

impl Places {
    /// The names of all targets.
    fn all(&self) -> Result<Vec<String>> {
        let folder = self.package.join("corpus");
        let list =
            fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
        let names = list.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        let mut names = names.collect::<Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    }

    /// Builds the programs with counters of coverage and AddressSanitizer.
    fn build(&self) -> Result<()> {
        if tool::output_of("cargo", &["fuzz", "--version"]).is_none() {
            bail!("it takes cargo-fuzz. Please run:\n  cargo install cargo-fuzz --locked");
        }
        if tool::output_of("cargo", &["+nightly", "--version"]).is_none() {
            bail!(
                "it takes a nightly toolchain. Please run:\n  rustup toolchain install nightly --profile minimal"
            );
        }
        let progress = Progress::start("Building the targets with AddressSanitizer");
        let mut command = Command::new("cargo");
        command.current_dir(&self.package).args(["+nightly", "fuzz", "build", "--fuzz-dir", "."]);
        command.args(["--features", "libfuzzer", "--target-dir"]).arg(&self.built);
        // The counters do not survive optimisation across crates. Cargo sets its own name for child processes.
        command
            .env("CARGO_PROFILE_RELEASE_LTO", "off")
            .env_remove("CARGO")
            .env_remove("RUSTUP_TOOLCHAIN");
        tool::run(&mut command, &progress)?;
        progress.done();
        Ok(())
    }

    /// The program of a target, and its folder of this kind.
    fn command(&self, target: &str, kind: &str) -> Result<(Command, PathBuf)> {
        let folder = self.built.join(kind).join(target);
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        let program = self.built.join("x86_64-unknown-linux-gnu/release").join(target);
        let mut command = Command::new(program);
        command.arg(format!("-timeout={PATIENCE}")).arg(format!("-max_len={LONGEST}"));
        command.stdin(Stdio::null());
        Ok((command, folder))
    }

    /// Runs a target. Returns the number of runs and the edges that were reached, or `None` if an input failed.
    fn run(&self, target: &str, seconds: u32) -> Result<Option<String>> {
        let (_, faults) = self.command(target, "faults")?;
        let (mut command, found) = self.command(target, "corpus")?;
        command.arg(format!("-artifact_prefix={}/", faults.display()));
        command.arg(format!("-max_total_time={seconds}")).arg("-print_final_stats=1");
        command.arg(found).arg(self.package.join("corpus").join(target));
        let progress = Progress::start(format!("{target}, {seconds} s"));
        let output = command.output().with_context(|| format!("cannot start {target}"))?;
        let text = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            eprintln!("{text}");
            return Ok(None);
        }
        progress.done();
        Ok(Some(summary(&text)))
    }

    /// Replaces the inputs to begin with by the fewest that reach all that is reached.
    fn keep(&self, target: &str) -> Result<()> {
        let (mut command, fewest) = self.command(target, "fewest")?;
        let kept = self.package.join("corpus").join(target);
        // Edges, not how often each is reached; and what is longer is cut.
        command.args(["-set_cover_merge=1", "-use_counters=0", "-max_len=1400"]).arg(&fewest);
        command.arg(self.built.join("corpus").join(target)).arg(&kept);
        let output = command.output().with_context(|| format!("cannot start {target}"))?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let replace = || -> std::io::Result<()> {
            fs::remove_dir_all(&kept)?;
            fs::rename(&fewest, &kept)
        };
        replace().with_context(|| format!("cannot replace {}", kept.display()))
    }
}

/// What libFuzzer printed last: `#12345 DONE cov: 678 ft: ...`.
fn summary(text: &str) -> String {
    let done = text.lines().rev().find(|line| line.contains("\tDONE ")).unwrap_or_default();
    let words: Vec<_> = done.split_whitespace().collect();
    let runs = words.first().map_or("?", |word| word.trim_start_matches('#'));
    let edges = words.iter().skip_while(|word| **word != "cov:").nth(1).unwrap_or(&"?");
    format!("{runs:>12} runs {edges:>8} edges")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_that_does_not_exist_is_named_with_those_that_do() {
        let all = ["aml".to_owned(), "rtas".to_owned()];
        assert_eq!(chosen(&[], &all).unwrap(), all);
        let error = chosen(&["alm".to_owned()], &all).unwrap_err().to_string();
        assert_eq!(error, "there is no target 'alm'; there are: aml, rtas");
    }

    #[test]
    fn the_summary_has_runs_and_edges() {
        let text =
            "#2\tINITED cov: 3 ft: 3\n#1048576\tDONE   cov: 812 ft: 2000 corp: 5/7b\nstat: 1\n";
        assert_eq!(summary(text), "     1048576 runs      812 edges");
        assert_eq!(summary(""), "           ? runs        ? edges");
    }
}
