//! `cargo xtask test --arch foreign`: a kernel that is not this project's, with memory hotplug from its libraries, and
//! the one that users copy.

mod glue;
mod guide;
mod kernel;
mod limine;
mod loader;
mod template;

use std::path::Path;
use std::time::Instant;

use anyhow::Result;

use self::kernel::{Kernel, PC, build, drive, drive_sizes};
use crate::arch::{Arch, Firmware};
use crate::machine::{Config, Disk, QemuDir};
use crate::setup;
use crate::size::{DimmSpec, MIB, Size};
use crate::test::results::{Case, Suite};

/// The one that users copy: it shares all but its main file with the one that is tested.
const TEMPLATE: Kernel = Kernel { folder: "docs/template", program: "my-kernel", ..PC };
/// A program of UEFI, over page tables of another crate.
const ARM: Kernel = Kernel {
    folder: "tests/foreign/aarch64",
    program: "foreign-aarch64",
    arch: Arch::Aarch64,
    firmware: Firmware::Uefi,
};
/// A kernel for what a device tree describes, with memory of virtio-mem devices.
const TREE: Kernel = Kernel {
    folder: "tests/foreign/tree",
    program: "foreign-tree",
    firmware: Firmware::Bare,
    ..ARM
};
/// The most memory of its device, and what is requested: one memory block.
const DEVICE: DimmSpec = DimmSpec { size: Size::new(512 * MIB), node: None };
const REQUESTED: u64 = 128 * MIB;
/// What the kernel for x86_64 prints that has a recursive entry.
const RECURSIVE: &str = "page tables are reached by entry 510";
/// What it prints when it has taken the map of its loader out.
const LOADER_GONE: &str = "now None is there";

/// One test.
type Test = (&'static str, fn(&Path, &QemuDir) -> Result<()>);

/// All of them, by the name after `foreign::`.
const TESTS: [Test; 17] = [
    ("the_kernel_without_hotmem_builds", |root, _| {
        let without = ["--no-default-features"];
        build(root, PC, &without)?;
        build(root, PC, &[&without[..], &["--features", loader::NAME]].concat()).map(drop)
    }),
    ("the_kernel_for_several_cpus_without_hotmem_builds", |root, _| {
        build(root, limine::KERNEL, &["--no-default-features"]).map(drop)
    }),
    ("the_kernels_for_aarch64_without_hotmem_build", |root, _| {
        [ARM, TREE]
            .into_iter()
            .try_for_each(|kernel| build(root, kernel, &["--no-default-features"]).map(drop))
    }),
    ("what_hotmem_needs_is_short", |root, _| glue(root, PC, [TEMPLATE; 2], &["main"])),
    ("what_hotmem_needs_on_aarch64_is_short", |root, _| glue(root, ARM, [ARM; 2], &["main"])),
    ("what_hotmem_needs_on_several_cpus_is_short", |root, _| {
        glue(root, limine::KERNEL, [limine::KERNEL, TEMPLATE], &["main", "boot", "cpus"])
    }),
    ("what_hotmem_needs_of_a_device_tree_is_short", |root, _| {
        glue(root, TREE, [ARM, TREE], &["main"])
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
    ("memory_comes_and_goes_over_tables_with_a_recursive_entry", |root, qemu| {
        let image = build(root, PC, &["--features", "recursive"])?;
        drive(&image, &PC.config(qemu, "q35"), &[RECURSIVE]).map(drop)
    }),
    ("memory_comes_and_goes_by_the_crate_bootloader", |root, qemu| {
        let (kernel, disk) = loader::disk(root, PC)?;
        for board in ["pc", "q35"] {
            let disk = Some(Disk::Sectors(disk.clone()));
            drive(&kernel, &Config { disk, ..PC.config(qemu, board) }, &[LOADER_GONE])?;
        }
        Ok(())
    }),
    ("memory_comes_and_goes_on_virt", |root, qemu| comes_and_goes(root, ARM, qemu, "virt")),
    ("memory_follows_the_hosts_requests_on_a_machine_with_a_device_tree", |root, qemu| {
        let config = TREE.config(qemu, "virt").memory_devices(&[DEVICE]);
        drive_sizes(&build(root, TREE, &[])?, &config, REQUESTED)
    }),
    ("memory_comes_and_goes_on_several_cpus_at_offsets_of_a_loader", limine::by_the_shim),
    (LIMINE_ITSELF, limine::by_itself),
];

/// The test that needs Limine.
const LIMINE_ITSELF: &str = "memory_comes_and_goes_on_several_cpus_by_limine_itself";

/// The tests whose names hold `filter`, and which can run here.
fn chosen(filter: Option<&str>) -> impl Iterator<Item = (String, Test)> {
    let here = |test: &&Test| test.0 != LIMINE_ITSELF || limine::dir().is_some();
    let named = TESTS.iter().filter(here).map(|&test| (format!("foreign::{}", test.0), test));
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

/// Counts the lines in the files `memory` and `events` of two kernels, and in parts of `files` of `kernel`.
fn glue(root: &Path, kernel: Kernel, [memory, events]: [Kernel; 2], files: &[&str]) -> Result<()> {
    let whole = [memory.source(root, "memory"), events.source(root, "events")];
    let files: Vec<_> = files.iter().map(|file| kernel.source(root, file)).collect();
    glue::check(&whole, &files)
}

/// Builds a kernel and runs it.
fn comes_and_goes(root: &Path, kernel: Kernel, qemu: &QemuDir, board: &'static str) -> Result<()> {
    let image = build(root, kernel, &[])?;
    drive(&image, &kernel.config(qemu, board), &[]).map(drop)
}
