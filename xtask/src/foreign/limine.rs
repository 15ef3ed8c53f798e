//! The kernel of the Limine protocol, and its two loaders: a program of ours, and Limine itself where `LIMINE_DIR` names it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::kernel::{Kernel, PC, build, drive};
use crate::machine::{Config, Disk, Module, QemuDir};
use crate::scratch::Scratch;
use crate::setup::{self, Program};
use crate::size::MIB;

/// A kernel of the Limine protocol, on all CPUs, and the program of ours that starts it.
pub(super) const KERNEL: Kernel =
    Kernel { folder: "tests/foreign/limine", program: "foreign-limine", ..PC };
const SHIM: Kernel = Kernel { folder: "tests/foreign/limine/shim", program: "limine-shim", ..PC };
/// Where the shim finds the kernel's file in boot memory.
const FILE: u64 = 128 * MIB;
/// Its CPUs, and what it prints when all run.
const CPUS: u32 = 4;
const ALL_RUN: &str = "4 CPUs run";
/// Numbers that the shim derives the offset of physical memory from, and the mainboard.
const OFFSETS: [(u64, &str); 3] = [(0, "q35"), (1, "pc"), (2, "q35")];

/// The variable that names the folder of a Limine, the file of it that UEFI starts, and how the kernel's line begins that
/// shows its version.
const DIR: &str = "LIMINE_DIR";
const LOADER: &str = "BOOTX64.EFI";
const STARTED: &str = "started by Limine ";
/// How the line begins that shows the offset.
const OFFSET: &str = "physical memory is mapped at ";
/// Where UEFI looks for a loader on a disk, and Limine for its configuration and, by that, for the kernel.
const BOOT: &str = "EFI/BOOT";
const CONFIGURATION: &str = "limine.conf";
const FILE_NAME: &str = "kernel.elf";

/// Runs the kernel by the shim at several offsets.
pub(super) fn by_the_shim(root: &Path, qemu: &QemuDir) -> Result<()> {
    let (kernel, shim) = (build(root, KERNEL, &[])?, build(root, SHIM, &[])?);
    let bytes = std::fs::metadata(&kernel).with_context(|| shown("cannot read", &kernel))?.len();
    for (seed, board) in OFFSETS {
        let module = Module { path: kernel.clone(), at: FILE, bytes };
        let config = config(qemu, board).module(module).word(format_args!("hhdm={seed}"));
        drive(&shim, &config, &[ALL_RUN])?;
    }
    Ok(())
}

/// Where Limine is, if the user says so.
pub(super) fn dir() -> Option<PathBuf> {
    std::env::var_os(DIR).filter(|dir| !dir.is_empty()).map(PathBuf::from)
}

/// Runs the kernel by Limine itself, on each mainboard at an offset that it chooses at random.
pub(super) fn by_itself(root: &Path, qemu: &QemuDir) -> Result<()> {
    let limine = dir().with_context(|| format!("{DIR} is not set"))?;
    setup::ensure(&[Program::OVMF])?;
    let kernel = build(root, KERNEL, &[])?;
    let scratch = Scratch::new()?;
    fill(scratch.path(), &limine, &kernel)?;
    let run = |board| {
        let disk = Some(Disk::Folder(scratch.path().to_owned()));
        let config = Config { disk, ..config(qemu, board) };
        drive(&kernel, &config, &[STARTED, OFFSET, ALL_RUN])
    };
    let (q35, pc) = (run("q35")?, run("pc")?);
    println!("{}", q35[0]);
    let offset = |lines: &[String]| lines[1].split(',').next().map(str::to_owned);
    ensure!(offset(&q35) != offset(&pc), "the offset is the same at each start: {}", pc[1]);
    Ok(())
}

fn config(qemu: &QemuDir, board: &'static str) -> Config {
    Config { cpus: CPUS, ..KERNEL.config(qemu, board) }
}

/// Puts into the folder `disk` what UEFI starts: the loader, its configuration and the kernel.
///
/// # Errors
/// When a file cannot be copied; the error names it.
fn fill(disk: &Path, limine: &Path, kernel: &Path) -> Result<()> {
    let loader = limine.join(LOADER);
    ensure!(loader.is_file(), "{DIR}: {} has no {LOADER}", limine.display());
    let boot = disk.join(BOOT);
    std::fs::create_dir_all(&boot).with_context(|| shown("cannot make", &boot))?;
    for (from, name) in [(&*loader, LOADER), (kernel, FILE_NAME)] {
        std::fs::copy(from, boot.join(name)).with_context(|| shown("cannot copy", from))?;
    }
    let file = boot.join(CONFIGURATION);
    std::fs::write(&file, configuration()).with_context(|| shown("cannot write", &file))
}

/// Starts the kernel without a menu.
fn configuration() -> String {
    let kernel = format!("boot():/{BOOT}/{FILE_NAME}");
    format!("timeout: 0\n/hotmem\nprotocol: limine\npath: {kernel}\nrandomise_hhdm_base: yes\n")
}

fn shown(what: &str, path: &Path) -> String {
    format!("{what} {}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_has_the_loader_where_uefi_looks_and_the_kernel_where_the_configuration_says() {
        let (disk, limine) = (Scratch::new().unwrap(), Scratch::new().unwrap());
        let kernel = limine.path().join("a kernel");
        std::fs::write(&kernel, "kernel").unwrap();
        let refused = fill(disk.path(), limine.path(), &kernel).unwrap_err().to_string();
        let expected = format!("LIMINE_DIR: {} has no BOOTX64.EFI", limine.path().display());
        assert_eq!(refused, expected);
        assert!(!disk.path().join("EFI").exists());

        std::fs::write(limine.path().join("BOOTX64.EFI"), "loader").unwrap();
        fill(disk.path(), limine.path(), &kernel).unwrap();
        let read = |file: &str| std::fs::read_to_string(disk.path().join(file)).unwrap();
        assert_eq!(read("EFI/BOOT/BOOTX64.EFI"), "loader");
        let configuration = read("EFI/BOOT/limine.conf");
        let path = configuration.lines().find_map(|line| line.strip_prefix("path: boot():/"));
        assert_eq!(read(path.unwrap()), "kernel");
    }
}
