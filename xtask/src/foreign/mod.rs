//! `cargo xtask test --arch foreign`: a kernel that is not this project's, with memory hotplug from its libraries.

mod glue;
mod guide;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::arch::{Arch, Image};
use crate::machine::{Add, Config, Machine, Offline, Online, QemuDir, Remove, Request};
use crate::size::{DimmSpec, MIB, Size};
use crate::test::results::{Case, Suite};
use crate::{build, root, setup};

/// Its folder, and its program.
const FOLDER: &str = "tests/foreign/x86_64";
const PROGRAM: &str = "foreign-kernel";
/// What it writes when it waits for events, has used added memory, and has seen it go.
const READY: &str = "ready";
const USED: &str = "used 64 pages of the added memory";
const GONE: &str = "gone, as at boot";

/// One test.
type Test = (&'static str, fn(&Path, &QemuDir) -> Result<()>);

/// All of them, by the name after `foreign::`.
const TESTS: [Test; 5] = [
    ("the_kernel_without_hotmem_builds", |root, _| build(root, false).map(drop)),
    ("what_hotmem_needs_is_short", |root, _| glue::check(&root.join(FOLDER).join("src"))),
    ("the_guide_shows_the_kernels_own_code", |root, _| {
        guide::check(&root.join("docs/guide.md"), &root.join(FOLDER))
    }),
    ("memory_comes_and_goes_on_pc", |root, qemu| comes_and_goes(root, qemu, "pc")),
    ("memory_comes_and_goes_on_q35", |root, qemu| comes_and_goes(root, qemu, "q35")),
];

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
            setup::ready_to_run(&config(qemu, "q35"))?;
        }
        let begun = Instant::now();
        let failure = test(root, qemu).err().map(|error| format!("{error:#}"));
        println!("{name} ... {}", failure.as_deref().unwrap_or("ok"));
        cases.push(Case { name, seconds: Some(begun.elapsed().as_secs_f32()), failure });
    }
    Ok(Suite::of("foreign", start.elapsed().as_secs_f32(), cases))
}

/// The machine: one DIMM fits.
fn config(qemu: &QemuDir, board: &'static str) -> Config {
    Config { board, qemu: qemu.clone(), ..Config::of(Arch::X86_64) }
}

/// Builds the kernel; returns the program.
fn build(root: &Path, with_hotmem: bool) -> Result<PathBuf> {
    let target = Image::of(Arch::X86_64).boot().target;
    let mut cargo = setup::toolchain(target)?.cargo(target, "build");
    cargo
        .current_dir(root)
        .args(["--quiet", "--release", "--message-format=json-render-diagnostics"])
        .arg("--manifest-path")
        .arg(root.join(FOLDER).join("Cargo.toml"))
        .arg("--target-dir")
        .arg(root::target_dir(root).join("foreign"))
        .args((!with_hotmem).then_some("--no-default-features"));
    build::linked(&mut cargo, PROGRAM)
}

/// Plugs a DIMM, has the kernel use it, and unplugs it; twice.
fn comes_and_goes(root: &Path, qemu: &QemuDir, board: &'static str) -> Result<()> {
    let image = build(root, true)?;
    let mut machine = Machine::start(&image, &config(qemu, board), None)?;
    let tested = drive(&mut machine);
    tested.with_context(|| format!("the console ended with\n  {}", machine.tail(20).join("\n  ")))
}

fn drive(machine: &mut Machine) -> Result<()> {
    machine.wait_line(READY)?;
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
