//! `cargo xtask storm`: random events on plugged memory, on the fake machine or in QEMU, and logs played again.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use hotmem_storm::{Event, Logs, Storm};

use crate::arch::{Arch, Choices};
use crate::progress::Progress;
use crate::{build, root, setup, suite, tool};

/// Events of one machine in QEMU.
const EACH: u64 = 500;
/// Shorter logs that are tried in QEMU if one fails.
const TRIES: u32 = 60;

/// Which events, and where.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// Where: on a fake machine of this host, or in QEMU of an architecture
    #[arg(long, value_enum)]
    arch: Where,

    /// The number that the events follow from
    #[arg(long, value_name = "S", default_value_t = 1, conflicts_with = "replay")]
    seed: u64,

    /// How many events
    #[arg(long, value_name = "N", default_value_t = EACH, conflicts_with = "replay",
          value_parser = clap::value_parser!(u64).range(1..))]
    events: u64,

    /// Have up to so many guests compute on each machine; a log that is replayed has its own
    #[arg(long, value_name = "N", default_value_t = 0, conflicts_with = "replay")]
    guests: u64,

    /// Play this log instead; tests/storm/src/event.rs describes its lines
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,

    #[command(flatten)]
    choices: Choices,

    /// Have a fault, by which storms on the host fail
    #[arg(long, hide = true)]
    plant: bool,
}

/// What kind of machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Where {
    /// A fake machine, which checks every flush
    Host,
    /// QEMU for x86
    #[value(name = "x86_64")]
    X86_64,
    /// QEMU for Arm
    Aarch64,
    /// QEMU for Power
    Ppc64,
}

/// Plays events; succeeds if all does what the model says.
///
/// # Errors
/// An option that the machine does not have; a log that cannot be read; a machine that does not start.
pub(crate) fn main(root: &Path, args: &Args) -> Result<ExitCode> {
    args.check()?;
    let arch = match args.arch {
        Where::Host => return host(root, args),
        Where::X86_64 => Arch::X86_64,
        Where::Aarch64 => Arch::Aarch64,
        Where::Ppc64 => Arch::Ppc64,
    };
    guest(root, args, arch).map(|()| ExitCode::SUCCESS)
}

impl Args {
    /// Refuses options that have no effect.
    fn check(&self) -> Result<()> {
        match self.arch {
            Where::Host => match self.choices.words().first() {
                Some(word) => bail!("the fake machine of the host has no option {word}"),
                None => {
                    ensure!(
                        self.guests == 0,
                        "the fake machine of the host has no option --guests"
                    );
                    Ok(())
                }
            },
            _ => {
                ensure!(!self.plant, "--plant is a fault of the fake machine: use --arch host");
                ensure!(!self.choices.build.no_lab, "--no-lab: a storm types at the monitor");
                Ok(())
            }
        }
    }
}

/// Has the program of the host do it.
fn host(root: &Path, args: &Args) -> Result<ExitCode> {
    let mut command = tool::cargo(root);
    command.args(["run", "--quiet", "--profile", "test"]);
    command.args(["--package", "hotmem-storm-host", "--", "--keep"]);
    command.arg(root::target_dir(root).join("storm"));
    match &args.replay {
        Some(path) => {
            let whole = path.canonicalize();
            let whole = whole.with_context(|| format!("cannot read {}", path.display()))?;
            command.arg("--replay").arg(whole);
        }
        None => {
            let numbers = [args.seed, args.events].map(|number| number.to_string());
            command.args(["--seed", &numbers[0], "--events", &numbers[1]]);
        }
    }
    let status = command.args(args.plant.then_some("--plant")).status();
    let status = status.context("cannot start cargo run")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Boots machines in QEMU for it.
fn guest(root: &Path, args: &Args, arch: Arch) -> Result<()> {
    let usual = args.choices.config(arch, 1)?;
    setup::ready_to_run(&usual)?;
    let program = build::image(root, usual.image, &["--quiet"])?;
    let options: String =
        args.choices.words().iter().map(|word| format!(" {}", tool::quoted(word))).collect();
    let (folder, name) = (root::target_dir(root).join("storm"), arch.to_string());
    let storm = Storm { arch: &name, options: &options, folder: &folder, tries: TRIES };
    let Args { seed, events, guests, .. } = *args;
    ensure!(
        guests == 0 || (arch.about().runs_guests)(&usual) != Some(false),
        "--guests {guests}: this machine runs no guests"
    );
    let seed = Logs::Seed { seed, events, each: EACH, guests };
    let logs = args.replay.as_deref().map_or(seed, Logs::Replay);
    let mut progress = None;
    let begin = |name: &str| {
        progress.take().into_iter().for_each(Progress::done);
        progress = Some(Progress::start(name));
    };
    let play = |log: &[Event]| suite::play_on(program.clone(), &usual, log);
    let stats = storm.run(logs, begin, play)?;
    progress.into_iter().for_each(Progress::done);
    println!("{stats}");
    println!("passed");
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    /// Why a command is refused.
    fn refusal(options: &str) -> String {
        let words = format!("storm {options}");
        match Line::try_parse_from(words.split(' ')) {
            Err(error) => error.to_string(),
            Ok(line) => line.args.check().unwrap_err().to_string(),
        }
    }

    #[test]
    fn an_option_that_has_no_effect_is_refused_by_its_name() {
        for (options, name) in [
            ("--arch host --replay a.log --seed 1", "--seed"),
            ("--arch ppc64 --events 9 --replay a.log", "--events"),
            ("--arch host --smp 2", "--smp"),
            ("--arch host --page-size 64k", "--page-size"),
            ("--arch host --qemu-dir /opt", "--qemu-dir"),
            ("--arch x86_64 --plant", "--plant"),
            ("--arch x86_64 --no-lab", "--no-lab"),
            ("--arch host --events 0", "--events"),
            ("--arch host --guests 1", "--guests"),
            ("--arch x86_64 --guests 1 --replay a.log", "--guests"),
        ] {
            let text = refusal(options);
            assert!(text.contains(name), "{options}: {text}");
        }
    }

    #[test]
    fn options_that_have_an_effect_are_taken() {
        for options in [
            "--arch host --seed 3 --events 10 --plant",
            "--arch host --replay a.log",
            "--arch ppc64 --seed 3 --smp 2 --page-size 64k",
            "--arch aarch64 --smp 3 --guests 2",
        ] {
            let line = Line::try_parse_from(format!("storm {options}").split(' ')).unwrap();
            line.args.check().unwrap();
        }
    }
}
