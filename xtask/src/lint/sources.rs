//! The code of a package, file by file, without comments, strings and tests.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use super::code::code_only;

/// The path of a module in its crate; the crate's root has none.
pub(super) type Module = Vec<String>;

/// The code of each module of `package`, as cargo's metadata describes it.
///
/// # Errors
/// When a source cannot be read.
pub(super) fn of_package(package: &Value) -> Result<BTreeMap<Module, String>> {
    let manifest = Path::new(package["manifest_path"].as_str().unwrap_or_default());
    let mut files = BTreeMap::new();
    read(&manifest.with_file_name("src"), &[], &mut files)?;
    Ok(files)
}

/// The code of all files below `folder`, which is the module `at`; not that of tests.
fn read(folder: &Path, at: &[String], files: &mut BTreeMap<Module, String>) -> Result<()> {
    let context = || format!("cannot read {}", folder.display());
    for entry in std::fs::read_dir(folder).with_context(context)? {
        let path = entry?.path();
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let module = match stem.as_str() {
            "tests" => continue,
            // A program beside a library is another crate, which no file of the library can import.
            "main" if folder.join("lib.rs").exists() => [at, &["main".to_owned()]].concat(),
            "mod" | "lib" | "main" => at.to_vec(),
            _ => [at, &[stem]].concat(),
        };
        if path.is_dir() {
            read(&path, &module, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let code = code_only(&std::fs::read_to_string(&path).with_context(context)?);
            let tests = code.find("\nmod tests {").unwrap_or(code.len());
            files.insert(module, code[..tests].to_owned());
        }
    }
    Ok(())
}
