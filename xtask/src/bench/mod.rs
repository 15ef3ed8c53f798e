//! `cargo xtask bench alloc`: what the page allocator costs, beside others on a hosted machine (Linux), or on bare metal;
//! `cargo xtask bench operations`: what memory costs that comes and goes; `cargo xtask bench lock`: how long locks are held;
//! `cargo xtask bench boot`: what it takes to be ready; `cargo xtask bench size`: how large the code is.

mod boot;
mod committed;
mod guest;
mod host;
mod lock;
mod operations;
mod plot;
mod size;

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Args as ClapArgs, Subcommand};
use serde::{Deserialize, Serialize};

use crate::arch::Arch;
use crate::machine::{Config, Machine};
use crate::size::{DimmSpec, grouped};
use crate::{build, setup, tool};

/// What to measure.
#[derive(Debug, ClapArgs)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Args {
    /// Measure all again that docs/costs has figures of, or the files with NAME in their name, and fail if one is 3 %
    /// worse
    #[arg(long, required = true, value_name = "NAME", num_args = 0..=1, require_equals = true,
          default_missing_value = "")]
    check: Option<String>,

    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The page allocator: instructions of an allocation and its free; on this host beside others, with their time
    Alloc {
        /// Count in QEMU, on the usual machine of this architecture
        #[arg(long, value_enum)]
        arch: Option<Arch>,
        /// Time so many threads of this host, each on its own CPU, beside one
        #[arg(long, value_name = "N", conflicts_with_all = ["arch", "json"],
              value_parser = clap::value_parser!(u32).range(2..=4))]
        threads: Option<u32>,
        /// Write the figures to this file, a row for each allocator and case
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
        /// Only cases with this in `ALLOCATOR CASE`
        filter: Option<String>,
    },
    /// Memory that comes and goes: instructions of each operation on DIMMs of 128 MiB to 1 TiB, and on pages in use
    Operations(operations::Args),
    /// The memory manager's locks: instructions of the longest time that each is held, in all that the manager does
    Lock {
        #[command(flatten)]
        of: Of,
        /// The DIMM that is plugged, used and unplugged
        #[arg(long, value_name = "SIZE", default_value = "1G")]
        dimm: DimmSpec,
    },
    /// A boot: instructions from the kernel's first function until it is ready
    Boot(Of),
    /// The code of an image: bytes of each package, and of each part of the memory manager
    Size(Of),
}

/// Where to measure, and where the figures go.
#[derive(Debug, ClapArgs)]
struct Of {
    /// Measure on the usual machine of this architecture, or its image
    #[arg(long, value_enum, default_value_t = Arch::X86_64)]
    arch: Arch,
    /// Write the figures to this file, a row for each line
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// A figure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Row {
    allocator: String,
    case: String,
    /// Of a pair of an allocation and a free, or of a question.
    instructions: f64,
    /// Nothing for a machine whose time is its instructions.
    ns: Option<f64>,
}

impl committed::Row for Row {
    /// Of the manager.
    fn figures(&self) -> Vec<(String, u64)> {
        let ours = self.allocator.starts_with(host::HOTMEM);
        let figure = || (self.case.clone(), self.instructions.round() as u64);
        ours.then(figure).into_iter().collect()
    }
}

/// Measures and prints a table.
///
/// # Errors
/// When a program is missing or does not build, or what measures fails.
pub(crate) fn main(root: &Path, args: &Args) -> Result<()> {
    let Some(what) = &args.what else {
        return check(root, args.check.as_deref().unwrap_or_default());
    };
    match what {
        What::Alloc { arch, threads, json, filter } => {
            alloc(root, *arch, *threads, json.as_deref(), filter.as_deref())
        }
        What::Operations(args) => operations::main(root, args),
        What::Lock { of, dimm } => lock::main(root, of.arch, *dimm, of.json.as_deref()),
        What::Boot(of) => write(of.json.as_deref(), &boot::measure(root, of.arch)?),
        What::Size(of) => write(of.json.as_deref(), &size::measure(root, of.arch)?),
    }
}

/// Writes rows to the file that was asked for, if one was.
fn write(file: Option<&Path>, rows: &impl Serialize) -> Result<()> {
    file.map_or(Ok(()), |file| tool::write_in_folder(file, &serde_json::to_vec_pretty(rows)?))
}

/// Builds an image, and starts a machine with it.
fn started(root: &Path, config: &Config) -> Result<Machine> {
    setup::ready_to_run(config)?;
    let image = build::image(root, config.image, &["--quiet"])?;
    let mut machine = Machine::start(&image, config, None)?;
    machine.wait_ready()?;
    Ok(machine)
}

/// Measures again what is committed in docs/costs, each in a file `KIND-MACHINE.json`.
fn check(root: &Path, filter: &str) -> Result<()> {
    let mut check = committed::Check::new(root, filter);
    for arch in Arch::all() {
        let name = |kind: &str| format!("{kind}-{arch}");
        check.file(&name("operations"), || operations::measure(root, arch, &|_| true))?;
        check.file(&name("boot"), || boot::measure(root, arch))?;
        check.file(&name("size"), || size::measure(root, arch))?;
        check.file(&name("alloc"), || guest::rows(root, arch))?;
    }
    let ours = |allocator: &str, _: &str| allocator == host::HOTMEM;
    check.file("alloc-host", || host::rows(root, ours, print))?;
    check.end()
}

/// Counts the operations again that have this in their row, and compares them with the committed figures.
///
/// # Errors
/// When a figure is worse than it may be, when no row has that name, or when the measurement fails.
pub(crate) fn check_operations(root: &Path, arch: Arch, filter: &str) -> Result<()> {
    let mut check = committed::Check::new(root, "");
    let wants = |name: &str| name.contains(filter);
    let measure = || operations::measure(root, arch, &wants);
    check.rows(&format!("operations-{arch}"), &wants, measure)?;
    check.end()
}

fn alloc(
    root: &Path,
    arch: Option<Arch>,
    threads: Option<u32>,
    json: Option<&Path>,
    filter: Option<&str>,
) -> Result<()> {
    let wanted = |allocator: &str, case: &str| {
        let name = format!("{allocator} {case}");
        filter.is_none_or(|filter| name.contains(filter))
    };
    if let Some(threads) = threads {
        return host::scaling(root, threads, wanted);
    }
    println!("{}", line("allocator", "case", "instructions", "ns"));
    let rows = match arch {
        None => host::rows(root, wanted, print)?,
        Some(arch) => {
            let mut rows = guest::rows(root, arch)?;
            rows.retain(|row| wanted(&row.allocator, &row.case));
            rows.iter().for_each(print);
            rows
        }
    };
    write(json, &rows)
}

fn print(row: &Row) {
    let instructions = grouped(row.instructions.round() as u64);
    let ns = row.ns.map_or(String::from("-"), |ns| format!("{ns:.1}"));
    println!("{}", line(&row.allocator, &row.case, &instructions, &ns));
}

/// A line of the table.
fn line(allocator: &str, case: &str, instructions: &str, ns: &str) -> String {
    format!("{allocator:<24} {case:<16} {instructions:>12} {ns:>10}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::WIDTH;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn read(words: &[&str]) -> Option<What> {
        Line::try_parse_from([&["bench"], words].concat()).ok()?.args.what
    }

    #[test]
    fn something_is_measured_or_all_that_is_known_is_checked() {
        let is_read = |words: &[&str]| Line::try_parse_from([&["bench"], words].concat()).is_ok();
        assert!(is_read(&["--check"]) && is_read(&["--check=boot"]) && is_read(&["size"]));
        assert!(!is_read(&[]) && !is_read(&["--check", "size"]));
    }

    #[test]
    fn a_line_fits_the_terminal() {
        let widest = line("hotmem on aarch64", "order-9 after free", "1,000,000,000", "10000000.0");
        assert!(widest.len() <= WIDTH, "{widest}");
    }

    #[test]
    fn threads_are_two_to_four_and_go_with_neither_an_architecture_nor_a_file() {
        let threads = |words: &[&str]| match read(&[&["alloc"], words].concat())? {
            What::Alloc { threads, filter, .. } => Some((threads, filter)),
            What::Operations(_) | What::Boot { .. } | What::Lock { .. } | What::Size { .. } => None,
        };
        assert_eq!(threads(&["--threads", "2"]), Some((Some(2), None)));
        assert_eq!(threads(&["--threads", "4", "hot"]), Some((Some(4), Some("hot".into()))));
        assert_eq!(threads(&[]), Some((None, None)));
        for wrong in [
            &["--threads", "1"] as &[&str],
            &["--threads", "5"],
            &["--threads", "x"],
            &["--threads", "2", "--arch", "x86_64"],
            &["--threads", "2", "--json", "f"],
        ] {
            assert_eq!(threads(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn the_dimm_whose_locks_are_timed_has_a_gibibyte_unless_another_size_is_given() {
        let dimm = |words: &[&str]| match read(&[&["lock"], words].concat()) {
            Some(What::Lock { dimm, .. }) => dimm.size.bytes(),
            other => panic!("{other:?}"),
        };
        assert_eq!((dimm(&[]), dimm(&["--dimm", "1T"])), (1 << 30, 1 << 40));
        assert!(read(&["lock", "--dimm", "big"]).is_none());
    }
}
