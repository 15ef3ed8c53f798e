//! A kernel of its own workspace: how it is built, and the test that all of them pass.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::arch::{Arch, Firmware, Image, Target};
use crate::machine::{Add, Config, Machine, Offline, Online, QemuDir, Remove, Request};
use crate::size::{DimmSpec, MIB, Size};
use crate::{build, root, setup};

/// A kernel of its own workspace.
#[derive(Clone, Copy)]
pub(super) struct Kernel {
    pub(super) folder: &'static str,
    pub(super) program: &'static str,
    pub(super) arch: Arch,
    pub(super) firmware: Firmware,
}

/// The kernel in the style of tutorials.
pub(super) const PC: Kernel = Kernel {
    folder: "tests/foreign/x86_64",
    program: "foreign-kernel",
    arch: Arch::X86_64,
    firmware: Firmware::Bios,
};

impl Kernel {
    pub(super) fn path(self, root: &Path, file: &str) -> PathBuf {
        root.join(self.folder).join(file)
    }

    /// The file of a module.
    pub(super) fn source(self, root: &Path, module: &str) -> PathBuf {
        self.path(root, &format!("src/{module}.rs"))
    }

    fn image(self) -> Image {
        Image { firmware: self.firmware, ..Image::of(self.arch) }
    }

    /// The target: that of what the firmware starts.
    fn target(self) -> &'static Target {
        let boot = self.image().boot();
        boot.carrier.unwrap_or(boot.target)
    }

    /// The machine: one DIMM fits.
    pub(super) fn config(self, qemu: &QemuDir, board: &'static str) -> Config {
        let usual = Config::of(self.arch);
        // No kernel here is a hypervisor.
        let level = usual.level.map(|_| 1);
        Config { image: self.image(), board, level, qemu: qemu.clone(), ..usual }
    }
}

/// What it writes when it waits for events, has used added memory, and has seen it go.
const READY: &str = "ready";
const USED: &str = "used 64 pages of the added memory";
const GONE: &str = "gone, as at boot";

/// Builds a kernel with `words` to cargo; returns the program.
pub(super) fn build(root: &Path, kernel: Kernel, words: &[&str]) -> Result<PathBuf> {
    let Kernel { folder, program, .. } = kernel;
    let target = kernel.target();
    let mut cargo = setup::toolchain(target)?.cargo(target, "build");
    cargo
        .current_dir(root)
        .args(["--quiet", "--release", "--message-format=json-render-diagnostics"])
        .arg("--manifest-path")
        .arg(root.join(folder).join("Cargo.toml"))
        .arg("--target-dir")
        .arg(root::target_dir(root).join("foreign"))
        .args(words);
    let program = build::linked(&mut cargo, program)?;
    build::put_beside(&program, kernel.arch)?;
    Ok(program)
}

/// Runs `image`, has the host request memory of its device, which the kernel uses, and then none; twice.
pub(super) fn drive_sizes(image: &Path, config: &Config, bytes: u64) -> Result<()> {
    with(image, config, |machine| {
        machine.wait_line(READY)?;
        for round in 0..2 {
            machine.request_memory(0, bytes)?;
            machine.done::<Add>()?;
            machine.done::<Online>()?;
            machine.wait_line(&format!("round {round}: {USED}"))?;
            let plugged = machine.device_memory(0)?;
            ensure!(plugged == bytes, "{plugged:#x} bytes are plugged instead of {bytes:#x}");
            machine.request_memory(0, 0)?;
            machine.done::<Offline>()?;
            machine.done::<Remove>()?;
            machine.wait_line(&format!("round {round}: {GONE}"))?;
            let plugged = machine.device_memory(0)?;
            ensure!(plugged == 0, "{plugged:#x} bytes are plugged that the kernel has removed");
        }
        machine.leave()
    })
}

/// Starts a machine, and adds the end of its console to an error.
fn with<T>(image: &Path, config: &Config, f: impl FnOnce(&mut Machine) -> Result<T>) -> Result<T> {
    let mut machine = Machine::start(image, config, None)?;
    let done = f(&mut machine);
    done.with_context(|| format!("the console ended with\n  {}", machine.tail(20).join("\n  ")))
}

/// Runs `image`, which prints lines that hold `texts` before it is ready; plugs a DIMM, has the kernel use it, and unplugs
/// it; twice. Returns the lines.
pub(super) fn drive(image: &Path, config: &Config, texts: &[&str]) -> Result<Vec<String>> {
    with(image, config, |machine| plug_and_unplug(machine, texts))
}

fn plug_and_unplug(machine: &mut Machine, texts: &[&str]) -> Result<Vec<String>> {
    let lines = texts.iter().map(|text| machine.wait_line(text)).collect::<Result<Vec<_>>>()?;
    machine.wait_line(READY)?;
    for round in 0..2 {
        let spec = DimmSpec { size: Size::new(512 * MIB), node: None };
        let (dimm, ..) = machine.plug_online(spec)?;
        machine.wait_line(&format!("round {round}: {USED}"))?;
        ensure!(
            machine.status(&dimm, Request::Insertion)? == Some(0),
            "the insert was not reported"
        );
        machine.unplug_gone(&dimm)?;
        machine.wait_line(&format!("round {round}: {GONE}"))?;
    }
    machine.leave()?;
    Ok(lines)
}
