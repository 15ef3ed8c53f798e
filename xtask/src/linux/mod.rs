//! Guests that run a kernel, Linux or our own: the module with their files, which the kernel is booted with.
//!
//! ```text
//!   apt --> kernel --\
//!   cargo --> init ---> module: kernel, initrd, cmdline --> QEMU puts it into boot memory
//!   cargo --> image --> module: image ---------------------/
//! ```

mod cpio;
mod debian;
mod own;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::arch::Image;
use crate::machine::Module;
use crate::{build, root, tool};
use cpio::Entry;
pub(crate) use own::own_module;

/// Name of the package and program that Linux starts.
const INIT: &str = "hotmem-init";
/// The kernel's options: all that the program writes is shown, a panic ends the guest, and the file system is unpacked
/// before what comes after it, so that lines have the same order in every run.
const OPTIONS: &str = "printk.devkmsg=on panic=-1 initramfs_async=0";

/// What a Linux guest does, and other files for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// A kernel in place of Debian's.
    pub(crate) kernel: Option<PathBuf>,
    /// A file system that is unpacked before our program.
    pub(crate) initrd: Option<PathBuf>,
    /// MiB that the program works on.
    pub(crate) mib: u64,
    /// Its rounds; 0 for rounds without end.
    pub(crate) rounds: u64,
}

/// Debian's kernel for a guest under `image`.
///
/// # Errors
/// When it cannot be had: without apt or a network.
pub(crate) fn debian_kernel(root: &Path, image: Image) -> Result<PathBuf> {
    let name = image.arch;
    let about = image.arch.about().linux.as_ref();
    let about = about.with_context(|| format!("{name} runs no Linux guests"))?;
    debian::kernel(about.package, &directory(root, image)?)
}

/// Where the files for guests under `image` are kept.
fn directory(root: &Path, image: Image) -> Result<PathBuf> {
    let dir = root::target_dir(root).join("linux").join(image.arch.about().name);
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    Ok(dir)
}

/// The module for a guest under `image`.
///
/// # Errors
/// When the kernel cannot be had, the program does not build, or a file cannot be read or written.
pub(crate) fn module(root: &Path, image: Image, wanted: &Wanted) -> Result<Module> {
    let name = image.arch;
    let about = image.arch.about().linux.as_ref();
    let about = about.with_context(|| format!("{name} runs no Linux guests"))?;
    let dir = directory(root, image)?;
    let kernel = match &wanted.kernel {
        Some(path) => path.clone(),
        None => debian_kernel(root, image)?,
    };
    let init = tool::read(&build::program(root, about.target, INIT)?)?;

    let mut initrd = wanted.initrd.as_deref().map(tool::read).transpose()?.unwrap_or_default();
    cpio::align(&mut initrd);
    initrd.extend(cpio::archive(&[
        ("dev", Entry::Folder),
        ("dev/console", Entry::Device(5, 1)),
        ("dev/kmsg", Entry::Device(1, 11)),
        ("init", Entry::Program(&init)),
    ]));
    let line = format!("{OPTIONS} -- {} {}", wanted.mib, wanted.rounds);
    let archive = cpio::archive(&[
        ("kernel", Entry::File(&tool::read(&kernel)?)),
        ("initrd", Entry::File(&initrd)),
        ("cmdline", Entry::File(line.as_bytes())),
    ]);
    // Guests that differ may run at the same time.
    let path = dir.join(format!("module-{}-{}.cpio", wanted.mib, wanted.rounds));
    tool::write_atomically(&path, &archive)?;
    Ok(Module { path, at: about.at, bytes: archive.len() as u64 })
}

/// Where the module lies in boot memory.
fn place(image: Image) -> Result<u64> {
    let about = image.arch.about().linux.as_ref();
    Ok(about.with_context(|| format!("{} runs no kernel as a guest", image.arch))?.at)
}
