//! The package managers that we know: which one this system has, what a user types, and installing with it where
//! that is ours to do.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::progress::Progress;
use crate::tool;

/// Seconds to wait for another apt-get before giving up.
const LOCK_TIMEOUT: &str = "DPkg::Lock::Timeout=60";

/// A package manager. Their order is that of the columns in [`Packages`](super::packages::Packages).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manager {
    Apt,
    Dnf,
    Pacman,
    Brew,
    Nix,
}

/// What differs between them.
struct About {
    /// The systems that have it, for people.
    system: &'static str,
    /// The program that shows that it is there.
    program: &'static str,
    /// What root runs before an install, and to install; the packages follow. Empty where each user installs for
    /// themselves, which we leave to them.
    refresh: &'static [&'static str],
    install: &'static [&'static str],
    /// What a user types before the packages.
    typed: &'static str,
}

impl Manager {
    /// All of them; a system that has several uses the first.
    pub(super) const ALL: [Self; 5] = [Self::Apt, Self::Dnf, Self::Pacman, Self::Brew, Self::Nix];

    const fn about(self) -> &'static About {
        match self {
            Self::Apt => &About {
                system: "Debian, Ubuntu",
                program: "apt-get",
                refresh: &["apt-get", "-q", "-o", LOCK_TIMEOUT, "update"],
                install: &[
                    "apt-get",
                    "-q",
                    "-o",
                    LOCK_TIMEOUT,
                    "install",
                    "-y",
                    "--no-install-recommends",
                ],
                typed: "sudo apt-get update && sudo apt-get install -y --no-install-recommends",
            },
            Self::Dnf => &About {
                system: "Fedora",
                program: "dnf",
                refresh: &[],
                install: &["dnf", "install", "-y", "--setopt=install_weak_deps=False"],
                typed: "sudo dnf install -y",
            },
            Self::Pacman => &About {
                system: "Arch",
                program: "pacman",
                refresh: &[],
                install: &["pacman", "-S", "--needed", "--noconfirm"],
                typed: "sudo pacman -S --needed",
            },
            Self::Brew => &About {
                system: "Homebrew",
                program: "brew",
                refresh: &[],
                install: &[],
                typed: "brew install",
            },
            Self::Nix => &About {
                system: "Nix",
                program: "nix-shell",
                refresh: &[],
                install: &[],
                typed: "nix-shell -p",
            },
        }
    }

    /// The systems that have it, for people.
    pub(super) const fn system(self) -> &'static str {
        self.about().system
    }

    /// The one that this system has.
    pub(super) fn here() -> Option<Self> {
        Self::first(|program| tool::find(program).is_some())
    }

    /// The first whose program is `there`. A system may have apt-get and no Debian packages.
    fn first(there: impl Fn(&str) -> bool) -> Option<Self> {
        let usual = |one: Self| one != Self::Apt || Path::new("/etc/debian_version").exists();
        Self::ALL.into_iter().find(|&one| there(one.about().program) && usual(one))
    }

    /// May this process install packages with it without asking?
    pub(super) fn usable(self) -> bool {
        let system_wide = !self.about().install.is_empty();
        system_wide
            && Self::here() == Some(self)
            && tool::output_of("id", &["-u"]).as_deref() == Some("0")
    }

    /// Installs `packages`, refreshing the package lists first where that is usual.
    ///
    /// # Errors
    /// When it fails: no network, a full disk, a held lock, an unknown package; with the tail of its output.
    pub(super) fn install(self, packages: &[&str]) -> Result<()> {
        let names = packages.join(" ");
        let progress = Progress::start(format!("Installing {names}"));
        for mut command in self.commands(packages) {
            tool::run(&mut command, &progress)
                .with_context(|| format!("cannot install {names}"))?;
        }
        progress.done();
        Ok(())
    }

    /// The commands that install `packages`. They ask nothing, and complain in English, so that a well-known
    /// complaint is recognised.
    fn commands(self, packages: &[&str]) -> Vec<Command> {
        let About { refresh, install, .. } = self.about();
        let install = [install, packages].concat();
        let lines = [refresh.to_vec(), install].into_iter();
        let command = |line: Vec<&str>| {
            let (program, words) = line.split_first()?;
            let mut command = Command::new(program);
            command.args(words).env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C.UTF-8");
            Some(command)
        };
        lines.filter_map(command).collect()
    }

    /// The command a user types to get `packages`.
    pub(super) fn by_hand(self, packages: &[&str]) -> String {
        format!("{} {}", self.about().typed, packages.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_manager_installs_as_root_or_leaves_it_to_the_user() {
        for manager in Manager::ALL {
            let lines: Vec<_> = manager.commands(&["p", "q"]).iter().map(tool::shown).collect();
            let expected: &[&str] = match manager {
                Manager::Apt => &[
                    "apt-get -q -o DPkg::Lock::Timeout=60 update",
                    "apt-get -q -o DPkg::Lock::Timeout=60 install -y --no-install-recommends p q",
                ],
                Manager::Dnf => &["dnf install -y --setopt=install_weak_deps=False p q"],
                Manager::Pacman => &["pacman -S --needed --noconfirm p q"],
                // Never run: `usable` says no.
                Manager::Brew | Manager::Nix => &["p q"],
            };
            assert_eq!(lines, expected, "{manager:?}");
            let leaves = matches!(manager, Manager::Brew | Manager::Nix);
            assert!(!(leaves && manager.usable()));
        }
    }

    #[test]
    fn complaints_of_the_package_manager_are_in_english() {
        for command in Manager::Dnf.commands(&["p"]) {
            let mut environment = command.get_envs();
            let english = ("LC_ALL".as_ref(), Some("C.UTF-8".as_ref()));
            assert!(environment.any(|one| one == english));
        }
    }

    #[test]
    fn the_first_manager_that_is_there_is_the_systems() {
        assert_eq!(Manager::first(|_| false), None);
        assert_eq!(Manager::first(|name| name == "pacman"), Some(Manager::Pacman));
        let on_mac = Manager::first(|name| ["brew", "nix-shell"].contains(&name));
        assert_eq!(on_mac, Some(Manager::Brew));
        assert_eq!(Manager::first(|name| name == "nix-shell"), Some(Manager::Nix));
    }

    #[test]
    fn what_a_user_types_names_the_packages() {
        let typed = |manager: Manager| manager.by_hand(&["a", "b"]);
        assert_eq!(typed(Manager::Nix), "nix-shell -p a b");
        assert_eq!(typed(Manager::Pacman), "sudo pacman -S --needed a b");
        assert!(typed(Manager::Apt).ends_with("--no-install-recommends a b"));
    }
}
