//! `cargo xtask lint`: format, clippy and documentation on the host and for the bare targets, and the
//! repository's own rules. All of them run, so that one run reports everything.

mod arrows;
mod choice;
mod code;
mod layers;
mod methods;
mod release;
mod rules;
mod sources;
mod steps;

pub(crate) use code::code_only;
pub(crate) use layers::workspace;

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result};

use crate::arch::{Arch, Image, Target};
use crate::setup::{self, Toolchain};
use crate::{build, tool};

/// The packages that an image is made of.
const BARE: [&str; 11] = [
    "hotmem-kernel",
    "hotmem-acpi",
    "hotmem-aml",
    "hotmem-papr",
    "hotmem-virtio-mem",
    "hotmem-lab",
    "hotmem-hotplug",
    "hotmem-boot",
    "hotmem-arch",
    "hotmem-paging",
    "hotmem",
];

/// The packages that other kernels can take. Together: each finds those below it in the same command.
pub(crate) const LIBRARIES: [&str; 9] = [
    "hotmem-paging",
    "hotmem",
    "hotmem-aml",
    "hotmem-hotplug",
    "hotmem-acpi",
    "hotmem-arch",
    "hotmem-boot",
    "hotmem-papr",
    "hotmem-virtio-mem",
];

/// Workspaces of their own.
const APART: [&str; 6] = [
    "tests/foreign/x86_64",
    "tests/foreign/aarch64",
    "tests/foreign/tree",
    "tests/foreign/limine",
    "tests/foreign/limine/shim",
    "docs/template",
];

/// Runs all checks.
///
/// # Errors
/// When a check cannot even start.
pub(crate) fn main(root: &Path) -> Result<ExitCode> {
    let mut results = vec![check(tool::cargo(root).args(["fmt", "--all", "--check"]), "format")?];
    for folder in APART {
        results.push(check(&mut format_of(root, folder), &format!("format of {folder}"))?);
    }
    results.push(check(&mut host_clippy(root), "clippy on the host")?);
    results.push(check(&mut documentation(root), "documentation")?);
    results.push(check(&mut packages(root), "packages")?);
    for arch in Arch::all() {
        let image = Image::of(arch);
        let toolchain = setup::toolchain(image.boot().target)?;
        setup::clippy(&toolchain)?;
        let mut clippy = bare(root, image, &toolchain, "clippy");
        clippy.args(["--", "-D", "warnings"]);
        results.push(check(&mut clippy, &format!("clippy for bare {arch}"))?);
        let mut doc = bare(root, image, &toolchain, "doc");
        doc.args(["--no-deps", "--document-private-items"]).env("RUSTDOCFLAGS", "-D warnings");
        results.push(check(&mut doc, &format!("documentation for bare {arch}"))?);
        for target in arch.about().boots.iter().filter_map(|boot| boot.carrier) {
            let mut clippy = carrier_clippy(root, target)?;
            results.push(check(&mut clippy, &format!("clippy for {}", target.triple))?);
        }
    }
    results.push(house_rules(root)?);
    let good = results.iter().all(|&good| good);
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The format of a kernel that is not of this workspace.
fn format_of(root: &Path, folder: &str) -> Command {
    let mut command = tool::cargo(root);
    command.args(["fmt", "--check", "--manifest-path"]).arg(root.join(folder).join("Cargo.toml"));
    command
}

fn host_clippy(root: &Path) -> Command {
    let mut command = tool::cargo(root);
    command.args([
        "clippy",
        "--quiet",
        "--keep-going",
        "--workspace",
        "--all-targets",
        // Code for one architecture that no package of the workspace uses, and the screen.
        "--features",
        "hotmem-acpi/x86_64,xtask/watch",
        "--",
        "-D",
        "warnings",
    ]);
    command
}

/// A cargo subcommand over the kernel and all it is made of, compiled as it really is.
fn bare(root: &Path, image: Image, toolchain: &Toolchain, subcommand: &str) -> Command {
    let mut command = toolchain.cargo(image.boot().target, subcommand);
    command
        .current_dir(root)
        .args(["--quiet", "--keep-going", "--release", "--target-dir"])
        .arg(build::bare_dir(root))
        .arg("--features")
        .arg(format!("hotmem-arch/{}", build::page_feature(image)));
    for package in BARE {
        command.args(["--package", package]);
    }
    command
}

/// Clippy over a program that carries a kernel. Which kernel does not matter: any file will do.
fn carrier_clippy(root: &Path, target: &Target) -> Result<Command> {
    let toolchain = setup::toolchain(target)?;
    setup::clippy(&toolchain)?;
    let mut command = toolchain.cargo(target, "clippy");
    command
        .current_dir(root)
        .args(["--quiet", "--release", "--package", build::CARRIER])
        .env("HOTMEM_KERNEL", root.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(build::bare_dir(root))
        .args(["--", "-D", "warnings"]);
    Ok(command)
}

fn documentation(root: &Path) -> Command {
    let mut command = tool::cargo(root);
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

/// Packs what other kernels can take, and so finds a file or a version that a registry would miss.
/// Nothing is compiled: clippy did that.
fn packages(root: &Path) -> Command {
    let mut command = tool::cargo(root);
    command.args(["package", "--quiet", "--offline", "--allow-dirty", "--no-verify"]);
    for package in LIBRARIES {
        command.args(["--package", package]);
    }
    command
}

/// Runs one check with its output on ours; returns whether it passed.
fn check(command: &mut Command, what: &str) -> Result<bool> {
    let status = command
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("cannot start the check of {what}"))?;
    eprintln!("{what}: {}", if status.success() { "ok" } else { "FAILED" });
    Ok(status.success())
}

fn house_rules(root: &Path) -> Result<bool> {
    let mut complaints: Vec<_> = rules::check(root)?.iter().map(ToString::to_string).collect();
    let workspace = workspace(root)?;
    complaints.extend(layers::complaints(&workspace));
    complaints.extend(arrows::check(&workspace)?);
    complaints.extend(methods::check(&workspace)?);
    complaints.extend(steps::check(root, &workspace)?);
    complaints.extend(release::check(root, &workspace)?);
    complaints.iter().for_each(|complaint| eprintln!("{complaint}"));
    eprintln!("house rules: {}", if complaints.is_empty() { "ok" } else { "FAILED" });
    Ok(complaints.is_empty())
}
