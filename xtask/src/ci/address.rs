//! Host suites under AddressSanitizer: the RAM of a fake machine is an allocation of its own for each 64 KiB, freed
//! when its DIMM is pulled, so that an access past its end or after that is reported.
//!
//! The run-time library comes with the toolchain, and the standard library stays as it is.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::{root, tool};

/// The suites, as cargo selects them: those beside the code of the manager and of the page tables.
const SUITES: &[&str] = &["--package", "hotmem-paging", "--package", "hotmem", "--lib"];
/// Bytes of stack of each test: a frame takes more than usual, and a manager is made on the stack.
const STACK: &str = "67108864";
/// The test that reads memory of a DIMM that was pulled.
pub(super) const PLANTED: &[&str] =
    &["--package", "hotmem-paging", "--lib", "planted_use_of_memory_that_was_pulled"];
/// What AddressSanitizer says of it.
const REPORT: &str = "AddressSanitizer: heap-use-after-free";

/// Runs the suites; returns whether the planted fault was found, and no other.
///
/// # Errors
/// When cargo does not start, or does not name the host.
pub(super) fn run(root: &Path) -> Result<bool> {
    let found = finds(&mut cargo_test(root, PLANTED)?, &[REPORT])?;
    let status = cargo_test(root, SUITES)?.status().context("cannot start cargo test")?;
    Ok(found & status.success())
}

/// `cargo test` with AddressSanitizer in everything but what runs while it builds: the target is named for that.
fn cargo_test(root: &Path, words: &[&str]) -> Result<Command> {
    let host = host("rustc")?;
    let mut command = tool::cargo(root);
    command.args(["test", "--quiet", "--target", &host, "--target-dir"]);
    command.arg(root::target_dir(root).join("asan")).args(words);
    // The option is one of nightly compilers; this compiler has it all the same.
    command.env("RUSTC_BOOTSTRAP", "1").env("RUSTFLAGS", "-Zsanitizer=address");
    // The machines of tests live as long as their process.
    command.env("ASAN_OPTIONS", "detect_leaks=0").env("RUST_MIN_STACK", STACK);
    command.stdin(Stdio::null());
    Ok(command)
}

/// The target of this host, as a compiler names it.
///
/// # Errors
/// When it does not.
pub(super) fn host(rustc: &str) -> Result<String> {
    let about = tool::output_of(rustc, &["-vV"]).unwrap_or_default();
    let host = about.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).with_context(|| format!("{rustc} does not name its target"))
}

/// Whether the planted fault of `test` is found: it fails, and says all of `reports`.
///
/// # Errors
/// When cargo does not start.
pub(super) fn finds(test: &mut Command, reports: &[&str]) -> Result<bool> {
    let output = test.args(["--", "--ignored"]).output().context("cannot start cargo test")?;
    let (text, what) = (String::from_utf8_lossy(&output.stderr), reports.join(", "));
    let found = !output.status.success() && reports.iter().all(|report| text.contains(report));
    if !found {
        eprintln!("{text}\nthe planted fault was not reported ({what})");
    }
    println!("planted fault ({what}): {}", if found { "found" } else { "NOT FOUND" });
    Ok(found)
}
