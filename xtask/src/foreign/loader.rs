//! The loader of the crate `bootloader`, with a kernel in it: a disk that a BIOS starts.
//!
//! The tool `bootimage` does this for users of rustup. The crate finds LLVM's tools in the folder of the compiler that
//! `rustc` on the search path names, where the component `llvm-tools` has them; here a program of that name leads to the
//! tools that the system has. Its target is one of its own, for which `core` is compiled from the sources of Debian's
//! compiler.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::kernel::{Kernel, build};
use crate::progress::Progress;
use crate::setup::{self, Program};
use crate::{root, tool};

/// The crate, the program that it builds, and the feature of the kernel that takes what it passes.
pub(super) const NAME: &str = "bootloader";
/// The crate's target.
const TARGET: &str = "x86_64-bootloader";
/// The crate's features, as the kernel has them, and with the program.
const FEATURES: &str = "binary,map_physical_memory";
/// LLVM's tools that the crate's build runs.
const TOOLS: [&str; 4] = ["llvm-objcopy", "llvm-objdump", "llvm-size", "llvm-ar"];
/// What a BIOS reads at a time.
const SECTOR: u64 = 512;

/// Builds `kernel` for the loader, and a disk with both; returns the kernel's program and the disk.
pub(super) fn disk(root: &Path, kernel: Kernel) -> Result<(PathBuf, PathBuf)> {
    setup::debian()?;
    setup::ensure(&[Program::LLVM, Program::LLD])?;
    let program = build(root, kernel, &["--features", NAME])?;
    let folder = root::target_dir(root).join("foreign").join(NAME);
    let manifest = kernel.path(root, "Cargo.toml");
    let progress = Progress::start("Building the loader of the crate bootloader");
    let mut cargo = cargo(&crate_folder(&manifest)?, &folder)?;
    tool::run(cargo.env("KERNEL", &program).env("KERNEL_MANIFEST", &manifest), &progress)?;
    let disk = folder.join("disk.img");
    flatten(&folder.join(TARGET).join("release").join(NAME), &disk)?;
    progress.done();
    Ok((program, disk))
}

/// The folder with the crate's sources, which building the kernel has fetched.
fn crate_folder(manifest: &Path) -> Result<PathBuf> {
    let mut cargo = setup::debian_cargo("metadata");
    cargo.args(["--format-version", "1", "--offline", "--features", NAME, "--manifest-path"]);
    let output = cargo.arg(manifest).output().context("cannot start cargo metadata")?;
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "cargo metadata failed: {text}");
    let found: Value = serde_json::from_slice(&output.stdout).context("cargo metadata's output")?;
    let packages = found["packages"].as_array().into_iter().flatten();
    let path =
        packages.filter(|one| one["name"] == NAME).find_map(|one| one["manifest_path"].as_str());
    let folder = path.and_then(|path| Path::new(path).parent());
    Ok(folder.with_context(|| format!("{} does not name {NAME}", manifest.display()))?.to_owned())
}

/// `cargo build` for the crate in `sources`, whose files go into `folder`.
fn cargo(sources: &Path, folder: &Path) -> Result<Command> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let programs = [link_tools(folder)?].into_iter().chain(std::env::split_paths(&path));
    let path = std::env::join_paths(programs).context("the search path")?;
    let mut cargo = setup::debian_cargo("build");
    cargo
        .current_dir(sources)
        .args(["--release", "-Zbuild-std=core", "-Zjson-target-spec", "--target"])
        .arg(sources.join(TARGET).with_extension("json"))
        .args(["--features", FEATURES, "--target-dir"])
        .arg(folder)
        .env("PATH", path)
        .env("CARGO_TARGET_X86_64_BOOTLOADER_LINKER", Program::LLD.name)
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTFLAGS");
    Ok(cargo)
}

/// Makes a folder of a compiler in `folder` that has the system's tools, and a `rustc` that names it. Returns where that is.
fn link_tools(folder: &Path) -> Result<PathBuf> {
    let (programs, sysroot) = (folder.join("bin"), folder.join("sysroot"));
    let tools = sysroot.join("lib/rustlib/host/bin");
    for made in [&programs, &tools] {
        fs::create_dir_all(made).with_context(|| format!("cannot make {}", made.display()))?;
    }
    for name in TOOLS {
        let from = tool::find(name).with_context(|| format!("{name} is not on the search path"))?;
        let to = tools.join(name);
        // A link of an earlier build may lead to a tool that was removed since.
        let _ = fs::remove_file(&to);
        symlink(from, &to).with_context(|| format!("cannot make {}", to.display()))?;
    }
    let rustc = programs.join("rustc");
    let text = format!("#!/bin/sh\necho {}\n", tool::quoted(&sysroot.to_string_lossy()));
    fs::write(&rustc, text)
        .and_then(|()| fs::set_permissions(&rustc, Permissions::from_mode(0o755)))
        .with_context(|| format!("cannot write {}", rustc.display()))?;
    Ok(programs)
}

/// Writes what `program` has in memory to `disk`, in whole sectors.
fn flatten(program: &Path, disk: &Path) -> Result<()> {
    let mut objcopy = Command::new(TOOLS[0]);
    objcopy.args(["-I", "elf64-x86-64", "-O", "binary"]).arg(program).arg(disk);
    let status = objcopy.status().with_context(|| format!("cannot start {}", TOOLS[0]))?;
    ensure!(status.success(), "`{}` failed ({status})", tool::shown(&objcopy));
    let file = fs::OpenOptions::new().write(true).open(disk);
    file.and_then(|file| file.set_len(file.metadata()?.len().next_multiple_of(SECTOR)))
        .with_context(|| format!("cannot write {}", disk.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn the_compilers_folder_that_a_build_finds_has_the_systems_tools() {
        let scratch = Scratch::new().unwrap();
        let folder = scratch.path().join("a 'folder'");
        if TOOLS.iter().any(|name| tool::find(name).is_none()) {
            let refused = link_tools(&folder).unwrap_err().to_string();
            assert!(refused.ends_with("is not on the search path"), "{refused}");
            return;
        }
        for _ in 0..2 {
            let programs = link_tools(&folder).unwrap();
            let named = tool::output_of(programs.join("rustc"), &["--print", "sysroot"]).unwrap();
            let tools = Path::new(&named).join("lib/rustlib/host/bin");
            for name in TOOLS {
                assert_eq!(fs::read_link(tools.join(name)).ok(), tool::find(name));
            }
        }
    }
}
