//! The table of what we run beside Rust, and of the packages that have it.

use super::manager::Manager;
use std::path::PathBuf;

use crate::tool;

/// The packages that have a program, by package manager in the order of [`Manager`]. Several are divided by a space; none:
/// that manager does not have it.
pub(crate) type Packages = [&'static str; 5];

/// A program that a command runs, or a file that it needs, and where to get it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Program {
    /// What is looked for on the search path.
    pub(crate) name: &'static str,
    /// Where to look for a file that is not a program: full paths, one for each system that we know.
    pub(crate) files: &'static [&'static str],
    /// What to install.
    pub(crate) packages: Packages,
}

const fn program(name: &'static str, packages: Packages) -> Program {
    Program { name, files: &[], packages }
}

/// The table.
#[rustfmt::skip]
impl Program {
    //                                                                   apt                 dnf                         pacman                 brew        nix
    pub(crate) const QEMU_X86: Self =   program("qemu-system-x86_64",  ["qemu-system-x86",  "qemu-system-x86-core",     "qemu-system-x86",     "qemu",     "qemu"]);
    pub(crate) const QEMU_ARM: Self =   program("qemu-system-aarch64", ["qemu-system-arm",  "qemu-system-aarch64-core", "qemu-system-aarch64", "qemu",     "qemu"]);
    pub(crate) const QEMU_PPC: Self =   program("qemu-system-ppc64",   ["qemu-system-ppc",  "qemu-system-ppc-core",     "qemu-system-ppc",     "qemu",     "qemu"]);
    /// EDK II's build for the board `virt`.
    pub(crate) const EDK2: Self = Self { files: EDK2, ..program("QEMU_EFI.fd", ["qemu-efi-aarch64", "edk2-aarch64", "edk2-aarch64",        "qemu",     "qemu"]) };
    /// The same for PCs, with its variables in one file.
    pub(crate) const OVMF: Self = Self { files: OVMF, ..program("OVMF.fd",     ["ovmf",             "edk2-ovmf",                "edk2-ovmf",           "qemu",     "OVMF"]) };
    /// ACPICA's AML interpreter, the reference that host tests compare with.
    pub(crate) const ACPIEXEC: Self =   program("acpiexec",            ["acpica-tools",     "acpica-tools",             "acpica",              "acpica",   "acpica-tools"]);
    /// ACPICA's ASL compiler, which builds the tests' own tables.
    pub(crate) const IASL: Self =       Self { name: "iasl", ..Self::ACPIEXEC };
    /// Valgrind, which counts instructions.
    pub(crate) const VALGRIND: Self =   program("valgrind",            ["valgrind",         "valgrind",                 "valgrind",            "valgrind", "valgrind"]);
    /// The linker where the compiler brings none.
    pub(crate) const LLD: Self =        program("ld.lld",              ["lld",              "lld",                      "lld",                 "lld",      "lld"]);
    /// LLVM's tools for object files.
    pub(crate) const LLVM: Self =       program("llvm-objcopy",        ["llvm",             "llvm",                     "llvm",                "llvm",     "llvm"]);
}

/// Where systems have EDK II: Debian, Fedora, Arch, Homebrew.
const EDK2: &[&str] = &[
    "/usr/share/qemu-efi-aarch64/QEMU_EFI.fd",
    "/usr/share/edk2/aarch64/QEMU_EFI.fd",
    "/opt/homebrew/share/qemu/edk2-aarch64-code.fd",
];

/// The same: Debian, Fedora, Arch, Homebrew.
const OVMF: &[&str] = &[
    "/usr/share/ovmf/OVMF.fd",
    "/usr/share/edk2/ovmf/OVMF_CODE.fd",
    "/usr/share/edk2/x64/OVMF.4m.fd",
    "/opt/homebrew/share/qemu/edk2-x86_64-code.fd",
];

impl Program {
    /// Where it is.
    pub(crate) fn find(self) -> Option<PathBuf> {
        let file = self.files.iter().map(PathBuf::from).find(|file| file.is_file());
        file.or_else(|| tool::find(self.name))
    }

    pub(super) fn present(self) -> bool {
        self.find().is_some()
    }

    /// The packages that have it.
    fn packages(self, manager: Manager) -> impl Iterator<Item = &'static str> {
        let names = Manager::ALL.into_iter().zip(self.packages).find(|(one, _)| *one == manager);
        names.into_iter().flat_map(|(_, names)| names.split_whitespace())
    }
}

/// The packages of `manager` that have `programs`, each once.
pub(super) fn packages(programs: &[Program], manager: Manager) -> Vec<&'static str> {
    let mut names: Vec<_> = programs.iter().flat_map(|one| one.packages(manager)).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// What a user types to get `programs`: with the system's package manager, or with each that we know, a line each.
pub(crate) fn advice(programs: &[Program]) -> Vec<String> {
    advice_on(Manager::here(), programs)
}

fn advice_on(here: Option<Manager>, programs: &[Program]) -> Vec<String> {
    let typed = |manager: Manager| {
        let names = packages(programs, manager);
        (!names.is_empty()).then(|| manager.by_hand(&names))
    };
    if let Some(line) = here.and_then(typed) {
        return vec![line];
    }
    let line = |one: Manager| Some(format!("{:<15} {}", format!("{}:", one.system()), typed(one)?));
    Manager::ALL.into_iter().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_program_has_a_package_on_each_system() {
        let all = [
            Program::QEMU_X86,
            Program::QEMU_ARM,
            Program::QEMU_PPC,
            Program::EDK2,
            Program::OVMF,
            Program::ACPIEXEC,
            Program::IASL,
            Program::VALGRIND,
            Program::LLD,
            Program::LLVM,
        ];
        for one in all {
            for manager in Manager::ALL {
                assert!(one.packages(manager).next().is_some(), "{} by {manager:?}", one.name);
            }
        }
    }

    #[test]
    fn the_advice_is_one_line_where_the_system_is_known_and_one_each_where_not() {
        let wanted = [Program::ACPIEXEC, Program::IASL, Program::QEMU_X86];
        assert_eq!(
            advice_on(Some(Manager::Dnf), &wanted),
            ["sudo dnf install -y acpica-tools qemu-system-x86-core"]
        );
        let all = advice_on(None, &wanted);
        assert!(all[0].ends_with("--no-install-recommends acpica-tools qemu-system-x86"));
        assert_eq!(
            all[1..],
            [
                "Fedora:         sudo dnf install -y acpica-tools qemu-system-x86-core",
                "Arch:           sudo pacman -S --needed acpica qemu-system-x86",
                "Homebrew:       brew install acpica qemu",
                "Nix:            nix-shell -p acpica-tools qemu"
            ]
        );
    }
}
