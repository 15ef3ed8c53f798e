//! The libraries as others take them: each feature alone and all together, what they depend on, and whether their
//! interface is still that of the last release.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::lint::{LIBRARIES, workspace};
use crate::tool;

/// Whether each library compiles without a warning with each set of its features. Clippy also knows what the oldest
/// compiler that a library declares did not have.
///
/// # Errors
/// When cargo cannot be started.
pub(super) fn features(root: &Path) -> Result<bool> {
    let workspace = workspace(root)?;
    let mut good = true;
    for package in LIBRARIES {
        for set in sets(&workspace, package) {
            let mut command = tool::cargo(root);
            command.args(["clippy", "--quiet", "--package", package, "--no-default-features"]);
            command.args(["--features", &set, "--", "-D", "warnings"]);
            good &= passes(&mut command)?;
        }
    }
    Ok(good)
}

/// No feature, each feature of `package` alone, and all of them.
fn sets(workspace: &Value, package: &str) -> Vec<String> {
    let packages = workspace["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let features = packages.iter().find(|found| found["name"] == package);
    let features = features.and_then(|found| found["features"].as_object());
    let names: Vec<_> =
        features.into_iter().flat_map(|features| features.keys().cloned()).collect();
    let mut sets = vec![String::new()];
    sets.extend(names.iter().cloned());
    if names.len() > 1 {
        sets.push(names.join(","));
    }
    sets
}

/// A program that cargo runs as a subcommand.
///
/// # Errors
/// When it is not there; the error says what to type.
pub(super) fn find(subcommand: &str) -> Result<()> {
    let program = format!("cargo-{subcommand}");
    if tool::find(&program).is_none() {
        bail!(
            "{program} is not on the search path. Please run:\n  cargo install --locked {program}"
        );
    }
    Ok(())
}

/// Whether licences, sources and versions of all dependencies are those that `deny.toml` allows, and each dependency is
/// used.
///
/// # Errors
/// When cargo cannot be started.
pub(super) fn supply(root: &Path) -> Result<bool> {
    let allowed = passes(tool::cargo(root).args(["deny", "check", "bans", "licenses", "sources"]))?;
    // Whether cargo runs it as a subcommand it guesses by variables, which cargo sets for this program, too.
    let mut machete = Command::new("cargo-machete");
    machete.arg(root).env_remove("CARGO");
    Ok(passes(&mut machete)? && allowed)
}

/// Whether the interfaces of the libraries are compatible with those of `baseline`, by default the last tag, or have a
/// version that says otherwise.
///
/// # Errors
/// When cargo cannot be started.
pub(super) fn semver(root: &Path, baseline: Option<&str>) -> Result<bool> {
    let tag =
        ["-C", &root.to_string_lossy(), "describe", "--tags", "--abbrev=0"].map(str::to_owned);
    let Some(baseline) = baseline.map(str::to_owned).or_else(|| tool::output_of("git", &tag))
    else {
        println!("no interface to compare with: nothing is tagged");
        return Ok(true);
    };
    let packages = LIBRARIES.iter().flat_map(|&package| ["--package", package]);
    passes(tool::cargo(root).args(["semver-checks", "--baseline-rev", &baseline]).args(packages))
}

/// Runs `command`, and names it if it fails.
fn passes(command: &mut Command) -> Result<bool> {
    let line = tool::shown(command);
    let good = command.status().with_context(|| format!("cannot start `{line}`"))?.success();
    if !good {
        eprintln!("failed: {line}");
    }
    Ok(good)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_feature_is_checked_alone_and_with_all_others() {
        let workspace = json!({"packages": [
            {"name": "a", "features": {"x": [], "y": ["dep:z"]}},
            {"name": "b", "features": {"x": []}},
            {"name": "c", "features": {}},
        ]});
        assert_eq!(sets(&workspace, "a"), ["", "x", "y", "x,y"]);
        assert_eq!(sets(&workspace, "b"), ["", "x"]);
        assert_eq!(sets(&workspace, "c"), [""]);
    }

    #[test]
    fn a_subcommand_that_is_missing_is_named_with_what_to_type() {
        let error = find("no-such-subcommand").unwrap_err().to_string();
        assert!(error.contains("cargo install --locked cargo-no-such-subcommand"), "{error}");
    }
}
