//! Which file may import which: no circle of files in a package, and between the wings of `mm` arrows that
//! point down only. A `use` of something in another file is an arrow, and so is a full path to it
//! (`super::a::b()`); `mod` lines, re-exports and tests are none, nor is a call of a module that the file itself
//! declares (`a::b()`). A re-exported name counts as the file that it comes from. What a crate's root itself
//! defines is for all files.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use serde_json::Value;

use super::sources::{Module, of_package};

/// The wings of `mm`, the lowest first: each may import those before it. So none knows the façade, `Mm`, but
/// `testing`: that is for tests of users, which call what users call.
const WINGS: [&str; 7] = ["memmap", "turn", "alloc", "operations", "observe", "facade", "testing"];

/// What each file imports.
type Arrows = BTreeMap<Module, BTreeSet<Module>>;

/// Every circle, and every arrow up between wings.
///
/// # Errors
/// When a source cannot be read.
pub(super) fn check(workspace: &Value) -> Result<Vec<String>> {
    let mut complaints = Vec::new();
    for package in workspace["packages"].as_array().map(Vec::as_slice).unwrap_or_default() {
        let name = package["name"].as_str().unwrap_or_default();
        let arrows = arrows(&of_package(package)?);
        complaints.extend(circles(name, &arrows));
        if name == "hotmem" {
            complaints.extend(wings(&arrows));
        }
    }
    Ok(complaints)
}

fn arrows(files: &BTreeMap<Module, String>) -> Arrows {
    let (mut exported, mut imported) = (BTreeMap::new(), Vec::new());
    for (module, code) in files {
        for (public, path) in uses(code) {
            let (path, name) = path.split_once('=').unwrap_or((&path, ""));
            let name =
                if name.is_empty() { path.rsplit("::").next().unwrap_or(path) } else { name };
            match absolute(module, path, files) {
                // An item of another crate is not a file here.
                path if public => {
                    exported.insert([module.as_slice(), &[name.to_owned()]].concat(), path);
                }
                Some(path) => imported.push((module, path)),
                None => {}
            }
        }
        let paths = full_paths(code).filter_map(|path| absolute(module, path, files));
        imported.extend(paths.map(|path| (module, path)));
    }
    let mut arrows: Arrows = files.keys().map(|module| (module.clone(), BTreeSet::new())).collect();
    'imports: for (module, mut path) in imported {
        // No re-export leads further than there are re-exports.
        for _ in 0..exported.len() {
            let known = (1..=path.len()).find_map(|n| Some((n, exported.get(&path[..n])?)));
            let Some((length, behind)) = known else { break };
            let Some(behind) = behind else { continue 'imports };
            path = [behind, &path[length..]].concat();
        }
        while !files.contains_key(&path) && path.pop().is_some() {}
        if &path != module {
            arrows.entry(module.clone()).or_default().insert(path);
        }
    }
    arrows
}

/// Where the `use` declaration at the end of `statement` begins, if it ends in one.
fn start_of_use(statement: &str) -> Option<usize> {
    let starts = statement.match_indices("use ").map(|(at, _)| at);
    starts.filter(|&at| !statement[..at].ends_with(|c: char| c != '\n' && c != ' ')).last()
}

/// Each path in `code`, outside `use` declarations, that begins at the crate's root, at this module or above.
fn full_paths(code: &str) -> impl Iterator<Item = &str> {
    let outside = |statement: &'_ str| start_of_use(statement).unwrap_or(statement.len());
    let code = code.split(';').map(move |statement| &statement[..outside(statement)]);
    let words =
        code.flat_map(|code| code.split(|c: char| !(c.is_alphanumeric() || "_:$".contains(c))));
    let full =
        |word: &&str| ["crate::", "self::", "super::"].iter().any(|start| word.starts_with(start));
    words.filter(full).map(|word| word.trim_end_matches(':'))
}

/// Each path that the `use` declarations of `code` name, with `=NAME` where they give another name, and
/// whether others can import it from there.
fn uses(code: &str) -> Vec<(bool, String)> {
    let mut found = Vec::new();
    for statement in code.split(';') {
        let Some(start) = start_of_use(statement) else { continue };
        let public = statement[..start].trim_end_matches(' ').rsplit('\n').next();
        let public = public.is_some_and(|before| before.trim_start().starts_with("pub"));
        let tree: String =
            statement[start + "use ".len()..].replace(" as ", "=").split_whitespace().collect();
        expand("", &tree, &mut |path| found.push((public, path)));
    }
    found
}

/// Each path of the `use` tree `tree`, which has lost its spaces, behind `prefix`.
fn expand(prefix: &str, tree: &str, each: &mut dyn FnMut(String)) {
    let Some((head, rest)) = tree.split_once('{') else {
        return each(format!("{prefix}{tree}"));
    };
    let (mut depth, mut start) = (0, 0);
    let body = rest.strip_suffix('}').unwrap_or(rest);
    for (at, c) in body.char_indices().chain([(body.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                if start < at {
                    expand(&format!("{prefix}{head}"), &body[start..at], each);
                }
                start = at + 1;
            }
            _ => {}
        }
    }
}

/// The path from the crate's root, if `path`, used in `module`, names something of the crate.
fn absolute(module: &Module, path: &str, files: &BTreeMap<Module, String>) -> Option<Module> {
    let mut parts = path.split("::").map(str::to_owned).peekable();
    let mut base = module.clone();
    match parts.peek()?.as_str() {
        "crate" => base.clear(),
        "self" | "super" => {}
        first if files.contains_key(&[module.as_slice(), &[first.to_owned()]].concat()) => {
            return Some(base.into_iter().chain(parts).collect());
        }
        _ => return None,
    }
    while let Some(part) = parts.next_if(|part| ["crate", "self", "super"].contains(&part.as_str()))
    {
        if part == "super" {
            base.pop();
        }
    }
    base.extend(parts.filter(|part| part != "self" && part != "*"));
    Some(base)
}

/// Whether arrows lead from `from` to `to`, past the crate's root.
fn leads(arrows: &Arrows, from: &Module, to: &Module) -> bool {
    let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
    while let Some(at) = next.pop() {
        for target in arrows.get(at).into_iter().flatten().filter(|target| !target.is_empty()) {
            if target == to {
                return true;
            }
            if seen.insert(target) {
                next.push(target);
            }
        }
    }
    false
}

/// Each circle of files in `package`.
fn circles(package: &str, arrows: &Arrows) -> Vec<String> {
    let mut circles = BTreeSet::new();
    for module in arrows.keys().filter(|module| leads(arrows, module, module)) {
        let others = arrows
            .keys()
            .filter(|other| leads(arrows, module, other) && leads(arrows, other, module));
        let circle: Vec<String> = others.map(|other| other.join("::")).collect();
        circles.insert(format!("{package}: a circle of files: {}", circle.join(" ")));
    }
    circles.into_iter().collect()
}

/// The arrows that run back up between wings of `mm`.
fn wings(arrows: &Arrows) -> Vec<String> {
    let height = |module: &Module| {
        WINGS.iter().position(|wing| module.first().is_some_and(|first| first == wing))
    };
    let mut complaints = Vec::new();
    for (module, targets) in arrows {
        let Some(own) = height(module) else { continue };
        // What the root has by a glob is the façade, too.
        let glob = own < WINGS.len() - 2 && targets.iter().any(|target| target.is_empty());
        if glob {
            let module = module.join("::");
            complaints.push(format!("hotmem: {module} imports all of the root, façade included"));
        }
        for target in
            targets.iter().filter(|target| height(target).is_some_and(|other| own < other))
        {
            let (module, target) = (module.join("::"), target.join("::"));
            complaints.push(format!("hotmem: {module} imports {target} of a wing above its own"));
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(files: &[(&str, &str)]) -> Arrows {
        let module = |name: &str| {
            name.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect()
        };
        arrows(&files.iter().map(|(name, code)| (module(name), (*code).to_owned())).collect())
    }

    #[test]
    fn a_circle_through_a_re_export_is_found() {
        let files = of(&[
            ("", "mod a;\nmod b;\npub use a::{B, c::{C, A as D}};\npub use a::A as E;"),
            ("a", "use crate::b::B;\nstruct A;"),
            ("b", "use super::E;\nuse core::fmt;"),
        ]);
        assert_eq!(circles("p", &files), ["p: a circle of files: a b"]);
    }

    #[test]
    fn what_only_declares_or_re_exports_is_in_no_circle() {
        let files = of(&[
            ("", "mod a;\npub use a::A;\npub(crate) use self::a::b::B;"),
            ("a", "mod b;\npub(super) use b::B;\n    use crate::A;"),
            ("a::b", "use super::super::a::A;\nfn user_of() {}"),
        ]);
        assert!(circles("p", &files).is_empty(), "{files:?}");
    }

    #[test]
    fn a_path_is_an_arrow_as_a_use_is() {
        let files = of(&[
            ("a", "mod b;\nfn f() -> b::B { self::c::g::<u8>(1); $crate::z() }"),
            ("a::b", "type C = Option<super::c::C>;"),
            ("a::c", "fn g<T>(_: T) -> crate::a::b::D { let a: u8; ::a::x() }"),
        ]);
        assert_eq!(circles("p", &files), ["p: a circle of files: a::b a::c"]);
        assert_eq!(files.values().map(BTreeSet::len).collect::<Vec<_>>(), [1, 1, 1]);
    }

    #[test]
    fn an_arrow_up_between_wings_is_named_and_one_down_is_not() {
        let files = of(&[
            ("memmap::x", "use crate::alloc::y::Y;"),
            ("alloc::y", "use crate::memmap::z::Z;"),
            ("", "pub use other::{self as page, addr};"),
            ("memmap::z", "use crate::{addr::Pfn, page::Entry};"),
        ]);
        let complaints = wings(&files);
        assert_eq!(complaints, ["hotmem: memmap::x imports alloc::y of a wing above its own"]);
    }

    #[test]
    fn a_wing_that_imports_the_facade_is_named_and_testing_may() {
        let files = of(&[
            ("", "mod facade;\npub use facade::Mm;"),
            ("facade", "mod memory;\nuse crate::operations::Operations;"),
            ("operations", "mod add;"),
            ("observe::stats", "use crate::*;"),
            ("operations::add", "use crate::Mm;"),
            ("testing::bench", "use crate::{Added, Mm};"),
        ]);
        let complaints = [
            "hotmem: observe::stats imports all of the root, façade included",
            "hotmem: operations::add imports facade of a wing above its own",
        ];
        assert_eq!(wings(&files), complaints);
    }
}
