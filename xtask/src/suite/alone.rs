//! The image without its lab (`--no-lab`): there is no monitor to type at, so all is seen from outside.

use anyhow::{Context, Result, ensure};

use super::lab::{Lab, check_success, unplug};
use super::{Scenario, scenarios};
use crate::machine::{Add, Machine, Online, Request};

pub(crate) const SCENARIOS: &[Scenario] = scenarios![hotplug_events_are_served_without_a_monitor];

fn hotplug_events_are_served_without_a_monitor(lab: &Lab) -> Result<()> {
    lab.started(&lab.room(&["256M"])?, |machine| {
        machine.wait_ready()?;
        // Nothing reads this: it must neither end the machine nor stop it.
        machine.type_line("exit 0")?;
        (1..=3).try_for_each(|round| {
            plug_and_unplug(lab, machine).with_context(|| format!("round {round}"))
        })?;
        ensure!(machine.ended().is_none(), "the machine has ended");
        let lines = machine.lines_from(0);
        ensure!(!lines.iter().any(|line| line == "ok"), "something was executed: {lines:?}");
        Ok(())
    })
}

/// A DIMM is plugged, taken, put online, and given back.
fn plug_and_unplug(lab: &Lab, machine: &mut Machine) -> Result<()> {
    let dimm = machine.plug(lab.dimm("256M")?, None)?;
    let add: Add = machine.done()?;
    ensure!((add.start(), add.size()) == (dimm.start, dimm.size), "{dimm:?}: {add:?}");
    check_success(machine.status(&dimm, Request::Insertion)?, add.ost)?;
    let online: Online = machine.done()?;
    ensure!(online.managed() > 0 && online.managed() < dimm.size, "{online:?}");
    let remove = unplug(machine, &dimm)?;
    ensure!(add.system_bytes + remove.system_bytes == 0, "{add:?}: {remove:?}");
    Ok(())
}
