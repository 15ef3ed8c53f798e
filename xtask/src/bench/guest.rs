//! The manager on bare metal: the kernel's monitor counts, on a machine whose time is its instructions.

use std::path::Path;

use anyhow::Result;
use serde::Deserialize;

use super::{Row, started};
use crate::arch::Arch;
use crate::machine::Config;

/// The memory that is plugged first: enough for every case that the kernel's heap has room for.
const DIMM: &str = "1G";

/// What the monitor says of a case.
#[derive(Debug, Deserialize)]
struct Counted {
    case: String,
    instructions: f64,
}

/// Counts every case on the usual machine of `arch`, with one CPU.
///
/// # Errors
/// When the machine does not start, or an invariant does not hold before or after.
pub(super) fn rows(root: &Path, arch: Arch) -> Result<Vec<Row>> {
    let dimm = DIMM.parse()?;
    let config = Config { icount: Some(0), ..Config::of(arch) }.room_for(&[dimm]);
    let config = config.word("icount").word("policy=online_kernel");
    let mut machine = started(root, &config)?;
    machine.plug_online(dimm)?;
    let counted: Vec<Counted> = machine.read("bench --json")?;
    machine.leave()?;
    let row = |Counted { case, instructions }| Row {
        allocator: format!("hotmem on {arch}"),
        case,
        instructions,
        ns: None,
    };
    Ok(counted.into_iter().map(row).collect())
}
