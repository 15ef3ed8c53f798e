//! A Rust toolchain for the bare target.
//!
//! The active toolchain where it has the target's standard library, or can fetch it; else Debian's own
//! compiler, which builds `core` and `alloc` from the sources that Debian packages beside it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail, ensure};

use super::manager::Manager;
use super::packages::{self, Program};
use crate::arch::Target;
use crate::progress::Progress;
use crate::tool;

/// Debian's compiler, cargo, their sources, and a linker (that compiler ships no rust-lld).
const DEBIAN_PACKAGES: [&str; 4] = ["rustc-web", "cargo-web", "rust-web-src", "lld"];
/// Debian's clippy, needed for the linter alone.
const DEBIAN_CLIPPY: &str = "rust-web-clippy";
pub(crate) const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_CARGO: &str = "/usr/bin/cargo";
const DEBIAN_CARGO_CLIPPY: &str = "/usr/bin/cargo-clippy";
/// The oldest Rust version that compiles this project: Cargo.toml's `rust-version`.
const OLDEST: &str = env!("CARGO_PKG_RUST_VERSION");

/// A cargo and compiler that can build for a bare target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Toolchain {
    /// The active toolchain has the target's standard library.
    Active {
        /// Name of the linker, where the toolchain has none of its own.
        linker: Option<&'static str>,
    },
    /// Debian's packages, building `core` and `alloc` from source.
    Debian,
}

impl Toolchain {
    /// `cargo SUBCOMMAND --target ...` for `target`, ready for more arguments.
    pub(crate) fn cargo(&self, target: &Target, subcommand: &str) -> Command {
        let mut command = match self {
            Self::Active { .. } => {
                let mut command =
                    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
                command.arg(subcommand);
                command
            }
            Self::Debian => debian_cargo(subcommand),
        };
        command.args(["--target", target.triple]);
        // Flags in the environment are meant for the host. These come before every other source of flags
        // (the Cargo Book, "build.rustflags").
        command
            .env("HOTMEM_BARE", "1")
            .env("CARGO_ENCODED_RUSTFLAGS", target.rustflags.join("\x1f"))
            .env_remove("RUSTFLAGS");

        let linker_variable =
            format!("CARGO_TARGET_{}_LINKER", target.triple.to_uppercase().replace('-', "_"));
        match self {
            Self::Active { linker: None } => {}
            Self::Active { linker: Some(linker) } => {
                command.env(linker_variable, linker);
            }
            Self::Debian => {
                command
                    .args([
                        "-Zbuild-std=core,alloc,compiler_builtins",
                        "-Zbuild-std-features=compiler-builtins-mem",
                    ])
                    .env(linker_variable, target.system_linker);
            }
        }
        command
    }
}

/// A subcommand of Debian's cargo, which can build the standard library from its sources.
pub(crate) fn debian_cargo(subcommand: &str) -> Command {
    // Cargo would run rustup's clippy, which comes first on the search path.
    let program = if subcommand == "clippy" { DEBIAN_CARGO_CLIPPY } else { DEBIAN_CARGO };
    let mut command = Command::new(program);
    command
        .arg(subcommand)
        // This lets a stable cargo build the standard library; our own code uses no feature gates.
        .env("RUSTC_BOOTSTRAP", "1")
        // The report would be about the standard library's own code, which we do not maintain.
        .env("CARGO_FUTURE_INCOMPAT_REPORT_FREQUENCY", "never")
        .env("CARGO", DEBIAN_CARGO)
        .env("RUSTC", DEBIAN_RUSTC)
        .env("RUSTDOC", "/usr/bin/rustdoc")
        .env_remove("RUSTUP_TOOLCHAIN");
    command
}

/// Makes sure that Debian's compiler, cargo and their sources are there.
///
/// # Errors
/// When they are missing and cannot be installed here; the error says what to type.
pub(crate) fn debian() -> Result<()> {
    if debian_complete() {
        return Ok(());
    }
    if Manager::Apt.usable() {
        return install_debian();
    }
    bail!(
        "Debian's Rust compiler and its sources are missing. Please install them with:\n  {}",
        Manager::Apt.by_hand(&DEBIAN_PACKAGES)
    )
}

/// Installs Debian's compiler, cargo and their sources.
fn install_debian() -> Result<()> {
    Manager::Apt.install(&DEBIAN_PACKAGES)?;
    ensure!(
        debian_complete(),
        "the packages {} are installed, but their compiler is older than {OLDEST} or lacks its sources",
        DEBIAN_PACKAGES.join(" ")
    );
    Ok(())
}

/// What this machine has and allows.
#[derive(Debug, Clone, Copy, Default)]
struct Facts {
    /// The active toolchain has std for the target.
    target_std: bool,
    /// rustup is there and may download.
    may_download: bool,
    /// Debian's compiler, its sources and a linker are installed.
    debian_complete: bool,
    /// Debian packages can be installed.
    may_install: bool,
}

/// One way to a toolchain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    UseActive,
    RustupAdd,
    UseDebian,
    InstallDebian,
}

/// The ways to try, in order; later ones count when earlier ones fail.
fn ways(facts: Facts) -> Vec<Way> {
    if facts.target_std {
        return vec![Way::UseActive];
    }
    let mut ways = Vec::new();
    if facts.may_download {
        ways.push(Way::RustupAdd);
    }
    if facts.debian_complete {
        ways.push(Way::UseDebian);
    } else if facts.may_install {
        ways.push(Way::InstallDebian);
    }
    ways
}

/// A toolchain that builds for `target`, set up if need be.
///
/// # Errors
/// When no toolchain is installed and none can be fetched; the error says what failed and what to type.
pub(crate) fn toolchain(target: &Target) -> Result<Toolchain> {
    for way in ways(facts(target)) {
        match take(way, target) {
            Ok(toolchain) => return Ok(toolchain),
            // The next way may work; the user still gets to know why this one did not.
            Err(error) => eprintln!("note: {error:#}"),
        }
    }
    bail!("{}", by_hand(target))
}

/// Makes sure the clippy that belongs to `toolchain` is there.
///
/// # Errors
/// When it is missing and cannot be installed here.
pub(crate) fn clippy(toolchain: &Toolchain) -> Result<()> {
    if *toolchain != Toolchain::Debian || Path::new(DEBIAN_CARGO_CLIPPY).exists() {
        return Ok(());
    }
    if Manager::Apt.usable() {
        return Manager::Apt.install(&[DEBIAN_CLIPPY]);
    }
    bail!(
        "clippy for Debian's compiler is missing. Please install it with:\n  {}",
        Manager::Apt.by_hand(&[DEBIAN_CLIPPY])
    )
}

/// Goes one way.
fn take(way: Way, target: &Target) -> Result<Toolchain> {
    match way {
        Way::UseActive => {}
        Way::RustupAdd => rustup_add(target)?,
        Way::UseDebian => return Ok(Toolchain::Debian),
        Way::InstallDebian => {
            install_debian()?;
            return Ok(Toolchain::Debian);
        }
    }
    let linker = if has_rust_lld() { target.linker } else { Some(target.system_linker) };
    Ok(Toolchain::Active { linker })
}

/// Has rustup fetch the target's standard library.
fn rustup_add(target: &Target) -> Result<()> {
    let progress = Progress::start(format!("Fetching the standard library for {}", target.triple));
    tool::run(Command::new("rustup").args(["target", "add", target.triple]), &progress)?;
    if !has_target_std(target) {
        bail!("rustup added {}, but the active compiler does not see it", target.triple);
    }
    progress.done();
    Ok(())
}

/// Looks at this machine.
fn facts(target: &Target) -> Facts {
    let target_std = has_target_std(target);
    if target_std {
        return Facts { target_std, ..Facts::default() };
    }
    let forbidden = std::env::var_os("RUSTUP_AUTO_INSTALL").is_some_and(|value| value == "0");
    Facts {
        target_std,
        may_download: !forbidden && tool::find("rustup").is_some(),
        debian_complete: debian_complete(),
        may_install: Manager::Apt.usable(),
    }
}

/// The directory the active compiler keeps its libraries in.
fn sysroot() -> Option<PathBuf> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    tool::output_of(rustc, &["--print", "sysroot"]).map(PathBuf::from)
}

fn has_target_std(target: &Target) -> bool {
    sysroot().is_some_and(|root| root.join("lib/rustlib").join(target.triple).join("lib").is_dir())
}

fn has_rust_lld() -> bool {
    let Some(libraries) = sysroot().map(|root| root.join("lib/rustlib")) else {
        return false;
    };
    let Ok(targets) = std::fs::read_dir(libraries) else {
        return false;
    };
    targets.flatten().any(|target| target.path().join("bin/rust-lld").is_file())
}

fn debian_complete() -> bool {
    let Some(root) = tool::output_of(DEBIAN_RUSTC, &["--print", "sysroot"]) else {
        return false;
    };
    let sources = Path::new(&root).join("lib/rustlib/src/rust/library/core/Cargo.toml");
    sources.is_file()
        && Manager::here() == Some(Manager::Apt)
        && Program::LLD.present()
        && tool::output_of(DEBIAN_RUSTC, &["--version"]).is_some_and(|line| new_enough(&line))
        && tool::output_of(DEBIAN_CARGO, &["--version"]).is_some_and(|line| new_enough(&line))
}

/// Does a line such as `rustc 1.96.0 (...)` name a version that compiles this project?
fn new_enough(line: &str) -> bool {
    let version = line.split_whitespace().nth(1).and_then(minor_version);
    version.is_some() && version >= minor_version(OLDEST)
}

/// The `96` of `1.96.0`.
fn minor_version(version: &str) -> Option<u32> {
    let mut parts = version.split('.');
    let major = parts.next()?;
    (major == "1").then(|| parts.next()?.parse().ok())?
}

/// Who builds for `target` on this machine as it is now, in words; `None` if that has to be set up first.
pub(crate) fn builder(target: &Target) -> Option<&'static str> {
    let linker = || has_rust_lld() || tool::find(target.system_linker).is_some();
    match ways(facts(target)).first()? {
        Way::UseActive if linker() => Some("the active toolchain"),
        Way::UseActive | Way::RustupAdd | Way::InstallDebian => None,
        Way::UseDebian => Some("Debian's rustc"),
    }
}

/// What a user types to have this machine build for `target`, a line for each way.
pub(crate) fn advice(target: &Target) -> Vec<String> {
    if has_target_std(target) {
        return packages::advice(&[Program::LLD]);
    }
    let rustup = format!("rustup target add {}", target.triple);
    let debian =
        (Manager::here() == Some(Manager::Apt)).then(|| Manager::Apt.by_hand(&DEBIAN_PACKAGES));
    [Some(rustup), debian].into_iter().flatten().collect()
}

/// What a user types to get a toolchain.
fn by_hand(target: &Target) -> String {
    format!(
        "No Rust toolchain here can build for {target}. Please run one of:\n  \
         with rustup:              rustup target add {target}\n  \
         on Debian, without it:    {debian}",
        target = target.triple,
        debian = Manager::Apt.by_hand(&DEBIAN_PACKAGES),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::{Arch, Image};

    fn target() -> &'static Target {
        Image::of(Arch::X86_64).boot().target
    }

    #[test]
    fn a_toolchain_that_has_the_target_is_used_as_it_is() {
        let facts = Facts {
            target_std: true,
            may_download: true,
            debian_complete: true,
            may_install: true,
        };
        assert_eq!(ways(facts), [Way::UseActive]);
    }

    #[test]
    fn rustup_comes_before_debian_and_debian_is_the_way_when_it_fails() {
        let facts = Facts { may_download: true, may_install: true, ..Facts::default() };
        assert_eq!(ways(facts), [Way::RustupAdd, Way::InstallDebian]);
    }

    #[test]
    fn rustup_is_left_alone_when_it_may_not_download() {
        let facts = Facts { debian_complete: true, may_install: true, ..Facts::default() };
        assert_eq!(ways(facts), [Way::UseDebian]);
        assert_eq!(ways(Facts { may_install: true, ..Facts::default() }), [Way::InstallDebian]);
    }

    #[test]
    fn where_nothing_is_possible_the_commands_are_printed() {
        assert!(ways(Facts::default()).is_empty());
        let text = by_hand(target());
        assert!(text.contains("rustup target add x86_64-unknown-none"));
        assert!(text.contains("rustc-web cargo-web rust-web-src lld"));
    }

    #[test]
    fn compiler_versions_are_read() {
        assert_eq!(minor_version("1.96.0"), Some(96));
        assert_eq!(minor_version("1.95"), Some(95));
        assert_eq!(minor_version("2.0.0"), None);
        assert_eq!(minor_version(""), None);
    }

    #[test]
    fn the_oldest_compiler_is_the_one_that_the_packages_name() {
        let oldest = minor_version(OLDEST).unwrap();
        assert!(new_enough(&format!("rustc 1.{oldest}.0 (ac68faa20 2026-05-25)")));
        assert!(new_enough(&format!("cargo 1.{}.0", oldest + 1)));
        assert!(!new_enough(&format!("rustc 1.{}.9", oldest - 1)));
        assert!(!new_enough("rustc") && !new_enough(""));
    }

    #[test]
    fn building_from_source_leaves_rustup_out_of_it() {
        let command = Toolchain::Debian.cargo(target(), "build");
        assert_eq!(command.get_program(), DEBIAN_CARGO);
        let set = |name: &str| {
            command.get_envs().find(|(key, _)| *key == name).map(|(_, value)| value.is_some())
        };
        assert_eq!(set("RUSTUP_TOOLCHAIN"), Some(false));
        assert_eq!(set("CARGO_TARGET_X86_64_UNKNOWN_NONE_LINKER"), Some(true));
        assert_eq!(set("HOTMEM_BARE"), Some(true));
        assert_eq!(set("RUSTFLAGS"), Some(false));
        assert_eq!(set("CARGO_ENCODED_RUSTFLAGS"), Some(true));
    }
}
