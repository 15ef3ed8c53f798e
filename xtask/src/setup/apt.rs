//! Installing Debian packages, where that is ours to do.

use std::process::Command;

use anyhow::{Context, Result};

use crate::progress::Progress;
use crate::tool;

/// Seconds to wait for another package manager before giving up.
const LOCK_TIMEOUT: &str = "DPkg::Lock::Timeout=60";

/// Is this a Debian-like system?
pub(crate) fn is_debian() -> bool {
    std::path::Path::new("/etc/debian_version").exists() && tool::find("apt-get").is_some()
}

/// May this process install packages without asking: Debian, and root?
pub(crate) fn usable() -> bool {
    is_debian() && tool::output_of("id", &["-u"]).as_deref() == Some("0")
}

/// Installs `packages`, refreshing the package lists first.
///
/// # Errors
/// When apt-get fails: no network, a full disk, a held lock, an unknown package; with the tail of its output.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    let names = packages.join(" ");
    let progress = Progress::start(format!("Installing {names}"));

    tool::run(apt_get().arg("update"), &progress)
        .with_context(|| format!("cannot install {names}"))?;
    let mut install = apt_get();
    install.args(["install", "-y", "--no-install-recommends"]).args(packages);
    tool::run(&mut install, &progress).with_context(|| format!("cannot install {names}"))?;

    progress.done();
    Ok(())
}

/// apt-get that asks nothing, waits a little for its lock, and complains in English, so that a well-known
/// complaint is recognised.
fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C.UTF-8").args([
        "-q",
        "-o",
        LOCK_TIMEOUT,
    ]);
    command
}

/// The command a user types to get `packages` on Debian.
pub(crate) fn by_hand(packages: &[&str]) -> String {
    format!(
        "sudo apt-get update && sudo apt-get install -y --no-install-recommends {}",
        packages.join(" ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_of_the_package_manager_are_in_english() {
        let command = apt_get();
        let mut environment = command.get_envs();
        assert!(
            environment.any(|(name, value)| name == "LC_ALL" && value == Some("C.UTF-8".as_ref()))
        );
    }
}
