//! How many lines of code a kernel needs to have memory hotplug from the libraries.
//!
//! In its sources, a first line `// glue: memory` or `// glue: events` marks a file that the kernel without it does not
//! have, and `// glue: memory {` to `// glue: }` a part of a file. Lines without code do not count, and neither does the
//! switch that leaves the code out.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::lint::code_only;

/// The kinds, and how many lines of each are few enough.
const MOST: [(&str, usize); 2] = [("memory", 120), ("events", 40)];
const MARK: &str = "// glue: ";
/// The attribute that leaves code out.
const SWITCH: &str = "#[cfg(feature = \"hotmem\")]";

/// Counts the lines in the folder `sources`, and prints them.
///
/// # Errors
/// When they are too many, or none.
pub(super) fn check(sources: &Path) -> Result<()> {
    let mut counts = MOST.map(|_| 0);
    let entries =
        std::fs::read_dir(sources).with_context(|| format!("cannot read {}", sources.display()))?;
    for entry in entries {
        let path = entry?.path();
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        for (count, (kind, _)) in counts.iter_mut().zip(MOST) {
            *count += lines(&text, kind);
        }
    }
    for (count, (kind, most)) in counts.into_iter().zip(MOST) {
        println!("glue for {kind}: {count} lines of code, at most {most}");
        ensure!((1..=most).contains(&count), "glue for {kind}: {count} lines, not 1 to {most}");
    }
    Ok(())
}

/// Lines of code in the parts of `text` that are glue of a kind.
fn lines(text: &str, kind: &str) -> usize {
    let whole = text.lines().next() == Some(&format!("{MARK}{kind}"));
    let begins = format!("{MARK}{kind} {{");
    let mut inside = whole;
    let mut count = 0;
    for (line, code) in text.lines().zip(code_only(text).lines()) {
        match line.trim() {
            mark if mark == begins => inside = true,
            "// glue: }" => inside = whole,
            SWITCH => {}
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
        let file = "// glue: memory\n//! Text.\n\nuse a::B;\n/// Text.\nfn f() {}\n";
        assert_eq!((lines(file, "memory"), lines(file, "events")), (2, 0));
        let part = "fn f() {\n    // glue: events {\n    #[cfg(feature = \"hotmem\")]\n    g();\n    // glue: }\n    h();\n}\n";
        assert_eq!((lines(part, "memory"), lines(part, "events")), (0, 1));
    }
}
