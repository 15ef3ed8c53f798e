//! `cargo xtask`: set-up, builds, the tour in QEMU, the tests and the repository's own rules.
//!
//! One file or folder for each command; what several of them share stands beside them:
//!
//! ```text
//!   build qemu map watch test lint mutants aml storm fuzz bench doctor ci
//!                                            the commands
//!   setup                                    toolchain and programs, fetched where that is possible
//!   machine                                  one QEMU: command line, QMP, console, steps
//!   suite                                    the scenarios that run in QEMU
//!   foreign                                  a kernel of somebody else's with our libraries, in QEMU
//! ```
#![forbid(unsafe_code)]

mod aml;
mod arch;
mod bench;
mod build;
mod ci;
mod doctor;
mod foreign;
mod fuzz;
mod layout;
mod lint;
mod linux;
mod machine;
mod map;
mod mutants;
mod progress;
mod qemu;
mod root;
mod scratch;
mod setup;
mod size;
mod storm;
mod suite;
mod test;
mod tool;
mod watch;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Set-up, builds, the tour in QEMU and the tests of hotmem.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = layout::WIDTH)]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Build the kernel image and print its path
    Build(build::Args),
    /// Boot it in QEMU and tour memory hotplug: plug, use, unplug
    ///
    /// Exit code: 0 if the kernel's verdict is pass, 2 if it refused something, 1 for everything else,
    /// a mistyped option included.
    Qemu(qemu::Args),
    /// Run the tests on the host and in QEMU
    Test(test::Args),
    /// Check format, lints, documentation and the repository's own rules
    Lint,
    /// Draw memory before and after a pull, from a report of the tour
    Map(map::Args),
    /// Watch memory live, with keys to plug, unplug, pin and cancel
    Watch(watch::Args),
    /// Load a machine's ACPI tables as the kernel would, and say what is in them
    Aml(aml::Args),
    /// Play random events on plugged memory, or a log of such; one that fails is shrunk
    Storm(storm::Args),
    /// Run hostile inputs, guided by coverage, through all that reads such
    Fuzz(fuzz::Args),
    /// Put faults into a copy of the code, and run the test that must fail by each
    ///
    /// Exit code: 0 if each test failed, else 1.
    Mutants(mutants::Args),
    /// Count instructions and time on the host
    Bench(bench::Args),
    /// Say what is there, what is missing, and how to get it
    ///
    /// Exit code: 0 if `cargo xtask qemu` and `cargo xtask test` have all that they need, else 1.
    Doctor(doctor::Args),
    /// Everything a change has to pass: lint, loom's models and the tests
    Ci(ci::Args),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(message) => {
            // When the reader has gone, the text is lost; the exit code still shows the result.
            let _ = message.print();
            return ExitCode::from(usage_code(&message));
        }
    };
    match run(&cli.command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The exit code for a command line that starts nothing: help and version were asked for, everything else
/// is a mistake. Clap's own 2 for mistakes is what a refusal by the kernel has.
fn usage_code(message: &clap::Error) -> u8 {
    u8::from(message.use_stderr())
}

/// Runs one command in the workspace it was started from.
fn run(task: &Task) -> Result<ExitCode> {
    let root = root::workspace_root()?;
    match task {
        Task::Build(args) => build::main(&root, args).map(|()| ExitCode::SUCCESS),
        Task::Qemu(args) => qemu::main(&root, args),
        Task::Test(args) => test::main(&root, args),
        Task::Map(args) => map::main(&root, args),
        Task::Watch(args) => watch::main(&root, args),
        Task::Aml(args) => aml::main(args).map(|()| ExitCode::SUCCESS),
        Task::Storm(args) => storm::main(&root, args),
        Task::Fuzz(args) => fuzz::main(&root, args),
        Task::Mutants(args) => mutants::main(&root, args),
        Task::Bench(args) => bench::main(&root, args).map(|()| ExitCode::SUCCESS),
        Task::Doctor(args) => Ok(doctor::main(args)),
        Task::Lint => lint::main(&root),
        Task::Ci(args) => ci::main(&root, args),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    fn code(words: &[&str]) -> u8 {
        let words = [&["xtask"], words].concat();
        usage_code(&Cli::try_parse_from(words).err().unwrap())
    }

    #[test]
    fn a_mistyped_option_is_a_failure_and_no_refusal() {
        for words in [&["qemu", "--dimmm", "1G"] as &[&str], &["qemu", "--dimm", "1X"], &["fly"]] {
            assert_eq!(code(words), 1, "{words:?}");
        }
    }

    #[test]
    fn the_help_of_each_command_fits_the_terminal() {
        let mut all = Cli::command();
        for command in all.get_subcommands_mut() {
            let mut command = command.clone().max_term_width(layout::WIDTH);
            let text = command.render_long_help().to_string();
            assert!(layout::too_long(&text).is_empty(), "{:?}", layout::too_long(&text));
        }
    }

    #[test]
    fn help_that_was_asked_for_is_not_a_failure() {
        assert_eq!(code(&["--help"]), 0);
        assert_eq!(code(&["qemu", "--help"]), 0);
    }
}
