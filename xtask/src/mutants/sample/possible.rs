//! The faults that cargo-mutants makes of the sources.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::tool;

/// The packages that are sampled.
pub(super) const PACKAGES: [&str; 6] =
    ["hotmem", "hotmem-paging", "hotmem-hotplug", "hotmem-acpi", "hotmem-aml", "hotmem-papr"];

/// One fault: a piece of a file is replaced.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Possible {
    /// `FILE:LINE:COLUMN: WHAT`.
    pub(super) name: String,
    pub(super) package: String,
    /// From the workspace's root.
    pub(super) file: String,
    replacement: String,
    span: Span,
}

/// A piece of a file.
#[derive(Clone, Copy, Debug, Deserialize)]
struct Span {
    start: Place,
    /// Behind the last character.
    end: Place,
}

/// A character: both numbers count from 1.
#[derive(Clone, Copy, Debug, Deserialize)]
struct Place {
    line: usize,
    column: usize,
}

impl Possible {
    /// The line that it changes first.
    pub(super) fn line(&self) -> usize {
        self.span.start.line
    }

    /// The text of its file, with it.
    ///
    /// # Errors
    ///
    /// When the file does not have that piece.
    pub(super) fn apply(&self, text: &str) -> Result<String> {
        let at =
            |place| offset(text, place).with_context(|| format!("no such place: {}", self.name));
        let (start, end) = (at(self.span.start)?, at(self.span.end)?);
        ensure!(start <= end, "{} ends before it begins", self.name);
        Ok([&text[..start], &self.replacement, &text[end..]].concat())
    }
}

/// Where a character is in a text, in bytes.
fn offset(text: &str, Place { line, column }: Place) -> Option<usize> {
    let mut begun = 0;
    for whole in text.split_inclusive('\n').take(line.checked_sub(1)?) {
        begun += whole.len();
    }
    let rest = text.get(begun..)?;
    let mut places = rest.char_indices().map(|(at, _)| at).chain([rest.len()]);
    Some(begun + places.nth(column.checked_sub(1)?)?)
}

/// All that cargo-mutants makes of `packages`, but for what `.cargo/mutants.toml` excludes, in the order of their places.
///
/// # Errors
///
/// When it is missing or fails.
pub(super) fn all(root: &Path, packages: &[&str]) -> Result<Vec<Possible>> {
    let mut command = tool::cargo(root);
    command.args(["mutants", "--list", "--json"]);
    command.args(packages.iter().flat_map(|package| ["--package", package]));
    let output = command.stdin(Stdio::null()).output().context("cannot start cargo")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            !said.contains("no such command"),
            "it takes cargo-mutants. Please run:\n  cargo install cargo-mutants --locked"
        );
        bail!("cargo mutants: {said}");
    }
    read(&output.stdout)
}

/// Those that a list has.
fn read(json: &[u8]) -> Result<Vec<Possible>> {
    let mut all: Vec<Possible> =
        serde_json::from_slice(json).context("the list of cargo-mutants")?;
    all.sort_by(|a, b| {
        let key = |one: &Possible| (one.file.clone(), one.span.start.line, one.span.start.column);
        key(a).cmp(&key(b)).then_with(|| a.name.cmp(&b.name))
    });
    Ok(all)
}

/// A fault as cargo-mutants lists it.
#[cfg(test)]
pub(super) fn possible(file: &str, line: usize, what: &str) -> Possible {
    let (name, package) = (format!("{file}:{line}:5: {what}"), "hotmem".to_owned());
    let (start, end) = (Place { line, column: 5 }, Place { line, column: 6 });
    let (file, replacement, span) = (file.to_owned(), "-".to_owned(), Span { start, end });
    Possible { name, package, file, replacement, span }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_is_replaced_on_one_line_and_over_several() {
        let text = "äöü + 1\nmatch x {\n    1 => 2,\n}\n";
        assert_eq!(possible("a.rs", 1, "w").apply(text).unwrap(), text.replace('+', "-"));
        let json = br#"[{"name":"a.rs:2:7: delete","package":"p","file":"a.rs","replacement":"",
            "span":{"start":{"line":2,"column":7},"end":{"line":4,"column":2}},"genre":"MatchArm"}]"#;
        let several = read(json).unwrap().remove(0);
        assert_eq!(several.apply(text).unwrap(), "äöü + 1\nmatch \n");
    }

    #[test]
    fn a_place_that_the_file_does_not_have_is_an_error_that_names_the_fault() {
        for text in ["", "a + 1", "\n\n"] {
            let error = possible("a.rs", 3, "replace + with -").apply(text).unwrap_err();
            assert!(error.to_string().contains("a.rs:3:5: replace + with -"), "{error}");
        }
    }

    #[test]
    fn faults_are_sorted_by_number_of_line() {
        let line = |line: usize| {
            format!(
                r#"{{"name":"n","package":"p","file":"a.rs","replacement":"",
                "span":{{"start":{{"line":{line},"column":1}},"end":{{"line":{line},"column":2}}}}}}"#
            )
        };
        let found = read(format!("[{},{}]", line(10), line(9)).as_bytes()).unwrap();
        assert_eq!(found.iter().map(Possible::line).collect::<Vec<_>>(), [9, 10]);
        assert!(read(b"{}").is_err());
    }
}
