//! Rules of this repository that no compiler knows.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::choice;
use super::sources::below;
use crate::tool;

/// The longest a source file may be, in lines.
const LONGEST: usize = 500;
/// Where sources are.
const FOLDERS: [&str; 6] = ["mm", "arch", "boot", "kernel", "tests", "xtask"];
/// A place where a rule is broken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Complaint {
    file: PathBuf,
    /// Line number, from 1.
    line: usize,
    what: String,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file.display(), self.line, self.what)
    }
}

/// Checks every source file below `root`.
///
/// # Errors
/// When one cannot be read.
pub(crate) fn check(root: &Path) -> Result<Vec<Complaint>> {
    let mut complaints = Vec::new();
    for folder in FOLDERS {
        for file in below(&root.join(folder))? {
            let name = file.strip_prefix(root).unwrap_or(&file);
            complaints.extend(check_file(name, &tool::read_text(&file)?));
        }
    }
    Ok(complaints)
}

/// All complaints about one file.
fn check_file(file: &Path, text: &str) -> Vec<Complaint> {
    let lines: Vec<&str> = text.lines().collect();
    let complaint =
        |line: usize, what: &str| Complaint { file: file.into(), line, what: what.into() };
    let mut complaints = Vec::new();

    if lines.len() > LONGEST {
        complaints
            .push(complaint(LONGEST + 1, &format!("{} lines; at most {LONGEST}", lines.len())));
    }
    if opts_into_unsafe(text) && !text.contains("// UNSAFETY: ") {
        complaints.push(complaint(1, "allows unsafe code without a line `// UNSAFETY: why`"));
    }
    for (line, what) in choice::leaks(file, text) {
        complaints.push(complaint(line, what));
    }
    for (index, line) in lines.iter().enumerate() {
        if let Some(word) = unfinished(line) {
            complaints
                .push(complaint(index + 1, &format!("says `{word}`: finish it or say what is so")));
        }
    }
    complaints
}

/// Does a file switch the workspace's lint against unsafe code off, anywhere in it?
fn opts_into_unsafe(text: &str) -> bool {
    let attributes = ["expect(unsafe_code", "allow(unsafe_code"];
    text.lines()
        .filter(|line| line.trim_start().starts_with("#"))
        .any(|line| attributes.iter().any(|attribute| line.contains(attribute)))
}

/// Words by which code says that it is not done. Written apart, so that this file does not say them.
fn unfinished(line: &str) -> Option<String> {
    let words = [["TO", "DO"], ["FIX", "ME"], ["todo", "!("], ["unimplemented", "!("]];
    words.iter().map(|parts| parts.concat()).find(|word| line.contains(word.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(file: &str, text: &str) -> Vec<String> {
        check_file(Path::new(file), text).iter().map(Complaint::to_string).collect()
    }

    #[test]
    fn a_file_of_501_lines_is_too_long_and_one_of_500_is_not() {
        assert_eq!(
            complaints("mm/src/a.rs", &"x\n".repeat(501)),
            ["mm/src/a.rs:501: 501 lines; at most 500"]
        );
        assert!(complaints("mm/src/a.rs", &"x\n".repeat(500)).is_empty());
    }

    #[test]
    fn unsafe_code_needs_a_reason_in_its_file() {
        let opened = "#![expect(unsafe_code)]\n";
        assert_eq!(complaints("mm/src/a.rs", opened).len(), 1);
        assert!(
            complaints("mm/src/a.rs", &format!("// UNSAFETY: frames are raw memory\n{opened}"))
                .is_empty()
        );
    }

    #[test]
    fn unfinished_work_is_not_left_in_words() {
        let word = ["TO", "DO"].concat();
        assert_eq!(complaints("mm/src/a.rs", &format!("// {word}: later\n")).len(), 1);
    }

    #[test]
    fn a_broken_rule_in_a_tree_is_found_with_its_file() {
        let scratch = crate::scratch::Scratch::new().unwrap();
        for folder in FOLDERS {
            std::fs::create_dir_all(scratch.path().join(folder).join("src")).unwrap();
        }
        std::fs::write(scratch.path().join("boot/src/lib.rs"), "x\n".repeat(600)).unwrap();
        let found = check(scratch.path()).unwrap();
        assert_eq!(found.len(), 1);
        assert!(found[0].to_string().starts_with("boot/src/lib.rs:501"));
    }
}
