//! A directory that is gone when the test is.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::Outcome;

/// A fresh directory below the system's temporary one.
#[derive(Debug)]
pub struct Scratch(PathBuf);

/// Tells the directories of one process apart.
static NEXT: AtomicU32 = AtomicU32::new(0);

impl Scratch {
    /// Makes the directory.
    ///
    /// # Errors
    /// The file system's refusal.
    pub fn new() -> Outcome<Self> {
        // Relaxed: only the value has to be new.
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("hotmem-aml-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path)
            .map_err(|error| format!("cannot make {}: {error}", path.display()))?;
        Ok(Self(path))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file in it and gives its path.
    ///
    /// # Errors
    /// The file system's refusal.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Outcome<PathBuf> {
        let path = self.0.join(name);
        std::fs::write(&path, bytes)
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nothing can be done about a failure here, and the directory is small.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
