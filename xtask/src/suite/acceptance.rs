//! The acceptance tests that reviewers of the 2019 series asked for, by their numbers, in QEMU.
//! Those that are a list of adds and removes are [scripts](super::scripts).

use anyhow::{Context, Result, ensure};

use super::lab::{
    Lab, add, all_memmap, check_nothing_elsewhere, finish, finish_refused, leave_verified, plug,
    remove, switch, unchanged, unowned, unplug,
};
use super::{Scenario, scenarios};
use crate::machine::{Machine, Placement, Step};

pub(crate) const SCENARIOS: &[Scenario] = scenarios![
    at04_a_block_that_is_all_memmap_gives_nothing_and_goes_offline_all_the_same,
    at05_flags_that_make_no_sense_fall_back_to_boot_memory_with_one_warning,
    at12_going_offline_and_online_again_keeps_the_memmap,
    at14_adding_memory_that_holds_its_own_memmap_takes_no_page_of_boot_memory,
    at16_every_memmap_lies_in_the_memory_it_describes,
    at17_two_device_ranges_are_removed_interleaved,
];

fn at04_a_block_that_is_all_memmap_gives_nothing_and_goes_offline_all_the_same(
    lab: &Lab,
) -> Result<()> {
    let size = all_memmap(lab);
    lab.with(&lab.room(&[&size])?, |machine| {
        let taken = plug(machine, &size)?;
        let first = taken.dimm.start / lab.block();
        let block =
            taken.online.blocks.iter().find(|block| block.block == first).context("no block 0")?;
        ensure!(block.managed_bytes == 0 && block.state.starts_with("online"), "{block:?}");

        switch(machine, "offline", first)?;
        machine.run("verify")?;
        switch(machine, "online", first)?;
        unplug(machine, &taken.dimm)
    })
}

fn at05_flags_that_make_no_sense_fall_back_to_boot_memory_with_one_warning(
    lab: &Lab,
) -> Result<()> {
    lab.begun(&lab.room(&["256M"])?, |machine| {
        let start = unowned(machine, "256M")?;
        let before = machine.position();
        // Both flags at once: no placement is both.
        let added = add(machine, start, 2 * lab.block(), "device block")?;
        ensure!(added.placement == Placement::Boot && added.groups.is_empty(), "{added:?}");
        let lines = machine.lines_from(before);
        let warnings = lines.iter().filter(|line| line.to_lowercase().contains("warn")).count();
        ensure!(warnings == 1, "{warnings} warnings");
        remove(machine, start, 2 * lab.block())?;
        finish_refused(machine)
    })
}

fn at12_going_offline_and_online_again_keeps_the_memmap(lab: &Lab) -> Result<()> {
    lab.self_hosted(&["256M"], |machine| {
        let taken = plug(machine, "256M")?;
        let first = taken.dimm.start / lab.block();
        machine.run("snapshot save")?;
        let before = memmap_pages(machine, taken.dimm.start / lab.page())?;
        for _ in 0..5 {
            for block in [first, first + 1] {
                switch(machine, "offline", block)?;
            }
            machine.run("verify")?;
            for block in [first + 1, first] {
                switch(machine, "online", block)?;
            }
            unchanged(machine)?;
        }
        let after = memmap_pages(machine, taken.dimm.start / lab.page())?;
        ensure!(before == after, "before: {before:?}\nafter: {after:?}");
        unplug(machine, &taken.dimm)?;
        leave_verified(machine)
    })
}

/// The descriptors of the first memmap page (the head), its neighbour and a later one.
fn memmap_pages(machine: &mut Machine, pfn: u64) -> Result<Vec<serde_json::Value>> {
    let geometry = machine.geometry()?;
    let count = geometry.memmap_pages(geometry.block_sections());
    let pages = [pfn, pfn + 1, pfn + count - 1];
    pages.iter().map(|pfn| machine.json(&format!("page {pfn:#x} --json"))).collect()
}

fn at14_adding_memory_that_holds_its_own_memmap_takes_no_page_of_boot_memory(
    lab: &Lab,
) -> Result<()> {
    lab.self_hosted(&["1G"], |machine| {
        let before = machine.boot_free()?;
        ensure!(before > 0, "`zones` shows no free boot memory");
        let taken = plug(machine, "1G")?;
        let after = machine.boot_free()?;
        ensure!(before == after, "{before} bytes free before, {after} after");
        unplug(machine, &taken.dimm)?;
        finish(machine)
    })
}

fn at16_every_memmap_lies_in_the_memory_it_describes(lab: &Lab) -> Result<()> {
    lab.self_hosted(&["512M@1", "256M@0"], |machine| {
        // `plug` checks each group against its range, and the node against the firmware's.
        let dimms = [plug(machine, "512M@1")?, plug(machine, "256M@0")?];
        for taken in &dimms {
            ensure!(!taken.add.groups.is_empty(), "the memmap lies elsewhere");
            check_nothing_elsewhere(&taken.add)?;
        }
        dimms.iter().try_for_each(|taken| unplug(machine, &taken.dimm).map(drop))?;
        finish(machine)
    })
}

fn at17_two_device_ranges_are_removed_interleaved(lab: &Lab) -> Result<()> {
    lab.with(&lab.room(&["256M", "256M"])?, |machine| {
        let dimms = [plug(machine, "256M")?, plug(machine, "256M")?];
        // One block of each in turn goes offline; then both ranges are asked back in one event.
        for index in 0..2 {
            for taken in &dimms {
                switch(machine, "offline", taken.dimm.start / lab.block() + index)?;
                machine.run("verify")?;
            }
        }
        machine
            .stopped(|machine| dimms.iter().try_for_each(|taken| machine.unplug(&taken.dimm)))?;

        let mut removed = 0;
        while removed < 2 {
            let step = machine.next_step()?;
            ensure!(step.error().is_none(), "{} failed: {:?}", step.operation(), step.error());
            removed += usize::from(matches!(step, Step::Remove(_)));
        }
        for taken in &dimms {
            machine.wait_deleted(&taken.dimm)?;
        }
        Ok(())
    })
}
