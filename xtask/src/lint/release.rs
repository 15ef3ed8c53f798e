//! Whether the tree could be tagged as it is: one version everywhere, a changelog that begins with it, and packages that
//! have all that crates.io shows and docs.rs needs.

use std::path::Path;

use anyhow::Result;
use serde_json::Value;

use crate::tool;

/// What stands behind the version in a changelog until there is a day to name.
const NOT_YET: &str = "not released";

/// Every version of `workspace` that is not that of the first package, and what is wrong with the changelog's newest
/// entry.
///
/// # Errors
/// When the changelog cannot be read.
pub(super) fn check(root: &Path, workspace: &Value) -> Result<Vec<String>> {
    let text = tool::read_text(&root.join("CHANGELOG.md"))?;
    let mut complaints = complaints(workspace, &text);
    for package in workspace["packages"].as_array().map(Vec::as_slice).unwrap_or_default() {
        // Without a list of registries a package goes to any.
        if package["publish"].is_null() {
            let name = package["name"].as_str().unwrap_or_default();
            complaints.extend(missing(package).map(|what| format!("{name} has no {what}")));
        }
    }
    Ok(complaints)
}

/// What a published package lacks.
fn missing(package: &Value) -> impl Iterator<Item = String> {
    const FIELDS: [&str; 6] =
        ["/description", "/documentation", "/readme", "/keywords/0", "/categories/0", "/license"];
    const DOCS: &str = "/metadata/docs/rs/all-features";
    let fields = FIELDS.into_iter().chain([DOCS]);
    let fields = fields.filter(|field| package.pointer(field).is_none_or(Value::is_null));
    let manifest = Path::new(package["manifest_path"].as_str().unwrap_or_default());
    let licences = ["LICENSE-MIT", "LICENSE-APACHE"].into_iter();
    let licences = licences.filter(|name| !manifest.with_file_name(name).is_file());
    fields.map(|field| field.trim_start_matches('/').to_owned()).chain(licences.map(str::to_owned))
}

fn complaints(workspace: &Value, changelog: &str) -> Vec<String> {
    let packages = workspace["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let name = |package: &Value| package["name"].as_str().unwrap_or_default().to_owned();
    let ours: Vec<String> = packages.iter().map(name).collect();
    let version = packages.first().and_then(|first| first["version"].as_str()).unwrap_or_default();

    let mut complaints = Vec::new();
    for package in packages {
        let found = package["version"].as_str().unwrap_or_default();
        if found != version {
            complaints.push(format!("{}: version {found}, not {version}", name(package)));
        }
        let imports = package["dependencies"].as_array().map(Vec::as_slice).unwrap_or_default();
        for import in imports.iter().filter(|import| ours.contains(&name(import))) {
            // A path alone is for what is never published.
            let wanted = import["req"].as_str().unwrap_or_default();
            if wanted != "*" && wanted.trim_start_matches('^') != version {
                complaints.push(format!(
                    "{} wants {} {wanted}, not {version}",
                    name(package),
                    name(import)
                ));
            }
        }
    }
    let newest = changelog.lines().find_map(|line| line.strip_prefix("## ")).unwrap_or_default();
    let day = newest.strip_prefix(version).and_then(|rest| rest.strip_prefix(" - "));
    if !day.is_some_and(|day| day == NOT_YET || is_day(day)) {
        complaints.push(format!(
            "CHANGELOG.md begins with `## {newest}`, not with `## {version} - ` and a day or `{NOT_YET}`"
        ));
    }
    complaints
}

/// Whether `text` is a day as in 2026-01-31.
fn is_day(text: &str) -> bool {
    let shape = "0000-00-00";
    text.len() == shape.len()
        && text.chars().zip(shape.chars()).all(|(c, shape)| match shape {
            '0' => c.is_ascii_digit(),
            other => c == other,
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn workspace(version: &str, wanted: &str) -> Value {
        json!({"packages": [
            {"name": "a", "version": "0.1.0", "dependencies": []},
            {"name": "b", "version": version, "dependencies": [
                {"name": "a", "req": wanted}, {"name": "spin", "req": "^0.12"},
            ]},
        ]})
    }

    #[test]
    fn one_version_and_a_changelog_that_begins_with_it_can_be_tagged() {
        for entry in ["0.1.0 - not released", "0.1.0 - 2026-12-01"] {
            for wanted in ["^0.1.0", "*"] {
                let changelog = format!("# Changelog\n\n## {entry}\n\n## 0.0.9 - 2026-01-01\n");
                assert!(complaints(&workspace("0.1.0", wanted), &changelog).is_empty(), "{entry}");
            }
        }
    }

    #[test]
    fn what_a_published_package_lacks_is_named() {
        let found: Vec<_> = missing(&json!({"description": "x", "readme": null, "keywords": [],
            "categories": ["no-std"], "license": "MIT", "metadata": null,
            "manifest_path": "/no/such/folder/Cargo.toml"}))
        .collect();
        let docs = "metadata/docs/rs/all-features";
        let licences = ["LICENSE-MIT", "LICENSE-APACHE"];
        assert_eq!(found[..4], ["documentation", "readme", "keywords/0", docs]);
        assert_eq!(found[4..], licences);
    }

    #[test]
    fn each_version_that_differs_is_named() {
        let found = complaints(&workspace("0.2.0", "^0.0.9"), "## 0.1.0 - not released\n");
        assert_eq!(found, ["b: version 0.2.0, not 0.1.0", "b wants a ^0.0.9, not 0.1.0"]);
        for entry in ["Unreleased", "0.1.0", "0.2.0 - not released", "0.1.0 - soon"] {
            let found = complaints(&workspace("0.1.0", "*"), &format!("## {entry}\n"));
            assert_eq!(found.len(), 1, "{entry}");
            assert!(found[0].contains(&format!("begins with `## {entry}`")), "{}", found[0]);
        }
    }
}
