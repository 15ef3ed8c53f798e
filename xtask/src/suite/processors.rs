//! Processors that differ in what they translate: widths of physical addresses and sizes of leaves; a machine without
//! DIMMs.

use anyhow::{Result, ensure};

use super::lab::{Lab, finish, plug, unplug_taken, use_all};
use super::{Scenario, on_x86_64, scenarios};
use crate::machine::{Config, Placement};

pub(crate) const SCENARIOS: &[Scenario] = scenarios![
    a_dimm_is_used_with_every_width_of_physical_addresses if on_x86_64,
    a_dimm_is_used_without_leaves_of_1_gib if on_x86_64,
    a_machine_without_memory_devices_says_so if on_x86_64,
];

/// Plugs, uses and unplugs a DIMM, whose memmap is at its start or in each block.
fn plugged_and_unplugged(lab: &Lab, config: &Config) -> Result<()> {
    for placement in [Placement::Device, Placement::Block] {
        let config = config.clone().word(format_args!("placement={}", placement.word()));
        lab.with(&config, |machine| {
            let taken = plug(machine, "256M")?;
            let (touched, managed) = (use_all(machine)?, taken.online.managed());
            ensure!(touched == managed, "{touched} bytes were touched of {managed}");
            unplug_taken(machine, &taken)?;
            finish(machine)
        })?;
    }
    Ok(())
}

fn processor(lab: &Lab, cpu: &str) -> Result<Config> {
    Ok(Config { cpu: cpu.into(), ..lab.room(&["256M"])? })
}

fn a_dimm_is_used_with_every_width_of_physical_addresses(lab: &Lab) -> Result<()> {
    (36..=52).step_by(4).try_for_each(|bits| {
        plugged_and_unplugged(lab, &processor(lab, &format!("max,phys-bits={bits}"))?)
    })
}

fn a_dimm_is_used_without_leaves_of_1_gib(lab: &Lab) -> Result<()> {
    plugged_and_unplugged(lab, &processor(lab, "max,pdpe1gb=off")?)
}

fn a_machine_without_memory_devices_says_so(lab: &Lab) -> Result<()> {
    let small = Config { board: "microvm", ..lab.room(&["128M"])? };
    lab.with(&small, |machine| {
        let said = machine.lines_from(0).join("\n");
        ensure!(said.contains("no hotplug events: ACPI names no memory device"), "{said}");
        finish(machine)
    })
}
