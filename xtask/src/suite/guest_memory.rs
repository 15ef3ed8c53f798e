//! What guests leave in memory, and which memory they take.

use anyhow::{Result, ensure};

use super::lab::{Lab, Taken, finish, plug, plug_filled, unplug};
use super::{Scenario, scenarios};
use crate::machine::{Guest, Machine, Remains};

pub(crate) const SCENARIOS: &[Scenario] = scenarios![
    payload_leaves_nothing_on_a_dimm_that_is_pulled_from_under_it if runs_guests,
    payload_that_is_killed_leaves_nothing_to_the_next_one_or_on_its_dimm if runs_guests,
];

/// Whether machines like this one run guests.
fn runs_guests(lab: &Lab) -> bool {
    lab.runs_guests() == Some(true)
}

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
        unplug(machine, &second.dimm)?;
        finish(machine)
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
        pull(machine, lab, &taken)?;
        finish(machine)
    })
}
