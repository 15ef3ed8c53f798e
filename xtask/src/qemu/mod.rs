//! `cargo xtask qemu`: the tour. A machine boots, gets memory, uses it, gives it back; each step is
//! explained and measured, and the verdict is the kernel's own.

mod dimms;
mod guest;
mod guest_options;
mod guest_report;
mod interactive;
mod linux;
mod memory_device;
mod nvdimm;
mod options;
mod own;
mod page;
mod pauses;
mod picture;
mod report;
mod summary;
mod tour;
mod walked;

use std::net::TcpListener;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};

#[cfg(feature = "watch")]
pub(crate) use dimms::Dimms;
pub(crate) use options::Args;
#[cfg(feature = "watch")]
pub(crate) use page::machine as words_for_machine;
#[cfg(feature = "watch")]
pub(crate) use summary::sentence;

use crate::linux as linux_guest;
use crate::machine::{Accel, Config, Machine, Verdict, kvm};
use crate::{build, layout, setup, tool};
use page::{Entry, Page};
use report::Report;
use tour::Tour;

/// Lines of the console shown when a run fails.
const TAIL: usize = 30;

/// Runs the command: exit code 0 for a pass, 2 for a refusal, 1 for everything else.
///
/// # Errors
/// When the machine cannot be set up or the report cannot be written.
pub(crate) fn main(root: &Path, args: &Args) -> Result<ExitCode> {
    let mut config = args.config()?;
    let mut report = Report::new(&config, Page::stdout());
    if let Err(refusal) = args.check_sizes(&config) {
        return end(args, report, &Verdict::Refused(format!("{refusal:#}")));
    }
    setup::ready_to_run(&config)?;
    let image = build::image(root, config.image, &[])?;
    if let Some(wanted) = args.guest.linux() {
        let module = linux_guest::module(root, config.image, &wanted)?;
        config = config.module(module);
    }
    if args.guest.is_own() {
        let module = linux_guest::own_module(root, config.image)?;
        config = config.module(module);
    }
    if args.gdb {
        config.gdb = Some(free_port()?);
        // There is no timeout while someone debugs.
        config.timeout = None;
        config.patience = Duration::from_secs(24 * 3600);
        announce_debugger(&image, &config);
    }
    if config.accel == Accel::Kvm
        && let Some(why) = kvm::lacks()
    {
        eprintln!("note: --accel kvm: {why}");
    }
    if args.interactive {
        return interactive::run(root, &image, &config, args);
    }

    let verdict = tour_of(&image, &config, args, &mut report);
    if !report.steps.is_empty() {
        let table = summary::table(&report.steps);
        report.push(Entry::Lines([vec![String::new()], table].concat()));
    }
    end(args, report, &verdict)
}

/// The end of a run: the report, the verdict, and the exit code that goes with it.
fn end(args: &Args, mut report: Report, verdict: &Verdict) -> Result<ExitCode> {
    report.verdict = verdict.word();
    if let Some(path) = args.report() {
        let json = serde_json::to_vec(&report).context("cannot write the report as JSON")?;
        tool::write_atomically(path, &json)?;
    }
    report.push(Entry::Verdict(verdict.clone()));
    Ok(match verdict {
        Verdict::Pass => ExitCode::SUCCESS,
        Verdict::Refused(_) => ExitCode::from(2),
        Verdict::Fail(_) => ExitCode::FAILURE,
    })
}

/// Goes on the tour; whatever goes wrong on it is a `fail` with the end of the console.
fn tour_of(image: &Path, config: &Config, args: &Args, report: &mut Report) -> Verdict {
    report.push(page::title(config));
    let mut machine = match Machine::start(image, config, None) {
        Ok(machine) => machine,
        Err(error) => return Verdict::Fail(format!("{error:#}")),
    };
    let verdict = Tour::new(&mut machine, config, args, report).run();
    let verdict = verdict.unwrap_or_else(|error| Verdict::Fail(format!("{error:#}")));
    if matches!(verdict, Verdict::Fail(_)) {
        report.push(Entry::Console(machine.tail(TAIL)));
    }
    verdict
}

/// A port of this host on which no program listens.
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("no free port for the debugger")?;
    Ok(listener.local_addr()?.port())
}

/// Prints how to attach.
fn announce_debugger(image: &Path, config: &Config) {
    let port = config.gdb.unwrap_or_default();
    println!("The machine waits for a debugger. In another terminal:\n");
    let (gdb, image) = (config.image.arch.about().debugger, image.display());
    let typed = format!("{gdb} {image} -ex 'target remote 127.0.0.1:{port}' -ex continue");
    println!("{}\n", layout::command(2, &typed).join("\n"));
}
