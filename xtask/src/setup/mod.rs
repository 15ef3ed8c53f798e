//! Set-up: what a command needs is used where it is there, fetched where that is possible, and
//! otherwise asked for with the exact commands to type.
//!
//! ```text
//!   present?             -> use it
//!   rustup may download? -> rustup target add          (Rust only)
//!   root, and a system's
//!   package manager?     -> install with it             (apt-get, dnf, pacman)
//!   else                 -> print what to run, exit non-zero
//! ```
//! Looking for what is installed takes a few milliseconds, so every command simply looks each time.

mod manager;
mod packages;
mod programs;
mod rust;

pub(crate) use packages::{Program, advice};
pub(crate) use programs::ensure;
pub(crate) use rust::{
    DEBIAN_RUSTC, Toolchain, advice as advice_on_target, builder, clippy, debian, debian_cargo,
    toolchain,
};

use anyhow::{Result, bail};

use crate::machine::config::Config;

/// Makes sure that the image of `config` can be built and run.
///
/// # Errors
/// When something is missing and cannot be fetched; the error names all of it, with what to type.
pub(crate) fn ready_to_run(config: &Config) -> Result<()> {
    let image = config.image;
    let boot = image.boot();
    let qemu = image.arch.about().qemu;
    let mut programs = boot.needs.to_vec();
    match config.qemu.dir {
        None => programs.push(qemu),
        // Nothing is installed in place of what was named.
        Some(_) => drop(config.qemu.program(qemu.name)?),
    }
    let targets = [Some(boot.target), boot.carrier];
    let targets = targets.into_iter().flatten().map(|target| toolchain(target).err());
    let missing: Vec<_> = targets.chain([ensure(&programs).err()]).flatten().collect();
    let missing: Vec<_> = missing.iter().map(|error| format!("{error:#}")).collect();
    if !missing.is_empty() {
        bail!("{}", missing.join("\n"));
    }
    Ok(())
}
