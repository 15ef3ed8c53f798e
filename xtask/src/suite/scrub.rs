//! What an ejected DIMM still holds: its memory is a file of this host, which is read when the DIMM is gone.

use std::fs::File;
use std::io::Read;

use anyhow::{Context, Result, ensure};

use super::lab::{Lab, Taken, end_well, plug_filled, unplug};
use super::{Scenario, scenarios};
use crate::machine::{Machine, Scrub};
use crate::size::MIB;

pub(crate) const SCENARIOS: &[Scenario] = scenarios![
    an_ejected_dimm_holds_nothing_that_was_written_there,
    a_dimm_with_one_memmap_holds_nothing_when_it_is_gone,
    memory_that_was_never_allocated_is_not_written,
    without_scrubbing_an_ejected_dimm_holds_what_was_written,
];

/// Bytes of a page descriptor.
const DESCRIPTOR: u64 = 64;

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

/// Offsets of the first bytes of a file that are not `byte`, and lie elsewhere than at the start of a memmap where the
/// descriptors of its head and its records are; and how many there are.
fn others(mut file: File, byte: u8, taken: &Taken) -> Result<(u64, Option<u64>)> {
    let (mut count, mut first, mut at) = (0, None, 0);
    let kept = |at: u64| {
        taken.add.groups.iter().any(|group| {
            let start = group.memmap_start - taken.dimm.start;
            (start..start + DESCRIPTOR * (1 + group.sections)).contains(&at)
        })
    };
    let mut chunk = vec![0; usize::try_from(MIB)?];
    loop {
        let len = file.read(&mut chunk)?;
        let Some(read) = chunk.get(..len).filter(|read| !read.is_empty()) else { break };
        // Most chunks hold nothing else.
        if read.iter().any(|&found| found != byte) {
            let wrong = (at..).zip(read).filter(|&(at, &found)| found != byte && !kept(at));
            for (at, _) in wrong {
                count += 1;
                first = first.or(Some(at));
            }
        }
        at += len as u64;
    }
    ensure!(at == taken.dimm.size, "the file has {at} bytes");
    Ok((count, first))
}

fn holds_nothing(lab: &Lab, placement: &str) -> Result<()> {
    let config = lab.room(&["256M"])?.word(format_args!("placement={placement}"));
    lab.with(&config, |machine| {
        let taken = plug_filled(machine, "256M", Some(0))?;
        machine.run("use")?;
        machine.next_step()?;
        let pages = fill(machine, lab, &taken)?;
        let (scrub, file) = pull(machine, &taken)?;
        ensure!(scrub.scrubbed_bytes >= pages / 2 * lab.page(), "{scrub:?}");
        let (count, first) = others(file, 0, &taken)?;
        ensure!(count == 0, "{count} bytes are left, the first at {first:x?}");
        end_well(machine)
    })
}

fn an_ejected_dimm_holds_nothing_that_was_written_there(lab: &Lab) -> Result<()> {
    holds_nothing(lab, "block")
}

fn a_dimm_with_one_memmap_holds_nothing_when_it_is_gone(lab: &Lab) -> Result<()> {
    holds_nothing(lab, "device")
}

fn memory_that_was_never_allocated_is_not_written(lab: &Lab) -> Result<()> {
    lab.with(&lab.room(&["128M"])?.word("placement=boot"), |machine| {
        let taken = plug_filled(machine, "128M", Some(0xa5))?;
        let (scrub, file) = pull(machine, &taken)?;
        // CPUs that have nothing to do clear a few pages ahead.
        ensure!(scrub.scrubbed_bytes <= taken.dimm.size / 8, "{scrub:?}");
        let (count, first) = others(file, 0xa5, &taken)?;
        ensure!(count <= scrub.scrubbed_bytes, "{count} bytes were written, from {first:x?} on");
        end_well(machine)
    })
}

fn without_scrubbing_an_ejected_dimm_holds_what_was_written(lab: &Lab) -> Result<()> {
    let config = lab.room(&["256M"])?.word("placement=block").word("scrub=off");
    lab.with(&config, |machine| {
        let taken = plug_filled(machine, "256M", Some(0))?;
        let pages = fill(machine, lab, &taken)?;
        let file = machine.file_behind(&taken.dimm)?;
        unplug(machine, &taken.dimm)?;
        ensure!(machine.take_scrubs().is_empty(), "memory was cleared");
        let (count, _) = others(file, 0, &taken)?;
        ensure!(count > pages / 2 * lab.page() / 2, "{count} bytes are left");
        end_well(machine)
    })
}
