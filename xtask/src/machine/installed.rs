//! Which QEMU runs: the one on the search path, or one that was unpacked into a directory.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::tool;

/// Where programs are below the directory: in a build of QEMU, in an installation, in an unpacked package.
const PROGRAMS: [&str; 3] = ["", "bin", "usr/bin"];
/// Where the files are that QEMU loads by name (firmware), in the same places.
const DATA: [&str; 4] = ["pc-bios", "share/qemu", "usr/share/qemu", "usr/share/seabios"];

/// A directory that holds another QEMU than this system's.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub(crate) struct QemuDir {
    /// Directory of another QEMU, for example Debian's packages unpacked by `dpkg -x`
    #[arg(long = "qemu-dir", value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}

impl QemuDir {
    /// The program `name`: its path in the directory if one was given, else the name alone.
    ///
    /// # Errors
    /// When the directory has no such program.
    pub(crate) fn program(&self, name: &str) -> Result<PathBuf> {
        let Some(dir) = &self.dir else {
            return Ok(PathBuf::from(name));
        };
        let mut paths = PROGRAMS.iter().map(|place| dir.join(place).join(name));
        paths.find(|path| path.is_file()).with_context(|| {
            let dir = dir.display();
            format!("--qemu-dir {dir}: no {name} in {dir}, {dir}/bin or {dir}/usr/bin")
        })
    }

    /// The first number of the version of the program `name`.
    pub(crate) fn version(&self, name: &str) -> Option<u32> {
        self.whole_version(name)?.split('.').next()?.parse().ok()
    }

    /// The version of the program `name`, such as 7.2.22.
    pub(crate) fn whole_version(&self, name: &str) -> Option<String> {
        version_in(&self.prints(name, &["--version"])?).map(str::to_owned)
    }

    /// What the program `name` prints, with the firmware that a machine would get; `None` if it is not there or fails.
    pub(crate) fn prints(&self, name: &str, words: &[&str]) -> Option<String> {
        let words = words.iter().map(OsString::from);
        let words: Vec<_> = self.arguments().into_iter().chain(words).collect();
        tool::output_of(self.program(name).ok()?, &words)
    }

    /// QEMU's arguments that name the directory's own firmware. QEMU looks at its usual places after these.
    pub(crate) fn arguments(&self) -> Vec<OsString> {
        let dir = self.dir.as_deref();
        let folders = dir.into_iter().flat_map(|dir| DATA.iter().map(|place| dir.join(place)));
        let there = folders.filter(|folder| folder.is_dir());
        there.flat_map(|folder| [OsString::from("-L"), folder.into_os_string()]).collect()
    }

    /// The option as it is typed.
    pub(crate) fn words(&self) -> Vec<String> {
        let dir = self.dir.as_deref().map(Path::to_string_lossy);
        dir.map_or_else(Vec::new, |dir| vec!["--qemu-dir".into(), dir.into_owned()])
    }
}

/// The version in a line such as `QEMU emulator version 7.2.22 (Debian ...)`.
fn version_in(text: &str) -> Option<&str> {
    let (_, version) = text.split_once("version ")?;
    version.split_whitespace().next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn the_version_is_read_from_what_qemu_prints() {
        assert_eq!(
            version_in("QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)\n"),
            Some("10.0.2")
        );
        assert_eq!(version_in("no version"), None);
    }

    #[test]
    fn without_a_directory_the_search_path_decides() {
        let usual = QemuDir::default();
        assert_eq!(usual.program("qemu-system-x86_64").unwrap(), Path::new("qemu-system-x86_64"));
        assert!(usual.arguments().is_empty());
    }

    #[test]
    fn an_unpacked_package_is_used_with_its_own_firmware() {
        let scratch = Scratch::new().unwrap();
        let dir = scratch.path();
        for folder in ["usr/bin", "usr/share/qemu"] {
            std::fs::create_dir_all(dir.join(folder)).unwrap();
        }
        let program = dir.join("usr/bin/qemu-system-ppc64");
        std::fs::write(&program, "").unwrap();

        let unpacked = QemuDir { dir: Some(dir.to_owned()) };
        assert_eq!(unpacked.program("qemu-system-ppc64").unwrap(), program);
        assert_eq!(unpacked.arguments(), [OsString::from("-L"), dir.join(DATA[2]).into()]);
        let error = unpacked.program("qemu-system-x86_64").unwrap_err().to_string();
        assert!(error.starts_with("--qemu-dir ") && error.contains("no qemu-system-x86_64"));
    }
}
