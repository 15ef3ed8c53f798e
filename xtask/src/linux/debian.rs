//! Gets Debian's kernel for another architecture by apt, with a state of its own: nothing of the system changes.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::arch::Package;
use crate::progress::Progress;
use crate::tool;

/// The programs that this needs.
const PROGRAMS: [&str; 4] = ["apt-get", "apt-cache", "dpkg-deb", "tar"];

/// The kernel of `package`, which is kept in `dir`.
///
/// # Errors
/// When there is no apt here, or it does not get the package.
pub(super) fn kernel(package: Package, dir: &Path) -> Result<PathBuf> {
    // Two scenarios, or two runs, may want it at once.
    let _turn = tool::turn(dir)?;
    if let Some(found) = unpacked(dir) {
        return Ok(found);
    }
    let missing: Vec<_> = PROGRAMS.into_iter().filter(|name| tool::find(name).is_none()).collect();
    ensure!(
        missing.is_empty(),
        "--guest linux gets Debian's kernel by apt, and this system has no {}: name a kernel by --kernel FILE",
        missing.join(", ")
    );
    let apt = Apt::new(package.arch, dir)?;
    let progress = Progress::start(format!("Getting Debian's kernel ({})", package.name));
    tool::run(apt.command("apt-get").arg("update"), &progress)?;
    let name = apt.newest(package.name)?;
    tool::run(apt.command("apt-get").args(["download", &name]).current_dir(dir), &progress)?;
    unpack(dir)?;
    progress.done();
    unpacked(dir).with_context(|| format!("package {name} holds no /boot/vmlinuz-*"))
}

/// A kernel that was unpacked before.
fn unpacked(dir: &Path) -> Option<PathBuf> {
    let files = std::fs::read_dir(dir.join("boot")).ok()?.flatten();
    let kernels = files.map(|file| file.path()).filter(|path| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz-"))
    });
    kernels.max()
}

/// Unpacks the kernel of the package in `dir`, and removes the package. A kernel that is there is whole: it is moved there when
/// all of it is unpacked.
fn unpack(dir: &Path) -> Result<()> {
    let files = std::fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    let mut packages = files.flatten().map(|file| file.path());
    let package = packages.find(|path| path.extension().is_some_and(|ext| ext == "deb"));
    let package = package.context("apt-get downloaded no package")?;
    let (fresh, boot) = (dir.join("unpacked"), dir.join("boot"));
    for old in [&fresh, &boot] {
        let removed = if old.exists() { std::fs::remove_dir_all(old) } else { Ok(()) };
        removed.with_context(|| format!("cannot remove {}", old.display()))?;
    }
    std::fs::create_dir(&fresh).with_context(|| format!("cannot make {}", fresh.display()))?;
    let mut reader = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(&package)
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start dpkg-deb")?;
    let pipe = reader.stdout.take().context("dpkg-deb has no output")?;
    let tar = Command::new("tar")
        .arg("-C")
        .arg(&fresh)
        .args(["-x", "--wildcards", "./boot/vmlinuz-*"])
        .stdin(pipe)
        .status()
        .context("cannot start tar")?;
    let read = reader.wait()?;
    ensure!(tar.success() && read.success(), "cannot unpack {}", package.display());
    std::fs::rename(fresh.join("boot"), &boot)
        .with_context(|| format!("cannot move {} to {}", fresh.display(), boot.display()))?;
    std::fs::remove_file(&package).with_context(|| format!("cannot remove {}", package.display()))
}

/// apt with a state of its own.
struct Apt {
    options: Vec<String>,
}

impl Apt {
    /// One for `arch`, whose state is in `dir`.
    fn new(arch: &str, dir: &Path) -> Result<Self> {
        let state = dir.join("apt");
        for folder in ["state/lists/partial", "cache/archives/partial"] {
            let folder = state.join(folder);
            std::fs::create_dir_all(&folder)
                .with_context(|| format!("cannot make {}", folder.display()))?;
        }
        // apt wants a list of what is installed: nothing is.
        tool::write_atomically(&state.join("status"), b"")?;
        let at = |name: &str| state.join(name).display().to_string();
        let options = vec![
            format!("Dir::State={}", at("state")),
            format!("Dir::State::status={}", at("status")),
            format!("Dir::Cache={}", at("cache")),
            format!("APT::Architecture={arch}"),
            format!("APT::Architectures={arch}"),
            // The folder need not be another user's to read.
            String::from("APT::Sandbox::User=root"),
        ];
        Ok(Self { options })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.arg("-q");
        self.options.iter().for_each(|option| _ = command.args(["-o", option]));
        command
    }

    /// The package that `name` depends on.
    fn newest(&self, name: &str) -> Result<String> {
        let output = self.command("apt-cache").args(["depends", name]).output();
        let output = output.context("cannot start apt-cache")?;
        let text = String::from_utf8_lossy(&output.stdout);
        match depends(&text) {
            Some(found) => Ok(found.to_owned()),
            None => bail!("apt knows no package {name}: name a kernel by --kernel FILE"),
        }
    }
}

/// The first package in the output of `apt-cache depends`.
fn depends(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.trim().strip_prefix("Depends: "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn the_newest_kernel_is_what_the_package_of_its_name_depends_on() {
        let text = "linux-image-cloud-arm64\n  Depends: linux-image-6.1.0-56-cloud-arm64\n";
        assert_eq!(depends(text), Some("linux-image-6.1.0-56-cloud-arm64"));
        assert_eq!(depends("linux-image-cloud-arm64\n"), None);
    }

    #[test]
    fn the_kernel_of_a_package_is_unpacked_beside_it_and_nothing_else() {
        if tool::find("dpkg-deb").is_none() {
            return;
        }
        let dir = Scratch::new().unwrap();
        let files = [
            (
                "DEBIAN/control",
                "Package: k\nVersion: 1\nArchitecture: all\nMaintainer: n\nDescription: d\n",
            ),
            ("boot/vmlinuz-1", "kernel"),
            ("boot/config-1", "config"),
        ];
        for (name, text) in files {
            tool::write_in_folder(&dir.path().join("tree").join(name), text.as_bytes()).unwrap();
        }
        let mut build = Command::new("dpkg-deb");
        build.args(["--build", "tree", "k.deb"]).current_dir(dir.path()).stdout(Stdio::null());
        assert!(build.status().unwrap().success());
        unpack(dir.path()).unwrap();
        assert_eq!(unpacked(dir.path()), Some(dir.path().join("boot/vmlinuz-1")));
        assert!(!dir.path().join("boot/config-1").exists() && !dir.path().join("k.deb").exists());
    }

    #[test]
    fn a_kernel_that_is_there_is_not_fetched_again() {
        let dir = Scratch::new().unwrap();
        let boot = dir.path().join("boot");
        std::fs::create_dir_all(&boot).unwrap();
        for name in ["vmlinuz-6.1.0-47", "vmlinuz-6.1.0-56", "config-9"] {
            std::fs::write(boot.join(name), b"").unwrap();
        }
        let package = Package { name: "no-such-package", arch: "no-such-arch" };
        assert_eq!(kernel(package, dir.path()).unwrap(), boot.join("vmlinuz-6.1.0-56"));
    }
}
