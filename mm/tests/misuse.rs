//! Misuse of the manager's own guards does not compile: `misuse/cases.rs`, as a part of the crate, since the guards are
//! private.

use std::io;
use std::path::Path;
use std::process::Command;

const CASES: &str = include_str!("misuse/cases.rs");

/// Compiles the crate with the cases of one `kind`. Returns whether that works, and the compiler's messages.
fn compile(kind: &str) -> io::Result<(bool, String)> {
    let output = Command::new(env!("CARGO"))
        .args(["rustc", "--lib", "--profile", "check", "--message-format", "short", "--target-dir"])
        .arg(Path::new(env!("CARGO_TARGET_TMPDIR")).join("misuse"))
        .args(["--", "--cfg", &format!("misuse=\"{kind}\"")])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()?;
    Ok((output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned()))
}

/// The lines of `cases.rs` with an error in them, as in `15: E0599`.
fn errors_in(messages: &str) -> Vec<String> {
    let errors = messages.lines().filter_map(|line| {
        let (place, message) = line.split_once(": error[")?;
        let line = place.split_once("misuse/cases.rs:")?.1.split(':').next()?;
        Some(format!("{line:>3}: {}", message.split(']').next()?))
    });
    let mut errors: Vec<_> = errors.collect();
    errors.sort();
    errors
}

#[test]
fn what_a_guard_does_not_allow_does_not_compile_and_its_twin_does() {
    let (compiled, messages) = compile("right").unwrap();
    assert!(compiled, "{messages}");
    let marked = CASES.lines().enumerate().filter_map(|(index, line)| {
        line.split_once("//~ ").map(|(_, code)| format!("{:>3}: {code}", index + 1))
    });
    let marked: Vec<_> = marked.collect();
    let (compiled, messages) = compile("wrong").unwrap();
    assert!(!compiled && !marked.is_empty());
    assert_eq!(errors_in(&messages), marked, "{messages}");
}
