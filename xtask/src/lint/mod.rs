//! `cargo xtask lint`: format, clippy on the host and for the bare target, documentation, and the
//! repository's own rules. All of them run, so that one run tells everything.

mod rules;

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result};

use crate::arch::{Arch, Image};
use crate::{build, setup};

/// Runs all checks.
///
/// # Errors
/// When a check cannot even start.
pub(crate) fn main(root: &Path) -> Result<ExitCode> {
    let mut results = vec![
        check(cargo(root).args(["fmt", "--all", "--check"]), "format")?,
        check(&mut host_clippy(root), "clippy on the host")?,
    ];
    for arch in Arch::with_kernel() {
        let image = Image::of(arch);
        results.push(check(&mut bare_clippy(root, image)?, &format!("clippy for bare {arch}"))?);
    }
    results.push(check(&mut documentation(root), "documentation")?);
    results.push(house_rules(root)?);
    let good = results.iter().all(|&good| good);
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The cargo that runs this xtask.
fn cargo(root: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root);
    command
}

fn host_clippy(root: &Path) -> Command {
    let mut command = cargo(root);
    command.args([
        "clippy",
        "--quiet",
        "--keep-going",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]);
    command
}

/// The kernel and all it is made of, compiled as it really is.
fn bare_clippy(root: &Path, image: Image) -> Result<Command> {
    let target = image.boot().target;
    let toolchain = setup::toolchain(target)?;
    setup::clippy(&toolchain)?;
    let mut command = toolchain.cargo(target, "clippy");
    build::for_image(&mut command, image)
        .current_dir(root)
        .args([
            "--quiet",
            "--keep-going",
            "--release",
            "--package",
            "hotmem-kernel",
            "--package",
            "hotmem-boot",
        ])
        .args(["--package", "hotmem-arch", "--package", "hotmem", "--package", "hotmem-aml"])
        .arg("--target-dir")
        .arg(build::bare_dir(root))
        .args(["--", "-D", "warnings"]);
    Ok(command)
}

fn documentation(root: &Path) -> Command {
    let mut command = cargo(root);
    command
        .args([
            "doc",
            "--quiet",
            "--keep-going",
            "--workspace",
            "--no-deps",
            "--document-private-items",
        ])
        .env("RUSTDOCFLAGS", "-D warnings");
    command
}

/// Runs one check with its output on ours; answers whether it passed.
fn check(command: &mut Command, what: &str) -> Result<bool> {
    let status = command
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("cannot start the check of {what}"))?;
    eprintln!("{what}: {}", if status.success() { "ok" } else { "FAILED" });
    Ok(status.success())
}

fn house_rules(root: &Path) -> Result<bool> {
    let complaints = rules::check(root)?;
    complaints.iter().for_each(|complaint| eprintln!("{complaint}"));
    eprintln!("house rules: {}", if complaints.is_empty() { "ok" } else { "FAILED" });
    Ok(complaints.is_empty())
}
