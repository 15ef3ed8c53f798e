//! Commands about persistent memory.

use core::fmt::{self, Write};

use hotmem::Machine;
use hotmem_hotplug::{Clock, Hotplug, HotplugSource, PmemError};

use super::command::PmemCommand;

/// Why a command failed.
#[expect(clippy::large_enum_variant, reason = "one error is shown at a time, and not kept")]
pub(super) enum PmemFault {
    Refused(PmemError),
    Console(fmt::Error),
}

impl fmt::Display for PmemFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(error) => error.fmt(f),
            Self::Console(error) => error.fmt(f),
        }
    }
}

/// Runs a command, and writes what it shows.
pub(super) fn run<S: HotplugSource, M: Machine, C: Clock>(
    command: PmemCommand,
    hotplug: &mut Hotplug<'_, S, M, C>,
    mut out: &mut dyn Write,
) -> Result<(), PmemFault> {
    match command {
        PmemCommand::List { json } => {
            hotplug.write_pmem(json, out).map_err(PmemFault::Console)?;
            out.write_str(if json { "\n" } else { "" }).map_err(PmemFault::Console)
        }
        PmemCommand::Add { number, placement, force } => {
            hotplug.pmem_add(number, placement, force, &mut out).map_err(PmemFault::Refused)
        }
        PmemCommand::Remove(number) => {
            hotplug.pmem_remove(number, &mut out).map_err(PmemFault::Refused)
        }
    }
}
