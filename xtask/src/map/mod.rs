//! `cargo xtask map`: memory before and after a pull, as a picture, from a report of the tour.

mod svg;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::arch::Arch;
use crate::machine::Map;
use crate::scratch::Scratch;
use crate::{arch, qemu, tool};

/// Draws memory before and after a pull.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// The picture to write
    #[arg(long, value_name = "FILE")]
    svg: PathBuf,

    /// A report, as `cargo xtask qemu --json` writes it [default: go on a tour now]
    #[arg(long, value_name = "JSON", conflicts_with = "arch")]
    report: Option<PathBuf>,

    /// Which of several pulls, the first is 1
    #[arg(long, value_name = "N", default_value_t = 1)]
    pull: usize,

    /// Architecture of the tour
    #[arg(long, value_enum, default_value_t = Arch::X86_64)]
    arch: Arch,
}

/// What a picture needs of a report.
#[derive(Debug, Deserialize)]
struct Report {
    arch: String,
    machine: String,
    maps: Vec<Map>,
}

/// Runs the command.
///
/// # Errors
/// When there is no report, it has no maps, or the picture cannot be written.
pub(crate) fn main(root: &Path, args: &Args) -> Result<ExitCode> {
    let json = match &args.report {
        Some(path) => tool::read_text(path)?,
        None => toured(root, args.arch)?,
    };
    let picture = drawn(&json, args.pull)?;
    tool::write_atomically(&args.svg, picture.as_bytes())?;
    println!("{}", args.svg.display());
    Ok(ExitCode::SUCCESS)
}

/// Goes on a tour; returns its report.
fn toured(root: &Path, arch: Arch) -> Result<String> {
    let scratch = Scratch::new()?;
    let path = scratch.path().join("report.json");
    let words = ["--arch", arch.name(), "--json", &path.to_string_lossy()];
    let code = qemu::main(root, &arch::parsed(&words)?)?;
    ensure!(code == ExitCode::SUCCESS, "the tour did not pass, so there is no picture of it");
    tool::read_text(&path)
}

/// The picture of a pull in a report, which has a map before and one after each.
fn drawn(json: &str, pull: usize) -> Result<String> {
    let report: Report = serde_json::from_str(json).context("this is no report of a tour")?;
    let mut pulls = report.maps.chunks_exact(2);
    let count = pulls.len();
    let Some([before, after]) = pull.checked_sub(1).and_then(|index| pulls.nth(index)) else {
        bail!("--pull {pull}: the report has maps of {count} pulls");
    };
    Ok(svg::draw(&format!("{}, {}", report.arch, report.machine), [before, after]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The reports whose pictures the README shows.
    const SHOWN: [&str; 2] = ["pull-guest", "pull-block"];

    #[test]
    fn the_pictures_in_the_docs_are_those_of_the_reports_beside_them() {
        let docs = crate::root::workspace_root().unwrap().join("docs/maps");
        for name in SHOWN {
            let picture =
                drawn(&tool::read_text(&docs.join(name).with_extension("json")).unwrap(), 1)
                    .unwrap();
            let shown = tool::read_text(&docs.join(name).with_extension("svg")).unwrap();
            let command = format!(
                "cargo xtask map --report docs/maps/{name}.json --svg docs/maps/{name}.svg"
            );
            assert!(picture == shown, "docs/maps/{name}.svg is old. Run:\n  {command}");
        }
    }

    #[test]
    fn a_report_without_maps_is_refused_by_what_it_lacks() {
        let empty = r#"{"arch":"x86_64","machine":"q35","maps":[]}"#;
        for pull in [0, 1, usize::MAX] {
            let error = drawn(empty, pull).unwrap_err().to_string();
            assert_eq!(error, format!("--pull {pull}: the report has maps of 0 pulls"));
        }
        assert!(format!("{:#}", drawn(r#"{"arch":"x86_64"}"#, 1).unwrap_err()).contains("machine"));
    }
}
