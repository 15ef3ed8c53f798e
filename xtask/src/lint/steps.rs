//! The steps of operations that can fail, each `?` of `mm/src/operations`, compared with `tests/fault-steps.txt`: what
//! fails there, and so which test has it fail. A step that comes, changes or goes has to be said there.
//!
//! ```text
//!   turn add.rs: let turn = self.allocator.take_turn().ok_or(AddError::Busy)?
//!   |    |       the code, as far as it fits
//!   |    the file
//!   a kind of `tests/fault-points.txt`: `points.rs` fails it in the operation of that file; `test=NAME`: that test
//!   does; or a word of `OTHERS`
//! ```

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use super::sources::{Module, below, of_package};
use crate::tool;

const LIST: &str = "tests/fault-steps.txt";
const POINTS: &str = "tests/fault-points.txt";
/// Characters of a step that the list has.
const LENGTH: usize = 90;

/// What a step is that no test has fail at each place.
///
/// - `refusal`: nothing has changed yet; `refusals.rs` and its like have each error.
/// - `inside`: passes on the failure of a step inside, which has its own line.
/// - `search`: a search without a result, which is not a failure.
/// - `boot`: the machine does not boot, and nothing is there yet to restore.
const OTHERS: [&str; 4] = ["refusal", "inside", "search", "boot"];

/// The operations of a file, as `points.rs` calls them.
const OPERATIONS: [(&str, &[&str]); 7] = [
    ("add.rs", &["add", "join"]),
    ("convert.rs", &["convert"]),
    ("offline.rs", &["offline"]),
    ("online.rs", &["online"]),
    ("part.rs", &["offline a part", "online a part"]),
    ("remove.rs", &["remove", "remove parts"]),
    ("take/mod.rs", &["take"]),
];

/// A step: its line in its file, and what the list has of it.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    line: usize,
    text: String,
}

/// Every difference between the steps and the list, and each kind that nothing tests.
///
/// # Errors
/// When a file cannot be read.
pub(super) fn check(root: &Path, workspace: &Value) -> Result<Vec<String>> {
    let packages = workspace["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mm = packages.iter().find(|package| package["name"] == "hotmem");
    let files = of_package(mm.context("the package hotmem is not in the workspace")?)?;
    let read = |name: &str| {
        std::fs::read_to_string(root.join(name)).with_context(|| format!("cannot read {name}"))
    };
    let (list, points) = (read(LIST)?, read(POINTS)?);
    let mut complaints = differences(&files, &list);
    let names = test_names(root)?;
    complaints.extend(list.lines().filter_map(|line| untested(line, &points, &names)));
    Ok(complaints)
}

/// The steps that are not in the list, and those of the list that are not there.
fn differences(files: &BTreeMap<Module, String>, list: &str) -> Vec<String> {
    let listed = list.lines().filter_map(|line| line.split_once(' ').map(|(_, step)| step));
    let mut listed: Vec<&str> = listed.collect();
    let mut complaints = Vec::new();
    for (module, code) in files {
        let Some(file) = file_of(module) else { continue };
        for Step { line, text } in steps(code) {
            let step = format!("{file}: {text}");
            match listed.iter().position(|other| *other == step) {
                Some(at) => _ = listed.remove(at),
                None => complaints
                    .push(format!("mm/src/operations/{file}:{line}: not in {LIST}: {step}")),
            }
        }
    }
    complaints.extend(listed.iter().map(|step| format!("{LIST}: not in the code: {step}")));
    complaints
}

/// The file of a module in `mm/src/operations`.
fn file_of(module: &Module) -> Option<String> {
    match module.split_first()? {
        (first, rest) if first == "operations" && !rest.is_empty() => match &rest.join("/") {
            // It has files of its own.
            folder if folder == "take" => Some("take/mod.rs".to_owned()),
            file => Some(format!("{file}.rs")),
        },
        _ => None,
    }
}

/// Each `?` of `code`, which has no comments and no text, with the expression before it.
fn steps(code: &str) -> Vec<Step> {
    let ends = code.match_indices('?').map(|(at, _)| at).filter(|&at| {
        let before = code[..at].chars().next_back();
        before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | ')' | ']' | '}'))
    });
    let step = |at: usize| {
        let expression = &code[begin(&code[..at])..=at];
        let words: Vec<&str> = expression.split_whitespace().collect();
        let line = code[..at].matches('\n').count() + 1;
        Step { line, text: words.join(" ").chars().take(LENGTH).collect() }
    };
    ends.map(step).collect()
}

/// Where the expression or statement begins at which `code` ends.
fn begin(code: &str) -> usize {
    let mut depth = 0_usize;
    for (at, c) in code.char_indices().rev() {
        let is_last = at + c.len_utf8() == code.len();
        match c {
            ')' | ']' => depth += 1,
            '}' if depth > 0 || is_last => depth += 1,
            '(' | '[' | '{' if depth > 0 => depth -= 1,
            '(' | '[' | '{' | '}' | ';' | ',' if depth == 0 => return at + c.len_utf8(),
            _ => {}
        }
    }
    0
}

/// Why a line of the list says nothing: of what no test has fail.
fn untested(line: &str, points: &str, tests: &str) -> Option<String> {
    let (kind, step) = line.split_once(' ')?;
    if let Some(test) = kind.strip_prefix("test=") {
        let there = tests.contains(&format!("fn {test}("));
        return (!there).then(|| format!("{LIST}: the test {test} does not exist: {step}"));
    }
    if OTHERS.contains(&kind) {
        return None;
    }
    let file = step.split(':').next().unwrap_or_default();
    let names = OPERATIONS.iter().find(|(of, _)| *of == file).map_or(&[][..], |(_, names)| names);
    let fails = |name: &str| {
        let lines = points.lines().filter_map(|line| line.split_once(&format!(", {name}: ")));
        lines.into_iter().any(|(_, counts)| counts.split(' ').any(|word| word == kind))
    };
    let fails = names.iter().any(|name| fails(name));
    (!fails).then(|| format!("{LIST}: {POINTS} has no {kind} that fails for: {step}"))
}

/// The code of all tests that a line of the list can name.
fn test_names(root: &Path) -> Result<String> {
    let mut all = String::new();
    for folder in ["tests/tests/manager", "mm/src"] {
        for file in below(&root.join(folder))? {
            all += &tool::read_text(&file)?;
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: &str = "fn add<T: ?Sized>() -> Result<(), Error> {\n    let turn = take().ok_or(Busy)?;\n    if a {\n        \
                        b();\n    }\n    match x {\n        A => map(1, 2)?,\n        _ => {}\n    }\n    \
                        unmap(|(error, mapped)| {\n        f();\n    })?;\n}\n";

    fn files() -> BTreeMap<Module, String> {
        let module = ["operations", "add"].map(str::to_owned).to_vec();
        [(module, CODE.to_owned()), (vec!["alloc".to_owned()], CODE.to_owned())].into()
    }

    #[test]
    fn each_question_mark_is_a_step_with_the_expression_before_it() {
        let found: Vec<_> =
            steps(CODE).into_iter().map(|Step { line, text }| (line, text)).collect();
        let expected = [
            (2, "let turn = take().ok_or(Busy)?"),
            (7, "A => map(1, 2)?"),
            (12, "unmap(|(error, mapped)| { f(); })?"),
        ];
        assert_eq!(found, expected.map(|(line, text)| (line, text.to_owned())));
    }

    #[test]
    fn a_step_that_comes_and_one_that_goes_are_named() {
        let list = "turn add.rs: let turn = take().ok_or(Busy)?\nmapper add.rs: A => map(1, 2)?\n\
                    inside add.rs: gone()?\n";
        let complaints = differences(&files(), list);
        let expected = [
            "mm/src/operations/add.rs:12: not in tests/fault-steps.txt: add.rs: unmap(|(error, mapped)| { f(); })?",
            "tests/fault-steps.txt: not in the code: add.rs: gone()?",
        ];
        assert_eq!(complaints, expected);
    }

    #[test]
    fn a_step_of_a_kind_that_no_test_has_fail_is_named() {
        let points = "pages, boot, add: 5 allocation 1 turn\npages, boot, online: 1 listener\n";
        let untested = |line| untested(line, points, "fn known() {}");
        for line in ["turn add.rs: a?", "inside add.rs: a?", "test=known add.rs: a?"] {
            assert_eq!(untested(line), None);
        }
        for line in
            ["listener add.rs: a?", "turn other.rs: a?", "test=lost add.rs: a?", "odd add.rs: a?"]
        {
            assert!(untested(line).is_some(), "{line}");
        }
    }
}
