//! Guests with several virtual CPUs, each on a CPU of its own.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};

use super::lab::{Lab, plug, unplug};
use super::{Scenario, copies_ahead, runs_guests, scenarios};
use crate::machine::{Config, Guest, Machine};

pub(crate) const SCENARIOS: &[Scenario] = scenarios![
    payload_on_two_virtual_cpus_computes_while_its_pages_are_pulled_and_its_tables_stay if has_vcpus,
    payload_on_three_virtual_cpus_computes_while_its_dimm_is_pulled if has_vcpus =>
        |lab| pulled(lab, 3),
    payload_on_two_virtual_cpus_computes_while_its_extents_of_two_mebibytes_are_copied if |lab| has_vcpus(lab) && copies_ahead(lab),
    virtual_cpus_that_cannot_be_are_refused_by_name if runs_guests,
];

/// Whether guests of machines like this one have several virtual CPUs.
fn has_vcpus(lab: &Lab) -> bool {
    runs_guests(lab) && lab.arch().about().vcpus > 1
}

/// KiB of memory for each virtual CPU: few enough pages for all of them to stay in the TLB that QEMU emulates, so that a
/// translation that was not dropped is used.
const EACH: u32 = 256;

/// Pulls of the DIMM that the guest lies on.
const PULLS: u32 = 4;

/// The guest when each of its virtual CPUs has done `more` rounds more than `before`.
fn all_went_on(machine: &mut Machine, before: &Guest, more: u64) -> Result<Guest> {
    let before = before.rounds_of_each();
    machine.wait_guest("g", "going on, on each virtual CPU", |guest| {
        let now = guest.rounds_of_each();
        now.iter().zip(&before).all(|(now, before)| *now >= before + more)
    })
}

fn pulled(lab: &Lab, vcpus: u32) -> Result<()> {
    let config = Config { cpus: vcpus + 1, ..lab.room(&["256M", "256M"])? };
    let create = format!("vm create g {}K --vcpus {vcpus}", EACH * vcpus);
    lab.with(&config, |machine| {
        let mut under = plug(machine, "256M")?;
        machine.run(&create)?;
        machine.run("vm run g")?;
        for pull in 0..PULLS {
            let next = plug(machine, "256M")?;
            let blocks = machine.blocks_of_dimm(&under.dimm)?;
            let now = machine.guest("g")?;
            ensure!(now.bytes_in(blocks.clone()) == now.bytes, "pull {pull}: {now:?}");
            let before = all_went_on(machine, &now, 1)?;
            unplug(machine, &under.dimm)?;
            machine.run("verify")?;
            let gone = machine.guest("g")?;
            ensure!(gone.bytes_in(blocks) == 0, "pull {pull}: {gone:?}");
            let stood = gone.rounds_of_each().into_iter().zip(before.rounds_of_each());
            ensure!(stood.clone().all(|(now, then)| now > then), "pull {pull}: {gone:?}");
            let after = all_went_on(machine, &gone, 3)?;
            ensure!((after.state.as_str(), after.wrong_words) == ("running", 0), "{after:?}");
            under = next;
        }
        machine.run("vm pause g")?;
        let most = machine.guest("g")?.rounds_of_each().into_iter().max().unwrap_or(0);
        machine.run(&format!("vm run g {}", most + 1))?;
        let pulled = machine.wait_guest("g", "done", |guest| guest.state == "done")?;
        let cpus: BTreeSet<_> = pulled.vcpus.iter().map(|vcpu| vcpu.cpu).collect();
        ensure!(cpus == (1..=vcpus).collect(), "the virtual CPUs ran on {cpus:?}");
        machine.run("vm kill g")?;

        machine.run(&create)?;
        machine.run(&format!("vm run g {}", most + 1))?;
        let done = machine.wait_guest("g", "done", |guest| guest.state == "done")?;
        ensure!((done.wrong_words, done.pages_moved) == (0, 0), "{done:?}");
        ensure!(done.checksum == pulled.checksum, "{pulled:?} {done:?}");
        machine.run("vm kill g")?;
        unplug(machine, &under.dimm)
    })
}

/// A root that moves has every CPU leave the guest, and drop its translations when it enters again. Here it stays, on
/// another node, so that a flush that misses a CPU shows.
fn payload_on_two_virtual_cpus_computes_while_its_pages_are_pulled_and_its_tables_stay(
    lab: &Lab,
) -> Result<()> {
    let config = Config { cpus: 3, ..lab.room(&["256M", "256M@1", "256M@1"])? };
    let create = format!("vm create g {}K @1 --vcpus 2", EACH * 2);
    lab.with(&config, |machine| {
        let below = plug(machine, "256M")?;
        let mut under = plug(machine, "256M@1")?;
        for pull in 0..PULLS {
            machine.run(&create)?;
            let (blocks, begun) = (machine.blocks_of_dimm(&under.dimm)?, machine.guest("g")?);
            ensure!(begun.bytes_in(blocks.clone()) == begun.bytes, "pull {pull}: {begun:?}");
            let next = plug(machine, "256M@1")?;
            machine.run("vm run g")?;
            all_went_on(machine, &begun, 1)?;
            unplug(machine, &under.dimm)?;
            let gone = machine.guest("g")?;
            ensure!(gone.bytes_in(blocks) == 0, "pull {pull}: {gone:?}");
            let after = all_went_on(machine, &gone, 3)?;
            ensure!((after.wrong_words, after.tables_moved) == (0, 0), "pull {pull}: {after:?}");
            machine.run("verify")?;
            machine.run("vm kill g")?;
            under = next;
        }
        unplug(machine, &under.dimm)?;
        unplug(machine, &below.dimm)
    })
}

/// Both virtual CPUs store to an extent while it is copied: a mark that was taken back without a flush on one of their CPUs
/// would show as a word with the value of an earlier round.
fn payload_on_two_virtual_cpus_computes_while_its_extents_of_two_mebibytes_are_copied(
    lab: &Lab,
) -> Result<()> {
    let config = Config { cpus: 3, ..lab.room(&["256M", "256M"])? };
    lab.with(&config, |machine| {
        let mut under = plug(machine, "256M")?;
        machine.run("vm create g 4M --vcpus 2 --extent 2M")?;
        machine.run(&format!("vm run g 0 --bytes {}K", EACH * 2))?;
        for pull in 1..=u64::from(PULLS) {
            let next = plug(machine, "256M")?;
            let begun = machine.guest("g")?;
            all_went_on(machine, &begun, 1)?;
            unplug(machine, &under.dimm)?;
            machine.run("verify")?;
            let gone = machine.guest("g")?;
            let after = all_went_on(machine, &gone, 3)?;
            ensure!((after.state.as_str(), after.wrong_words) == ("running", 0), "{after:?}");
            let moved = (after.extents_ahead, after.pages_moved * lab.page());
            ensure!(moved == (2 * pull, pull * (4 << 20)), "pull {pull}: {after:?}");
            under = next;
        }
        machine.run("vm kill g")?;
        unplug(machine, &under.dimm)
    })
}

fn virtual_cpus_that_cannot_be_are_refused_by_name(lab: &Lab) -> Result<()> {
    let (most, config) = (lab.arch().about().vcpus, Config { cpus: 3, ..lab.room(&["256M"])? });
    lab.with(&config, |machine| {
        let limit = match most {
            1 => "a guest has one virtual CPU on this architecture".into(),
            most => format!("a guest has 1 to {most} virtual CPUs"),
        };
        for count in [0, u64::from(most) + 1, u64::MAX] {
            let why = machine.refused(&format!("vm create g 1M --vcpus {count}"))?;
            ensure!(why == limit, "{count}: {why}");
        }
        if most > 1 {
            let why = machine.refused("vm create g 1M --vcpus 3")?;
            let few = "the guest's 3 virtual CPUs need as many CPUs, and 2 are free";
            ensure!(why == few, "{why}");
            // A CPU with another guest is not free.
            machine.run("vm create one 1M")?;
            machine.run("vm run one")?;
            machine.run("vm create two 1M --vcpus 2")?;
            let why = machine.refused("vm run two")?;
            ensure!(why.ends_with("2 virtual CPUs need as many CPUs, and 1 are free"), "{why}");
            machine.run("vm kill one")?;
            machine.run("vm run two 2")?;
            machine.wait_guest("two", "done", |guest| guest.state == "done")?;
            machine.run("vm kill two")?;
        }
        Ok(())
    })
}
