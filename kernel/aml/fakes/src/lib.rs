//! Firmware tables for tests, from where they really come: QEMU makes its own when it starts,
//! `iasl` compiles ours, and ACPICA's `acpiexec` is the second opinion on what they mean.
//!
//! Nothing is skipped when a tool is missing: the error names the package that has it.

mod acpiexec;
mod asl;
mod controller;
mod live;
mod memory;
mod qemu;
mod qtest;
mod scratch;
mod walk;

pub use acpiexec::{AcpiExec, Evaluated, Session};
pub use asl::{compile, compile_text, compile_with};
pub use controller::{Access, Controller, Layout, Notice, Ost, Slot};
pub use live::Live;
pub use memory::{FlatMemory, ask};
pub use qemu::{Machine, live, tables};
pub use scratch::Scratch;
pub use walk::{EventSource, event_sources, memory_devices, memory_range, raise};

/// The result of tests' helpers: the error is a sentence for the reader of the failed test.
pub type Outcome<T> = Result<T, String>;

/// The tables of a machine that hold AML, each with its header.
#[derive(Debug, Clone)]
pub struct Tables {
    /// The DSDT.
    pub dsdt: Vec<u8>,
    /// The SSDTs, in the order in which the firmware lists them.
    pub ssdts: Vec<Vec<u8>>,
}

impl Tables {
    /// All of them, the DSDT first, as `Aml::load` wants them.
    #[must_use]
    pub fn all(&self) -> Vec<&[u8]> {
        std::iter::once(&self.dsdt).chain(&self.ssdts).map(Vec::as_slice).collect()
    }
}

/// Runs a program and gives what it wrote to standard output and error together.
///
/// # Errors
/// The program is missing (named with its Debian package), or it did not succeed.
pub(crate) fn run(command: &mut std::process::Command, package: &str) -> Outcome<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| missing(&name, package, &error))?;
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    if output.status.success() { Ok(text) } else { Err(format!("{name} failed:\n{text}")) }
}

/// The message for a program that cannot be started.
pub(crate) fn missing(name: &str, package: &str, error: &std::io::Error) -> String {
    format!("cannot start {name}: {error}; it is in Debian's package {package}")
}
