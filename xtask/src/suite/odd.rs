//! DIMMs of odd sizes: whole subsections, not whole memory blocks; alone, and beside others in one block.

use anyhow::{Result, ensure};

use super::lab::{Lab, Taken, check_groups, check_online, check_success, finish, taken};
use super::lab::{unplug_taken, use_all};
use super::{Scenario, scenarios};
use crate::machine::{DESCRIPTOR, Machine, Online, Placement, Request};
use crate::size::{DimmSpec, MIB};

pub(crate) const SCENARIOS: &[Scenario] = scenarios![
    a_dimm_that_is_no_whole_blocks_is_used_and_goes_in_each_placement if has_subsections,
    two_dimms_in_one_block_go_alone_in_both_orders if has_subsections,
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
            let dimm = machine.plug(odd(lab), None)?;
            let taken = come_online(machine, dimm)?;
            let (touched, managed) = (use_all(machine)?, taken.online.managed());
            ensure!(touched == managed, "{touched} bytes were touched of {managed}");
            unplug_taken(machine, &taken)?;
            finish(machine)
        })?;
    }
    Ok(())
}

fn two_dimms_in_one_block_go_alone_in_both_orders(lab: &Lab) -> Result<()> {
    let config = lab.room(&[])?.room_for(&[odd(lab), odd(lab)]);
    lab.with(&config, |machine| {
        for lower_first in [true, false] {
            let lower = machine.plug(odd(lab), None)?;
            let lower = come_online(machine, lower)?;
            let upper = machine.plug_behind(&lower.dimm, odd(lab))?;
            let upper = come_online(machine, upper)?;
            let both = lower.online.managed() + upper.online.managed();
            ensure!(use_all(machine)? == both, "not all of both is used");
            let (first, second) = if lower_first { (lower, upper) } else { (upper, lower) };
            super::lab::unplug(machine, &first.dimm)?;
            machine.run("verify")?;
            // What is left of the block that both were in is online again.
            let rest = use_all(machine)?;
            ensure!(
                rest == second.online.managed(),
                "{rest} bytes of {} are used",
                second.online.managed()
            );
            super::lab::unplug(machine, &second.dimm)?;
        }
        finish(machine)
    })
}

/// Waits until a DIMM that was plugged is online.
fn come_online(machine: &mut Machine, dimm: crate::machine::Dimm) -> Result<Taken> {
    let add = taken(machine, &dimm)?;
    check_success(machine.status(&dimm, Request::Insertion)?, add.ost)?;
    let online: Online = machine.done()?;
    check_groups(machine, &add)?;
    check_online(machine, &add, &online)?;
    Ok(Taken { dimm, add, online })
}
