//! One fault, as the table has it.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// One fault.
#[derive(Debug)]
pub(super) struct Mutant {
    /// What is wrong then, a sentence.
    pub(super) what: &'static str,
    /// The file, from the workspace's root.
    pub(super) file: &'static str,
    /// The text to replace: it is in the file exactly once.
    pub(super) from: &'static str,
    /// What replaces it.
    pub(super) to: &'static str,
    /// The words after `cargo test` that name one program of tests, or after `cargo xtask test` that name a machine.
    pub(super) suite: &'static str,
    /// The test of it that fails then: the name of its function, on a machine behind that of its file.
    pub(super) test: &'static str,
}

impl Mutant {
    /// Its file, in the workspace or a copy.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub(super) fn read(&self, root: &Path) -> Result<String> {
        fs::read_to_string(root.join(self.file)).with_context(|| format!("reading {}", self.file))
    }

    /// The file with the fault.
    ///
    /// # Errors
    ///
    /// When the text is not there exactly once.
    pub(super) fn apply(&self, text: &str) -> Result<String> {
        let Self { file, from, .. } = self;
        let found = text.matches(from).count();
        ensure!(found == 1, "{file}: '{from}' is there {found} times instead of once");
        Ok(text.replacen(from, self.to, 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_is_missing_or_there_twice_is_an_error_that_names_it() {
        let mutant =
            Mutant { what: "w", file: "a.rs", from: "x + 1", to: "x", suite: "-p a", test: "t" };
        assert_eq!(mutant.apply("y = x + 1;").unwrap(), "y = x;");
        for text in ["y = x;", "x + 1, x + 1"] {
            let error = mutant.apply(text).unwrap_err().to_string();
            assert!(error.contains("a.rs") && error.contains("x + 1"), "{error}");
        }
    }
}
