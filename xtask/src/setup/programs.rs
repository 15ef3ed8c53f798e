//! The programs beside Rust: QEMU, ACPICA's tools for the tests of the AML evaluator, valgrind for benchmarks.

use std::path::PathBuf;

use anyhow::{Result, bail};

use super::apt;
use crate::tool;

/// A program that a command runs, and where to get it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Program {
    /// What is looked for on the search path.
    pub(crate) name: &'static str,
    /// Where to look for a file that is not a program: full paths, one for each system that we know.
    pub(crate) files: &'static [&'static str],
    /// Debian's package.
    pub(crate) debian: &'static str,
    /// Fedora's package.
    pub(crate) fedora: &'static str,
    /// Homebrew's formula.
    pub(crate) homebrew: &'static str,
}

impl Program {
    /// ACPICA's AML interpreter, the reference that host tests compare with.
    pub(crate) const ACPIEXEC: Self = Self {
        name: "acpiexec",
        files: &[],
        debian: "acpica-tools",
        fedora: "acpica-tools",
        homebrew: "acpica",
    };

    /// ACPICA's ASL compiler, which builds the tests' own tables.
    pub(crate) const IASL: Self = Self { name: "iasl", ..Self::ACPIEXEC };

    /// Valgrind, which counts instructions.
    pub(crate) const VALGRIND: Self = Self {
        name: "valgrind",
        files: &[],
        debian: "valgrind",
        fedora: "valgrind",
        homebrew: "valgrind",
    };

    /// Where it is.
    pub(crate) fn find(self) -> Option<PathBuf> {
        let file = self.files.iter().map(PathBuf::from).find(|file| file.is_file());
        file.or_else(|| tool::find(self.name))
    }

    fn present(self) -> bool {
        self.find().is_some()
    }
}

/// Makes sure that every one of `programs` can be run.
///
/// # Errors
/// When one is missing and cannot be installed here; the error says what to type.
pub(crate) fn ensure(programs: &[Program]) -> Result<()> {
    let missing = |programs: &[Program]| -> Vec<Program> {
        programs.iter().copied().filter(|program| !program.present()).collect()
    };

    let wanted = missing(programs);
    if wanted.is_empty() {
        return Ok(());
    }
    if apt::usable() {
        apt::install(&packages(&wanted, |program| program.debian))?;
    }
    match missing(&wanted).as_slice() {
        [] => Ok(()),
        rest => bail!("{}", by_hand(rest)),
    }
}

/// What a user types to get `programs`, on the systems we know.
fn by_hand(programs: &[Program]) -> String {
    let names: Vec<_> = programs.iter().map(|program| program.name).collect();
    let on = |pick: fn(&Program) -> &'static str| packages(programs, pick);
    format!(
        "{names} not found. Please install with:\n  \
         Debian, Ubuntu:  {debian}\n  \
         Fedora:          sudo dnf install {fedora}\n  \
         macOS:           brew install {homebrew}",
        names = names.join(", "),
        debian = apt::by_hand(&on(|program| program.debian)),
        fedora = on(|program| program.fedora).join(" "),
        homebrew = on(|program| program.homebrew).join(" "),
    )
}

/// The packages that `pick` names for `programs`, each once.
fn packages(programs: &[Program], pick: fn(&Program) -> &'static str) -> Vec<&'static str> {
    let mut names: Vec<_> = programs.iter().map(pick).collect();
    names.sort_unstable();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::Arch;

    const ABSENT: Program =
        Program { name: "no-such-program", debian: "no-such-package", ..Program::ACPIEXEC };

    #[test]
    fn what_is_there_needs_nothing() {
        let sh = Program { name: "sh", ..Program::ACPIEXEC };
        ensure(&[sh]).unwrap();
        assert!(!ABSENT.present());
        let file = Program { files: &["/no/such/file", "/dev/../etc/passwd"], ..ABSENT };
        assert_eq!(file.find(), Some(PathBuf::from("/dev/../etc/passwd")));
    }

    #[test]
    fn the_advice_names_each_package_once_on_each_system() {
        let text = by_hand(&[Program::ACPIEXEC, Program::IASL, Arch::X86_64.about().qemu]);
        assert!(text.contains("acpiexec, iasl, qemu-system-x86_64 not found"), "{text}");
        assert!(text.contains("--no-install-recommends acpica-tools qemu-system-x86\n"), "{text}");
        assert!(text.contains("dnf install acpica-tools qemu-system-x86-core"), "{text}");
        assert!(text.contains("brew install acpica qemu"), "{text}");
    }
}
