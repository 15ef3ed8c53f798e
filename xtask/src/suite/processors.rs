//! Processors that differ in what they translate: widths of physical addresses and sizes of leaves; a machine without
//! DIMMs.

use anyhow::{Result, ensure};

use super::lab::{Lab, plug, plugged, use_and_unplug};
use super::{Scenario, on_x86_64, scenarios};
use crate::machine::{Config, Placement};
use crate::size::GIB;

pub(crate) const SCENARIOS: &[Scenario] = scenarios![
    a_dimm_is_used_with_every_width_of_physical_addresses if on_x86_64,
    the_last_block_below_the_limit_of_addresses_is_used if on_x86_64,
    a_dimm_is_used_without_leaves_of_1_gib if on_x86_64 =>
        |lab| plugged_and_unplugged(lab, &processor(lab, "max,pdpe1gb=off")?),
    a_machine_without_memory_devices_says_so if on_x86_64,
];

/// Plugs, uses and unplugs a DIMM, whose memmap is at its start or in each block.
fn plugged_and_unplugged(lab: &Lab, config: &Config) -> Result<()> {
    for placement in [Placement::Device, Placement::Block] {
        let config = config.clone().word(format_args!("placement={}", placement.word()));
        lab.with(&config, |machine| {
            let taken = plug(machine, "256M")?;
            use_and_unplug(machine, &taken)
        })?;
    }
    Ok(())
}

fn processor(lab: &Lab, cpu: &str) -> Result<Config> {
    Ok(Config { cpu: cpu.into(), ..lab.room(&["256M"])? })
}

fn a_dimm_is_used_with_every_width_of_physical_addresses(lab: &Lab) -> Result<()> {
    (36..=52).try_for_each(|bits| {
        plugged_and_unplugged(lab, &processor(lab, &format!("max,phys-bits={bits}"))?)
    })
}

/// At the limit of the processor, and at the kernel's, which is that of a processor with 46 bits.
fn the_last_block_below_the_limit_of_addresses_is_used(lab: &Lab) -> Result<()> {
    // With 40 bits QEMU leaves out what is below 1 TiB, where a processor of this kind has a hole, and has nothing above.
    for (bits, begins) in [(36, 4 * GIB), (39, 4 * GIB), (46, 1024 * GIB)] {
        let limit = 1 << bits;
        let mut config = processor(lab, &format!("max,phys-bits={bits}"))?;
        // QEMU adds 1 GiB to the window for each slot. Behind it would be that of PCI.
        config.window = limit - begins - u64::from(config.slots) * GIB;
        config.globals = &["q35-pcihost.pci-hole64-size=0"];
        lab.with(&config, |machine| {
            let dimm = machine.plug_last(lab.dimm("128M")?)?;
            ensure!(dimm.start + dimm.size == limit, "{dimm:?} does not end at {limit:#x}");
            let taken = plugged(machine, dimm)?;
            use_and_unplug(machine, &taken)
        })?;
    }
    Ok(())
}

fn a_machine_without_memory_devices_says_so(lab: &Lab) -> Result<()> {
    let small = Config { board: "microvm", ..lab.room(&["128M"])? };
    lab.with(&small, |machine| {
        let said = machine.lines_from(0).join("\n");
        ensure!(said.contains("no hotplug events: ACPI names no memory device"), "{said}");
        Ok(())
    })
}
