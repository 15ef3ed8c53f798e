//! What machine to run.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum;

use super::{Nvdimm, QemuDir};
use crate::arch::image::{Image, typed};
use crate::size::{DimmSpec, Size};

/// What executes the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Accel {
    /// QEMU's own translator
    Tcg,
    /// The host's processor, by Linux KVM
    Kvm,
}

impl fmt::Display for Accel {
    /// As QEMU names it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&typed(self))
    }
}

/// A file that QEMU puts into boot memory beside the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Module {
    pub(crate) path: PathBuf,
    /// Where it goes.
    pub(crate) at: u64,
    pub(crate) bytes: u64,
}

/// A machine to be started.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Config {
    /// The kernel to run.
    pub(crate) image: Image,
    /// The mainboard, by QEMU's name.
    pub(crate) board: &'static str,
    /// Which QEMU runs it.
    pub(crate) qemu: QemuDir,
    pub(crate) accel: Accel,
    /// The processor, by QEMU's name; empty for the usual one of the accelerator.
    pub(crate) cpu: String,
    /// Privilege level to enter the kernel at, where there is a choice.
    pub(crate) level: Option<u8>,
    /// Version of the interrupt controller, where there is a choice.
    pub(crate) gic: Option<u8>,
    /// Whether the interrupt controller takes messages, if it can.
    pub(crate) its: bool,
    /// CPUs.
    pub(crate) cpus: u32,
    /// CPUs that firmware describes, if more: those that are not there it calls disabled.
    pub(crate) most_cpus: Option<u32>,
    /// Memory at boot.
    pub(crate) memory: Size,
    /// DIMM slots.
    pub(crate) slots: u32,
    /// Bytes of address space for DIMMs.
    pub(crate) window: u64,
    /// DIMMs that are there at power-on.
    pub(crate) cold: Vec<DimmSpec>,
    /// Memory devices of the paravirtual kind (virtio-mem), with the most memory of each; nothing is requested at power-on.
    pub(crate) memory_devices: Vec<DimmSpec>,
    /// The bridges that each of those is behind, from bus 0 on, by QEMU's names; none for bus 0.
    pub(crate) bridges: &'static [&'static str],
    /// NVDIMMs that are there at power-on.
    pub(crate) nvdimms: Vec<Nvdimm>,
    /// Whether the board can have NVDIMMs: those, and others later.
    pub(crate) has_nvdimms: bool,
    /// NUMA nodes; 0 for a machine that does not speak of nodes.
    pub(crate) nodes: u32,
    /// The node of each CPU; those past the end are in the first.
    pub(crate) cpu_nodes: Vec<u32>,
    /// The distance of each node from each other one; empty if firmware does not describe it.
    pub(crate) distances: Vec<Vec<u8>>,
    /// Properties of QEMU's devices, such as `q35-pcihost.pci-hole64-size=0`.
    pub(crate) globals: &'static [&'static str],
    /// Make guest time count guest instructions, 2^N nanoseconds for each. QEMU gives each CPU 100 ms of that time in
    /// turn.
    pub(crate) icount: Option<u8>,
    /// Words of the kernel command line.
    pub(crate) words: Vec<String>,
    /// What lies in boot memory beside the kernel.
    pub(crate) module: Option<Module>,
    /// The machine's disk, from which firmware starts a loader; QEMU starts no kernel then.
    pub(crate) disk: Option<Disk>,
    /// Whether the machine starts again when it is reset, instead of ending.
    pub(crate) restarts: bool,
    /// Port of a debugger to wait for.
    pub(crate) gdb: Option<u16>,
    /// How long the whole run may take; `None` for as long as the user likes.
    pub(crate) timeout: Option<Duration>,
    /// How long any single reply may take.
    pub(crate) patience: Duration,
}

impl Config {
    /// Adds a word to the kernel command line.
    pub(crate) fn word(mut self, word: impl fmt::Display) -> Self {
        self.words.push(word.to_string());
        self
    }

    /// Adds a module, and its place to the kernel's command line.
    pub(crate) fn module(self, module: Module) -> Self {
        let word = format!("initrdmem={:#x},{:#x}", module.at, module.bytes);
        Self { module: Some(module), ..self }.word(word)
    }
}

/// A disk of a PC, with a loader on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Disk {
    /// What is in a folder, for UEFI; it cannot be written.
    Folder(PathBuf),
    /// A file with its sectors, for a BIOS.
    Sectors(PathBuf),
}

/// A command line in the making.
#[derive(Debug, Default)]
pub(crate) struct Line(pub(super) Vec<OsString>);

impl Line {
    /// Adds an option and its value.
    pub(crate) fn add(&mut self, option: &str, value: impl Into<OsString>) -> &mut Self {
        self.0.push(option.into());
        self.0.push(value.into());
        self
    }

    /// Adds the image as what QEMU calls a kernel, and the kernel's command line.
    pub(crate) fn kernel(config: &Config, image: &Path, line: &mut Self) {
        line.add("-kernel", image);
        if !config.words.is_empty() {
            line.add("-append", config.words.join(" "));
        }
    }

    /// Adds an option that has no value.
    pub(super) fn flag(&mut self, option: &str) -> &mut Self {
        self.0.push(option.into());
        self
    }
}

/// `path` between two pieces of text, though it may not be text itself. QEMU requires commas doubled.
pub(crate) fn joined(before: &str, path: &Path, after: &str) -> OsString {
    let mut value = OsString::from(before);
    match path.to_str() {
        Some(text) => value.push(text.replace(',', ",,")),
        None => value.push(path),
    }
    value.push(after);
    value
}
