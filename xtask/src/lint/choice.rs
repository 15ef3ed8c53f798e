//! The rule where a choice between architectures may stand: on a `mod` or `use` of two folders.

use std::path::Path;

use super::code::code_only;

/// Folders that may choose between architectures; the program of guests; and the adapters to crates that exist for one of them.
const FOLDERS: [&str; 5] =
    ["arch", "boot", "kernel/vm/init", "mm/paging/src/x86_64", "kernel/acpi/src/x86_64"];
/// What such a choice asks for. Written apart, so that this file makes none.
const ARCH: &str = concat!("target", "_arch");

/// The lines of `text`, from 1, that choose between architectures where they may not, with the reason.
pub(super) fn leaks(file: &Path, text: &str) -> Vec<(usize, &'static str)> {
    let allowed = FOLDERS.iter().any(|folder| file.starts_with(folder));
    let code = code_only(text);
    let choices = code.match_indices(ARCH).map(|(at, _)| {
        let line = code.get(..at).unwrap_or_default().matches('\n').count() + 1;
        let why = if !allowed {
            Some("chooses between architectures outside arch/, boot/ and the adapters to crates of one")
        } else if chooses_module(&code, at) {
            None
        } else {
            Some("chooses between architectures on something that is not a `mod` or `use`")
        };
        why.map(|why| (line, why))
    });
    let mut leaks: Vec<_> = choices.flatten().collect();
    leaks.dedup();
    leaks
}

/// Does the choice at `at` stand in an attribute of a `mod` or `use`, however many lines that takes?
fn chooses_module(code: &str, at: usize) -> bool {
    let before = code.get(..at).unwrap_or_default();
    let Some(start) = before.rfind("#[") else {
        return false;
    };
    let Some(behind) = behind_attribute(code.get(start..).unwrap_or_default()) else {
        return false;
    };
    // An attribute that ends before the choice does not contain it.
    let encloses = code.len() - behind.len() > at;
    let mut item = behind.trim_start();
    while let Some(next) = behind_attribute(item) {
        item = next.trim_start();
    }
    if let Some(public) = item.strip_prefix("pub") {
        item = public.trim_start();
        if let Some((_, rest)) = item.strip_prefix('(').and_then(|scope| scope.split_once(')')) {
            item = rest.trim_start();
        }
    }
    encloses && (item.starts_with("mod ") || item.starts_with("use "))
}

/// What follows the attribute that `code` begins with.
fn behind_attribute(code: &str) -> Option<&str> {
    if !code.starts_with("#[") {
        return None;
    }
    let mut depth = 0_usize;
    for (at, c) in code.char_indices() {
        match c {
            '[' => depth += 1,
            ']' => depth = depth.saturating_sub(1),
            _ => continue,
        }
        if depth == 0 {
            return code.get(at + 1..);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines with a complaint; `@` in `text` is what a choice asks for.
    fn lines(file: &str, text: &str) -> Vec<usize> {
        let found = leaks(Path::new(file), &text.replace('@', ARCH));
        found.into_iter().map(|(line, _)| line).collect()
    }

    #[test]
    fn modules_of_two_folders_are_chosen_by_architecture_and_nothing_else_is() {
        let choice = "#[cfg(@ = \"x86_64\")]\n";
        for item in ["mod x86_64;", "pub mod x86_64;", "pub(crate) use x86_64 as current;"] {
            assert!(lines("arch/src/lib.rs", &format!("{choice}{item}")).is_empty(), "{item}");
            assert_eq!(lines("mm/src/lib.rs", &format!("{choice}{item}")), [1], "{item}");
        }
        assert_eq!(lines("arch/src/lib.rs", &format!("{choice}fn f() {{}}")), [1]);
        assert_eq!(lines("boot/src/a.rs", "let x = cfg!(@ = \"x86_64\");"), [1]);
        assert_eq!(lines("arch/src/a.rs", "cfg_select! {\n    @ = \"x86_64\" => {}\n}"), [2]);
    }

    #[test]
    fn a_choice_broken_over_lines_is_found_all_the_same() {
        let broken = "#[cfg(all(\n    bare,\n    @ = \"x86_64\",\n))]\n";
        assert_eq!(lines("kernel/src/a.rs", &format!("{broken}mod x;")), [3]);
        assert_eq!(lines("arch/src/a.rs", &format!("{broken}fn f() {{}}")), [3]);
        assert!(lines("arch/src/a.rs", &format!("{broken}#[path = \"y.rs\"]\nmod x;")).is_empty());
        assert_eq!(lines("kernel/src/a.rs", "if cfg!(\n    @ = \"x86_64\"\n) {}"), [2]);
    }

    #[test]
    fn an_attribute_before_the_choice_does_not_excuse_it() {
        let text = "#[cfg(bare)]\nmod a;\nfn f() -> bool { cfg!(@ = \"x\") }\nmod b;";
        assert_eq!(lines("arch/src/a.rs", text), [3]);
    }

    #[test]
    fn a_choice_in_a_comment_or_a_string_is_ignored() {
        assert!(lines("mm/src/a.rs", "// no cfg(@)\nlet x = \"cfg(@)\"; /* cfg(@) */").is_empty());
    }
}
