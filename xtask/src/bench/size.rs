//! How large the code of each package is in an image, and of each part of the memory manager.
//!
//! A function counts where it is defined, also if its types are another package's. What the compiler puts into its caller
//! counts there.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use super::committed;
use crate::arch::{Arch, Image};
use crate::build;
use crate::build::symbols;
use crate::size::grouped;
use crate::tool;

/// Our packages' names begin with it, and that of the memory manager is it.
const MANAGER: &str = "hotmem";
/// All functions of it.
const IMAGE: &str = "image";
/// What is neither ours nor Rust's own.
const OTHERS: &str = "other packages";
const RUST: [&str; 3] = ["core", "alloc", "compiler_builtins"];

/// The code of a package, or of a part of the manager.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Row {
    /// `package`, or `hotmem::wing::file`.
    name: String,
    functions: usize,
    bytes: u64,
}

impl committed::Row for Row {
    /// Of our packages and of the image: those of others come and go with the compiler.
    fn figures(&self) -> Vec<(String, u64)> {
        let ours = self.name.starts_with(MANAGER) || self.name == IMAGE;
        ours.then(|| (format!("the code of {}", self.name), self.bytes)).into_iter().collect()
    }
}

/// Builds the image and prints a table of it.
///
/// # Errors
/// When it does not build.
pub(super) fn measure(root: &Path, arch: Arch) -> Result<Vec<Row>> {
    build::image(root, Image::of(arch), &[])?;
    let path = build::kernel(root, Image::of(arch));
    let functions = symbols::sizes(&tool::read(&path)?)?;
    ensure!(!functions.is_empty(), "{} has no symbols", path.display());
    let whole = |_: &str| Some(IMAGE.to_owned());
    let rows =
        [table(&functions, whole), table(&functions, package), table(&functions, part)].concat();
    println!("{:<40} {:>10} {:>12}", "", "functions", "bytes");
    for Row { name, functions, bytes } in &rows {
        println!("{name:<40} {:>10} {:>12}", grouped(*functions as u64), grouped(*bytes));
    }
    Ok(rows)
}

/// Functions by what `group` says, the largest first.
fn table(functions: &[(String, u64)], group: fn(&str) -> Option<String>) -> Vec<Row> {
    let mut sums = BTreeMap::<String, (usize, u64)>::new();
    for (name, bytes) in functions {
        if let Some(group) = group(name) {
            let sum = sums.entry(group).or_default();
            *sum = (sum.0 + 1, sum.1 + bytes);
        }
    }
    let rows = sums.into_iter().map(|(name, (functions, bytes))| Row { name, functions, bytes });
    let mut rows: Vec<_> = rows.collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.bytes));
    rows
}

/// The package that defines a function.
fn package(function: &str) -> Option<String> {
    let first = definition(function).split("::").next().unwrap_or_default();
    let known = first == MANAGER || first.starts_with("hotmem_") || RUST.contains(&first);
    Some(if known { first.replace('_', "-") } else { OTHERS.to_owned() })
}

/// The wing and the file of the memory manager that define a function.
fn part(function: &str) -> Option<String> {
    let mut parts = definition(function).split("::");
    let package = parts.next().filter(|package| *package == MANAGER)?;
    let modules = parts.take_while(|part| part.starts_with(|c: char| c.is_ascii_lowercase()));
    let modules: Vec<_> = modules.take(2).collect();
    (!modules.is_empty()).then(|| format!("  {package}::{}", modules.join("::")))
}

/// The path of the item that a function belongs to: `<a::B<c::D>>::f` and `<a::B as c::D>::f` belong to `a::B`, unless that
/// is a type of Rust's own.
fn definition(function: &str) -> &str {
    let start = |text: &'static str| move |name: &str| name.starts_with(text);
    let bare = function.trim_start_matches(['<', '&', '(', '[', '*']);
    let bare = bare.trim_start_matches("mut ").trim_start_matches("const ");
    let path = |text| str::split(text, [' ', '<', '>', '(', ',', '{']).next().unwrap_or_default();
    let own = path(bare);
    let ours = start(MANAGER);
    match function.split_once(" as ") {
        Some((before, behind)) if !ours(own) && !before.contains('{') && ours(behind) => {
            path(behind)
        }
        _ => own,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_counts_where_it_is_defined() {
        for (function, wanted) in [
            ("hotmem::operations::add::check::<hotmem_kernel::memory::Kernel>", "hotmem"),
            (
                "<hotmem::observe::verify::counts::Counts<hotmem_kernel::M>>::check::{closure#0}",
                "hotmem",
            ),
            (
                "<hotmem_acpi::source::AcpiSource<W> as hotmem_hotplug::event::HotplugSource>::eject",
                "hotmem-acpi",
            ),
            ("<&hotmem_paging::addr::PhysRange as core::fmt::Display>::fmt", "hotmem-paging"),
            ("<u64 as hotmem_aml::value::Number>::get", "hotmem-aml"),
            ("core::fmt::write", "core"),
            ("memcpy", OTHERS),
            ("<spin::Once<T>>::call", OTHERS),
        ] {
            assert_eq!(package(function).as_deref(), Some(wanted), "{function}");
        }
    }

    #[test]
    fn parts_of_the_manager_are_its_wings_and_their_files() {
        for (function, wanted) in [
            (
                "<hotmem::observe::verify::counts::Counts<M>>::check",
                Some("  hotmem::observe::verify"),
            ),
            ("<hotmem::facade::Mm<M>>::add", Some("  hotmem::facade")),
            ("hotmem_lab::run", None),
        ] {
            assert_eq!(part(function).as_deref(), wanted, "{function}");
        }
    }

    #[test]
    fn rows_are_sums_and_the_largest_comes_first() {
        let function = |name: &str, bytes| (name.to_owned(), bytes);
        let functions =
            [function("core::a", 1), function("hotmem::x::y", 5), function("core::b", 2)];
        let rows = table(&functions, package);
        let row = |name: &str, functions, bytes| Row { name: name.into(), functions, bytes };
        assert_eq!(rows, [row("hotmem", 1, 5), row("core", 2, 3)]);
    }
}
