//! How many lines of code a kernel needs to have memory hotplug from the libraries.
//!
//! A file that the kernel without it does not have counts whole; in its other sources `// glue: memory {` to `// glue: }`
//! is a part that counts. Lines without code do not.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use crate::lint::code_only;

/// The kinds, and how many lines of each are few enough.
const KINDS: [(&str, usize); 2] = [("memory", 120), ("events", 40)];

/// Counts the lines in the files for `memory` and for `events`, and in the parts of the file `main`, and prints them.
///
/// # Errors
/// When they are too many, or none.
pub(super) fn check([memory, events, main]: [PathBuf; 3]) -> Result<()> {
    let read = |path: &PathBuf| {
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
    };
    let main = read(&main)?;
    for ((kind, most), file) in KINDS.into_iter().zip([memory, events]) {
        let count = lines(&read(&file)?, None) + lines(&main, Some(kind));
        println!("glue for {kind}: {count} lines of code, at most {most}");
        ensure!((1..=most).contains(&count), "glue for {kind}: {count} lines, not 1 to {most}");
    }
    Ok(())
}

/// Lines of code in `text`, or in the parts of it that are glue of a kind.
fn lines(text: &str, kind: Option<&str>) -> usize {
    let begins = kind.map(|kind| format!("// glue: {kind} {{"));
    let mut inside = kind.is_none();
    let mut count = 0;
    for (line, code) in text.lines().zip(code_only(text).lines()) {
        match line.trim() {
            mark if Some(mark) == begins.as_deref() => inside = true,
            "// glue: }" => inside = kind.is_none(),
            _ if inside && !code.trim().is_empty() => count += 1,
            _ => {}
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_code_count_in_files_and_parts_that_are_marked() {
        let file = "//! Text.\n\nuse a::B;\n/// Text.\nfn f() {}\n";
        assert_eq!((lines(file, None), lines(file, Some("events"))), (2, 0));
        let part =
            "fn f() {\n    // glue: events {\n    // Why.\n    g();\n    // glue: }\n    h();\n}\n";
        assert_eq!((lines(part, Some("memory")), lines(part, Some("events"))), (0, 1));
    }
}
