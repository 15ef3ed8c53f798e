//! A private temporary directory that goes away with its owner.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

/// Makes names of one process differ. Relaxed: only uniqueness matters.
static SERIAL: AtomicU32 = AtomicU32::new(0);

/// A directory only this user can read, removed on drop with everything in it.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// A new directory under the system's temporary directory.
    ///
    /// # Errors
    /// When it cannot be made; the error names it.
    pub(crate) fn new() -> Result<Self> {
        Self::under(&std::env::temp_dir())
    }

    /// A new directory under `parent`.
    ///
    /// # Errors
    /// When it cannot be made; the error names it.
    pub(crate) fn under(parent: &Path) -> Result<Self> {
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        // Short, because a Unix socket's path is limited to 108 bytes (unix(7)).
        let path = parent.join(format!("hotmem-{}-{serial}", std::process::id()));
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("cannot make the directory {}", path.display()))?;
        Ok(Self(path))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A leftover in the temporary directory is not a failure.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
