//! `cargo xtask watch`: a machine's memory on the whole screen, live, with keys that plug, unplug, pin and cancel.
//!
//! ```text
//!   keys --> Asked --> driver: owns the machine --> News --> Model --> view --> terminal
//! ```
//! The screen needs crates that take longer to compile than all the rest of this program, so they are behind the feature
//! `watch`; without it the command has cargo build the program again with it.

#[cfg(feature = "watch")]
mod driver;
#[cfg(feature = "watch")]
mod keys;
#[cfg(feature = "watch")]
mod model;
#[cfg(feature = "watch")]
mod screen;
#[cfg(feature = "watch")]
mod view;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;

use crate::arch::{Arch, Choices};
use crate::size::Size;

/// Watches a machine's memory.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// Architecture to run
    #[arg(long, value_enum, default_value_t = Arch::X86_64)]
    arch: Arch,

    /// Memory at boot
    #[arg(long, value_name = "SIZE", default_value = "512M")]
    memory: Size,

    #[command(flatten)]
    choices: Choices,
}

/// Builds this program again with the screen, and runs it with the same arguments.
///
/// # Errors
/// When cargo does not start.
#[cfg(not(feature = "watch"))]
pub(crate) fn main(root: &Path, _: &Args) -> Result<ExitCode> {
    use anyhow::Context as _;

    let mut command = crate::tool::cargo(root);
    command.args(["run", "--quiet", "--package", "xtask", "--features", "watch", "--"]);
    command.args(std::env::args_os().skip(1));
    let status = command.status().context("cannot start cargo")?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Runs the command.
///
/// # Errors
/// When there is no terminal, or the machine does not start.
#[cfg(feature = "watch")]
pub(crate) fn main(root: &Path, args: &Args) -> Result<ExitCode> {
    use std::io::IsTerminal as _;

    use anyhow::ensure;

    use crate::machine::Machine;
    use crate::{arch, build, qemu, setup};

    let words = ["--interactive".into(), "--arch".into(), args.arch.to_string()];
    let memory = ["--memory".into(), args.memory.word()];
    let words = [&words[..], &memory[..], &args.choices.words()].concat();
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let config = arch::parsed::<qemu::Args>(&words)?.config()?;
    ensure!(
        std::io::stdout().is_terminal(),
        "this needs a terminal; `qemu --interactive` does not"
    );

    setup::ready_to_run(&config)?;
    let image = build::image(root, config.image, &[])?;
    let mut machine = Machine::start(&image, &config, None)?;
    machine.wait_ready()?;
    let about = qemu::words_for_machine(&config).join(", ");
    screen::run(machine, format!("hotmem on {} ({about})", args.arch))
}
