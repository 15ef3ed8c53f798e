//! What the kernel refuses, and that a refusal changes nothing.

use anyhow::{Context, Result, bail, ensure};

use super::lab::{Lab, alloc, finish, finish_refused, free, plug, unchanged, unplug_taken};
use super::{Scenario, scenarios};
use crate::machine::{Dimm, Machine};
use crate::size::{MIB, Size};

pub(crate) const SCENARIOS: &[Scenario] = scenarios![
    a_dimm_that_is_no_whole_number_of_blocks_is_refused_by_name,
    a_refused_dimm_leaves_room_for_the_next_one,
    a_dimm_smaller_than_a_block_is_refused_by_name,
    a_memmap_that_boot_memory_cannot_hold_is_refused_cleanly,
    unplug_is_refused_while_pages_are_allocated_and_works_afterwards,
    memory_that_was_there_at_boot_cannot_be_taken_away,
];

/// Plugs a DIMM that has to be refused; answers with the kernel's reason.
fn plug_refused(machine: &mut Machine, size: &str) -> Result<String> {
    let dimm = machine.plug(size.parse()?, None)?;
    let add = machine.next_add()?;
    let why = add.error.with_context(|| format!("a DIMM of {size} was not refused"))?;
    let told = machine.insertion_status(&dimm)?;
    ensure!(
        told != 0 && add.ost == Some(told),
        "the firmware was told {told:#x}, the step says {:?}",
        add.ost
    );
    unchanged(machine)?;
    Ok(why)
}

fn a_dimm_that_is_no_whole_number_of_blocks_is_refused_by_name(lab: &Lab) -> Result<()> {
    lab.with(&lab.room(&["100M"])?, |machine| {
        let why = plug_refused(machine, "100M")?;
        ensure!(names(&why, 100 * MIB), "the reason names no size of 100 MiB: {why}");
        finish_refused(machine)
    })
}

fn a_refused_dimm_leaves_room_for_the_next_one(lab: &Lab) -> Result<()> {
    lab.with(&lab.room(&["130M", "256M"])?, |machine| {
        plug_refused(machine, "130M")?;
        let taken = plug(machine, "256M")?;
        unplug_taken(machine, &taken)?;
        finish_refused(machine)
    })
}

fn a_dimm_smaller_than_a_block_is_refused_by_name(lab: &Lab) -> Result<()> {
    lab.with(&lab.room(&["128M"])?.word("block=1G"), |machine| {
        let why = plug_refused(machine, "128M")?;
        ensure!(names(&why, 128 * MIB), "the reason names no size of 128 MiB: {why}");
        finish_refused(machine)
    })
}

fn a_memmap_that_boot_memory_cannot_hold_is_refused_cleanly(lab: &Lab) -> Result<()> {
    let mut config = lab.room(&["16G"])?.word("placement=boot");
    config.memory = Size::new(64 * MIB);
    lab.with(&config, |machine| {
        let why = plug_refused(machine, "16G")?;
        ensure!(why.contains("out of memory"), "the reason does not say what ran out: {why}");
        finish_refused(machine)
    })
}

fn unplug_is_refused_while_pages_are_allocated_and_works_afterwards(lab: &Lab) -> Result<()> {
    lab.with(&lab.room(&["256M"])?, |machine| {
        let taken = plug(machine, "256M")?;
        let pages = allocate_inside(machine, &taken.dimm)?;
        machine.run("snapshot save")?;

        machine.unplug(&taken.dimm)?;
        let step = machine.next_step()?;
        ensure!(
            step.error().is_some(),
            "the kernel did {} though pages are allocated",
            step.verb()
        );
        let told = machine.ejection_status(&taken.dimm)?;
        // ACPI 6.5, table 6.22: 0x81 device in use, 0x82 device busy.
        ensure!([0x81, 0x82].contains(&told), "the firmware was told {told:#x}");
        unchanged(machine)?;
        // What else is reported are the failure itself and blocks that come back online.
        let steps = machine.unread_steps()?;
        let done = steps.iter().find(|step| step.error().is_none() && step.verb() != "online");
        ensure!(done.is_none(), "the kernel did more than it was asked: {done:?}");
        for block in &taken.online.blocks {
            super::lab::refused(machine, &format!("online {}", block.block))?;
        }

        for pfn in pages {
            free(machine, pfn)?;
        }
        unplug_taken(machine, &taken)?;
        machine.run("verify")?;
        super::lab::leave(machine)
    })
}

/// Allocates until a page lies in `dimm`; answers with everything allocated.
fn allocate_inside(machine: &mut Machine, dimm: &Dimm) -> Result<Vec<u64>> {
    let frames = dimm.start / 4096..(dimm.start + dimm.size) / 4096;
    let mut pages = Vec::new();
    for order in [0, 15, 14, 13, 12, 11, 10, 5, 0] {
        while let Some(pfn) = alloc(machine, order)? {
            pages.push(pfn);
            if frames.contains(&pfn) {
                return Ok(pages);
            }
            if pages.len() % 64 == 1 && order == 0 {
                break;
            }
        }
    }
    bail!("of {} allocations none lies in the DIMM", pages.len())
}

fn memory_that_was_there_at_boot_cannot_be_taken_away(lab: &Lab) -> Result<()> {
    lab.with(&lab.room(&["128M"])?, |machine| {
        // Blocks 0 to 3 are the 512 MiB of boot; the first and the last have holes, block 1 has none.
        for block in 0..4 {
            let why = super::lab::refused(machine, &format!("offline {block}"))?;
            ensure!(
                why.contains(&format!("block {block} is system memory")),
                "boot block {block}: {why}"
            );
            let (start, size) = (block * 128 * MIB, 128 * MIB);
            let why = super::lab::refused(machine, &format!("remove {start:#x} {size:#x}"))?;
            ensure!(
                why.contains(&format!("block {block} is memory the machine was started with")),
                "boot block {block}: {why}"
            );
        }
        finish(machine)
    })
}

/// Does a message name this many bytes, in any usual way?
fn names(message: &str, bytes: u64) -> bool {
    let mib = bytes / MIB;
    [format!("{bytes:#x}"), bytes.to_string(), format!("{mib} MiB"), format!("{mib}M")]
        .iter()
        .any(|name| message.contains(name.as_str()))
}
