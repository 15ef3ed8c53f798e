//! What the verbs cost, in guest instructions: exact, and the same on every host.
//!
//! The limits are a tenth of what Linux 6.12 takes on the same ruler (its memmap on the memory, too), and
//! say that page descriptors are really initialised when first used and not before.

use anyhow::{Context, Result, ensure};

use super::lab::{Lab, finish, plug, unplug};
use super::{Scenario, on_x86_64, scenarios};
use crate::machine::{Machine, Offline, Remove};

pub(crate) const SCENARIOS: &[Scenario] = scenarios![
    a_gibibyte_costs_a_tenth_of_what_linux_takes if on_x86_64,
    thirty_two_gibibytes_cost_as_much_per_gibibyte_as_one,
    what_laziness_puts_off_stays_below_linux if on_x86_64,
    counting_is_off_unless_asked_for,
];

/// Linux 6.12's instructions for 1 GiB: add, online, offline, remove.
const LINUX: [(&str, u64); 4] =
    [("add", 320_000), ("online", 14_900_000), ("offline", 46_600_000), ("remove", 74_000)];

/// The verbs' instructions for one DIMM: add, online, offline, remove.
fn costs(lab: &Lab, size: &str) -> Result<[u64; 4]> {
    let mut config = lab.room(&[size])?.word("placement=block").word("icount");
    config.icount = true;
    let mut costs = [0; 4];
    lab.with(&config, |machine| {
        let taken = plug(machine, size)?;
        let add = taken.add.instructions.context("the add counted nothing")?;
        let online = taken.online.instructions.context("the online counted nothing")?;
        ensure!(
            taken.add.event_instructions.is_some_and(|event| event > add),
            "{:?}",
            taken.add.event_instructions
        );
        let (offline, remove) = leaving(machine, &taken.dimm)?;
        costs = [
            add,
            online,
            offline.instructions.context("the offline counted nothing")?,
            remove.instructions.context("the remove counted nothing")?,
        ];
        finish(machine)
    })?;
    Ok(costs)
}

/// Unplugs and keeps both steps.
fn leaving(machine: &mut Machine, dimm: &crate::machine::Dimm) -> Result<(Offline, Remove)> {
    machine.unplug(dimm)?;
    let steps = (machine.next_offline()?, machine.next_remove()?);
    ensure!(
        steps.0.error.is_none() && steps.1.error.is_none(),
        "{:?} {:?}",
        steps.0.error,
        steps.1.error
    );
    machine.wait_deleted(dimm)?;
    Ok(steps)
}

fn a_gibibyte_costs_a_tenth_of_what_linux_takes(lab: &Lab) -> Result<()> {
    let costs = costs(lab, "1G")?;
    for ((verb, linux), cost) in LINUX.into_iter().zip(costs) {
        ensure!(cost > 0 && cost * 10 <= linux, "{verb} takes {cost} instructions, Linux {linux}");
    }
    Ok(())
}

fn thirty_two_gibibytes_cost_as_much_per_gibibyte_as_one(lab: &Lab) -> Result<()> {
    let (small, large) = (costs(lab, "1G")?, costs(lab, "32G")?);
    for ((verb, _), (small, large)) in LINUX.into_iter().zip(small.into_iter().zip(large)) {
        let limit = small * 32 * 110 / 100;
        ensure!(large <= limit, "{verb}: {large} instructions for 32 GiB, {small} for one");
    }
    Ok(())
}

fn what_laziness_puts_off_stays_below_linux(lab: &Lab) -> Result<()> {
    let mut config = lab.room(&["1G"])?.word("placement=block").word("icount");
    config.icount = true;
    lab.with(&config, |machine| {
        let taken = plug(machine, "1G")?;
        machine.run("use")?;
        let used = machine.next_use()?;
        ensure!(used.error.is_none(), "use failed: {:?}", used.error);
        let first = used.first_pass_instructions.context("the first pass counted nothing")?;
        let second = used.second_pass_instructions.context("the second pass counted nothing")?;
        ensure!(
            first.saturating_sub(second) <= 14_900_000,
            "the first pass takes {first}, the second {second}"
        );
        unplug(machine, &taken.dimm)?;
        finish(machine)
    })
}

fn counting_is_off_unless_asked_for(lab: &Lab) -> Result<()> {
    lab.with(&lab.room(&["128M"])?, |machine| {
        let taken = plug(machine, "128M")?;
        ensure!(
            taken.add.instructions.is_none() && taken.add.event_instructions.is_none(),
            "{:?}",
            taken.add
        );
        let (offline, remove) = leaving(machine, &taken.dimm)?;
        ensure!(
            offline.instructions.is_none() && remove.instructions.is_none(),
            "the guest counts"
        );
        finish(machine)
    })
}
