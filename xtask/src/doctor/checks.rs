//! What is looked at: Rust's targets, each QEMU with its machines, processors, devices and firmware, and the programs
//! beside them.

use std::path::{Path, PathBuf};

use crate::arch::{About, Arch, Boot, Newer, Target};
use crate::machine::{Accel, QemuDir, kvm};
use crate::setup::{self, Program};
use crate::tool;

/// The oldest QEMU that the tests pass with.
const OLDEST_QEMU: (u32, u32) = (7, 2);

/// A command that needs something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum For {
    /// The tour with no options.
    Qemu,
    /// All tests.
    Test,
}

/// Is it there?
#[derive(Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It is; `lacks` are features that it does not have.
    There { detail: String, lacks: Vec<String> },
    /// It is not, or is of no use; `how` to get it, a line for each way.
    Missing { detail: String, how: Vec<String> },
}

/// One thing that was looked for.
#[derive(Debug)]
pub(super) struct Finding {
    pub(super) group: &'static str,
    pub(super) name: String,
    pub(super) state: State,
    /// What cannot do without it; nothing if it is for a command or an option of its own.
    pub(super) uses: Vec<For>,
}

impl Finding {
    pub(super) const fn lacks(&self) -> bool {
        matches!(self.state, State::Missing { .. })
    }

    pub(super) fn needed_by(&self, command: For) -> bool {
        self.uses.contains(&command)
    }
}

/// Looks at everything for these architectures. The first is what the tour runs on.
pub(super) fn all(archs: &[Arch], qemu: &QemuDir) -> Vec<Finding> {
    let mut findings = vec![compiler()];
    let mut emulators = Vec::new();
    let mut firmware = Vec::new();
    for (index, arch) in archs.iter().enumerate() {
        let about = arch.about();
        let dirs = rom_dirs(qemu, about.qemu.name);
        emulators.push(emulator(about, qemu, &uses(index == 0)));
        for (place, boot) in about.boots.iter().enumerate() {
            // The tour's usual way to boot comes first.
            let uses = uses(index == 0 && place == 0);
            for target in [Some(boot.target), boot.carrier].into_iter().flatten() {
                if !findings.iter().any(|one| one.name == target.triple) {
                    findings.push(toolchain(target, about, &uses));
                }
            }
            firmware.extend(boot.needs.iter().map(|&file| needed(file, about, boot, &uses)));
            let roms = boot.roms.iter().map(|&name| rom(name, about, boot, &dirs, &uses));
            firmware.extend(roms);
        }
    }
    findings.extend(emulators);
    findings.extend(firmware);
    findings.extend(beside(archs));
    findings
}

/// The commands that use what the tests always use.
fn uses(tour: bool) -> Vec<For> {
    if tour { vec![For::Qemu, For::Test] } else { vec![For::Test] }
}

/// The compiler, which compiled this program, and so is new enough.
fn compiler() -> Finding {
    let version = tool::output_of("rustc", &["--version"]).unwrap_or_default();
    let version = version.split_whitespace().nth(1).unwrap_or("of unknown version").to_owned();
    let detail = format!("{version} (oldest: {})", env!("CARGO_PKG_RUST_VERSION"));
    Finding { group: "Rust", name: "rustc".into(), state: there(detail), uses: Vec::new() }
}

fn toolchain(target: &Target, about: &About, uses: &[For]) -> Finding {
    let what = format!("kernel for {}", about.name);
    let state = match setup::builder(target) {
        Some(builder) => there(format!("{what}, by {builder}")),
        None => State::Missing { detail: what, how: setup::advice_on_target(target) },
    };
    Finding { group: "Rust", name: target.triple.into(), state, uses: uses.to_vec() }
}

/// An emulator: its version, and what it lacks of what the options and the tests ask of it.
fn emulator(about: &About, qemu: &QemuDir, uses: &[For]) -> Finding {
    let name = about.qemu.name;
    let needs = format!("the kernel for {}", about.name);
    let how = || setup::advice(&[about.qemu]);
    let state = match qemu.whole_version(name) {
        None => State::Missing { detail: needs, how: how() },
        Some(version) if too_old(&version) => {
            let (major, minor) = OLDEST_QEMU;
            let detail = format!("{version} is too old for {needs}: {major}.{minor} or newer");
            State::Missing { detail, how: how() }
        }
        Some(version) => {
            let lacks = lacks(about, &version, |list| qemu.prints(name, &[list, "help"]));
            State::There { detail: format!("{version}, {needs}"), lacks }
        }
    };
    Finding { group: "QEMU", name: name.into(), state, uses: uses.to_vec() }
}

fn too_old(version: &str) -> bool {
    let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) < OLDEST_QEMU
}

/// What an emulator of this version does not have, by what it prints for each of its lists.
fn lacks(about: &About, version: &str, prints: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let listed = |list: &str, names: &[&'static str]| -> Vec<&'static str> {
        let text = prints(list).unwrap_or_default();
        let words: Vec<_> =
            text.split(|c: char| c.is_whitespace() || "\",()".contains(c)).collect();
        names.iter().copied().filter(|name| !words.contains(name)).collect()
    };
    let lists = [
        ("-machine", "mainboard", about.boards.to_vec()),
        ("-device", "device", about.devices.to_vec()),
        ("-cpu", "processor", about.cpu.into_iter().filter(|name| !name.is_empty()).collect()),
    ];
    let mut lacks: Vec<String> = Vec::new();
    for (list, kind, names) in lists {
        lacks.extend(listed(list, &names).into_iter().map(|name| format!("the {kind} {name}")));
    }
    let major: Option<u32> = version.split('.').next().and_then(|number| number.parse().ok());
    let newer = about.newer.iter().filter(|newer| major.is_some_and(|major| major < newer.version));
    let shown = |newer: &Newer| {
        format!("{} (version {} has it): {}", newer.what, newer.version, newer.without)
    };
    lacks.extend(newer.map(shown));
    if about.accels.contains(&Accel::Kvm)
        && let Some(why) = kvm::lacks()
    {
        lacks.push(format!("KVM, for `--accel kvm`: {why}"));
    }
    lacks
}

/// The directories that QEMU looks for firmware in.
fn rom_dirs(qemu: &QemuDir, name: &str) -> Vec<PathBuf> {
    let printed = qemu.prints(name, &["-L", "help"]).unwrap_or_default();
    printed.lines().map(PathBuf::from).collect()
}

/// A file that a way to boot needs, from a package of its own.
fn needed(file: Program, about: &About, boot: &Boot, uses: &[For]) -> Finding {
    let what = format!("`--firmware {}` on {}", boot.firmware, about.name);
    let state = match file.find() {
        Some(path) => there(format!("{what}, {}", path.display())),
        None => State::Missing { detail: what, how: setup::advice(&[file]) },
    };
    Finding { group: "Firmware", name: file.name.into(), state, uses: uses.to_vec() }
}

/// A file that comes with QEMU.
fn rom(name: &str, about: &About, boot: &Boot, dirs: &[PathBuf], uses: &[For]) -> Finding {
    let what = format!("`--firmware {}` on {}", boot.firmware, about.name);
    let found = dirs.iter().map(|dir| dir.join(name)).find(|file| file.is_file());
    let state = match found.as_deref().and_then(Path::parent) {
        Some(_) => there(what),
        None => State::Missing { detail: what, how: setup::advice(&[about.qemu]) },
    };
    Finding { group: "Firmware", name: name.into(), state, uses: uses.to_vec() }
}

/// The programs beside them.
fn beside(archs: &[Arch]) -> Vec<Finding> {
    let acpi = "the host's tests compare with it";
    let mut programs = vec![
        (Program::ACPIEXEC, acpi, vec![For::Test]),
        (Program::IASL, acpi, vec![For::Test]),
        (Program::VALGRIND, "`cargo xtask bench` and `ci memcheck` alone", Vec::new()),
    ];
    if !archs.contains(&Arch::X86_64) {
        let why = "the host's tests get their tables from it";
        programs.insert(0, (Program::QEMU_X86, why, vec![For::Test]));
    }
    let finding = |(program, what, uses): (Program, &str, _)| {
        let state = match program.find() {
            Some(_) => there(what.to_owned()),
            None => State::Missing { detail: what.to_owned(), how: setup::advice(&[program]) },
        };
        Finding { group: "Programs", name: program.name.into(), state, uses }
    };
    programs.into_iter().map(finding).collect()
}

const fn there(detail: String) -> State {
    State::There { detail, lacks: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn versions_are_compared_number_by_number() {
        assert!(too_old("6.9.1") && too_old("7.1.50") && too_old("nonsense"));
        assert!(!too_old("7.2.22") && !too_old("10.0.2") && !too_old("8.0"));
    }

    #[test]
    fn what_an_emulator_does_not_list_it_lacks() {
        let about = Arch::Ppc64.about();
        let whole = |list: &str| {
            Some(match list {
                "-machine" => "pseries   pSeries (alias of pseries-7.2)".to_owned(),
                "-device" => "name \"pc-dimm\", desc \"DIMM\"".to_owned(),
                _ => "PowerPC power9      (alias for power9_v2.0)".to_owned(),
            })
        };
        assert!(lacks(about, "10.0.2", whole).is_empty());
        let old = lacks(about, "7.2.22", |_| None);
        assert_eq!(
            old[..3],
            ["the mainboard pseries", "the device pc-dimm", "the processor power9"]
        );
        assert!(old[3].contains("msgsndp") && old[3].contains("(version 10 has it)"), "{old:?}");
    }

    #[test]
    fn firmware_is_looked_for_in_qemus_own_directories() {
        let scratch = Scratch::new().unwrap();
        std::fs::write(scratch.path().join("slof.bin"), "").unwrap();
        let about = Arch::Ppc64.about();
        let dirs = [PathBuf::from("/no/such/dir"), scratch.path().to_owned()];
        let find = |name| rom(name, about, &about.boots[1], &dirs, &[For::Test]);
        assert!(!find("slof.bin").lacks() && find("vof.bin").lacks());
    }

    #[test]
    fn an_emulator_that_is_not_there_is_missing_with_its_package() {
        let scratch = Scratch::new().unwrap();
        let qemu = QemuDir { dir: Some(scratch.path().to_owned()) };
        let found = emulator(Arch::Aarch64.about(), &qemu, &[For::Test]);
        let State::Missing { detail, how } = found.state else { panic!("found") };
        assert_eq!(detail, "the kernel for aarch64");
        assert!(how[0].contains("qemu-system-a"), "{how:?}");
    }

    #[test]
    fn the_tour_needs_one_architecture_and_the_tests_all() {
        let scratch = Scratch::new().unwrap();
        let qemu = QemuDir { dir: Some(scratch.path().to_owned()) };
        let findings = all(&[Arch::X86_64, Arch::Ppc64], &qemu);
        let lacking = |command| {
            let lacks = findings.iter().filter(|one| one.lacks() && one.needed_by(command));
            let names: Vec<_> = lacks.map(|one| one.name.as_str()).collect();
            names
        };
        assert!(lacking(For::Qemu).contains(&"qemu-system-x86_64"));
        assert!(!lacking(For::Qemu).contains(&"qemu-system-ppc64"));
        assert!(lacking(For::Test).contains(&"qemu-system-ppc64"));
        assert!(lacking(For::Test).contains(&"slof.bin"));
    }
}
