//! What the operations cost, in guest instructions: exact, and the same on every host.
//!
//! The limits are a tenth of what Linux 6.12 takes on the same ruler (its memmap on the memory, too), and
//! say that page descriptors are really initialised when first used and not before.

use anyhow::{Context, Result, ensure};

use super::lab::{Lab, Taken, plug, refused, unplug};
use super::{Scenario, copies_ahead, on_x86_64, runs_guests, scenarios};
use crate::machine::{Config, Machine, Placement, Use};
use crate::{bench, root};

pub(crate) const SCENARIOS: &[Scenario] = scenarios![
    a_gibibyte_costs_a_tenth_of_what_linux_takes if on_x86_64,
    an_insert_takes_few_instructions_from_the_interrupt_to_ost if on_x86_64,
    a_page_in_use_costs_few_instructions_at_its_offline if on_x86_64,
    operations_cost_what_they_did_when_their_figures_were_committed if on_x86_64,
    thirty_two_gibibytes_cost_as_much_per_gibibyte_as_one,
    what_is_deferred_costs_less_than_on_linux if on_x86_64,
    every_case_of_an_allocation_is_counted,
    a_pull_pauses_a_guest_for_few_instructions_at_a_time if runs_guests,
    a_large_extent_moves_with_a_short_pause if copies_ahead,
    counting_is_off_unless_asked_for,
];

/// Linux 6.12's instructions for 1 GiB: add, online, offline, remove.
const LINUX: [(&str, u64); 4] =
    [("add", 320_000), ("online", LINUX_ONLINE), ("offline", 46_600_000), ("remove", 74_000)];
const LINUX_ONLINE: u64 = 14_900_000;

/// The most that an insert of 1 GiB may take from the interrupt to `_OST`, most of it firmware's byte code.
const INSERT: u64 = 93_000;
/// The most that a page of 4 KiB that is moved may add to an offline.
const PAGE: u64 = 1_200;

/// A machine that counts, with one CPU: where several are up, an operation waits for their flushes, whose instructions count
/// as its own.
fn counting(lab: &Lab, sizes: &[&str], placement: Placement) -> Result<Config> {
    let config = lab.room(sizes)?.word(format_args!("placement={}", placement.word()));
    let config = config.word("icount");
    Ok(Config { icount: Some(0), cpus: 1, ..config })
}

/// The operations' instructions for one DIMM: add, online, offline, remove.
fn costs(lab: &Lab, size: &str) -> Result<[u64; 4]> {
    let mut costs = [0; 4];
    lab.with(&counting(lab, &[size], Placement::Block)?, |machine| {
        let Taken { dimm, add, online } = plug(machine, size)?;
        ensure!(add.event_instructions > add.instructions, "{add:?}");
        let (offline, remove) = machine.unplug_gone(&dimm)?;
        let counted =
            [add.instructions, online.instructions, offline.instructions, remove.instructions];
        for (cost, (counted, (operation, _))) in
            costs.iter_mut().zip(counted.into_iter().zip(LINUX))
        {
            *cost = counted.with_context(|| format!("the {operation} counted nothing"))?;
        }
        Ok(())
    })?;
    Ok(costs)
}

fn a_gibibyte_costs_a_tenth_of_what_linux_takes(lab: &Lab) -> Result<()> {
    let costs = costs(lab, "1G")?;
    for ((operation, linux), cost) in LINUX.into_iter().zip(costs) {
        ensure!(
            cost > 0 && cost * 10 <= linux,
            "{operation} takes {cost} instructions, Linux {linux}"
        );
    }
    Ok(())
}

fn an_insert_takes_few_instructions_from_the_interrupt_to_ost(lab: &Lab) -> Result<()> {
    lab.with(&counting(lab, &["1G"], Placement::Device)?, |machine| {
        // An event may come while the kernel does something else, which counts then.
        let mut least = u64::MAX;
        for _ in 0..3 {
            let Taken { dimm, add, .. } = plug(machine, "1G")?;
            least = least.min(add.event_instructions.context("the insert counted nothing")?);
            unplug(machine, &dimm)?;
        }
        ensure!(least <= INSERT, "an insert takes {least} instructions, more than {INSERT}");
        Ok(())
    })
}

fn a_page_in_use_costs_few_instructions_at_its_offline(lab: &Lab) -> Result<()> {
    lab.with(&counting(lab, &["1G", "1G"], Placement::Block)?, |machine| {
        let used = plug(machine, "1G")?;
        let pages = used.online.managed() / lab.page() / 10;
        machine.run(&format!("pool grow {pages}"))?;
        let other = plug(machine, "1G")?;
        let (offline, _) = machine.unplug_gone(&used.dimm)?;
        let each = offline.instructions.context("the offline counted nothing")? / pages;
        ensure!(each <= PAGE, "a page takes {each} instructions, more than {PAGE}");
        machine.run("pool check")?;
        machine.run("pool shrink 1000000")?;
        unplug(machine, &other.dimm)
    })
}

/// Of the rows that are counted quickly; `cargo xtask bench --check` has all.
fn operations_cost_what_they_did_when_their_figures_were_committed(lab: &Lab) -> Result<()> {
    bench::check_operations(&root::workspace_root()?, lab.arch(), "1G, block, 1 %")
}

fn thirty_two_gibibytes_cost_as_much_per_gibibyte_as_one(lab: &Lab) -> Result<()> {
    let (small, large) = (costs(lab, "1G")?, costs(lab, "32G")?);
    for ((operation, _), (small, large)) in LINUX.into_iter().zip(small.into_iter().zip(large)) {
        let limit = small * 32 * 110 / 100;
        ensure!(large <= limit, "{operation}: {large} instructions for 32 GiB, {small} for one");
    }
    Ok(())
}

fn what_is_deferred_costs_less_than_on_linux(lab: &Lab) -> Result<()> {
    lab.with(&counting(lab, &["1G"], Placement::Block)?, |machine| {
        let mut deferred = first_use(machine)?;
        if deferred > LINUX_ONLINE {
            // QEMU's clock may jump when its CPU wakes, which is right before the first pass. It does not do so twice.
            deferred = first_use(machine)?;
        }
        ensure!(deferred <= LINUX_ONLINE, "the first pass takes {deferred} more than the second");
        Ok(())
    })
}

/// Instructions that the first use of a DIMM takes, past those of the second.
fn first_use(machine: &mut Machine) -> Result<u64> {
    let taken = plug(machine, "1G")?;
    machine.run("use")?;
    let used: Use = machine.done()?;
    let first = used.first_pass_instructions.context("the first pass counted nothing")?;
    let second = used.second_pass_instructions.context("the second pass counted nothing")?;
    unplug(machine, &taken.dimm)?;
    Ok(first.saturating_sub(second))
}

fn every_case_of_an_allocation_is_counted(lab: &Lab) -> Result<()> {
    lab.with(&counting(lab, &["256M"], Placement::Device)?, |machine| {
        let taken = plug(machine, "256M")?;
        let cases = machine.json("bench --json")?;
        let cases = cases.as_array().context("`bench --json` is not a list")?;
        ensure!(cases.len() == 7, "the cases of `bench`: {cases:?}");
        for case in cases {
            let instructions = case["instructions"].as_f64().unwrap_or_default();
            ensure!(instructions >= 1.0, "the case counts nothing: {case}");
        }
        unplug(machine, &taken.dimm)
    })
}

/// A guest on the only CPU: it stands still while a batch is found, moved and cleared; the pause is a part of that.
fn a_pull_pauses_a_guest_for_few_instructions_at_a_time(lab: &Lab) -> Result<()> {
    lab.with(&counting(lab, &["128M", "128M"], Placement::Device)?, |machine| {
        let first = plug(machine, "128M")?;
        machine.run("vm create g 8M")?;
        let second = plug(machine, "128M")?;
        machine.run("vm run g")?;
        machine.wait_guest("g", "in its second round", |guest| guest.rounds > 0)?;
        unplug(machine, &first.dimm)?;
        let gone = machine.guest("g")?;
        let guest = machine.wait_guest("g", "going on", |guest| guest.rounds > gone.rounds)?;
        ensure!(guest.pages_moved == (8 << 20) / lab.page(), "{guest:?}");
        guest.ensure_pauses(lab.page())?;
        guest.ensure_stop(lab.page())?;
        machine.run("vm kill g")?;
        unplug(machine, &second.dimm)
    })
}

/// A guest in extents of 2 MiB, with pages of 64 KiB of 8 MiB, which writes 1 % of one of them again and again.
fn a_large_extent_moves_with_a_short_pause(lab: &Lab) -> Result<()> {
    let page = lab.page();
    let extent = (2 << 20).max(page * 128);
    let (size, written) = (4 * extent, extent / 100 / page * page);
    lab.with(&counting(lab, &["128M", "128M"], Placement::Device)?, |machine| {
        let first = plug(machine, "128M")?;
        machine.run(&format!("vm create g {size} --extent {extent}"))?;
        let second = plug(machine, "128M")?;
        machine.run(&format!("vm run g 0 --bytes {written}"))?;
        machine.wait_guest("g", "in its second round", |guest| guest.rounds > 0)?;
        unplug(machine, &first.dimm)?;
        let gone = machine.guest("g")?;
        let guest = machine.wait_guest("g", "going on", |guest| guest.rounds > gone.rounds)?;
        ensure!(guest.pages_moved == size / page, "{guest:?}");
        ensure!(guest.wrong_words == 0, "{guest:?}");
        guest.ensure_extents(4)?;
        guest.ensure_stop(page)?;
        machine.run("verify")?;
        machine.run("vm kill g")?;
        unplug(machine, &second.dimm)
    })
}

fn counting_is_off_unless_asked_for(lab: &Lab) -> Result<()> {
    lab.with(&lab.room(&["128M"])?, |machine| {
        let Taken { dimm, add, .. } = plug(machine, "128M")?;
        let (offline, remove) = machine.unplug_gone(&dimm)?;
        let counted =
            [add.instructions, add.event_instructions, offline.instructions, remove.instructions];
        ensure!(counted == [None; 4], "the guest counts: {counted:?}");
        let why = refused(machine, "bench")?;
        ensure!(why == "the machine does not count instructions", "{why}");
        let why = refused(machine, "holds")?;
        ensure!(why == "the image does not record how long locks are held", "{why}");
        Ok(())
    })
}
