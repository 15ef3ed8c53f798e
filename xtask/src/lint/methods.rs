//! How many methods each type of `mm` has: a type with too many of them does the work of several.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::Value;

use super::sources::{Module, of_package};

/// The most methods that a type of `mm` may have.
const MOST: usize = 40;

/// The façade: each of its methods is one call of a wing's, and a kernel calls all of them on one value.
const FACADE: &str = "Mm";

/// Each type of `mm` that has too many methods.
///
/// # Errors
/// When a source cannot be read.
pub(super) fn check(workspace: &Value) -> Result<Vec<String>> {
    let mut packages =
        workspace["packages"].as_array().map(Vec::as_slice).unwrap_or_default().iter();
    let Some(package) = packages.find(|package| package["name"] == "hotmem") else {
        return Ok(Vec::from(["hotmem: the package is not in the workspace".to_owned()]));
    };
    Ok(complaints(&of_package(package)?))
}

fn complaints(files: &BTreeMap<Module, String>) -> Vec<String> {
    let mut counts = BTreeMap::new();
    for code in files.values() {
        count(code, &mut counts);
    }
    let many = counts.iter().filter(|&(name, &methods)| methods > MOST && name != FACADE);
    many.map(|(name, methods)| format!("hotmem: {name} has {methods} methods, more than {MOST}"))
        .collect()
}

/// Adds the functions in the `impl` blocks of `code` to the counts of their types, but for those of traits.
fn count(code: &str, counts: &mut BTreeMap<String, usize>) {
    let mut rest = code;
    while let Some(at) = rest.find("impl") {
        let starts = rest[..at].rsplit('\n').next().is_some_and(|before| before.trim().is_empty());
        rest = &rest[at + "impl".len()..];
        let header = rest.split(['{', ';']).next().unwrap_or_default();
        let (true, Some(name)) = (starts, implements(header)) else { continue };
        let body = block(&rest[header.len()..]);
        *counts.entry(name).or_default() += functions(body);
        rest = &rest[header.len() + body.len()..];
    }
}

/// The type that `header`, what follows `impl` before its block, gives methods; `None` for a trait's.
fn implements(header: &str) -> Option<String> {
    let generics = if header.starts_with('<') { angles(header) } else { 0 };
    let subject = header[generics..].split(" where").next()?.trim();
    // A trait for all lifetimes has its `for` behind an angle.
    let of_trait = subject.split_whitespace().any(|word| word == "for");
    let path = subject.split('<').next()?.trim();
    let name = path.rsplit("::").next()?;
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_');
    (is_name && !of_trait).then(|| name.to_owned())
}

/// Length of the generics that `text` begins with.
fn angles(text: &str) -> usize {
    let mut depth = 0_usize;
    for (at, c) in text.char_indices() {
        match c {
            '<' => depth += 1,
            '>' if text[..at].ends_with(['-', '=']) => {}
            '>' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return at + c.len_utf8();
        }
    }
    text.len()
}

/// The block that `text` begins with, braces and all.
fn block(text: &str) -> &str {
    let mut depth = 0_usize;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return &text[..at + c.len_utf8()];
        }
    }
    text
}

/// How many functions stand in `body`, a block, directly.
fn functions(body: &str) -> usize {
    let (mut depth, mut count) = (0_usize, 0);
    for (at, c) in body.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            // With a name behind it: `fn(u64)` is a type.
            ' ' if depth == 1 => count += usize::from(body[..at].ends_with(" fn")),
            _ => {}
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(code: &str) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        count(code, &mut counts);
        counts
    }

    #[test]
    fn the_methods_of_a_type_are_counted_over_all_its_blocks_but_those_of_traits() {
        let counts = counted(
            "impl<M: Of<fn() -> u64>> a::A<M> where M: B {\n    pub const fn one() { fn inner() {} }\n\
             \n    unsafe fn two(f: fn(u64)) {}\n}\nimpl<T> fmt::Debug for A<T> {\n    fn fmt() {}\n}\n\
             fn of(x: impl Fn(u64)) {}\nimpl B<'_> {\n    fn x(&self) {\n        || {};\n    }\n}\n\
             impl A<u8> {\n    pub(super) fn three() {}\n}\n",
        );
        let expected = [("A".to_owned(), 3), ("B".to_owned(), 1)];
        assert_eq!(counts, expected.into_iter().collect());
    }

    #[test]
    fn a_type_with_too_many_methods_is_named_and_the_facade_is_not() {
        let block =
            |name: &str| format!("impl {name} {{\n{}}}\n", "    fn f() {}\n".repeat(MOST / 2 + 1));
        let file = |name: &str| (Vec::from([name.to_owned()]), block("A") + &block(FACADE));
        let files = [file("x"), file("y")].into_iter().collect();
        assert_eq!(complaints(&files), ["hotmem: A has 42 methods, more than 40"]);
    }
}
