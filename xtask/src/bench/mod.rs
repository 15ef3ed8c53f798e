//! `cargo xtask bench alloc`: what the page allocator costs, beside others on a hosted machine (Linux), or on bare metal;
//! `cargo xtask bench lock`: how long its locks are held.

mod guest;
mod host;
mod lock;

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Args as ClapArgs, Subcommand};
use serde::Serialize;

use crate::arch::Arch;
use crate::size::{DimmSpec, grouped};
use crate::tool;

/// What to measure.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
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
    /// The memory manager's locks: instructions of the longest time that each is held, in all that the manager does
    Lock {
        /// Count in QEMU, on the usual machine of this architecture
        #[arg(long, value_enum, default_value_t = Arch::X86_64)]
        arch: Arch,
        /// The DIMM that is plugged, used and unplugged
        #[arg(long, value_name = "SIZE", default_value = "1G")]
        dimm: DimmSpec,
        /// Write the figures to this file, a row for each place that locks
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
}

/// A figure.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Row {
    allocator: String,
    case: String,
    /// Of a pair of an allocation and a free, or of a question.
    instructions: f64,
    /// Nothing for a machine whose time is its instructions.
    ns: Option<f64>,
}

/// Measures and prints a table.
///
/// # Errors
/// When a program is missing or does not build, or what measures fails.
pub(crate) fn main(root: &Path, args: &Args) -> Result<()> {
    match &args.what {
        What::Alloc { arch, threads, json, filter } => {
            alloc(root, *arch, *threads, json.as_deref(), filter.as_deref())
        }
        What::Lock { arch, dimm, json } => lock::main(root, *arch, *dimm, json.as_deref()),
    }
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
    println!("{:<24} {:<16} {:>12} {:>10}", "allocator", "case", "instructions", "ns");
    let rows = match arch {
        None => host::rows(root, wanted, print)?,
        Some(arch) => {
            let mut rows = guest::rows(root, arch)?;
            rows.retain(|row| wanted(&row.allocator, &row.case));
            rows.iter().for_each(print);
            rows
        }
    };
    if let Some(file) = json {
        tool::write_in_folder(file, &serde_json::to_vec_pretty(&rows)?)?;
    }
    Ok(())
}

fn print(row: &Row) {
    let instructions = grouped(row.instructions.round() as u64);
    let ns = row.ns.map_or(String::from("-"), |ns| format!("{ns:.1}"));
    println!("{:<24} {:<16} {instructions:>12} {ns:>10}", row.allocator, row.case);
}
