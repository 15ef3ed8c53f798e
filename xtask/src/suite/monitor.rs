//! The monitor: its replies, and that nothing typed at it does harm.

use anyhow::{Context, Result, ensure};

use super::lab::{
    Lab, alloc, free, leave_verified, plug, refused, switch, unchanged, unplug_taken,
};
use super::{Scenario, scenarios};
use crate::machine::{Exit, Machine};

pub(crate) const SCENARIOS: &[Scenario] = scenarios![
    invalid_commands_get_errors_and_change_nothing,
    arguments_out_of_range_are_refused,
    help_names_every_command,
    replies_in_json_are_json_and_agree_with_each_other,
    pages_are_allocated_and_freed_and_a_double_free_is_refused,
    a_block_goes_offline_and_online_by_hand,
    memory_that_the_firmware_owns_is_not_removed_by_hand,
    missing_memory_cannot_be_added,
    a_translation_can_be_walked,
    the_guest_exits_with_the_code_that_was_typed,
    a_snapshot_check_finds_a_change,
];

/// Types something that is not a command; the reply has to be an error.
fn garbage(machine: &mut Machine, text: &str) -> Result<()> {
    let reply = machine.command(text)?;
    ensure!(reply.error.is_some(), "`{}` was taken for a command", text.escape_debug());
    Ok(())
}

fn invalid_commands_get_errors_and_change_nothing(lab: &Lab) -> Result<()> {
    lab.begun(&lab.room(&["128M"])?, |machine| {
        let taken = plug(machine, "128M")?;
        machine.run("snapshot save")?;
        let long = "x".repeat(5000);
        let words = "online ".repeat(300);
        for text in [
            "nonsense",
            "?",
            "\\",
            "%s%n%x",
            "online",
            "online x",
            "online -1",
            "add",
            "add 1",
            "add 0 0",
            "remove",
            "remove 0 0",
            "page",
            "page x",
            "walk",
            "walk zz",
            "alloc",
            "alloc -1",
            "free",
            "free x",
            "log",
            "log loud",
            "snapshot",
            "snapshot take",
            "use nonsense",
            "blocks --xml",
            "exit now",
            "\u{e9}\u{1f980}",
            "ok",
            "error: x",
            "\t\u{1}\u{2}\u{7f}x",
            long.as_str(),
            words.as_str(),
        ] {
            garbage(machine, text)?;
        }
        unchanged(machine)?;
        unplug_taken(machine, &taken)?;
        leave_verified(machine)
    })
}

fn arguments_out_of_range_are_refused(lab: &Lab) -> Result<()> {
    lab.with(&lab.room(&["128M"])?, |machine| {
        for command in [
            "online 99999999999999999999",
            "online 18446744073709551615",
            "offline 4294967296",
            "alloc 64",
            "alloc 4294967296",
            "free 0xffffffffffffffff",
            "free 0",
            "page 0xffffffffffffffff",
            "walk 0x10000000000000000",
            "add 0xfffffffff8000000 0x8000000",
            "add 0xfffffffff8000000 0x10000000 device",
            "add 0x100000000 0x8000001",
            "add 0x100000001 0x8000000",
            "remove 0xfffffffff8000000 0x10000000",
            "remove 0x100000000 0",
        ] {
            refused(machine, command)?;
        }
        Ok(())
    })
}

fn help_names_every_command(lab: &Lab) -> Result<()> {
    lab.with(&lab.room(&["128M"])?, |machine| {
        let help = machine.run("help")?;
        // An effect may go on in lines that begin with spaces.
        let forms = help.iter().filter(|line| !line.starts_with(' '));
        let names: Vec<_> =
            forms.clone().filter_map(|line| line.split_whitespace().next()).collect();
        for command in [
            "help", "blocks", "stats", "zones", "firmware", "page", "walk", "verify", "alloc",
            "free", "add", "remove", "online", "offline", "log", "exit", "snapshot", "use",
            "verdict",
        ] {
            ensure!(names.contains(&command), "help does not name `{command}`");
        }
        let mut lines: Vec<_> = forms.collect();
        let all = lines.len();
        lines.sort_unstable();
        lines.dedup();
        ensure!(lines.len() == all, "help says something twice: {help:?}");
        let listed = machine.json("help --json")?;
        let listed = listed.as_array().map_or(0, Vec::len);
        let mut names = names;
        names.dedup();
        ensure!(listed == names.len(), "help names {} commands, its JSON {listed}", names.len());
        Ok(())
    })
}

fn replies_in_json_are_json_and_agree_with_each_other(lab: &Lab) -> Result<()> {
    lab.with(&lab.room(&["256M"])?, |machine| {
        let taken = plug(machine, "256M")?;
        for command in ["stats --json", "zones --json"] {
            machine.json(command)?;
        }
        let blocks = machine.blocks()?;
        for online in &taken.online.blocks {
            let listed: Vec<_> = blocks.iter().filter(|one| one.block == online.block).collect();
            let agrees = matches!(listed.as_slice(), [one] if one.state == online.state);
            ensure!(agrees, "{online:?} is listed as {listed:?}");
        }
        let firmware = machine.json("firmware --json")?;
        ensure!(
            firmware["left_out"] == 0,
            "of QEMU's own tables something is left out: {firmware}"
        );
        let page = machine.json(&format!("page {:#x} --json", taken.dimm.start / lab.page()))?;
        ensure!(page.is_object(), "a page is {page}");
        unplug_taken(machine, &taken)
    })
}

fn pages_are_allocated_and_freed_and_a_double_free_is_refused(lab: &Lab) -> Result<()> {
    lab.with(&lab.room(&["128M"])?, |machine| {
        for order in [0, 1, 5, 9] {
            let pfn = alloc(machine, order)?.context("there is no memory")?;
            ensure!(pfn.is_multiple_of(1 << order), "order {order}: page frame {pfn:#x}");
            machine.run("verify")?;
            ensure!(
                machine.command("snapshot check")?.error.is_some(),
                "the snapshot does not see an allocated page"
            );
            free(machine, pfn)?;
            refused(machine, &format!("free {pfn:#x}"))?;
        }
        Ok(())
    })
}

fn a_block_goes_offline_and_online_by_hand(lab: &Lab) -> Result<()> {
    lab.begun(&lab.room(&["256M"])?, |machine| {
        let taken = plug(machine, "256M")?;
        machine.run("snapshot save")?;
        let last = taken.dimm.start / lab.block() + 1;
        switch(machine, "offline", last)?;
        machine.run("verify")?;
        refused(machine, &format!("offline {last}"))?;
        switch(machine, "online", last)?;
        refused(machine, &format!("online {last}"))?;
        unchanged(machine)?;
        unplug_taken(machine, &taken)?;
        leave_verified(machine)
    })
}

fn memory_that_the_firmware_owns_is_not_removed_by_hand(lab: &Lab) -> Result<()> {
    lab.with(&lab.room(&["256M"])?, |machine| {
        let taken = plug(machine, "256M")?;
        let (start, size) = (taken.dimm.start, taken.dimm.size);
        let blocks: Vec<u64> = taken.online.blocks.iter().map(|block| block.block).collect();
        refused(machine, &format!("remove {start:#x} {size:#x}"))?;
        for &block in &blocks {
            switch(machine, "offline", block)?;
        }
        refused(machine, &format!("remove {start:#x} {size:#x}"))?;
        refused(machine, &format!("add {start:#x} {size:#x}"))?;
        for &block in &blocks {
            switch(machine, "online", block)?;
        }
        unplug_taken(machine, &taken)
    })
}

fn missing_memory_cannot_be_added(lab: &Lab) -> Result<()> {
    lab.with(&lab.room(&["256M"])?, |machine| {
        refused(machine, "add 0x100000000 0x8000000")?;
        refused(machine, "add 0x8000000 0x8000000")?;
        refused(machine, "add 0xfee00000 0x8000000")
    })
}

fn a_translation_can_be_walked(lab: &Lab) -> Result<()> {
    lab.with(&lab.room(&["128M"])?, |machine| {
        let taken = plug(machine, "128M")?;
        let (first, last) = (taken.dimm.start, taken.dimm.start + taken.dimm.size - 8);
        for phys in [first, last] {
            let virt = lab.linear(phys);
            let lines = machine.run(&format!("walk {virt:#x}"))?;
            let tables = lines.iter().filter(|line| line.starts_with("level ")).count();
            ensure!(tables > 1, "{tables} tables lead to {virt:#x}: {lines:?}");
            let leaf = lines.iter().find(|line| line.starts_with("leaf "));
            ensure!(leaf.is_some_and(|leaf| leaf.ends_with(": read, write")), "{lines:?}");
            ensure!(lines.contains(&format!("{virt:#x} is {phys:#x}")), "{lines:?}");
        }

        unplug_taken(machine, &taken)?;
        let virt = lab.linear(first);
        let lines = machine.run(&format!("walk {virt:#x}"))?;
        ensure!(lines.contains(&format!("{virt:#x} has no translation")), "{lines:?}");
        Ok(())
    })
}

fn the_guest_exits_with_the_code_that_was_typed(lab: &Lab) -> Result<()> {
    for (command, code) in [("exit", 0), ("exit 0", 0), ("exit 7", 7), ("exit 100", 100)] {
        lab.begun(&lab.room(&["128M"])?, |machine| {
            machine.type_line(command)?;
            machine.wait_end(Exit::Left(code)).context(command)
        })?;
    }
    Ok(())
}

fn a_snapshot_check_finds_a_change(lab: &Lab) -> Result<()> {
    lab.with(&lab.room(&["128M"])?, |machine| {
        let taken = plug(machine, "128M")?;
        refused(machine, "snapshot check")?;
        unplug_taken(machine, &taken)
    })
}
