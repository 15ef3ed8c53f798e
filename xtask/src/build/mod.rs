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
    // Cargo puts the programs of all images of an architecture in one place, from where they are read.
    let _turn = tool::turn(&bare_dir(root))?;
    let mut features = vec![page_feature(image)];
    features.extend(image.lab.then(|| "lab".to_owned()));
    features.extend(image.holds.then(|| "holds".to_owned()));
    let features = features.join(",");
    let chosen = [&["--no-default-features", "--features", &features], options].concat();
    let program = compile(root, image.boot().target, KERNEL, &chosen, &[])?;

    let mut bytes = tool::read(&program)?;
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
        Some(target) => carry(root, target, options, &path),
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
fn carry(root: &Path, target: &Target, options: &[&str], kernel: &Path) -> Result<PathBuf> {
    let environment = [("HOTMEM_KERNEL", kernel)];
    let program = compile(root, target, CARRIER, options, &environment)?;
    let bytes = tool::read(&program)?;
    let path = kernel.with_file_name(CARRIER).with_extension("efi");
    write_changed(&path, &bytes)?;
    Ok(path)
}

/// Builds a program of ours for another system than the kernel; returns its path.
///
/// # Errors
/// When there is no toolchain or the build fails.
pub(crate) fn program(root: &Path, target: &Target, package: &str) -> Result<PathBuf> {
    compile(root, target, package, &[], &[])
}

/// Writes a file; an unchanged one is kept, so that a debugger that has it open stays right.
fn write_changed(path: &Path, bytes: &[u8]) -> Result<()> {
    if std::fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    tool::write_atomically(path, bytes)
}

/// The feature of hotmem-arch, and of the kernel, that chooses an image's page size.
pub(crate) fn page_feature(image: Image) -> String {
    format!("page-{}", Size::new(image.page).word().to_lowercase())
}

/// Where bare builds and finished images go. Bare builds do not share the host's directory: their environment
/// differs, and each would rebuild the other.
pub(crate) fn bare_dir(root: &Path) -> PathBuf {
    root::target_dir(root).join("bare")
}

/// Runs cargo for `package` with more options and variables of the environment; returns the program it linked.
fn compile(
    root: &Path,
    target: &Target,
    package: &str,
    options: &[&str],
    environment: &[(&str, &Path)],
) -> Result<PathBuf> {
    let mut cargo = setup::toolchain(target)?.cargo(target, "build");
    cargo
        .current_dir(root)
        .args(["--release", "--package", package, "--message-format=json-render-diagnostics"])
        .args(options)
        .arg("--target-dir")
        .arg(bare_dir(root))
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
    fn each_page_size_of_an_image_is_a_feature_of_the_kernel() {
        let manifest = include_str!("../../../kernel/Cargo.toml");
        for arch in Arch::all() {
            for &page in arch.about().pages {
                let feature = page_feature(Image { page, ..Image::of(arch) });
                let line = format!("{feature} = [\"hotmem-arch/{feature}\"]");
                assert!(manifest.lines().any(|found| found == line), "{line}");
            }
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
