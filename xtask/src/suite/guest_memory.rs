//! What guests leave in memory, and which memory they take.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::cpus::SHIFT;
use super::lab::{Lab, Taken, plug, plug_filled, unplug};
use super::{Scenario, runs_guests, scenarios};
use crate::arch::Arch;
use crate::machine::{Config, Guest, Machine, Remains};
use crate::size::MIB;

pub(crate) const SCENARIOS: &[Scenario] = scenarios![
    payload_leaves_nothing_on_a_dimm_that_is_pulled_from_under_it if runs_guests,
    payload_that_is_killed_leaves_nothing_to_the_next_one_or_on_its_dimm if runs_guests,
    a_guest_larger_than_boot_memory_lies_in_added_memory_with_all_its_tables if runs_guests,
    payloads_on_three_cpus_compute_through_pulls_and_plugs if runs_guests =>
        |lab| compute_through_pulls(lab, None),
    payloads_on_three_cpus_compute_through_pulls_in_turns_of_counted_instructions if takes_turns =>
        |lab| compute_through_pulls(lab, Some(SHIFT)),
];

/// The same, and each CPU gets its turn when instructions are counted: on aarch64 QEMU before 8.1 runs no CPU behind one
/// that stays in its guest.
fn takes_turns(lab: &Lab) -> bool {
    let is_fair = lab.qemu_version().is_some_and(|version| version >= 9);
    runs_guests(lab) && (is_fair || lab.arch() != Arch::Aarch64)
}

/// Rounds of a long storm.
const LONG: u64 = 5000;
/// Memory of a guest.
const SIZE: &str = "32M";

/// Creates guest `name`, which has to lie on a DIMM.
fn create(machine: &mut Machine, name: &str, on: &Taken) -> Result<()> {
    machine.run(&format!("vm create {name} {SIZE}"))?;
    let (guest, blocks) = (machine.guest(name)?, machine.blocks_of_dimm(&on.dimm)?);
    ensure!(guest.bytes_in(blocks) == guest.bytes, "the guest lies elsewhere: {guest:?}");
    Ok(())
}

/// Lets a guest run for a round; `word` says what it does besides.
fn round(machine: &mut Machine, name: &str, word: &str) -> Result<Guest> {
    machine.run(&format!("vm run {name} 1 {word}"))?;
    machine.wait_guest(name, "done", |guest| guest.state == "done")
}

/// Pulls a DIMM; what is behind it has to hold zeroes only. Its memmap is in boot memory.
fn pull(machine: &mut Machine, lab: &Lab, taken: &Taken) -> Result<()> {
    let file = machine.file_behind(&taken.dimm)?;
    unplug(machine, &taken.dimm)?;
    ensure!(machine.take_scrubs().is_empty(), "the kernel cleared all of the DIMM");
    let left = Remains::of(file, 0, lab.page(), &taken.add)?;
    ensure!(left == Remains::default(), "{left:x?}");
    Ok(())
}

fn payload_leaves_nothing_on_a_dimm_that_is_pulled_from_under_it(lab: &Lab) -> Result<()> {
    let config = lab.room(&["256M", "256M"])?.word("placement=boot").word("scrub=guests");
    lab.with(&config, |machine| {
        let first = plug_filled(machine, "256M", Some(0))?;
        create(machine, "g", &first)?;
        let second = plug(machine, "256M")?;
        machine.run("vm run g")?;
        machine.wait_guest("g", "in its second round", |guest| guest.rounds > 0)?;
        pull(machine, lab, &first)?;
        let gone = machine.guest("g")?;
        ensure!(gone.pages_moved > 0 && gone.tables_moved > 0, "{gone:?}");
        machine.wait_guest("g", "going on", |guest| guest.rounds > gone.rounds)?;
        machine.run("vm kill g")?;
        unplug(machine, &second.dimm)
    })
}

fn payload_that_is_killed_leaves_nothing_to_the_next_one_or_on_its_dimm(lab: &Lab) -> Result<()> {
    let config = lab.room(&["256M"])?.word("placement=boot").word("scrub=guests");
    lab.with(&config, |machine| {
        let taken = plug_filled(machine, "256M", Some(0))?;
        create(machine, "a", &taken)?;
        ensure!(round(machine, "a", "")?.wrong_words == 0, "words of the first guest are wrong");
        // A search finds what the guest has written itself.
        let own = round(machine, "a", "search")?;
        ensure!(own.wrong_words > 31 << 20 >> 3, "the search found {} words", own.wrong_words);
        machine.run("vm kill a")?;
        create(machine, "b", &taken)?;
        let found = round(machine, "b", "search")?;
        ensure!(found.wrong_words == 0, "the second guest found {} words", found.wrong_words);
        machine.run("vm kill b")?;
        machine.run("verify")?;
        pull(machine, lab, &taken)
    })
}

/// Twice as much as at boot; with `--long` 16 GiB, on a machine with as little boot memory as it starts with.
fn a_guest_larger_than_boot_memory_lies_in_added_memory_with_all_its_tables(
    lab: &Lab,
) -> Result<()> {
    let long = lab.storm().rounds >= LONG;
    let (dimm, size) = if long { ("17G", "16G") } else { ("2G", "1088M") };
    let mut config = lab.room(&[dimm])?.word("scrub=off");
    ensure!(config.memory.bytes() <= 1 << 30, "{} at boot", config.memory.word());
    if long {
        config.memory = lab.memory(64 * MIB);
        config.timeout = config.timeout.map(|timeout| timeout + Duration::from_secs(600));
        config.patience += Duration::from_secs(600);
    }
    lab.with(&config, |machine| {
        let taken = plug(machine, dimm)?;
        let free = machine.boot_free()?;
        machine.run(&format!("vm create g {size}"))?;
        let (guest, blocks) = (machine.guest("g")?, machine.blocks_of_dimm(&taken.dimm)?);
        ensure!(guest.bytes > config.memory.bytes(), "{guest:?}");
        ensure!(guest.bytes_in(blocks.clone()) == guest.bytes, "{guest:?}");
        let elsewhere = guest.table_blocks.iter().find(|held| !blocks.contains(&held.block));
        ensure!(elsewhere.is_none(), "tables lie in boot memory: {elsewhere:?}");
        let taken_of_it = free - machine.boot_free()?;
        ensure!(taken_of_it == 0, "{taken_of_it} bytes of boot memory are taken");
        machine.run("vm kill g")?;
        ensure!(machine.boot_free()? == free, "boot memory is not as it was");
        unplug(machine, &taken.dimm)
    })
}

/// Guests on CPUs of their own, beside the first, which carries out the pulls.
const THREE: [&str; 3] = ["a", "b", "c"];
/// Memory of each: so little that a CPU caches translations of all of it.
const SMALL: &str = "1M";

/// Pulls the DIMM that three guests lie on, and plugs another, again and again.
fn compute_through_pulls(lab: &Lab, icount: Option<u8>) -> Result<()> {
    let pulls = (lab.storm().rounds / 2).clamp(20, 500);
    let config = Config { cpus: 4, icount, ..lab.room(&["256M", "256M"])? };
    let more = Duration::from_secs(20 * pulls);
    let config = Config { timeout: config.timeout.map(|timeout| timeout + more), ..config };
    lab.with(&config, |machine| {
        let mut under = plug(machine, "256M")?;
        for name in THREE {
            machine.run(&format!("vm create {name} {SMALL}"))?;
            machine.run(&format!("vm run {name}"))?;
        }
        for pull in 0..pulls {
            let next = plug(machine, "256M")?;
            let before = machine.guests()?;
            unplug(machine, &under.dimm)?;
            machine.run("verify")?;
            let (blocks, after) = (machine.blocks_of_dimm(&under.dimm)?, machine.guests()?);
            for (before, after) in before.iter().zip(&after) {
                let moved = after.pages_moved - before.pages_moved;
                ensure!(after.bytes_in(blocks.clone()) == 0, "pull {pull}: {after:?}");
                ensure!(moved * lab.page() >= after.bytes, "pull {pull}: {moved} pages, {after:?}");
                ensure!((after.state.as_str(), after.wrong_words) == ("running", 0), "{after:?}");
            }
            under = next;
        }
        let mut ended = Vec::new();
        for name in THREE {
            let guest = machine.guest(name)?;
            machine.wait_guest(name, "going on", |now| now.rounds > guest.rounds)?;
            machine.run(&format!("vm pause {name}"))?;
            ended.push(machine.guest(name)?);
            ensure!(ended.iter().all(|guest| guest.wrong_words == 0), "{ended:?}");
            machine.run(&format!("vm kill {name}"))?;
        }
        let cpus: BTreeSet<_> =
            ended.iter().flat_map(|guest| guest.vcpus.iter().map(|vcpu| vcpu.cpu)).collect();
        ensure!(cpus.len() == 3 && !cpus.contains(&0), "the guests ran on {cpus:?}");
        unplug(machine, &under.dimm)
    })
}
