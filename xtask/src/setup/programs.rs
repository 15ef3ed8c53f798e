//! Makes sure that the programs beside Rust are there.

use anyhow::{Result, bail};

use super::manager::Manager;
use super::packages::{Program, advice, packages};

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
    if let Some(manager) = Manager::here().filter(|manager| manager.usable()) {
        let names = packages(&wanted, manager);
        if !names.is_empty() {
            manager.install(&names)?;
        }
    }
    match missing(&wanted).as_slice() {
        [] => Ok(()),
        rest => bail!("{}", by_hand(rest)),
    }
}

/// What a user types to get `programs`.
fn by_hand(programs: &[Program]) -> String {
    let names: Vec<_> = programs.iter().map(|program| program.name).collect();
    let lines = advice(programs).join("\n  ");
    format!("{} not found. Please install with:\n  {lines}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    const ABSENT: Program =
        Program { name: "no-such-program", packages: ["", "", "", "", ""], ..Program::ACPIEXEC };

    #[test]
    fn what_is_there_needs_nothing() {
        let sh = Program { name: "sh", ..Program::ACPIEXEC };
        ensure(&[sh]).unwrap();
        assert!(!ABSENT.present());
        let file = Program { files: &["/no/such/file", "/dev/../etc/passwd"], ..ABSENT };
        assert_eq!(file.find(), Some(PathBuf::from("/dev/../etc/passwd")));
    }

    #[test]
    fn what_is_missing_is_named_with_what_to_type() {
        let error = ensure(&[Program { name: "sh", ..ABSENT }, ABSENT]).unwrap_err().to_string();
        assert!(error.starts_with("no-such-program not found. Please install with:"), "{error}");
        let text = by_hand(&[Program::ACPIEXEC, Program::IASL, Program::QEMU_X86]);
        assert!(text.contains("acpiexec, iasl, qemu-system-x86_64 not found"), "{text}");
    }
}
