//! `cargo xtask doctor`: what this machine has of what the commands need, what it lacks, and how to get it. It only
//! looks: the commands themselves fetch what is missing where they may.

mod checks;

use std::fmt::Write;
use std::process::ExitCode;

use crate::arch::Arch;
use crate::layout::{WIDTH, command, hanging, wrapped};
use crate::machine::QemuDir;
use checks::{Finding, For, State};

/// Says what is there, what is missing, and how to get it.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// Look at one architecture [default: all; x86_64 for `cargo xtask qemu`]
    #[arg(long, value_enum)]
    arch: Option<Arch>,

    #[command(flatten)]
    qemu: QemuDir,
}

/// Runs the command: exit code 0 if `cargo xtask qemu` and `cargo xtask test` have all they need.
pub(crate) fn main(args: &Args) -> ExitCode {
    let archs: Vec<_> = args.arch.map_or_else(|| Arch::all().collect(), |arch| vec![arch]);
    let findings = checks::all(&archs, &args.qemu);
    print!("{}", shown(&findings));
    let complete =
        missing(&findings, For::Qemu).is_empty() && missing(&findings, For::Test).is_empty();
    if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What `command` needs and is not there.
fn missing(findings: &[Finding], command: For) -> Vec<&str> {
    let lacks = |one: &&Finding| one.lacks() && one.needed_by(command);
    findings.iter().filter(lacks).map(|one| one.name.as_str()).collect()
}

/// All of it as text.
fn shown(findings: &[Finding]) -> String {
    let width = findings.iter().map(|one| one.name.len()).max().unwrap_or_default();
    let mut text = String::new();
    for group in findings.chunk_by(|a, b| a.group == b.group) {
        let heading = group.first().map(|one| one.group).unwrap_or_default();
        lines(&mut text, [heading.to_owned()]);
        group.iter().for_each(|one| finding(&mut text, one, width));
    }
    lines(&mut text, [String::new()]);
    for (which, name) in [(For::Qemu, "cargo xtask qemu"), (For::Test, "cargo xtask test")] {
        lines(&mut text, end(name, &missing(findings, which)));
    }
    text
}

/// One finding: a line, and what goes with it below.
fn finding(text: &mut String, one: &Finding, width: usize) {
    let (mark, detail) = match &one.state {
        State::There { detail, .. } => ("ok", detail),
        State::Missing { detail, .. } => ("missing", detail),
    };
    lines(text, hanging(&format!("  {mark:<8}{:<width$}  ", one.name), detail, WIDTH));
    match &one.state {
        State::There { lacks, .. } => {
            lacks.iter().for_each(|lack| lines(text, hanging("          lacks ", lack, WIDTH)));
        }
        State::Missing { how, .. } => {
            how.iter().for_each(|typed| lines(text, command(10, typed)));
        }
    }
}

/// Whether a command can run.
fn end(name: &str, missing: &[&str]) -> Vec<String> {
    match missing {
        [] => vec![format!("{name}: all it needs is there")],
        names => wrapped(&format!("{name}: {} missing", names.join(", ")), WIDTH),
    }
}

fn lines(text: &mut String, lines: impl IntoIterator<Item = String>) {
    // Writing to a string does not fail.
    lines.into_iter().for_each(|line| writeln!(text, "{line}").unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::too_long;

    fn there(name: &str, lacks: &[&str]) -> Finding {
        let lacks = lacks.iter().map(|&lack| lack.to_owned()).collect();
        let state = State::There { detail: "7.2.22 at /usr/bin".into(), lacks };
        Finding { group: "QEMU", name: name.into(), state, uses: vec![For::Qemu, For::Test] }
    }

    fn absent(name: &str, uses: &[For]) -> Finding {
        let how = vec![format!("sudo apt-get install -y {}", "package-with-a-name ".repeat(6))];
        let state = State::Missing { detail: "for tests".into(), how };
        Finding { group: "Programs", name: name.into(), state, uses: uses.to_vec() }
    }

    #[test]
    fn all_that_is_missing_is_named_with_the_command_that_needs_it() {
        let findings =
            [there("qemu", &["a thing"]), absent("iasl", &[For::Test]), absent("x", &[])];
        assert!(missing(&findings, For::Qemu).is_empty());
        assert_eq!(missing(&findings, For::Test), ["iasl"]);
        let text = shown(&findings);
        assert!(text.starts_with("QEMU\n  ok      qemu  7.2.22 at /usr/bin\n"), "{text}");
        assert!(text.contains("          lacks a thing\nPrograms\n  missing iasl  for tests\n"));
        assert!(text.contains("cargo xtask qemu: all it needs is there\n"), "{text}");
        assert!(text.ends_with("cargo xtask test: iasl missing\n"), "{text}");
    }

    #[test]
    fn it_fits_eighty_columns() {
        let uses = [For::Qemu, For::Test];
        let many: Vec<_> = (0..9).map(|one| absent(&format!("program-{one}"), &uses)).collect();
        let text = shown(&many);
        assert!(too_long(&text).is_empty(), "{:?}", too_long(&text));
        let real = shown(&checks::all(&[Arch::X86_64], &QemuDir::default()));
        assert!(too_long(&real).is_empty(), "{:?}", too_long(&real));
    }
}
