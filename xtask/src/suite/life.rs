//! The life of memory in use: it moves, it is pinned, somebody objects, the policy changes, the operator
//! cancels.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::lab::{
    Lab, Taken, blocks_of, end_well, insert, leave_verified, plug, refused, switch, taken, unplug,
};
use super::{Scenario, on_x86_64, scenarios};
use crate::machine::{Dimm, Exit, Machine, Online, Remove, Request};

pub(crate) const SCENARIOS: &[Scenario] = scenarios![
    memory_in_use_moves_when_its_dimm_is_unplugged_and_keeps_its_content,
    a_pinned_page_keeps_its_dimm_and_is_named_until_it_is_unpinned,
    an_unplug_is_cancelled_while_it_runs_and_works_afterwards,
    a_veto_is_reported_to_firmware_and_to_listeners_that_had_agreed,
    policy_decides_at_run_time_where_memory_goes,
    at11_compaction_makes_room_between_memmaps,
    a_bad_page_is_taken_out_of_use_and_its_block_does_not_come_back,
    a_bad_page_that_is_noted_for_later_is_taken_out_of_use,
    a_machine_check_takes_its_page_out_of_use_and_the_kernel_goes_on if on_x86_64,
    a_machine_check_that_lost_the_state_of_the_cpu_ends_the_kernel if on_x86_64,
    at13_a_dump_takes_memmaps_and_leaves_offline_memory_out,
];

/// The monitor's forecast of the removal of a DIMM.
fn explain(machine: &mut Machine, dimm: &Dimm) -> Result<Value> {
    machine.json(&format!("explain-remove {:#x} {:#x} --json", dimm.start, dimm.size))
}

/// A number of the pool's or the cache's.
fn figure(machine: &mut Machine, owner: &str, name: &str) -> Result<u64> {
    let status = machine.json(&format!("{owner} --json"))?;
    status[name].as_u64().with_context(|| format!("{owner} has no {name}: {status}"))
}

/// An unplug that has to be refused; returns the firmware's code and the kernel's reason.
fn kept(machine: &mut Machine, dimm: &Dimm) -> Result<(Option<u64>, String)> {
    machine.unplug(dimm)?;
    let remove: Remove = machine.later()?;
    let why = remove.error.context("the DIMM was removed")?;
    machine.wait_kept(dimm)?;
    Ok((machine.status(dimm, Request::Ejection)?, why))
}

fn memory_in_use_moves_when_its_dimm_is_unplugged_and_keeps_its_content(lab: &Lab) -> Result<()> {
    lab.begun(&lab.room(&["256M", "256M"])?, |machine| {
        let first = plug(machine, "256M")?;
        machine.run("pool grow 400")?;
        machine.run("pool grow 20 4")?;
        machine.run("cache write 3 100 77 30000")?;
        let second = plug(machine, "256M")?;
        let predicted = explain(machine, &first.dimm)?;
        ensure!(predicted["state"] == "after-moving", "{predicted}");

        unplug(machine, &first.dimm)?;
        let moved = figure(machine, "pool", "moved")? + figure(machine, "cache", "moved")?;
        ensure!(
            Some(moved) == predicted["extents"].as_u64(),
            "{moved} moved, predicted {predicted}"
        );
        ensure!(moved >= 420, "{moved} extents moved");
        machine.run("pool check")?;
        machine.run("cache check")?;
        ensure!(machine.run("cache read 3 30099")?.iter().any(|line| line == "77"), "no 77");

        unplug(machine, &second.dimm)?;
        machine.run("pool check")?;
        ensure!(machine.run("cache read 3 100")?.iter().any(|line| line == "77"), "no 77");
        end_well(machine)
    })
}

fn a_pinned_page_keeps_its_dimm_and_is_named_until_it_is_unpinned(lab: &Lab) -> Result<()> {
    lab.begun(&lab.room(&["256M"])?, |machine| {
        let taken = plug(machine, "256M")?;
        machine.run("pool grow 10")?;
        machine.run("pool pin 4")?;
        let predicted = explain(machine, &taken.dimm)?;
        ensure!(predicted["state"] == "blocked" && predicted["owner"] == "pool", "{predicted}");
        let pfn = predicted["pfn"].as_u64().context("no page is named")?;

        let (reported, why) = kept(machine, &taken.dimm)?;
        lab.check_reported(reported.as_slice(), &[0x81])?;
        ensure!(why.contains(&format!("pfn {pfn:#x}")), "page {pfn:#x} is not in: {why}");
        ensure!(figure(machine, "pool", "moved")? == 0, "pages moved for nothing");
        machine.run("pool unpin 4")?;
        unplug(machine, &taken.dimm)?;
        machine.run("pool check")?;
        leave_verified(machine)
    })
}

fn an_unplug_is_cancelled_while_it_runs_and_works_afterwards(lab: &Lab) -> Result<()> {
    lab.begun(&lab.room(&["256M"])?.word("budget=1"), |machine| {
        let taken = plug(machine, "256M")?;
        // Enough to be moved one by one for long after the operator's two lines are read.
        let pages = taken.dimm.size / lab.page() * 3 / 10;
        machine.run(&format!("pool grow {pages}"))?;
        machine.unplug(&taken.dimm)?;
        machine.wait_line("is being given up")?;
        let status = machine.run("offline status")?;
        ensure!(status.iter().any(|line| line.contains("memory device")), "{status:?}");
        let first = taken.dimm.start / lab.block();
        let busy = machine.refused(&format!("offline {first}"))?;
        ensure!(busy.contains("is being given up"), "{busy}");
        machine.run("offline cancel")?;

        let mut steps = machine.unread_steps()?;
        let last = steps.pop().context("no step")?;
        ensure!(last.operation() == "remove", "the last step is {}", last.operation());
        ensure!(last.error().is_some_and(|why| why.contains("cancelled")), "{:?}", last.error());
        machine.wait_kept(&taken.dimm)?;
        let reported = machine.status(&taken.dimm, Request::Ejection)?;
        lab.check_reported(reported.as_slice(), &[0x82])?;
        let blocks = blocks_of(machine, &taken.dimm)?;
        ensure!(blocks.iter().all(|one| one.state == "online"), "{blocks:?}");
        machine.run("pool check")?;
        machine.run("verify")?;
        machine.run(&format!("pool shrink {}", pages - 100))?;
        unplug(machine, &taken.dimm)?;
        machine.run("pool check")?;
        leave_verified(machine)
    })
}

fn text<'a>(object: &'a Value, name: &str) -> &'a str {
    object[name].as_str().unwrap_or_default()
}

fn a_veto_is_reported_to_firmware_and_to_listeners_that_had_agreed(lab: &Lab) -> Result<()> {
    lab.begun(&lab.room(&["128M"])?, |machine| {
        let taken = plug(machine, "128M")?;
        machine.run("notify add 9")?;
        machine.run("notify add 5 offline")?;
        machine.run("notify add 1")?;
        machine.run("snapshot save")?;
        let before = machine.position();
        let (reported, why) = kept(machine, &taken.dimm)?;
        lab.check_reported(reported.as_slice(), &[0x83])?;
        ensure!(why.contains("objects"), "{why}");
        let lines = machine.lines_from(before);
        let heard = |text: &str| lines.iter().filter(|line| line.contains(text)).count();
        ensure!(heard("watcher 0 notified: going-offline") == 1, "{lines:?}");
        ensure!(heard("watcher 0 notified: cancel-offline") == 1, "{lines:?}");
        ensure!(
            heard("watcher 1 notified: cancel") == 0 && heard("watcher 2 notified") == 0,
            "{lines:?}"
        );
        machine.run("snapshot check")?;
        machine.run("verify")?;

        machine.run("notify remove 1")?;
        unplug(machine, &taken.dimm)?;
        leave_verified(machine)
    })
}

fn policy_decides_at_run_time_where_memory_goes(lab: &Lab) -> Result<()> {
    lab.begun(&lab.room(&["128M"])?, |machine| {
        for (policy, zone) in [
            ("offline", None),
            ("online", Some("normal")),
            ("online_kernel", Some("normal")),
            ("online_movable", Some("movable")),
            ("auto_movable", Some("movable")),
            ("auto_movable 0", Some("normal")),
        ] {
            machine.run(&format!("policy {policy}"))?;
            let dimm = insert(machine, "128M")?;
            taken(machine, &dimm)?;
            if zone.is_some() {
                machine.done::<Online>().context(policy)?;
            }
            let found = blocks_of(machine, &dimm)?;
            ensure!(found.iter().all(|one| one.zone.as_deref() == zone), "{policy}: {found:?}");
            unplug(machine, &dimm)?;
            machine.run("snapshot check").with_context(|| policy.to_owned())?;
        }
        end_well(machine)
    })
}

fn at11_compaction_makes_room_between_memmaps(lab: &Lab) -> Result<()> {
    let config = lab.room(&["256M"])?.word("placement=block");
    lab.begun(&config, |machine| {
        let taken = plug(machine, "256M")?;
        machine.run("pool grow 300")?;
        let before = blocks_of(machine, &taken.dimm)?;
        ensure!(before.iter().all(|one| one.memmap_start.is_some()), "{before:?}");
        machine.run("compact 0 movable 9")?;
        machine.run("verify")?;
        machine.run("pool check")?;
        let after = blocks_of(machine, &taken.dimm)?;
        ensure!(before == after, "before: {before:?}\nafter: {after:?}");
        machine.run("pool shrink 300")?;
        unplug(machine, &taken.dimm)?;
        end_well(machine)
    })
}

fn a_bad_page_is_taken_out_of_use_and_its_block_does_not_come_back(lab: &Lab) -> Result<()> {
    lab.begun(&lab.room(&["256M"])?, |machine| {
        let taken = plug(machine, "256M")?;
        let second = taken.dimm.start / lab.block() + 1;
        let page = second * (lab.block() / lab.page()) + 99;
        machine.run(&format!("poison {page}"))?;
        refused(machine, &format!("poison {page}"))?;
        machine.run("verify")?;
        switch(machine, "offline", second)?;
        let why = machine.refused(&format!("online {second}"))?;
        ensure!(why.contains("has bad memory"), "{why}");
        machine.unread_steps()?;
        unplug(machine, &taken.dimm)?;
        machine.run("snapshot check")?;
        leave_verified(machine)
    })
}

/// A page of the second block of a DIMM that is plugged.
fn page_of_a_dimm(lab: &Lab, machine: &mut Machine) -> Result<(Taken, u64)> {
    let taken = plug(machine, "256M")?;
    let second = taken.dimm.start / lab.block() + 1;
    Ok((taken, second * (lab.block() / lab.page()) + 99))
}

/// A page was found to be bad by a handler, and is now out of use.
fn goes_without(machine: &mut Machine, taken: &Taken, page: u64) -> Result<()> {
    machine.wait_line("is bad and out of use")?;
    refused(machine, &format!("poison {page}"))?;
    machine.run("verify")?;
    unplug(machine, &taken.dimm)?;
    leave_verified(machine)
}

fn a_bad_page_that_is_noted_for_later_is_taken_out_of_use(lab: &Lab) -> Result<()> {
    lab.begun(&lab.room(&["256M"])?, |machine| {
        let (taken, page) = page_of_a_dimm(lab, machine)?;
        machine.run(&format!("poison {page} later"))?;
        goes_without(machine, &taken, page)
    })
}

fn a_machine_check_takes_its_page_out_of_use_and_the_kernel_goes_on(lab: &Lab) -> Result<()> {
    lab.begun(&lab.room(&["256M"])?, |machine| {
        let (taken, page) = page_of_a_dimm(lab, machine)?;
        let at = page * lab.page();
        // Uncorrected, with a physical address; the memory there was not used.
        let line = format!("mce 0 1 0xbd00000000000134 0xd {at:#x} 0x8c");
        machine.qmp("human-monitor-command", json!({ "command-line": line }))?;
        goes_without(machine, &taken, page)
    })
}

fn a_machine_check_that_lost_the_state_of_the_cpu_ends_the_kernel(lab: &Lab) -> Result<()> {
    lab.begun(&lab.room(&["256M"])?, |machine| {
        let line = "mce 0 1 0xbf00000000000134 0xd 0x100000 0x8c";
        // The guest may be gone before QEMU has replied: only its exit is checked.
        let _ = machine.qmp("human-monitor-command", json!({ "command-line": line }));
        machine.wait_end(Exit::Panicked)
    })
}

fn at13_a_dump_takes_memmaps_and_leaves_offline_memory_out(lab: &Lab) -> Result<()> {
    lab.begun(&lab.room(&["256M"])?, |machine| {
        let taken = plug(machine, "256M")?;
        let first = taken.dimm.start / lab.page();
        let blocks =
            taken.dimm.start / lab.block()..(taken.dimm.start + taken.dimm.size) / lab.block();
        let inside = |dump: &Value, kind: &str| -> u64 {
            let runs = dump.as_array().into_iter().flatten();
            let runs = runs.filter(|run| text(run, "kind") == kind);
            let ours = runs.filter(|run| run["pfn"].as_u64().is_some_and(|pfn| pfn >= first));
            ours.filter_map(|run| run["pages"].as_u64()).sum()
        };
        let online = machine.json("dump --json")?;
        let (memmap, free) = (inside(&online, "memmap"), inside(&online, "free"));
        ensure!((memmap + free) * lab.page() == taken.dimm.size, "{memmap} and {free} pages");
        for block in blocks.clone() {
            switch(machine, "offline", block)?;
        }
        let offline = machine.json("dump --json")?;
        ensure!(inside(&offline, "memmap") == memmap, "the memmap is left out");
        ensure!(inside(&offline, "free") == 0, "memory without content is dumped");
        unplug(machine, &taken.dimm)?;
        end_well(machine)
    })
}
