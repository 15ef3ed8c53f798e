//! `cargo xtask storm`: random events on plugged memory, on the fake machine or in QEMU, and logs played again.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use clap::ValueEnum;
use hotmem_storm::{Event, Stats, Storm, chunks, read};

use crate::arch::{Arch, BuildChoices, MachineChoices};
use crate::machine::QemuDir;
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
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,

    /// How many events
    #[arg(long, value_name = "N", default_value_t = EACH)]
    events: u64,

    /// Play this log instead; tests/storm/src/event.rs describes its lines
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,

    #[command(flatten)]
    build: BuildChoices,

    #[command(flatten)]
    machine: MachineChoices,

    #[command(flatten)]
    qemu: QemuDir,

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
/// A log that cannot be read; a machine that does not start.
pub(crate) fn main(root: &Path, args: &Args) -> Result<ExitCode> {
    let arch = match args.arch {
        Where::Host => return host(root, args),
        Where::X86_64 => Arch::X86_64,
        Where::Aarch64 => Arch::Aarch64,
        Where::Ppc64 => Arch::Ppc64,
    };
    guest(root, args, arch).map(|()| ExitCode::SUCCESS)
}

/// Has the program of the host do it.
fn host(root: &Path, args: &Args) -> Result<ExitCode> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root).args(["run", "--quiet", "--profile", "test"]);
    command.args(["--package", "hotmem-storm-host", "--", "--keep"]);
    command.arg(root::target_dir(root).join("storm"));
    command.args(["--seed", &args.seed.to_string(), "--events", &args.events.to_string()]);
    if let Some(path) = &args.replay {
        let path =
            path.canonicalize().with_context(|| format!("cannot read {}", path.display()))?;
        command.arg("--replay").arg(path);
    }
    let status = command.args(args.plant.then_some("--plant")).status();
    let status = status.context("cannot start cargo run")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Boots machines in QEMU for it.
fn guest(root: &Path, args: &Args, arch: Arch) -> Result<()> {
    let image = args.build.image(arch)?;
    let mut usual = args.machine.config(image, 1)?;
    usual.qemu = args.qemu.clone();
    setup::ready_to_run(&usual)?;
    let logged = args.replay.as_deref().map(logged).transpose()?;
    let program = build::image(root, image, &["--quiet"])?;
    let words = [args.build.words(), args.machine.words(), args.qemu.words()].concat();
    let options: String = words.iter().map(|word| format!(" {}", tool::quoted(word))).collect();
    let (folder, name) = (root::target_dir(root).join("storm"), arch.to_string());
    let storm = Storm { arch: &name, options: &options, folder: &folder, tries: TRIES };
    let mut stats = Stats::default();
    let logs: Vec<_> = match logged {
        Some(log) => vec![("replay".to_owned(), log)],
        None => chunks(args.seed, args.events, EACH)
            .map(|(seed, log)| (format!("{arch}-{seed}"), log))
            .collect(),
    };
    for (name, log) in logs {
        let progress = Progress::start(format!("{name}: {} events", log.len()));
        let play = |log: &[Event]| suite::play_on(program.clone(), &usual, log);
        stats.add(storm.run(&name, &log, play)?);
        progress.done();
    }
    println!("{stats}");
    println!("passed");
    Ok(())
}

fn logged(path: &Path) -> Result<Vec<Event>> {
    let text = std::fs::read_to_string(path);
    let text = text.with_context(|| format!("cannot read {}", path.display()))?;
    read(&text).with_context(|| path.display().to_string())
}
