//! Firmware events: many at once, mixed, early, again; each DIMM is handled once and gets one reply.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};

use super::lab::{
    Lab, blocks_of, check_success, end_well, insert, leave, leave_verified, plug, switch, taken,
    taken_online, unchanged, unplug, unplug_taken,
};
use super::storm::dimms_come_and_go_at_random_moments_and_none_is_lost;
use super::{Scenario, scenarios};
use crate::machine::{Add, Dimm, Machine, Remove, Request, Step};

pub(crate) const SCENARIOS: &[Scenario] = scenarios![
    an_unplug_right_after_going_online_succeeds,
    eight_dimms_in_one_event_are_all_added_and_all_removed,
    inserts_and_ejects_in_one_event_are_distinguished,
    dimms_of_many_blocks_are_added_and_removed_in_one_event,
    of_dimms_unplugged_together_only_the_one_in_use_stays,
    a_dimm_plugged_during_the_eject_of_another_is_added,
    all_blocks_stay_if_the_last_of_many_is_refused,
    a_dimm_that_was_there_at_power_on_is_found_and_can_be_unplugged,
    a_dimm_plugged_before_the_kernel_runs_is_added_once => |lab| plugged_early(lab, |_| Ok(())),
    a_dimm_plugged_while_the_kernel_boots_is_added_once =>
        |lab| plugged_early(lab, |machine| machine.wait_line("").map(drop)),
    dimms_in_every_slot_all_work,
    memory_stays_offline_by_policy_and_leaves_half_online,
    dimms_come_and_go_at_random_moments_and_none_is_lost,
];

/// The next steps, by operation; none may have failed.
#[derive(Default)]
struct Seen {
    adds: Vec<Add>,
    onlines: usize,
    offlines: usize,
    removes: Vec<Remove>,
}

fn watch(machine: &mut Machine, count: usize) -> Result<Seen> {
    let mut seen = Seen::default();
    for _ in 0..count {
        let step = machine.next_step()?;
        if let Some(why) = step.error() {
            bail!("{} failed: {why}", step.operation());
        }
        match step {
            Step::Add(add) => seen.adds.push(add),
            Step::Online(_) => seen.onlines += 1,
            Step::Offline(_) => seen.offlines += 1,
            Step::Remove(remove) => seen.removes.push(remove),
            Step::Scrub(_) => {}
            Step::Use(_) => bail!("a use was reported that was not asked for"),
        }
    }
    Ok(seen)
}

/// Checks that exactly these DIMMs were taken, with success reported to the firmware for each.
fn all_taken(machine: &mut Machine, dimms: &[Dimm], seen: &Seen) -> Result<()> {
    let starts: BTreeSet<u64> = seen.adds.iter().map(Add::start).collect();
    let wanted: BTreeSet<u64> = dimms.iter().map(|dimm| dimm.start).collect();
    ensure!(
        starts == wanted && seen.adds.len() == dimms.len(),
        "added {starts:x?} instead of {wanted:x?}"
    );
    ensure!(seen.onlines == dimms.len(), "{} went online of {}", seen.onlines, dimms.len());
    for dimm in dimms {
        let reported = machine.status(dimm, Request::Insertion)?;
        check_success(reported, reported).with_context(|| dimm.id.clone())?;
    }
    Ok(())
}

/// Checks that exactly these DIMMs went.
fn all_gone(machine: &mut Machine, dimms: &[Dimm], seen: &Seen) -> Result<()> {
    ensure!(
        seen.offlines == dimms.len() && seen.removes.len() == dimms.len(),
        "{} offline, {} removed",
        seen.offlines,
        seen.removes.len()
    );
    for dimm in dimms {
        machine.wait_deleted(dimm)?;
        let reported = machine.status(dimm, Request::Ejection)?;
        check_success(reported, reported).with_context(|| dimm.id.clone())?;
    }
    Ok(())
}

fn plug_many(machine: &mut Machine, count: usize) -> Result<Vec<Dimm>> {
    (0..count).map(|_| insert(machine, "128M")).collect()
}

fn an_unplug_right_after_going_online_succeeds(lab: &Lab) -> Result<()> {
    lab.with(&lab.room(&["1G"])?, |machine| {
        let dimm = insert(machine, "1G")?;
        taken_online(machine, &dimm)?;
        unplug(machine, &dimm)
    })
}

fn eight_dimms_in_one_event_are_all_added_and_all_removed(lab: &Lab) -> Result<()> {
    lab.with(&lab.room(&["128M"; 8])?, |machine| {
        let mut dimms = Vec::new();
        machine.stopped(|machine| {
            dimms = plug_many(machine, 8)?;
            Ok(())
        })?;
        let seen = watch(machine, 16)?;
        all_taken(machine, &dimms, &seen)?;

        machine.stopped(|machine| dimms.iter().try_for_each(|dimm| machine.unplug(dimm)))?;
        let seen = watch(machine, 16)?;
        all_gone(machine, &dimms, &seen)
    })
}

fn inserts_and_ejects_in_one_event_are_distinguished(lab: &Lab) -> Result<()> {
    lab.with(&lab.room(&["128M"; 6])?, |machine| {
        let first =
            [plug(machine, "128M")?.dimm, plug(machine, "128M")?.dimm, plug(machine, "128M")?.dimm];
        let [stays, goes, goes_too] = &first;
        let mut new = Vec::new();
        machine.stopped(|machine| {
            machine.unplug(goes)?;
            new = plug_many(machine, 2)?;
            machine.unplug(goes_too)
        })?;
        let seen = watch(machine, 8)?;
        all_taken(machine, &new, &seen)?;
        all_gone(machine, &[goes.clone(), goes_too.clone()], &seen)?;
        machine.run("verify")?;

        for dimm in new.iter().chain([stays]) {
            unplug(machine, dimm)?;
        }
        Ok(())
    })
}

/// A DIMM of 32 blocks.
const MANY: &str = "4G";

fn dimms_of_many_blocks_are_added_and_removed_in_one_event(lab: &Lab) -> Result<()> {
    lab.with(&lab.room(&[MANY; 3])?.word("placement=block"), |machine| {
        let mut dimms = Vec::new();
        machine.stopped(|machine| {
            dimms = (0..3).map(|_| insert(machine, MANY)).collect::<Result<_>>()?;
            Ok(())
        })?;
        let seen = watch(machine, 6)?;
        all_taken(machine, &dimms, &seen)?;
        ensure!(seen.adds.iter().all(|add| add.groups.len() == 32), "{:?}", seen.adds);
        machine.run("verify")?;

        machine.stopped(|machine| dimms.iter().try_for_each(|dimm| machine.unplug(dimm)))?;
        let seen = watch(machine, 6)?;
        all_gone(machine, &dimms, &seen)
    })
}

fn of_dimms_unplugged_together_only_the_one_in_use_stays(lab: &Lab) -> Result<()> {
    lab.begun(&lab.room(&["256M"; 3])?, |machine| {
        // The first page that is taken lies in the only DIMM that there is.
        let used = plug(machine, "256M")?.dimm;
        machine.run("pool grow 1")?;
        machine.run("pool pin 0")?;
        let free = [plug(machine, "256M")?.dimm, plug(machine, "256M")?.dimm];
        let asked = [&free[0], &used, &free[1]];
        machine.stopped(|machine| asked.iter().try_for_each(|dimm| machine.unplug(dimm)))?;

        let removes = removes(machine, 3)?;
        let kept: Vec<_> = removes.iter().filter(|step| step.error.is_some()).collect();
        ensure!(kept.len() == 1, "{removes:?}");
        machine.wait_kept(&used)?;
        free.iter().try_for_each(|dimm| machine.wait_deleted(dimm))?;
        lab.check_reported(machine.status(&used, Request::Ejection)?.as_slice(), &[0x81])?;
        machine.run("verify")?;

        machine.run("pool unpin 0")?;
        unplug(machine, &used)?;
        machine.run("pool shrink 1")?;
        unchanged(machine)?;
        leave(machine)
    })
}

/// The next `count` removes, be they refused or not; left out are the offlines before them, and blocks of a
/// refused one that come back online.
fn removes(machine: &mut Machine, count: usize) -> Result<Vec<Remove>> {
    let mut removes = Vec::new();
    while removes.len() < count {
        match machine.next_step()? {
            Step::Remove(remove) => removes.push(remove),
            Step::Offline(_) | Step::Online(_) => {}
            other => bail!("{} was reported that was not asked for", other.operation()),
        }
    }
    Ok(removes)
}

fn a_dimm_plugged_during_the_eject_of_another_is_added(lab: &Lab) -> Result<()> {
    lab.with(&lab.room(&["256M", "256M"])?.word("budget=1"), |machine| {
        let first = plug(machine, "256M")?.dimm;
        // Moved one by one: far longer than a DIMM takes to be plugged.
        let pages = (first.size / lab.page() / 4).min(10000);
        machine.run(&format!("pool grow {pages}"))?;
        machine.unplug(&first)?;
        machine.wait_line("is being given up")?;
        // While it is stopped, so that it takes no longer on a busy host, and the second is not taken meanwhile.
        let second = machine.stopped(|machine| {
            let steps = machine.unread_steps()?;
            ensure!(steps.is_empty(), "the first DIMM was gone too soon: {steps:?}");
            insert(machine, "256M")
        })?;

        let seen = watch(machine, 4)?;
        all_gone(machine, &[first], &seen)?;
        all_taken(machine, std::slice::from_ref(&second), &seen)?;
        machine.run("pool check")?;
        machine.run(&format!("pool shrink {pages}"))?;
        machine.run("verify")?;
        unplug(machine, &second)
    })
}

fn all_blocks_stay_if_the_last_of_many_is_refused(lab: &Lab) -> Result<()> {
    lab.begun(&lab.room(&[MANY])?, |machine| {
        let taken = plug(machine, MANY)?;
        let blocks = (taken.dimm.start / lab.block()..).take(32);
        // While it is the only one online, the page that is taken lies in the last block.
        for block in blocks.clone().take(31) {
            switch(machine, "offline", block)?;
        }
        machine.run("pool grow 1")?;
        machine.run("pool pin 0")?;
        for block in blocks.clone().take(31) {
            switch(machine, "online", block)?;
        }
        machine.run("snapshot save")?;

        machine.unplug(&taken.dimm)?;
        let [remove] = removes(machine, 1)?.try_into().ok().context("not one remove")?;
        let why = remove.error.context("the DIMM was removed")?;
        let last = taken.dimm.start / lab.block() + 31;
        ensure!(why.contains(&format!("block {last}")), "block {last} is not in: {why}");
        machine.wait_kept(&taken.dimm)?;
        lab.check_reported(machine.status(&taken.dimm, Request::Ejection)?.as_slice(), &[0x81])?;
        unchanged(machine)?;

        machine.run("pool unpin 0")?;
        unplug(machine, &taken.dimm)?;
        machine.run("pool check")?;
        leave_verified(machine)
    })
}

fn a_dimm_that_was_there_at_power_on_is_found_and_can_be_unplugged(lab: &Lab) -> Result<()> {
    let mut config = lab.room(&["256M", "256M"])?;
    config.cold = vec![lab.dimm("256M")?];
    lab.started(&config, |machine| {
        machine.wait_ready()?;
        let [cold] = machine.dimms()?.try_into().ok().context("not one DIMM at power-on")?;
        taken_online(machine, &cold)?;
        machine.run("snapshot save")?;

        // The next event must not bring the first DIMM again.
        let taken = plug(machine, "256M")?;
        unplug_taken(machine, &taken)?;
        machine.run("snapshot check")?;
        unplug(machine, &cold)?;
        end_well(machine)
    })
}

/// A DIMM plugged at `moment` before hotplug events are armed is added once, and not again with the next one.
fn plugged_early(lab: &Lab, moment: impl FnOnce(&mut Machine) -> Result<()>) -> Result<()> {
    lab.started(&lab.room(&["256M", "128M"])?, |machine| {
        moment(machine)?;
        let early = insert(machine, "256M")?;
        machine.wait_ready()?;
        taken_online(machine, &early)?;

        let taken = plug(machine, "128M")?;
        unplug_taken(machine, &taken)?;
        unplug(machine, &early)?;
        end_well(machine)
    })
}

fn dimms_in_every_slot_all_work(lab: &Lab) -> Result<()> {
    let slots = usize::try_from(lab.about().slots)?;
    lab.with(&lab.room(&vec!["128M"; slots])?, |machine| {
        let dimms = plug_many(machine, slots)?;
        let seen = watch(machine, 2 * slots)?;
        all_taken(machine, &dimms, &seen)?;
        machine.run("verify")?;

        dimms.iter().try_for_each(|dimm| machine.unplug(dimm))?;
        let seen = watch(machine, 2 * slots)?;
        all_gone(machine, &dimms, &seen)
    })
}

/// The states of those blocks of a DIMM that are there.
fn states(machine: &mut Machine, dimm: &Dimm) -> Result<Vec<String>> {
    Ok(blocks_of(machine, dimm)?.into_iter().map(|block| block.state).collect())
}

fn memory_stays_offline_by_policy_and_leaves_half_online(lab: &Lab) -> Result<()> {
    lab.with(&lab.room(&["256M"])?.word("policy=offline"), |machine| {
        let dimm = insert(machine, "256M")?;
        let add = taken(machine, &dimm)?;
        check_success(machine.status(&dimm, Request::Insertion)?, add.ost)?;

        let first = dimm.start / lab.block();
        machine.run("verify")?;
        let steps = machine.unread_steps()?;
        ensure!(steps.is_empty(), "the kernel did more than it was asked: {steps:?}");
        ensure!(states(machine, &dimm)? == ["offline"; 2], "a block is online");

        switch(machine, "online", first)?;
        let found = states(machine, &dimm)?;
        ensure!(found == ["online", "offline"], "{found:?}");
        machine.run("verify")?;

        unplug(machine, &dimm)?;
        ensure!(states(machine, &dimm)?.is_empty(), "a block is still there");
        Ok(())
    })
}
