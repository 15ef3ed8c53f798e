//! `cargo xtask ci`: everything a change has to pass, in one command.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::{lint, test};

/// Runs the linter, loom's models and all tests, each although another complains, so that one run tells all.
///
/// # Errors
/// When something cannot even start.
pub(crate) fn main(root: &Path) -> Result<ExitCode> {
    let linted = lint::main(root)?;
    let modelled = loom(root)?;
    let tested = test::main(root, &test::Args::all())?;
    let good = modelled && linted == ExitCode::SUCCESS && tested == ExitCode::SUCCESS;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether the models of what CPUs share hold under every interleaving. They are built with a `cfg` of their own, so
/// in a directory of their own, too.
fn loom(root: &Path) -> Result<bool> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root).env("RUSTFLAGS", "--cfg loom");
    command.env("CARGO_TARGET_DIR", root.join("target/loom"));
    command.args(["test", "--release", "-p", "hotmem-paging", "-p", "hotmem", "--test", "loom"]);
    Ok(command.status().context("cannot start cargo test for loom")?.success())
}
