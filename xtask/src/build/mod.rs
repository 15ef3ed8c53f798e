//! `cargo xtask build`: the kernel image, with its symbols inside.

pub(crate) mod symbols;
mod text;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::arch::{Arch, BuildChoices, Image, Target};
use crate::setup;
use crate::size::Size;
use crate::{root, tool};

pub(crate) use text::{Text, text};

/// Name of the kernel's package and program.
const KERNEL: &str = "hotmem-kernel";
/// Name of the package and program that carries the kernel where firmware wants a program of its own.
pub(crate) const CARRIER: &str = "hotmem-uefi";

/// Builds the kernel image and prints its path.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Architecture to build for
    #[arg(long, value_enum, default_value_t = Arch::X86_64)]
    arch: Arch,

    #[command(flatten)]
    choices: BuildChoices,
}

/// Runs the command.
///
/// # Errors
/// When there is no toolchain or the build fails.
pub(crate) fn main(root: &Path, args: &Args) -> Result<()> {
    let image = image(root, args.choices.image(args.arch)?, &[])?;
    println!("{}", image.display());
    Ok(())
}

/// Builds an image, with more `options` for cargo; returns the path of the finished one.
///
/// # Errors
/// When there is no such kernel, no toolchain for it, or the build fails.
pub(crate) fn image(root: &Path, image: Image, options: &[&str]) -> Result<PathBuf> {
    image.arch.ensure_kernel()?;
    let program = compile(root, image, image.boot().target, KERNEL, options, &[])?;

    let mut bytes =
        std::fs::read(&program).with_context(|| format!("cannot read {}", program.display()))?;
    let foreign = symbols::defined_by(&bytes, image.arch.about().foreign)?;
    if let Some(first) = foreign.first() {
        bail!("the image holds {} functions of another firmware, such as {first}", foreign.len());
    }
    let filled = symbols::fill(&mut bytes)
        .with_context(|| format!("cannot fill in symbols of {}", program.display()))?;
    if let Some(note) = filled.note() {
        eprintln!("{note}");
    }

    let path = kernel(root, image);
    let dir = path.parent().context("an image has a directory")?;
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    put_beside(&path, image.arch)?;
    write_changed(&path, &bytes)?;
    match image.boot().carrier {
        Some(target) => carry(root, image, target, options, &path),
        None => Ok(path),
    }
}

/// Puts beside `image` what QEMU wants there.
pub(crate) fn put_beside(image: &Path, arch: Arch) -> Result<()> {
    let mut files = arch.about().beside.iter();
    files.try_for_each(|(name, contents)| write_changed(&image.with_file_name(name), contents))
}

/// Where the finished kernel of an image is, inside of what carries it, too.
pub(crate) fn kernel(root: &Path, image: Image) -> PathBuf {
    bare_dir(root).join("image").join(image.folder()).join(KERNEL)
}

/// Builds the program that carries `kernel`; returns its path, beside the kernel's.
fn carry(
    root: &Path,
    image: Image,
    target: &Target,
    options: &[&str],
    kernel: &Path,
) -> Result<PathBuf> {
    let environment = [("HOTMEM_KERNEL", kernel)];
    let program = compile(root, image, target, CARRIER, options, &environment)?;
    let bytes =
        std::fs::read(&program).with_context(|| format!("cannot read {}", program.display()))?;
    let path = kernel.with_file_name(CARRIER).with_extension("efi");
    write_changed(&path, &bytes)?;
    Ok(path)
}

/// Builds a program of ours for another system than the kernel; returns its path.
///
/// # Errors
/// When there is no toolchain or the build fails.
pub(crate) fn program(
    root: &Path,
    image: Image,
    target: &Target,
    package: &str,
) -> Result<PathBuf> {
    compile(root, image, target, package, &[], &[])
}

/// Writes a file; an unchanged one is kept, so that a debugger that has it open stays right.
fn write_changed(path: &Path, bytes: &[u8]) -> Result<()> {
    if std::fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    tool::write_atomically(path, bytes)
}

/// Sets which image the crates are built for: their build scripts read the size of a page.
pub(crate) fn for_image(cargo: &mut Command, image: Image) -> &mut Command {
    cargo.env("HOTMEM_PAGE_SIZE", Size::new(image.page).word())
}

/// Where bare builds and finished images go. Bare builds do not share the host's directory: their environment
/// differs, and each would rebuild the other.
fn bare_dir(root: &Path) -> PathBuf {
    root::target_dir(root).join("bare")
}

/// The target directory for an image's build. Each page size has its own, because the size is part of the
/// environment of every package: in one directory, a change of size rebuilds all of them.
pub(crate) fn target_dir(root: &Path, image: Image) -> PathBuf {
    bare_dir(root).join(Size::new(image.page).word())
}

/// Runs cargo for `package` with additional environment variables; returns the program it linked.
fn compile(
    root: &Path,
    image: Image,
    target: &Target,
    package: &str,
    options: &[&str],
    environment: &[(&str, &Path)],
) -> Result<PathBuf> {
    let features = if image.lab { &[][..] } else { &["--no-default-features"] };
    let mut cargo = setup::toolchain(target)?.cargo(target, "build");
    for_image(&mut cargo, image)
        .current_dir(root)
        .args(["--release", "--package", package, "--message-format=json-render-diagnostics"])
        .args(features)
        .args(options)
        .arg("--target-dir")
        .arg(target_dir(root, image))
        .envs(environment.iter().copied());
    linked(&mut cargo, package)
}

/// Runs `cargo`, which reports in JSON what it builds; returns the program `package` that it linked.
///
/// # Errors
/// When it cannot start, or fails, or links no such program.
pub(crate) fn linked(cargo: &mut Command, package: &str) -> Result<PathBuf> {
    let line = tool::shown(cargo);
    let output = cargo.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("cannot start `{line}`"))?;
    if !output.status.success() {
        bail!("{package} does not build: `{line}` failed ({})", output.status);
    }
    linked_program(&String::from_utf8_lossy(&output.stdout), package)
        .with_context(|| format!("`{line}` linked no program {package}"))
}

/// The path of `package`'s program among cargo's messages, one JSON object a line.
fn linked_program(messages: &str, package: &str) -> Option<PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| {
            message["reason"] == "compiler-artifact" && message["target"]["name"] == package
        })
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_with_different_page_sizes_are_built_in_different_directories() {
        for arch in Arch::with_kernel() {
            let images = arch.about().pages.iter().map(|&page| Image { page, ..Image::of(arch) });
            let mut dirs: Vec<_> = images.map(|image| target_dir(Path::new("/r"), image)).collect();
            let count = dirs.len();
            dirs.sort_unstable();
            dirs.dedup();
            assert_eq!(dirs.len(), count, "{arch}: {dirs:?}");
        }
    }

    #[test]
    fn the_kernel_is_found_among_cargos_messages() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"log"},"executable":null}
not json
{"reason":"compiler-artifact","target":{"name":"hotmem-kernel"},"executable":"/t/hotmem-kernel"}
{"reason":"build-finished","success":true}"#;
        assert_eq!(linked_program(messages, KERNEL), Some(PathBuf::from("/t/hotmem-kernel")));
        assert_eq!(linked_program("{\"reason\":\"build-finished\"}", KERNEL), None);
    }
}
