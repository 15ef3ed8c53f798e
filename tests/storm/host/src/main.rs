//! Storms on the fake machine: `cargo xtask storm --arch host` runs this program.
//!
//! Each log is played by a process of its own, which it may bring to a panic or to a halt: `--alone`.

mod firmware;
mod machine;
mod process;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};
use clap::Parser;
use hotmem_storm::{Event, Failed, Logs, Player, REGIONS, Storm, load};

use machine::Machine;

/// Events of one machine.
const EACH: u64 = 20_000;
/// Shorter logs that are tried if one fails.
const TRIES: u32 = 400;

/// Plays storms of memory hotplug on a fake machine.
#[derive(Debug, Parser)]
struct Args {
    /// The number that the events follow from
    #[arg(long, value_name = "S", default_value_t = 1, conflicts_with = "replay")]
    seed: u64,

    /// How many events
    #[arg(long, value_name = "N", default_value_t = EACH, conflicts_with = "replay")]
    events: u64,

    /// Play this log instead
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,

    /// Where logs that fail are kept
    #[arg(long, value_name = "FOLDER", default_value = "target/storm")]
    keep: PathBuf,

    /// Have a fault, by which storms fail
    #[arg(long, hide = true)]
    plant: bool,

    /// Play the log in this process
    #[arg(long, hide = true, requires = "replay")]
    alone: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let done = if args.alone { alone(&args) } else { storms(&args) };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Plays one log, or as many as the events make, each in a process of its own.
fn storms(args: &Args) -> Result<()> {
    let options = if args.plant { " --plant" } else { "" };
    let storm = Storm { arch: "host", options, folder: &args.keep, tries: TRIES };
    let seed = Logs::Seed { seed: args.seed, events: args.events, each: EACH, guests: 0 };
    let logs = args.replay.as_deref().map_or(seed, Logs::Replay);
    let play = |log: &[Event]| process::play(log, args.plant);
    let stats = storm.run(logs, |name| println!("{name}"), play)?;
    println!("{stats}");
    println!("passed");
    Ok(())
}

/// The event that is played.
static AT: AtomicUsize = AtomicUsize::new(0);

/// Plays a log in this process.
fn alone(args: &Args) -> Result<()> {
    let log = load(args.replay.as_deref().context("no log")?)?;
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        // What is wrong is on one line, which the other process reads.
        let text = panic.to_string().replace('\n', " ");
        process::report(Err((AT.load(Ordering::Relaxed), &text)));
        usual(panic);
    }));
    let player = Player::new(Machine::boot(args.plant, [false; REGIONS])?)?;
    match player.play(&log, |index| AT.store(index, Ordering::Relaxed)) {
        Ok((_, stats)) => process::report(Ok(&stats)),
        Err(Failed { index, why }) => {
            process::report(Err((index, &format!("{why:#}").replace('\n', " "))));
        }
    }
    Ok(())
}
