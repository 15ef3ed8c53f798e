//! A copy of the workspace in which files are changed.

use std::collections::HashSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::{root, tool};

/// The list of the files that are in the copy, beside it.
const LIST: &str = "files";

/// A copy of the workspace.
pub(super) struct Tree {
    files: PathBuf,
    build: PathBuf,
    /// One run at a time has it: the fault of another would be in what this one builds.
    _turn: File,
}

impl Tree {
    /// A copy of the files in `root` that Git knows. Those that did not change since the last run are left as they are,
    /// so that cargo does not compile them again.
    ///
    /// # Errors
    ///
    /// When Git does not list them, or they cannot be copied.
    pub(super) fn of(root: &Path) -> Result<Self> {
        let place = root::target_dir(root).join("mutants");
        let (files, build) = (place.join("tree"), place.join("build"));
        let tree = Self { files, build, _turn: tool::turn(&place)? };
        let names = known(root)?;
        tree.drop_others(&place.join(LIST), &names)?;
        for name in &names {
            // A file that was deleted, and is still known.
            let Ok(bytes) = fs::read(root.join(name)) else { continue };
            let to = tree.files.join(name);
            if fs::read(&to).is_ok_and(|old| old == bytes) {
                continue;
            }
            let folder = to.parent().context("a file in no folder")?;
            fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
            fs::write(&to, bytes).with_context(|| to.display().to_string())?;
        }
        Ok(tree)
    }

    /// Removes files of the last run that are no longer known, and notes those that are.
    fn drop_others(&self, list: &Path, names: &[String]) -> Result<()> {
        let new: HashSet<&str> = names.iter().map(String::as_str).collect();
        let old = fs::read_to_string(list).unwrap_or_default();
        for name in old.split_terminator('\0').filter(|name| !new.contains(name)) {
            let path = self.files.join(name);
            if path.is_file() {
                fs::remove_file(&path).with_context(|| path.display().to_string())?;
            }
        }
        fs::create_dir_all(&self.files).with_context(|| self.files.display().to_string())?;
        fs::write(list, names.join("\0")).with_context(|| list.display().to_string())
    }

    /// Replaces a file of the copy.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<()> {
        fs::write(self.files.join(name), text).with_context(|| format!("writing {name}"))
    }

    /// Where the files are.
    pub(super) fn files(&self) -> &Path {
        &self.files
    }

    /// Where cargo builds them.
    pub(super) fn build(&self) -> &Path {
        &self.build
    }
}

/// The files that Git knows.
fn known(root: &Path) -> Result<Vec<String>> {
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(root).output();
    let listed = listed.context("git ls-files")?;
    ensure!(listed.status.success(), "git does not list the files of {}", root.display());
    let names = String::from_utf8(listed.stdout).context("the name of a file is not UTF-8")?;
    Ok(names.split_terminator('\0').map(str::to_owned).collect())
}
