//! What the kernel refuses, and that a refusal changes nothing.

use anyhow::{Context, Result, bail, ensure};

use super::lab::{
    Lab, alloc, finish_refused, free, insert_unowned, leave_verified, plug, refused, unchanged,
    unplug_taken,
};
use super::{Scenario, scenarios};
use crate::machine::{Add, Config, DESCRIPTOR, Dimm, Machine, Request};
use crate::size::{DimmSpec, MIB, Size};

pub(crate) const SCENARIOS: &[Scenario] = scenarios![
    a_dimm_that_is_not_a_whole_number_of_blocks_is_refused_by_name_if_that_is_wanted if Lab::has_odd_dimms,
    a_refused_dimm_leaves_room_for_the_next_one if Lab::has_odd_dimms,
    a_dimm_refused_for_lack_of_memory_can_be_unplugged_and_leaves_room_for_others,
    a_dimm_smaller_than_a_block_is_refused_by_name_if_that_is_wanted if has_larger_blocks,
    a_memmap_that_boot_memory_cannot_hold_is_refused_cleanly,
    unplug_is_refused_while_pages_are_allocated_and_works_afterwards,
    boot_memory_cannot_be_removed,
];

/// Is there a block larger than the usual one?
fn has_larger_blocks(lab: &Lab) -> bool {
    (lab.about().blocks)(lab.page()).iter().any(|&block| block > lab.block())
}

/// Plugs a DIMM that has to be refused; returns the kernel's reason.
fn plug_refused(machine: &mut Machine, spec: DimmSpec) -> Result<String> {
    let dimm = machine.plug(spec, None)?;
    let add: Add = machine.next()?;
    let why = add.error.with_context(|| format!("a DIMM of {} was not refused", spec.size))?;
    let reported = machine.status(&dimm, Request::Insertion)?;
    ensure!(
        reported != Some(0) && add.ost == reported,
        "the firmware got {reported:x?}, the step says {:x?}",
        add.ost
    );
    unchanged(machine)?;
    Ok(why)
}

fn a_dimm_that_is_not_a_whole_number_of_blocks_is_refused_by_name_if_that_is_wanted(
    lab: &Lab,
) -> Result<()> {
    lab.begun(&lab.room(&["100M"])?.word("blocks=whole"), |machine| {
        let odd = lab.dimm("100M")?;
        let why = plug_refused(machine, odd)?;
        ensure!(names(&why, odd.size.bytes()), "the reason names no size of {}: {why}", odd.size);
        finish_refused(machine)
    })
}

fn a_refused_dimm_leaves_room_for_the_next_one(lab: &Lab) -> Result<()> {
    lab.begun(&lab.room(&["130M", "256M"])?.word("blocks=whole"), |machine| {
        plug_refused(machine, lab.dimm("130M")?)?;
        let taken = plug(machine, "256M")?;
        unplug_taken(machine, &taken)?;
        finish_refused(machine)
    })
}

fn a_dimm_refused_for_lack_of_memory_can_be_unplugged_and_leaves_room_for_others(
    lab: &Lab,
) -> Result<()> {
    lab.begun(&lab.room(&["256M", "256M"])?, |machine| {
        let refused = insert_unowned(machine, "256M")?;
        lab.check_reported(machine.status(&refused, Request::Insertion)?.as_slice(), &[1])?;
        unchanged(machine)?;

        let taken = plug(machine, "256M")?;
        unplug_taken(machine, &taken)?;
        // No operation has anything to do with the other one: its firmware has it back at once.
        machine.unplug(&refused)?;
        machine.wait_deleted(&refused)?;
        lab.check_reported(machine.status(&refused, Request::Ejection)?.as_slice(), &[0])?;
        finish_refused(machine)
    })
}

fn a_dimm_smaller_than_a_block_is_refused_by_name_if_that_is_wanted(lab: &Lab) -> Result<()> {
    let large = (lab.about().blocks)(lab.page()).iter().copied().max().unwrap_or_default();
    let config = lab.room(&["128M"])?.word(format_args!("block={}", Size::new(large).word()));
    let config = config.word("blocks=whole");
    lab.begun(&config, |machine| {
        let small = lab.dimm("128M")?;
        let why = plug_refused(machine, small)?;
        ensure!(
            names(&why, small.size.bytes()),
            "the reason names no size of {}: {why}",
            small.size
        );
        finish_refused(machine)
    })
}

fn a_memmap_that_boot_memory_cannot_hold_is_refused_cleanly(lab: &Lab) -> Result<()> {
    let memory = lab.memory(64 * MIB);
    // Its descriptors take four times the memory there is.
    let size = Size::new(memory.bytes() * 4 * (lab.page() / DESCRIPTOR));
    let large = DimmSpec { size, node: None };
    let config = lab.room(&[])?.room_for(&[large]).word("placement=boot");
    lab.begun(&Config { memory, ..config }, |machine| {
        let why = plug_refused(machine, large)?;
        ensure!(why.contains("out of memory"), "the reason does not say what ran out: {why}");
        finish_refused(machine)
    })
}

fn unplug_is_refused_while_pages_are_allocated_and_works_afterwards(lab: &Lab) -> Result<()> {
    // What is allocated by number stays where it is: it never comes from a movable zone.
    lab.begun(&lab.room(&["256M"])?.word("policy=online_kernel"), |machine| {
        let taken = plug(machine, "256M")?;
        let pages = allocate_inside(machine, &taken.dimm, lab.page())?;
        machine.run("snapshot save")?;

        machine.unplug(&taken.dimm)?;
        let step = machine.next_step()?;
        ensure!(
            step.error().is_some(),
            "the kernel did {} though pages are allocated",
            step.operation()
        );
        machine.wait_kept(&taken.dimm)?;
        let reported = machine.status(&taken.dimm, Request::Ejection)?;
        // ACPI 6.5, table 6.22: 0x81 device in use, 0x82 device busy.
        ensure!(matches!(reported, None | Some(0x81 | 0x82)), "the firmware got {reported:x?}");
        unchanged(machine)?;
        // What else is reported are the failure itself and blocks that come back online.
        let steps = machine.unread_steps()?;
        let done = steps.iter().find(|step| step.error().is_none() && step.operation() != "online");
        ensure!(done.is_none(), "the kernel did more than it was asked: {done:?}");
        for block in &taken.online.blocks {
            refused(machine, &format!("online {}", block.block))?;
        }

        for pfn in pages {
            free(machine, pfn)?;
        }
        unplug_taken(machine, &taken)?;
        leave_verified(machine)
    })
}

/// Allocates until a page lies in `dimm`; returns everything allocated.
fn allocate_inside(machine: &mut Machine, dimm: &Dimm, page: u64) -> Result<Vec<u64>> {
    let frames = dimm.start / page..(dimm.start + dimm.size) / page;
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

fn boot_memory_cannot_be_removed(lab: &Lab) -> Result<()> {
    lab.with(&lab.room(&["128M"])?, |machine| {
        let mut boot = machine.blocks()?;
        boot.retain(|one| one.boot);
        ensure!(!boot.is_empty(), "the kernel lists no block of boot memory");
        for block in boot.into_iter().map(|one| one.block) {
            let why = refused(machine, &format!("offline {block}"))?;
            ensure!(
                why.contains(&format!("block {block} is system memory")),
                "boot block {block}: {why}"
            );
            let (start, size) = (block * lab.block(), lab.block());
            let why = refused(machine, &format!("remove {start:#x} {size:#x}"))?;
            ensure!(
                why.contains(&format!("block {block} is memory the machine was started with")),
                "boot block {block}: {why}"
            );
        }
        Ok(())
    })
}

/// Does a message name this many bytes, in any usual way?
fn names(message: &str, bytes: u64) -> bool {
    let mib = bytes / MIB;
    [format!("{bytes:#x}"), bytes.to_string(), format!("{mib} MiB"), format!("{mib}M")]
        .iter()
        .any(|name| message.contains(name.as_str()))
}
