//! `cargo xtask test --arch foreign`: a kernel that is not this project's, with memory hotplug from its libraries, and
//! the one that users copy.

mod glue;
mod guide;
mod template;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::arch::{Arch, Firmware, Image, Target};
use crate::machine::{Add, Config, Machine, Module, Offline, Online, QemuDir, Remove, Request};
use crate::size::{DimmSpec, MIB, Size};
use crate::test::results::{Case, Suite};
use crate::{build, root, setup};

/// A kernel of its own workspace.
#[derive(Clone, Copy)]
struct Kernel {
    folder: &'static str,
    program: &'static str,
    arch: Arch,
    firmware: Firmware,
}

/// The kernel that is tested, and the one that users copy: they share all but their main files.
const PC: Kernel = Kernel {
    folder: "tests/foreign/x86_64",
    program: "foreign-kernel",
    arch: Arch::X86_64,
    firmware: Firmware::Bios,
};
const TEMPLATE: Kernel = Kernel { folder: "docs/template", program: "my-kernel", ..PC };
/// A program of UEFI, over page tables of another crate.
const ARM: Kernel = Kernel {
    folder: "tests/foreign/aarch64",
    program: "foreign-aarch64",
    arch: Arch::Aarch64,
    firmware: Firmware::Uefi,
};
/// A kernel of the Limine protocol, on all CPUs, and what starts it.
const LIMINE: Kernel = Kernel { folder: "tests/foreign/limine", program: "foreign-limine", ..PC };
const SHIM: Kernel = Kernel { folder: "tests/foreign/limine/shim", program: "limine-shim", ..PC };
/// Where its file is put in boot memory.
const LIMINE_FILE: u64 = 128 * MIB;
/// Its CPUs, and what it prints when all run.
const CPUS: u32 = 4;
const ALL_RUN: &str = "4 CPUs run";
/// Numbers that the shim derives the offset of physical memory from, and the mainboard.
const OFFSETS: [(u64, &str); 3] = [(0, "q35"), (1, "pc"), (2, "q35")];

impl Kernel {
    fn path(self, root: &Path, file: &str) -> PathBuf {
        root.join(self.folder).join(file)
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
    fn config(self, qemu: &QemuDir, board: &'static str) -> Config {
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

/// One test.
type Test = (&'static str, fn(&Path, &QemuDir) -> Result<()>);

/// All of them, by the name after `foreign::`.
const TESTS: [Test; 10] = [
    ("the_kernel_without_hotmem_builds", |root, _| {
        build(root, PC, &["--no-default-features"]).map(drop)
    }),
    ("what_hotmem_needs_is_short", |root, _| {
        glue::check([(TEMPLATE, "memory"), (TEMPLATE, "events"), (PC, "main")].map(source(root)))
    }),
    ("what_hotmem_needs_on_aarch64_is_short", |root, _| {
        glue::check([(ARM, "memory"), (ARM, "events"), (ARM, "main")].map(source(root)))
    }),
    ("what_hotmem_needs_on_several_cpus_is_short", |root, _| {
        glue::check([(LIMINE, "memory"), (TEMPLATE, "events"), (LIMINE, "main")].map(source(root)))
    }),
    ("the_guide_shows_the_templates_own_code", |root, _| {
        guide::check(&root.join("docs/guide.md"), &TEMPLATE.path(root, ""))
    }),
    ("memory_comes_and_goes_in_the_template", |root, qemu| {
        let image = build(root, TEMPLATE, &[])?;
        template::comes_and_goes(&TEMPLATE.path(root, ""), &image, qemu)
    }),
    ("memory_comes_and_goes_on_pc", |root, qemu| comes_and_goes(root, PC, qemu, "pc")),
    ("memory_comes_and_goes_on_q35", |root, qemu| comes_and_goes(root, PC, qemu, "q35")),
    ("memory_comes_and_goes_on_virt", |root, qemu| comes_and_goes(root, ARM, qemu, "virt")),
    ("memory_comes_and_goes_on_several_cpus_at_offsets_of_a_loader", |root, qemu| {
        OFFSETS.into_iter().try_for_each(|(seed, board)| limine(root, qemu, seed, board))
    }),
];

/// The file of a kernel's module.
fn source(root: &Path) -> impl Fn((Kernel, &str)) -> PathBuf {
    |(kernel, module)| kernel.path(root, &format!("src/{module}.rs"))
}

/// The tests whose names hold `filter`.
fn chosen(filter: Option<&str>) -> impl Iterator<Item = (String, Test)> {
    let named = TESTS.iter().map(|&test| (format!("foreign::{}", test.0), test));
    named.filter(move |(name, _)| filter.is_none_or(|filter| name.contains(filter)))
}

/// Prints the names of the tests.
pub(crate) fn list(filter: Option<&str>) {
    chosen(filter).for_each(|(name, _)| println!("{name}"));
}

/// Runs the tests.
///
/// # Errors
/// When a tool is missing that all of them need.
pub(crate) fn run(root: &Path, qemu: &QemuDir, filter: Option<&str>) -> Result<Suite> {
    let start = Instant::now();
    let mut cases = Vec::new();
    for (name, (_, test)) in chosen(filter) {
        if cases.is_empty() {
            setup::ready_to_run(&PC.config(qemu, "q35"))?;
            setup::ready_to_run(&ARM.config(qemu, "virt"))?;
        }
        let begun = Instant::now();
        let failure = test(root, qemu).err().map(|error| format!("{error:#}"));
        println!("{name} ... {}", failure.as_deref().unwrap_or("ok"));
        cases.push(Case { name, seconds: Some(begun.elapsed().as_secs_f32()), failure });
    }
    Ok(Suite::of("foreign", start.elapsed().as_secs_f32(), cases))
}

/// Builds a kernel with `words` to cargo; returns the program.
fn build(root: &Path, kernel: Kernel, words: &[&str]) -> Result<PathBuf> {
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
    build::linked(&mut cargo, program)
}

/// Plugs a DIMM, has the kernel use it, and unplugs it; twice.
fn comes_and_goes(root: &Path, kernel: Kernel, qemu: &QemuDir, board: &'static str) -> Result<()> {
    let image = build(root, kernel, &[])?;
    drive(&image, &kernel.config(qemu, board), &[])
}

/// The same, for the kernel that is started by the shim with an offset that it derives from `seed`.
fn limine(root: &Path, qemu: &QemuDir, seed: u64, board: &'static str) -> Result<()> {
    let path = build(root, LIMINE, &[])?;
    let bytes =
        std::fs::metadata(&path).with_context(|| format!("cannot read {}", path.display()))?.len();
    let config = Config { cpus: CPUS, ..LIMINE.config(qemu, board) };
    let config = config.module(Module { path, at: LIMINE_FILE, bytes });
    let config = config.word(format_args!("hhdm={seed}"));
    drive(&build(root, SHIM, &[])?, &config, &[ALL_RUN])
}

/// Runs `image`, which prints `lines` before it is ready.
fn drive(image: &Path, config: &Config, lines: &[&str]) -> Result<()> {
    let mut machine = Machine::start(image, config, None)?;
    let driven = plug_and_unplug(&mut machine, lines);
    driven.with_context(|| format!("the console ended with\n  {}", machine.tail(20).join("\n  ")))
}

fn plug_and_unplug(machine: &mut Machine, lines: &[&str]) -> Result<()> {
    for line in lines.iter().chain(&[READY]) {
        machine.wait_line(line)?;
    }
    for round in 0..2 {
        let spec = DimmSpec { size: Size::new(512 * MIB), node: None };
        let dimm = machine.plug(spec, None)?;
        machine.done::<Add>()?;
        machine.done::<Online>()?;
        machine.wait_line(&format!("round {round}: {USED}"))?;
        ensure!(
            machine.status(&dimm, Request::Insertion)? == Some(0),
            "the insert was not reported"
        );
        machine.unplug(&dimm)?;
        machine.done::<Offline>()?;
        machine.done::<Remove>()?;
        machine.wait_deleted(&dimm)?;
        machine.wait_line(&format!("round {round}: {GONE}"))?;
    }
    let exit = machine.exit(0)?;
    ensure!(exit == machine.left(0), "the kernel ended with {exit:?}");
    Ok(())
}
