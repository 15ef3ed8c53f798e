//! The code of a package, file by file, without comments, strings and tests.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use super::code::code_only;
use crate::tool;

/// The path of a module in its crate; the crate's root has none.
pub(super) type Module = Vec<String>;

/// The code of each module of `package`, as cargo's metadata describes it.
///
/// # Errors
/// When a source cannot be read.
pub(super) fn of_package(package: &Value) -> Result<BTreeMap<Module, String>> {
    let manifest = Path::new(package["manifest_path"].as_str().unwrap_or_default());
    let folder = manifest.with_file_name("src");
    let mut files = BTreeMap::new();
    for path in below(&folder)? {
        let stem = path.with_extension("");
        let parts = stem.strip_prefix(&folder).unwrap_or(&stem).iter();
        let mut module: Module = parts.map(|part| part.to_string_lossy().into_owned()).collect();
        // A program beside a library is another crate, which no file of the library can import.
        let is_root = match module.last().map(String::as_str) {
            Some("main") => !path.with_file_name("lib.rs").exists(),
            last => matches!(last, Some("mod" | "lib")),
        };
        if is_root {
            module.pop();
        }
        if !module.iter().any(|part| part == "tests") {
            let code = code_only(&tool::read_text(&path)?);
            let tests = code.find("\nmod tests {").unwrap_or(code.len());
            files.insert(module, code[..tests].to_owned());
        }
    }
    Ok(files)
}

/// All Rust files below `folder`, in order, but for what is built there.
///
/// # Errors
/// When a folder cannot be read.
pub(super) fn below(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder);
    let mut files = Vec::new();
    for entry in entries.with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() && !path.ends_with("target") {
            files.extend(below(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
