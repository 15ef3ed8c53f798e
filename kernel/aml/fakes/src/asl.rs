//! Compiling our own tables.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Outcome, Scratch, run};

/// Compiles `data/NAME.asl` with `iasl` and gives the table, header included.
///
/// # Errors
/// `iasl` is missing or finds a fault in the source.
pub fn compile(name: &str) -> Outcome<Vec<u8>> {
    compile_with(name, &[])
}

/// As [`compile`], with names that the source tests by `#ifdef`.
///
/// # Errors
/// As [`compile`].
pub fn compile_with(name: &str, defines: &[&str]) -> Outcome<Vec<u8>> {
    compile_file(&source(name), &[], defines, &Scratch::new()?)
}

/// Compiles a table that is written out, whether the specification allows what it says or not.
///
/// # Errors
/// As [`compile`].
pub fn compile_text(text: &str) -> Outcome<Vec<u8>> {
    let scratch = Scratch::new()?;
    let source = scratch.write("table.asl", text.as_bytes())?;
    compile_file(&source, &["-f"], &[], &scratch)
}

fn compile_file(
    source: &Path,
    options: &[&str],
    defines: &[&str],
    scratch: &Scratch,
) -> Outcome<Vec<u8>> {
    let prefix = scratch.path().join("table");
    let mut command = Command::new("iasl");
    // Neither names shortened nor constants folded: what is tested is what was written.
    command.args(options).args(["-oa", "-of", "-p"]).arg(&prefix);
    for define in defines {
        command.arg("-D").arg(define);
    }
    run(command.arg(source), "acpica-tools")?;
    let aml = prefix.with_extension("aml");
    std::fs::read(&aml).map_err(|error| format!("cannot read {}: {error}", aml.display()))
}

/// Where the source of a table lies.
fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data").join(name).with_extension("asl")
}
