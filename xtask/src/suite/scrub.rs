//! What an ejected DIMM still holds: its memory is a file of this host, which is read when the DIMM is gone.

use std::fs::File;

use anyhow::{Context, Result, ensure};

use super::lab::{Lab, Taken, end_well, plug_filled, unplug};
use super::{Scenario, scenarios};
use crate::machine::{Machine, Remains, Scrub};

pub(crate) const SCENARIOS: &[Scenario] = scenarios![
    an_ejected_dimm_holds_nothing_that_was_written_there => |lab| holds_nothing(lab, "block"),
    a_dimm_with_one_memmap_holds_nothing_when_it_is_gone => |lab| holds_nothing(lab, "device"),
    memory_that_was_never_allocated_is_not_written,
    without_scrubbing_an_ejected_dimm_holds_what_was_written,
];

/// Has the pool fill a part of memory, and everything written that is free.
fn fill(machine: &mut Machine, lab: &Lab, taken: &Taken) -> Result<u64> {
    let pages = (taken.dimm.size / lab.page() * 3 / 10).min(20_000);
    machine.run(&format!("pool grow {pages}"))?;
    machine.run("cache write 3 100 77 30000")?;
    Ok(pages)
}

/// Unplugs a DIMM under pages in use, which move. Returns what was cleared, and the file.
fn pull(machine: &mut Machine, taken: &Taken) -> Result<(Scrub, File)> {
    let file = machine.file_behind(&taken.dimm)?;
    machine.take_scrubs();
    unplug(machine, &taken.dimm)?;
    let [scrub] = machine.take_scrubs().try_into().ok().context("not one scrub")?;
    machine.run("pool check")?;
    machine.run("cache check")?;
    Ok((scrub, file))
}

fn holds_nothing(lab: &Lab, placement: &str) -> Result<()> {
    let config = lab.room(&["256M"])?.word(format_args!("placement={placement}"));
    lab.begun(&config, |machine| {
        let taken = plug_filled(machine, "256M", Some(0))?;
        machine.run("use")?;
        machine.next_step()?;
        let pages = fill(machine, lab, &taken)?;
        let (scrub, file) = pull(machine, &taken)?;
        ensure!(scrub.scrubbed_bytes >= pages / 2 * lab.page(), "{scrub:?}");
        let left = Remains::of(file, 0, lab.page(), &taken.add)?;
        ensure!(left == Remains::default(), "{left:x?}");
        end_well(machine)
    })
}

fn memory_that_was_never_allocated_is_not_written(lab: &Lab) -> Result<()> {
    lab.begun(&lab.room(&["128M"])?.word("placement=boot"), |machine| {
        let taken = plug_filled(machine, "128M", Some(0xa5))?;
        let (scrub, file) = pull(machine, &taken)?;
        // CPUs that have nothing to do clear a few pages ahead.
        ensure!(scrub.scrubbed_bytes <= taken.dimm.size / 8, "{scrub:?}");
        let written = Remains::of(file, 0xa5, lab.page(), &taken.add)?;
        ensure!(written.bytes <= scrub.scrubbed_bytes, "{written:x?}");
        end_well(machine)
    })
}

fn without_scrubbing_an_ejected_dimm_holds_what_was_written(lab: &Lab) -> Result<()> {
    let config = lab.room(&["256M"])?.word("placement=block").word("scrub=off");
    lab.begun(&config, |machine| {
        let taken = plug_filled(machine, "256M", Some(0))?;
        let pages = fill(machine, lab, &taken)?;
        let file = machine.file_behind(&taken.dimm)?;
        unplug(machine, &taken.dimm)?;
        ensure!(machine.take_scrubs().is_empty(), "memory was cleared");
        let left = Remains::of(file, 0, lab.page(), &taken.add)?;
        ensure!(left.bytes > pages / 2 * lab.page() / 2, "{left:x?}");
        end_well(machine)
    })
}
