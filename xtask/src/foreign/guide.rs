//! The code in docs/guide.md is that of the kernel which the tests build and run.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::tool::read_text;

/// Checks that each block of Rust and TOML in the guide stands in a file of the kernel in `folder`, line by line but for
/// indentation.
///
/// # Errors
/// When a file cannot be read, or a block stands in none; the error shows it.
pub(super) fn check(guide: &Path, folder: &Path) -> Result<()> {
    let mut files = vec![trimmed(&read_text(&folder.join("Cargo.toml"))?)];
    let sources = folder.join("src");
    let entries = std::fs::read_dir(&sources)
        .with_context(|| format!("cannot read {}", sources.display()))?;
    for entry in entries {
        files.push(trimmed(&read_text(&entry?.path())?));
    }
    let text = read_text(guide)?;
    let blocks: Vec<_> = blocks(&text).collect();
    ensure!(!blocks.is_empty(), "the guide has no code");
    for block in blocks {
        let own = files.iter().any(|file| file.contains(&block));
        ensure!(own, "the guide shows code that the kernel does not have:\n{block}");
    }
    Ok(())
}

/// The blocks of code in `text`, trimmed.
fn blocks(text: &str) -> impl Iterator<Item = String> {
    let fences = text.split("\n```").skip(1).step_by(2);
    let code = fences.filter_map(|fence| {
        let (language, code) = fence.split_once('\n')?;
        ["rust", "toml"].contains(&language).then_some(code)
    });
    code.map(trimmed)
}

/// `text` without indentation and empty lines.
fn trimmed(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_rust_are_found_without_their_indentation() {
        let text = "a\n```rust\n    f(\n        x);\n\n```\nb\n```console\n$ x\n```\nc\n```toml\nk = 1\n```\n";
        assert_eq!(blocks(text).collect::<Vec<_>>(), ["f(\nx);\n", "k = 1\n"]);
    }
}
