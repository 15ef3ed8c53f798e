//! Boot memory that is taken out of the linear map, on a machine started with `kernelcore=`.

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::lab::{Lab, end_well, finish, leave_verified, plug, refused, switch, unplug};
use super::{Scenario, scenarios};
use crate::machine::Machine;

pub(crate) const SCENARIOS: &[Scenario] = scenarios![
    at07_blocks_inside_a_device_range_are_not_taken,
    at08_memory_of_a_dimm_is_not_taken,
    at09_a_taken_block_does_not_come_online,
    at10_taken_memory_has_no_translation_and_a_load_of_it_faults,
    no_cpu_loads_from_taken_memory_that_it_loaded_from_before,
    memory_is_taken_by_size_emptied_first_and_released_clear,
    boot_blocks_go_offline_and_come_back_but_are_never_removed,
    an_invalid_list_is_refused_with_its_invalid_part,
];

/// A machine with movable boot blocks, and room for a DIMM; runs `body` with their numbers.
fn with_core(lab: &Lab, body: impl FnOnce(&mut Machine, &[u64]) -> Result<()>) -> Result<()> {
    with_core_of(lab, 1, body)
}

/// The same with so many CPUs.
fn with_core_of(
    lab: &Lab,
    cpus: u32,
    body: impl FnOnce(&mut Machine, &[u64]) -> Result<()>,
) -> Result<()> {
    let mut config = lab.room(&["256M"])?.word(format_args!("kernelcore={}", 2 * lab.block()));
    (config.cpus, config.memory) = (cpus, lab.memory(8 * lab.block()));
    lab.begun(&config, |machine| {
        let mut spare = machine.blocks()?;
        spare.retain(|one| one.boot && one.zone.as_deref() == Some("movable"));
        let spare: Vec<u64> = spare.iter().map(|one| one.block).collect();
        ensure!(spare.len() >= 3, "only {spare:?} are movable");
        body(machine, &spare)
    })
}

/// Takes blocks offline and then by name.
fn take(machine: &mut Machine, blocks: &[u64]) -> Result<()> {
    for &block in blocks {
        switch(machine, "offline", block)?;
    }
    let parts: Vec<String> = blocks.iter().map(|block| format!("0:{block}")).collect();
    machine.run(&format!("memtrace {}", parts.join(","))).map(drop)
}

fn at07_blocks_inside_a_device_range_are_not_taken(lab: &Lab) -> Result<()> {
    with_core(lab, |machine, _| {
        let taken = plug(machine, "256M")?;
        let block = taken.dimm.start / lab.block();
        for number in [block, block + 1] {
            switch(machine, "offline", number)?;
            let why = refused(machine, &format!("memtrace 0:{number}"))?;
            ensure!(why.contains(&format!("block {number} was added")), "{why}");
        }
        unplug(machine, &taken.dimm)?;
        finish(machine)
    })
}

fn at08_memory_of_a_dimm_is_not_taken(lab: &Lab) -> Result<()> {
    with_core(lab, |machine, spare| {
        machine.run("vmemmap disable")?;
        let taken = plug(machine, "256M")?;
        let block = taken.dimm.start / lab.block();
        switch(machine, "offline", spare[0])?;
        switch(machine, "offline", block)?;
        // One part that is wrong keeps all of the list from being taken.
        let why = refused(machine, &format!("memtrace 0:{},0:{block}", spare[0]))?;
        ensure!(why.contains("was added"), "{why}");
        let status = machine.json("memtrace status --json")?;
        ensure!(status == json!([]), "{status}");
        // By size, neither: the run would be longer than boot memory.
        refused(machine, &format!("memtrace contig 0 {}", 7 * lab.block()))?;
        switch(machine, "online", spare[0])?;
        unplug(machine, &taken.dimm)?;
        finish(machine)
    })
}

fn at09_a_taken_block_does_not_come_online(lab: &Lab) -> Result<()> {
    with_core(lab, |machine, spare| {
        take(machine, &spare[..2])?;
        let why = machine.refused(&format!("online {}", spare[0]))?;
        ensure!(why.contains("memtrace objects"), "{why}");
        let step = machine.next_step()?;
        ensure!(step.error().is_some(), "it came online");
        machine.run("verify")?;
        machine.run("memtrace release")?;
        for &block in &spare[..2] {
            switch(machine, "online", block)?;
        }
        finish(machine)
    })
}

/// Offsets in a block. QEMU's TLB has one place for all pages with the same low bits of their number, and that of a
/// block's first page is used by device registers, too: a CPU that handles an interrupt loses it.
const OFFSETS: [u64; 3] = [0x3_3000, 0x5_5000, 0xa_a000];

/// Each CPU has loaded by the translations, and sleeps while the first one takes the memory.
fn no_cpu_loads_from_taken_memory_that_it_loaded_from_before(lab: &Lab) -> Result<()> {
    with_core_of(lab, 3, |machine, spare| {
        let addresses = OFFSETS.map(|offset| lab.linear(spare[1] * lab.block() + offset));
        let peeks =
            [2, 1, 0].map(|cpu| addresses.map(|address| format!("peek {address:#x} {cpu}")));
        let peeks = peeks.concat();
        for round in 1..=3 {
            for peek in &peeks {
                machine.run(peek)?;
            }
            take(machine, &spare[1..2])?;
            for peek in &peeks {
                let why = refused(machine, peek).with_context(|| format!("round {round}"))?;
                ensure!(why.contains("faults"), "{peek}: {why}");
            }
            machine.run("memtrace release")?;
            switch(machine, "online", spare[1])?;
        }
        end_well(machine)
    })
}

fn at10_taken_memory_has_no_translation_and_a_load_of_it_faults(lab: &Lab) -> Result<()> {
    with_core(lab, |machine, spare| {
        let at = |block: u64, offset: u64| lab.linear(block * lab.block() + offset);
        let ends = [0, lab.block() / 2, lab.block() - 8];
        for offset in ends {
            machine.run(&format!("peek {:#x}", at(spare[1], offset)))?;
        }
        take(machine, &spare[1..2])?;
        for offset in ends {
            let address = at(spare[1], offset);
            let why = refused(machine, &format!("peek {address:#x}"))?;
            ensure!(why.contains("faults"), "{why}");
            let walk = machine.run(&format!("walk {address:#x}"))?;
            let last = walk.last().map(String::as_str).unwrap_or_default();
            ensure!(last.contains("has no translation"), "{walk:?}");
        }
        // Its neighbours are as they were.
        machine.run(&format!("peek {:#x}", at(spare[0], 0)))?;
        machine.run("verify")?;
        machine.run("memtrace release")?;
        let read = machine.run(&format!("peek {:#x}", at(spare[1], 0)))?;
        ensure!(read.iter().any(|line| line == "0x0"), "{read:?}");
        switch(machine, "online", spare[1])?;
        finish(machine)
    })
}

fn memory_is_taken_by_size_emptied_first_and_released_clear(lab: &Lab) -> Result<()> {
    with_core(lab, |machine, spare| {
        machine.run("pool grow 500")?;
        machine.run(&format!("memtrace contig 0 {}", 2 * lab.block()))?;
        machine.run("pool check")?;
        machine.run("verify")?;
        let status = machine.json("memtrace status --json")?;
        let taken = status.as_array().context("the status is not a list")?;
        let taken: Vec<u64> = taken.iter().filter_map(|one| one["block"].as_u64()).collect();
        ensure!(taken.len() == 2 && taken[1] == taken[0] + 1, "{taken:?}");
        ensure!(taken.iter().all(|block| spare.contains(block)), "{taken:?} of {spare:?}");
        let address = lab.linear(taken[0] * lab.block());
        refused(machine, &format!("peek {address:#x}"))?;
        let why = machine.refused(&format!("offline {}", taken[0]))?;
        ensure!(why.contains("held by taken"), "{why}");
        machine.unread_steps()?;
        machine.run("memtrace release")?;
        let read = machine.run(&format!("peek {:#x}", lab.linear(taken[1] * lab.block())))?;
        ensure!(read.iter().any(|line| line == "0x0"), "{read:?}");
        machine.run("pool shrink 500")?;
        refused(machine, "memtrace contig 0 4096")?;
        finish(machine)
    })
}

fn boot_blocks_go_offline_and_come_back_but_are_never_removed(lab: &Lab) -> Result<()> {
    with_core(lab, |machine, spare| {
        for &block in spare {
            switch(machine, "offline", block)?;
            let (start, size) = (block * lab.block(), lab.block());
            let why = refused(machine, &format!("remove {start:#x} {size:#x}"))?;
            ensure!(why.contains("is memory the machine was started with"), "{why}");
        }
        machine.run("verify")?;
        for &block in spare {
            switch(machine, "online", block)?;
        }
        machine.run("snapshot check")?;
        leave_verified(machine)
    })
}

fn an_invalid_list_is_refused_with_its_invalid_part(lab: &Lab) -> Result<()> {
    with_core(lab, |machine, spare| {
        switch(machine, "offline", spare[0])?;
        let first = spare[0];
        for (list, part) in [
            (format!("0:{first}-"), format!("0:{first}-")),
            (format!("0:{first},"), String::new()),
            (format!("0:{first},0:{first}"), format!("0:{first}")),
            (format!("128:{first}"), format!("128:{first}")),
            (format!("0:{first}x"), format!("0:{first}x")),
            (format!("0:{}-{first}", first + 1), format!("0:{}-{first}", first + 1)),
        ] {
            let why = refused(machine, &format!("memtrace {list}"))?;
            ensure!(why.contains(&format!("\"{part}\"")), "{list}: {why}");
        }
        let why = refused(machine, &format!("memtrace 1:{first}"))?;
        ensure!(why.contains("is on node 0"), "{why}");
        let why = refused(machine, "memtrace 0:99999")?;
        ensure!(why.contains("block 99999 is not there"), "{why}");
        switch(machine, "online", first)?;
        finish(machine)
    })
}
