//! Guests run while their memory is pulled, and nothing that they do harms the kernel.

use anyhow::{Result, ensure};

use super::lab::{Lab, Taken, exhaust, free, leave_verified, plug, unchanged, unplug};
use super::{Scenario, runs_guests, scenarios};
use crate::arch::Arch;
use crate::machine::{Config, Guest, Machine, Remove};

pub(crate) const SCENARIOS: &[Scenario] = scenarios![
    payload_computes_on_one_cpu_while_its_dimm_is_pulled if runs_guests => |lab| pulled(lab, 1),
    payload_computes_on_a_cpu_of_its_own_while_its_dimm_is_pulled if runs_guests =>
        |lab| pulled(lab, 3),
    payload_that_is_killed_in_the_middle_of_a_pull_leaves_nothing if runs_guests,
    payload_with_nowhere_to_go_refuses_a_pull_before_a_page_moves if runs_guests,
    payload_that_misbehaves_is_stopped_by_name if runs_guests,
    a_machine_that_runs_no_guests_names_what_it_lacks if |lab| lab.runs_guests() == Some(false),
];

/// Memory of the guest that is pulled from under.
const SIZE: &str = "32M";

/// Creates guest `g` on the only DIMM, and plugs another.
fn guest_on(machine: &mut Machine, size: &str) -> Result<(Taken, Taken)> {
    let first = plug(machine, "256M")?;
    machine.run(&format!("vm create g {size}"))?;
    let (guest, blocks) = (machine.guest("g")?, machine.blocks_of_dimm(&first.dimm)?);
    ensure!(guest.bytes_in(blocks) == guest.bytes, "the guest lies elsewhere: {guest:?}");
    let second = plug(machine, "256M")?;
    Ok((first, second))
}

/// Pulls a DIMM that the guest lies on while it computes; returns the guest after three more rounds.
fn pull_from_under(machine: &mut Machine, taken: &Taken) -> Result<Guest> {
    let before = machine.wait_guest("g", "in its second round", |guest| guest.rounds > 0)?;
    unplug(machine, &taken.dimm)?;
    let gone = machine.guest("g")?;
    ensure!(gone.rounds > before.rounds, "no round during the pull: {before:?} {gone:?}");
    let blocks = machine.blocks_of_dimm(&taken.dimm)?;
    ensure!(gone.bytes_in(blocks) == 0, "the guest still lies there: {gone:?}");
    machine.run("verify")?;
    machine.wait_guest("g", "far enough", |guest| guest.rounds >= gone.rounds + 3)
}

/// Pulls a DIMM from under the guest, and compares its checksum with that of an undisturbed run.
fn pulled(lab: &Lab, cpus: u32) -> Result<()> {
    let config = Config { cpus, ..lab.room(&["256M", "256M"])? };
    let pages = 32 * 1024 * 1024 / lab.page();
    lab.with(&config, |machine| {
        let (first, second) = guest_on(machine, SIZE)?;
        machine.run("vm run g")?;
        pull_from_under(machine, &first)?;
        machine.run("vm pause g")?;
        let end = machine.guest("g")?;
        ensure!((end.wrong_words, end.pages_moved) == (0, pages), "{end:?}");
        ensure!(end.tables_moved > 0 && end.longest_pause > 0, "{end:?}");
        machine.run("vm kill g")?;

        machine.run(&format!("vm create g {SIZE}"))?;
        machine.run(&format!("vm run g {}", end.rounds))?;
        let done = machine.wait_guest("g", "done", |guest| guest.state == "done")?;
        ensure!(done.checksum == end.checksum && done.pages_moved == 0, "{end:?} {done:?}");
        machine.run("vm kill g")?;
        unplug(machine, &second.dimm)
    })
}

fn payload_that_is_killed_in_the_middle_of_a_pull_leaves_nothing(lab: &Lab) -> Result<()> {
    let config = Config { cpus: 1, ..lab.room(&["256M", "256M"])? };
    lab.with(&config.word("budget=8"), |machine| {
        let (first, second) = guest_on(machine, SIZE)?;
        machine.run("vm run g")?;
        machine.unplug(&first.dimm)?;
        let moving = machine.wait_guest("g", "moving", |guest| guest.pages_moved > 0)?;
        machine.run("vm kill g")?;
        let pages = 32 * 1024 * 1024 / lab.page();
        ensure!(moving.pages_moved < pages, "it had moved already: {moving:?}");
        machine.wait_gone(&first.dimm)?;
        machine.run("verify")?;
        unplug(machine, &second.dimm)
    })
}

fn payload_with_nowhere_to_go_refuses_a_pull_before_a_page_moves(lab: &Lab) -> Result<()> {
    let config = Config { cpus: 1, ..lab.room(&["256M"])? };
    lab.begun(&config, |machine| {
        let taken = plug(machine, "256M")?;
        machine.run(&format!("vm create g {SIZE}"))?;
        // Before memory is used up: a virtual CPU may need a page.
        machine.run("vm run g")?;
        let taken_pages = exhaust(machine)?;
        machine.unplug(&taken.dimm)?;
        let refused: Remove = machine.next()?;
        ensure!(refused.error.is_some(), "the DIMM went: {refused:?}");
        machine.wait_kept(&taken.dimm)?;
        let guest = machine.wait_guest("g", "going on", |guest| guest.rounds > 0)?;
        ensure!((guest.pages_moved, guest.wrong_words) == (0, 0), "{guest:?}");
        machine.run("verify")?;
        machine.run("vm kill g")?;
        taken_pages.into_iter().try_for_each(|pfn| free(machine, pfn))?;
        machine.unplug_gone(&taken.dimm)?;
        unchanged(machine)?;
        leave_verified(machine)
    })
}

fn payload_that_misbehaves_is_stopped_by_name(lab: &Lab) -> Result<()> {
    lab.with(&lab.room(&["256M"])?, |machine| {
        machine.run("vm create good 256K")?;
        machine.run("vm run good")?;
        for (misdeed, why) in [
            ("store", "it wrote where it has no memory"),
            ("jump", "it ran code where it has no memory"),
            ("firmware", ""),
            ("call", "its call is unknown (0xbad)"),
            ("wait", "it waits for interrupts, which never come"),
            // Undefined, and the payload handles no exceptions.
            (
                "emulator",
                match lab.arch() {
                    Arch::X86_64 => "it shut down (triple fault)",
                    Arch::Aarch64 => "it ran code where it has no memory",
                    Arch::Ppc64 => "it executed an instruction that the CPU does not have",
                },
            ),
        ] {
            machine.run("vm create bad 256K")?;
            machine.run(&format!("vm run bad 0 {misdeed}"))?;
            machine.wait_guest("bad", "stopped", |guest| guest.state == "stopped")?;
            let log = machine.run("vm log bad")?;
            // What the kernel itself says of the guest at that moment may come before.
            let said = log.iter().position(|line| line.starts_with(why));
            ensure!(said.is_some_and(|said| said + 1 < log.len()), "{misdeed}: {log:?}");
            machine.run("vm kill bad")?;
            let rounds = machine.guest("good")?.rounds;
            machine.wait_guest("good", "going on", |guest| guest.rounds > rounds)?;
            machine.run("verify")?;
        }
        machine.run("vm kill good")
    })
}

fn a_machine_that_runs_no_guests_names_what_it_lacks(lab: &Lab) -> Result<()> {
    lab.with(&lab.room(&["128M"])?, |machine| {
        let why = machine.refused("vm create g 1M")?;
        ensure!(why.starts_with("this machine runs no guests: it does not have "), "{why}");
        Ok(())
    })
}
