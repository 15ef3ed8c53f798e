//! Storms of the host's threads under ThreadSanitizer.
//!
//! It needs a standard library that is built with it, too. Debian's compiler and sources build that; the run-time
//! library is a nightly toolchain's, since Debian packages none.
//!
//! ```text
//!   planted races       locks that order nothing; memory that is used without a word about its mapping: reports are required
//!   hosted machine      real memory: only the manager's locks and atomics order accesses
//!   flat machine        all operations, and no access locks: mappings and their uses are ordered by the manager alone
//!   fake machine        the same tests; the MMU locks at each access, which hides races in memory
//! ```

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::address::{self, host};
use crate::progress::Progress;
use crate::{root, setup, tool};

/// The programs whose threads must not race, as cargo selects them.
const PROGRAMS: [&[&str]; 2] = [
    &["--package", "hotmem-hosted", "--test", "ticket", "--test", "queue"],
    &["--package", "hotmem-tests", "--test", "manager", "threads"],
];
/// The tests with a race, as cargo selects them, and where each is: under the manager's locks; in an access of the flat machine.
const PLANTED: [(&[&str], &str); 2] = [
    (&["--package", "hotmem-hosted", "--test", "planted_race", "planted_race"], "<hotmem::alloc::"),
    (
        &["--package", "hotmem-tests", "--test", "manager", "planted_use_of_memory"],
        "testing/mmu/flat.rs",
    ),
];
/// What ThreadSanitizer says of a race.
const REPORT: &str = "WARNING: ThreadSanitizer: data race";

/// What the check needs besides Debian's packages.
pub(super) struct Tools {
    /// The run-time library of ThreadSanitizer.
    runtime: PathBuf,
    /// The host's target, which has to be named, so that build scripts are built without the sanitizer.
    host: String,
}

impl Tools {
    /// What is there; Debian's packages are installed where that is possible.
    ///
    /// # Errors
    /// When something is missing; the error says what to type.
    pub(super) fn find() -> Result<Self> {
        setup::debian()?;
        let host = host(setup::DEBIAN_RUSTC)?;
        // Unlike `rustc +nightly`, this downloads nothing.
        let nightly = ["run", "nightly", "rustc", "--print", "sysroot"];
        let sysroot = tool::output_of("rustup", &nightly).unwrap_or_default();
        Ok(Self { runtime: runtime(Path::new(&sysroot), &host)?, host })
    }

    /// `cargo test` with ThreadSanitizer in everything.
    fn cargo_test(&self, root: &Path, words: &[&str]) -> Command {
        let link = |argument: &str| format!("-Zpre-link-arg={argument}");
        let flags = [
            "-Zsanitizer=thread".to_owned(),
            "-Zexternal-clangrt".to_owned(),
            link("-Wl,--whole-archive"),
            link(&self.runtime.to_string_lossy()),
            link("-Wl,--no-whole-archive"),
        ];
        let mut command = setup::debian_cargo("test");
        command
            .current_dir(root)
            .args(["-Zbuild-std", "--target", &self.host, "--target-dir"])
            .arg(root::target_dir(root).join("tsan"))
            .args(words)
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
            .env_remove("RUSTFLAGS")
            // Tests unwind: without this there would be two `core`.
            .env("CARGO_PROFILE_DEV_PANIC", "unwind")
            .env("TSAN_OPTIONS", "halt_on_error=1")
            .stdin(Stdio::null());
        command
    }
}

/// The run-time library in a nightly toolchain at `sysroot`.
fn runtime(sysroot: &Path, host: &str) -> Result<PathBuf> {
    let library = sysroot.join("lib/rustlib").join(host).join("lib/librustc-nightly_rt.tsan.a");
    if !library.is_file() {
        bail!(
            "ThreadSanitizer's run-time library is a nightly toolchain's, which rustup does not have here. Please run:\n  \
             rustup toolchain install nightly --profile minimal"
        );
    }
    Ok(library)
}

/// Whether ThreadSanitizer finds a planted race where it is.
fn finds(root: &Path, tools: &Tools, test: &[&str], place: &str) -> Result<bool> {
    let progress = Progress::start("Building a planted race with ThreadSanitizer");
    tool::run(&mut tools.cargo_test(root, &[test, &["--no-run"]].concat()), &progress)?;
    progress.done();
    address::finds(&mut tools.cargo_test(root, test), &[REPORT, place])
}

/// Runs the storms; returns whether the planted races were found, and no other.
///
/// # Errors
/// When something is missing, or the programs cannot be built.
pub(super) fn run(root: &Path) -> Result<bool> {
    let tools = Tools::find()?;
    let mut found = true;
    for (test, place) in PLANTED {
        found &= finds(root, &tools, test, place)?;
    }
    PROGRAMS.iter().try_fold(found, |good, words| {
        let mut storms = tools.cargo_test(root, words);
        let output = storms.stderr(Stdio::inherit()).output().context("cannot start cargo test")?;
        let text = String::from_utf8_lossy(&output.stdout);
        print!("{text}");
        // A name that no test has would pass.
        Ok(good & output.status.success() & !text.contains("running 0 tests"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_run_time_library_is_asked_for_by_the_command_that_installs_it() {
        let error = runtime(Path::new("/no/such/toolchain"), "x86_64-unknown-linux-gnu");
        assert!(error.unwrap_err().to_string().contains("rustup toolchain install nightly"));
    }

    #[test]
    fn programs_are_built_with_the_sanitizer_apart_from_others() {
        let tools = Tools { runtime: "/lib dir/tsan.a".into(), host: "a-b-c".into() };
        let command = tools.cargo_test(Path::new("/r"), PLANTED[0].0);
        let flags = command.get_envs().find(|(name, _)| *name == "CARGO_ENCODED_RUSTFLAGS");
        let flags = flags.and_then(|(_, flags)| flags?.to_str()).unwrap();
        assert!(
            flags.split('\x1f').any(|flag| flag == "-Zpre-link-arg=/lib dir/tsan.a"),
            "{flags}"
        );
        assert!(command.get_args().any(|word| Path::new(word).ends_with("tsan")));
    }
}
