//! How many lines of code a kernel needs to have memory hotplug from the libraries.
//!
//! A file that the kernel without it does not have counts whole; in its other sources a line that ends in `// glue: memory`
//! counts, and so does what is between `// glue: memory {` and `// glue: }`. Lines without code do not.

use std::path::PathBuf;

use anyhow::{Result, ensure};

use crate::lint::code_only;
use crate::tool;

/// The kinds, and how many lines of each are few enough.
const KINDS: [(&str, usize); 2] = [("memory", 120), ("events", 40)];

/// Counts the lines in the files for `memory` and for `events`, and in the parts of `others`, and prints them.
///
/// # Errors
/// When they are too many, or none.
pub(super) fn check(whole: &[PathBuf; 2], others: &[PathBuf]) -> Result<()> {
    let others = others.iter().map(|path| tool::read_text(path)).collect::<Result<Vec<_>>>()?;
    for ((kind, most), file) in KINDS.into_iter().zip(whole) {
        let parts: usize = others.iter().map(|text| lines(text, Some(kind))).sum();
        let count = lines(&tool::read_text(file)?, None) + parts;
        println!("glue for {kind}: {count} lines of code, at most {most}");
        ensure!((1..=most).contains(&count), "glue for {kind}: {count} lines, not 1 to {most}");
    }
    Ok(())
}

/// Lines of code in `text`, or in the parts of it that are glue of a kind.
fn lines(text: &str, kind: Option<&str>) -> usize {
    let begins = kind.map(|kind| format!("// glue: {kind} {{"));
    let alone = kind.map(|kind| format!("// glue: {kind}"));
    let mut inside = kind.is_none();
    let mut count = 0;
    for (line, code) in text.lines().zip(code_only(text).lines()) {
        match line.trim() {
            mark if Some(mark) == begins.as_deref() => inside = true,
            "// glue: }" => inside = kind.is_none(),
            mark if alone.as_ref().is_some_and(|alone| mark.ends_with(alone)) => count += 1,
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
        let single = "mod a; // glue: memory\nmod b;\n";
        assert_eq!((lines(single, Some("memory")), lines(single, Some("events"))), (1, 0));
    }
}
