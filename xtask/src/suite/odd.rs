//! DIMMs of odd sizes: whole subsections, not whole memory blocks; alone, and beside others in one block.

use anyhow::{Result, ensure};

use super::lab::{
    Lab, add, finish_refused, plug_spec, plugged, refused, remove, switch, unowned, unplug,
    use_all, use_and_unplug,
};
use super::{Scenario, scenarios};
use crate::machine::{DESCRIPTOR, Placement};
use crate::size::{DimmSpec, MIB};

pub(crate) const SCENARIOS: &[Scenario] = scenarios![
    a_dimm_that_is_no_whole_blocks_is_used_and_goes_in_each_placement if has_subsections,
    two_dimms_in_one_block_go_alone_in_both_orders if has_subsections,
    a_range_between_others_is_converted_in_use_and_goes_block_by_block if has_subsections,
];

/// Bytes of the unit in which memory is added.
fn subsection(lab: &Lab) -> u64 {
    (2 * MIB).max(lab.page() / DESCRIPTOR * lab.page())
}

/// Can a DIMM be less than a block here, and whole subsections?
fn has_subsections(lab: &Lab) -> bool {
    lab.has_odd_dimms() && lab.block() > 2 * subsection(lab)
}

/// The size of a DIMM with one block, and most of another.
fn odd(lab: &Lab) -> DimmSpec {
    let size = lab.block() + lab.block() / 4 * 3;
    DimmSpec { size: crate::size::Size::new(size), node: None }
}

fn a_dimm_that_is_no_whole_blocks_is_used_and_goes_in_each_placement(lab: &Lab) -> Result<()> {
    for placement in [Placement::Device, Placement::Block, Placement::Boot] {
        let config = lab.room(&[])?.room_for(&[odd(lab)]);
        let config = config.word(format_args!("placement={}", placement.word()));
        lab.with(&config, |machine| {
            let taken = plug_spec(machine, odd(lab), None)?;
            use_and_unplug(machine, &taken)
        })?;
    }
    Ok(())
}

fn two_dimms_in_one_block_go_alone_in_both_orders(lab: &Lab) -> Result<()> {
    let config = lab.room(&[])?.room_for(&[odd(lab), odd(lab)]);
    lab.with(&config, |machine| {
        for lower_first in [true, false] {
            let lower = plug_spec(machine, odd(lab), None)?;
            let upper = machine.plug_behind(&lower.dimm, odd(lab))?;
            let upper = plugged(machine, upper)?;
            let both = lower.online.managed() + upper.online.managed();
            ensure!(use_all(machine)? == both, "not all of both is used");
            let (first, second) = if lower_first { (lower, upper) } else { (upper, lower) };
            unplug(machine, &first.dimm)?;
            machine.run("verify")?;
            // What is left of the block that both were in is online again.
            let rest = use_all(machine)?;
            ensure!(
                rest == second.online.managed(),
                "{rest} bytes of {} are used",
                second.online.managed()
            );
            unplug(machine, &second.dimm)?;
        }
        Ok(())
    })
}

/// A range of two and a quarter blocks between two others, which share its first and its last block, is converted in use.
fn a_range_between_others_is_converted_in_use_and_goes_block_by_block(lab: &Lab) -> Result<()> {
    lab.begun(&lab.room(&["512M"])?, |machine| {
        let (start, block) = (unowned(machine, "512M")?, lab.block());
        let (first, end) = (start + block / 4, start + block / 2 * 5);
        machine.run("snapshot save")?;
        add(machine, start, block / 4, "block")?;
        add(machine, end, block / 2, "boot")?;
        add(machine, first, end - first, "device")?;
        let numbers = [0, 1, 2].map(|index| start / block + index);
        numbers.iter().try_for_each(|at| switch(machine, "online", *at).map(drop))?;
        machine.run("pool grow 2000")?;
        let convert = format!("convert {first:#x} {:#x} block", end - first);
        machine.run(&convert)?;
        machine.run("verify")?;
        machine.run("pool check")?;
        let again = refused(machine, &convert)?;
        ensure!(again.contains("can be removed alone already"), "{again}");

        switch(machine, "offline", numbers[1])?;
        remove(machine, start + block, block)?;
        machine.run("pool check")?;
        machine.run("pool shrink 2000")?;
        for (at, size, stays) in [(first, block / 4 * 3, 0), (start + 2 * block, block / 2, 2)] {
            switch(machine, "offline", numbers[stays])?;
            remove(machine, at, size)?;
            // What is beside it comes online without it.
            switch(machine, "online", numbers[stays])?;
            machine.run("verify")?;
            switch(machine, "offline", numbers[stays])?;
        }
        remove(machine, start, block / 4)?;
        remove(machine, end, block / 2)?;
        finish_refused(machine)
    })
}
