//! Where the workspace is.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

/// The workspace root: the one cargo says this xtask was started from, else the nearest one above the current directory.
///
/// # Errors
/// When neither is a checkout of this project.
pub(crate) fn workspace_root() -> Result<PathBuf> {
    // `cargo run` sets this to the directory of the package it runs: <root>/xtask.
    let by_cargo = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let here = std::env::current_dir().ok();
    let candidates = by_cargo.iter().chain(here.iter());

    for start in candidates {
        if let Some(root) = start.ancestors().find(|dir| is_root(dir)) {
            return Ok(root.to_path_buf());
        }
    }
    bail!("this is not the hotmem workspace: run `cargo xtask` inside a checkout of it")
}

/// Does `dir` look like the top of this project?
fn is_root(dir: &Path) -> bool {
    let files = ["Cargo.toml", "xtask/Cargo.toml", "kernel/Cargo.toml"];
    files.iter().all(|file| dir.join(file).is_file())
}

/// Cargo's target directory, which `CARGO_TARGET_DIR` may move.
pub(crate) fn target_dir(root: &Path) -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) if Path::new(&dir).is_absolute() => PathBuf::from(dir),
        Some(dir) => root.join(dir),
        None => root.join("target"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_found_from_this_package() {
        let root = workspace_root().unwrap();
        assert!(root.join("xtask/src/root.rs").is_file());
    }

    #[test]
    fn a_directory_that_is_not_a_checkout_is_refused() {
        assert!(!is_root(Path::new("/")));
        assert!(!is_root(&std::env::temp_dir()));
    }
}
