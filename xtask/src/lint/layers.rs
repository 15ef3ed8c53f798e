//! Which package may import which: arrows point down only. An arrow that is missing here is a decision
//! for ARCHITECTURE.md first.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::tool;

/// Each package of the workspace with those of the workspace that it may depend on. Tests may depend on
/// more: they are in no image.
const LAYERS: [(&str, &[&str]); 21] = [
    ("hotmem-paging", &[]),
    ("hotmem", &["hotmem-paging"]),
    ("hotmem-aml", &[]),
    ("hotmem-aml-fakes", &["hotmem-aml"]),
    ("hotmem-arch", &["hotmem-paging"]),
    ("hotmem-boot", &["hotmem-paging"]),
    ("hotmem-hotplug", &["hotmem"]),
    ("hotmem-acpi", &["hotmem", "hotmem-aml", "hotmem-hotplug"]),
    ("hotmem-papr", &["hotmem", "hotmem-hotplug"]),
    ("hotmem-virtio-mem", &["hotmem", "hotmem-hotplug"]),
    ("hotmem-lab", &["hotmem", "hotmem-hotplug"]),
    ("hotmem-vm", &["hotmem", "hotmem-arch", "hotmem-boot"]),
    (
        "hotmem-kernel",
        &[
            "hotmem",
            "hotmem-acpi",
            "hotmem-aml",
            "hotmem-arch",
            "hotmem-boot",
            "hotmem-hotplug",
            "hotmem-lab",
            "hotmem-papr",
            "hotmem-virtio-mem",
            "hotmem-vm",
        ],
    ),
    ("hotmem-uefi", &["hotmem-boot", "hotmem-paging"]),
    ("hotmem-init", &[]),
    ("hotmem-tests", &["hotmem", "hotmem-arch"]),
    ("hotmem-storm", &["hotmem-paging"]),
    ("hotmem-storm-host", &["hotmem", "hotmem-hotplug", "hotmem-lab", "hotmem-storm"]),
    ("hotmem-hosted", &["hotmem", "hotmem-lab"]),
    (
        "hotmem-fuzz",
        &[
            "hotmem",
            "hotmem-acpi",
            "hotmem-aml",
            "hotmem-arch",
            "hotmem-boot",
            "hotmem-hotplug",
            "hotmem-kernel",
            "hotmem-lab",
            "hotmem-paging",
            "hotmem-papr",
            "hotmem-virtio-mem",
            "hotmem-vm",
        ],
    ),
    ("xtask", &["hotmem-aml", "hotmem-storm"]),
];

/// The workspace at `root`, as `cargo metadata` describes it.
///
/// # Errors
/// When cargo does not describe it.
pub(crate) fn workspace(root: &Path) -> Result<Value> {
    let output = tool::cargo(root)
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .output()
        .context("cannot start cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    serde_json::from_slice(&output.stdout).context("cargo metadata is not JSON")
}

/// Every dependency between packages of `workspace` that no layer allows.
pub(super) fn complaints(workspace: &Value) -> Vec<String> {
    let packages = workspace["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let ours: Vec<&str> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
    let mut complaints = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        let Some((_, allowed)) = LAYERS.iter().find(|(layer, _)| *layer == name) else {
            complaints.push(format!("{name}: no layer says what it may import"));
            continue;
        };
        let imports = package["dependencies"].as_array().map(Vec::as_slice).unwrap_or_default();
        let imports = imports.iter().filter(|import| import["kind"].as_str() != Some("dev"));
        for import in imports.filter_map(|import| import["name"].as_str()) {
            if ours.contains(&import) && !allowed.contains(&import) {
                complaints.push(format!("{name} imports {import}, which no layer allows"));
            }
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn workspace(name: &str, imports: &[(&str, Option<&str>)]) -> Value {
        let imports: Vec<_> =
            imports.iter().map(|(name, kind)| json!({ "name": name, "kind": kind })).collect();
        json!({ "packages": [
            { "name": name, "dependencies": imports },
            { "name": "hotmem-kernel", "dependencies": [] },
        ] })
    }

    #[test]
    fn an_arrow_that_points_up_is_named_and_a_tests_own_is_not() {
        let up = workspace("hotmem", &[("hotmem-kernel", None), ("log", None)]);
        assert_eq!(complaints(&up), ["hotmem imports hotmem-kernel, which no layer allows"]);
        let tests = workspace("hotmem", &[("hotmem-kernel", Some("dev"))]);
        assert!(complaints(&tests).is_empty());
    }

    #[test]
    fn a_package_without_a_layer_is_named() {
        let unknown = workspace("hotmem-new", &[]);
        assert_eq!(complaints(&unknown), ["hotmem-new: no layer says what it may import"]);
    }

    #[test]
    fn no_two_layers_allow_each_other() {
        for (name, allowed) in LAYERS {
            for below in allowed {
                let (_, back) = LAYERS.iter().find(|(layer, _)| layer == below).unwrap();
                assert!(!back.contains(&name), "{name} and {below}");
            }
        }
    }
}
