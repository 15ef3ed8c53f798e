//! Commands about persistent memory.

use core::fmt::Write;

use hotmem::Machine;
use hotmem_hotplug::{Clock, Hotplug, HotplugSource};

use super::command::PmemCommand;
use super::refused::Refused;

/// Runs a command, and writes what it shows.
pub(super) fn run<S: HotplugSource, M: Machine, C: Clock>(
    command: PmemCommand,
    hotplug: &mut Hotplug<'_, S, M, C>,
    mut out: &mut dyn Write,
) -> Result<(), Refused<'static>> {
    match command {
        PmemCommand::List { json } => {
            hotplug.write_pmem(json, out)?;
            out.write_str(if json { "\n" } else { "" })?;
        }
        PmemCommand::Add { number, placement, force } => {
            hotplug.pmem_add(number, placement, force, &mut out)?;
        }
        PmemCommand::Remove(number) => hotplug.pmem_remove(number, &mut out)?,
    }
    Ok(())
}
