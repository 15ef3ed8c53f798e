//! tests/mutants.md: what became of the faults that were tried.

use std::path::Path;

use anyhow::{Context, Result};

use super::possible::Possible;
use crate::tool;

/// The file, from the workspace's root.
pub(super) const FILE: &str = "tests/mutants.md";
/// The line above the rows.
const RULE: &str = "|---|---|---:|---|";
/// What a row says of a fault that no test notices; the reason stands behind it.
pub(super) const SURVIVED: &str = "survived";
/// What a row says of a fault that is no program.
pub(super) const NO_PROGRAM: &str = "does not compile";

/// What became of one fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// As cargo-mutants names it.
    name: String,
    result: String,
    seconds: u64,
    /// The commit whose code was changed.
    commit: String,
}

/// All that were tried.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// The text above the rows.
    head: String,
    rows: Vec<Row>,
}

/// What a fault changes, without the line and the column, which other changes move.
pub(super) fn what(name: &str) -> &str {
    name.split_once(": ").map_or(name, |(_, what)| what)
}

impl Row {
    pub(super) fn new(name: &str, result: &str, seconds: u64, commit: &str) -> Self {
        Self { name: name.into(), result: result.into(), seconds, commit: commit.into() }
    }

    /// The row of a line.
    fn read(line: &str) -> Option<Self> {
        let hidden = line.strip_prefix("| ")?.strip_suffix(" |")?.replace("\\|", "\0");
        let cells: Vec<_> = hidden.split(" | ").map(|cell| cell.replace('\0', "|")).collect();
        let [name, result, seconds, commit] = cells.as_slice() else { return None };
        let name = name.strip_prefix('`')?.strip_suffix('`')?;
        Some(Self::new(name, result, seconds.parse().ok()?, commit))
    }

    /// Its line.
    fn line(&self) -> String {
        let Self { name, result, seconds, commit } = self;
        let (name, result) = (name.replace('|', "\\|"), result.replace('|', "\\|"));
        format!("| `{name}` | {result} | {seconds} | {commit} |\n")
    }

    fn file(&self) -> &str {
        self.name.split(':').next().unwrap_or_default()
    }

    fn line_number(&self) -> usize {
        self.name.split(':').nth(1).and_then(|line| line.parse().ok()).unwrap_or_default()
    }

    fn is_of(&self, file: &str, changed: &str) -> bool {
        self.file() == file && what(&self.name) == changed
    }
}

impl Record {
    /// The rows of the workspace.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or has a line below its head that is no row.
    pub(super) fn read(root: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(root.join(FILE)).context(FILE)?;
        Self::parse(&text)
    }

    fn parse(text: &str) -> Result<Self> {
        let (head, lines) =
            text.split_once(RULE).with_context(|| format!("{FILE} has no table"))?;
        let row = |line| Row::read(line).with_context(|| format!("{FILE}: no row: {line}"));
        let rows = lines.trim().lines().map(row).collect::<Result<_>>()?;
        Ok(Self { head: head.to_owned(), rows })
    }

    fn text(&self) -> String {
        let rows: String = self.rows.iter().map(Row::line).collect();
        format!("{}{RULE}\n{rows}", self.head)
    }

    /// Replaces the file.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub(super) fn write(&self, root: &Path) -> Result<()> {
        tool::write_atomically(&root.join(FILE), self.text().as_bytes())
    }

    /// Whether a fault was tried.
    pub(super) fn has(&self, file: &str, changed: &str) -> bool {
        self.rows.iter().any(|row| row.is_of(file, changed))
    }

    /// Whether a row of a commit has this result.
    pub(super) fn is_known(&self, result: &str, commit: &str) -> bool {
        self.rows.iter().any(|row| row.result == result && row.commit == commit)
    }

    /// Those of `all` that survived, and whose rows have no reason yet: on the line of the row, or the nearest one.
    pub(super) fn open<'a>(&self, all: &'a [Possible]) -> Vec<&'a Possible> {
        let open = self.rows.iter().filter(|row| row.result == SURVIVED);
        let nearest = |row: &Row| {
            let same = all.iter().filter(|one| row.is_of(&one.file, what(&one.name)));
            // Several of a line may have one name, but for the column.
            same.min_by_key(|one| (one.name != row.name, one.line().abs_diff(row.line_number())))
        };
        open.filter_map(nearest).collect()
    }

    /// Adds a row, in place of that of the same fault.
    pub(super) fn put(&mut self, row: Row) {
        match self.rows.iter_mut().find(|old| old.is_of(row.file(), what(&row.name))) {
            Some(old) => *old = row,
            None => self.rows.push(row),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::possible::possible;
    use super::*;
    use crate::root::workspace_root;
    use std::collections::HashSet;

    const NAME: &str = "a.rs:1:2: replace || with && in f::<A | B>";

    #[test]
    fn a_row_is_read_as_it_is_written() {
        let row = Row::new(NAME, "killed by `a::b` of `-p a --lib`", 12, "c0ffee");
        let mut record = Record::parse(&format!("head\n{RULE}\n")).unwrap();
        record.put(row.clone());
        let again = Record::parse(&record.text()).unwrap();
        assert_eq!((again.rows, again.head), (vec![row], "head\n".to_owned()));
        for line in ["| `a` | b | 1 |", "| `a` | b | x | c |", "text"] {
            let text = format!("{RULE}\n{line}\n");
            assert!(Record::parse(&text).is_err(), "{line}");
        }
    }

    #[test]
    fn a_fault_is_the_same_one_on_another_line_and_its_row_is_replaced() {
        let mut record = Record::default();
        record.put(Row::new(NAME, SURVIVED, 1, "c0ffee"));
        let (file, changed) = ("a.rs", "replace || with && in f::<A | B>");
        assert!(record.has(file, changed));
        record.put(Row::new(&NAME.replace(":1:2", ":30:4"), "killed", 2, "beef"));
        assert!(record.has(file, changed));
        assert_eq!(record.rows.len(), 1);
        assert!(!record.has("b.rs", changed) && !record.has(file, "delete !"));
    }

    #[test]
    fn a_result_is_known_of_the_commit_that_had_it() {
        let mut record = Record::default();
        record.put(Row::new(NAME, "killed by `t` (-p a)", 1, "c0ffee"));
        assert!(record.is_known("killed by `t` (-p a)", "c0ffee"));
        assert!(!record.is_known("killed by `t` (-p a)", "beef"));
        assert!(!record.is_known("killed by `t` (-p b)", "c0ffee"));
    }

    #[test]
    fn what_survived_without_a_reason_is_tried_again_where_it_is_now() {
        let all = [1, 50, 60].map(|line| possible("a.rs", line, "replace + with -"));
        let mut record = Record::default();
        record.put(Row::new("a.rs:54:1: replace + with -", SURVIVED, 1, "c0ffee"));
        record.put(Row::new("a.rs:1:1: delete", SURVIVED, 1, "c0ffee"));
        assert_eq!(record.open(&all).iter().map(|one| one.line()).collect::<Vec<_>>(), [50]);
        record.put(Row::new("a.rs:54:1: replace + with -", "survived: why", 1, "c0ffee"));
        assert!(record.open(&all).is_empty());
    }

    #[test]
    fn at_most_one_fault_in_twenty_survives_and_each_has_its_reason() {
        let record = Record::read(&workspace_root().unwrap()).unwrap();
        let programs = || record.rows.iter().filter(|row| row.result != NO_PROGRAM);
        let survived: Vec<_> = programs().filter(|row| row.result.starts_with(SURVIVED)).collect();
        for row in &survived {
            let reason = row.result.strip_prefix("survived: ");
            assert!(reason.is_some_and(|reason| reason.len() > 20), "{}", row.name);
        }
        assert!(survived.len() * 20 <= programs().count(), "{survived:#?}");
        let (all, lost) = (programs().count(), survived.len());
        assert!(record.head.contains(&format!("\n{all} faults, {lost} survive")), "{all}, {lost}");
        let readme = std::fs::read_to_string(workspace_root().unwrap().join("README.md")).unwrap();
        assert!(readme.contains(&format!("| {all}, of which {lost} survive")), "{all}, {lost}");
    }

    #[test]
    fn no_fault_is_listed_twice() {
        let record = Record::read(&workspace_root().unwrap()).unwrap();
        let mut seen = HashSet::new();
        for row in &record.rows {
            assert!(seen.insert((row.file(), what(&row.name))), "{}", row.name);
        }
    }
}
