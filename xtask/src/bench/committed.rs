//! Figures that are committed, in docs/costs: none may become worse by more than a few per cent.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::de::DeserializeOwned;

use crate::size::grouped;
use crate::tool;

/// How much more than a committed figure is a fault, in per cent.
const TOLERANCE: u64 = 3;

/// A row of a table that is committed.
pub(super) trait Row: DeserializeOwned {
    /// Its figures that must not become worse, each with a name that no other has.
    fn figures(&self) -> Vec<(String, u64)>;
}

/// A comparison of new figures with the committed ones.
#[derive(Debug)]
pub(super) struct Check<'a> {
    folder: PathBuf,
    /// Only files with this in their name.
    filter: &'a str,
    files: usize,
    worse: Vec<String>,
}

impl<'a> Check<'a> {
    pub(super) fn new(root: &Path, filter: &'a str) -> Self {
        Self { folder: root.join("docs/costs"), filter, files: 0, worse: Vec::new() }
    }

    /// Measures again what a file has, if there is such a file.
    ///
    /// # Errors
    /// When the file cannot be read, what measures fails, or the figures are not those of the same things.
    pub(super) fn file<R: Row>(
        &mut self,
        name: &str,
        measure: impl FnOnce() -> Result<Vec<R>>,
    ) -> Result<()> {
        if !name.contains(self.filter) || !self.folder.join(format!("{name}.json")).exists() {
            return Ok(());
        }
        println!("{name}:");
        self.rows(name, &|_| true, measure)
    }

    /// As [`file`](Self::file), of the rows whose figures are wanted, by their names; there must be such a file.
    ///
    /// # Errors
    /// As for that.
    pub(super) fn rows<R: Row>(
        &mut self,
        name: &str,
        wants: &dyn Fn(&str) -> bool,
        measure: impl FnOnce() -> Result<Vec<R>>,
    ) -> Result<()> {
        let path = self.folder.join(format!("{name}.json"));
        let text = tool::read(&path)?;
        let mut known: Vec<R> =
            serde_json::from_slice(&text).with_context(|| path.display().to_string())?;
        known.retain(|row| row.figures().iter().any(|(figure, _)| wants(figure)));
        let worse = worse(&known, &measure()?).with_context(|| path.display().to_string())?;
        self.worse.extend(worse.into_iter().map(|line| format!("{name}: {line}")));
        self.files += 1;
        Ok(())
    }

    /// Says what came of it.
    ///
    /// # Errors
    /// When there were no figures, or one is worse than it may be.
    pub(super) fn end(self) -> Result<()> {
        let Self { folder, filter, files, worse } = self;
        ensure!(files > 0, "{} has no figures of {filter:?}", folder.display());
        ensure!(
            worse.is_empty(),
            "more than {TOLERANCE} % above the committed figures:\n{}",
            worse.join("\n")
        );
        println!("No figure is more than {TOLERANCE} % above those in {}.", folder.display());
        Ok(())
    }
}

/// The figures that are worse than they may be. Those of both must be about the same.
fn worse<R: Row>(known: &[R], now: &[R]) -> Result<Vec<String>> {
    let figures = |rows: &[R]| rows.iter().flat_map(Row::figures).collect::<BTreeMap<_, _>>();
    let (mut known, mut worse) = (figures(known), Vec::new());
    for (name, now) in figures(now) {
        let before = known.remove(&name).with_context(|| format!("no figure of {name}"))?;
        if now * 100 > before * (100 + TOLERANCE) {
            worse.push(format!("{name} takes {} instead of {}", grouped(now), grouped(before)));
        }
    }
    ensure!(known.is_empty(), "figures of {:?} were not measured", known.keys());
    Ok(worse)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Deserialize)]
    struct One(String, u64);

    impl Row for One {
        fn figures(&self) -> Vec<(String, u64)> {
            vec![(self.0.clone(), self.1)]
        }
    }

    fn one(name: &str, value: u64) -> One {
        One(name.into(), value)
    }

    #[test]
    fn a_figure_may_be_three_per_cent_worse_and_no_more() {
        let known = [one("add", 1000), one("remove", 1000)];
        assert!(worse(&known, &[one("remove", 1030), one("add", 10)]).unwrap().is_empty());
        let found = worse(&known, &[one("add", 1031), one("remove", 1000)]).unwrap();
        assert_eq!(found, ["add takes 1,031 instead of 1,000"]);
    }

    #[test]
    fn figures_that_are_missing_on_either_side_are_named() {
        let error = worse(&[one("add", 1)], &[one("add", 1), one("online", 1)]).unwrap_err();
        assert!(error.to_string().contains("online"), "{error}");
        let error = worse(&[one("add", 1), one("online", 1)], &[one("add", 1)]).unwrap_err();
        assert!(error.to_string().contains("online"), "{error}");
    }

    #[test]
    fn a_check_without_a_file_fails_and_one_with_a_worse_figure_names_it() {
        let root = crate::scratch::Scratch::new().unwrap();
        let check = |filter, now: u64| {
            let mut check = Check::new(root.path(), filter);
            check.file("boot-x86_64", || Ok(vec![one("512M", now)]))?;
            check.end()
        };
        assert!(check("", 1).unwrap_err().to_string().contains("no figures"));
        let path = root.path().join("docs/costs/boot-x86_64.json");
        crate::tool::write_in_folder(&path, br#"[["512M", 100]]"#).unwrap();
        check("boot", 103).unwrap();
        let error = check("boot", 104).unwrap_err().to_string();
        assert!(error.ends_with("boot-x86_64: 512M takes 104 instead of 100"), "{error}");
        assert!(check("size", 1).unwrap_err().to_string().contains("size"));
    }
}
