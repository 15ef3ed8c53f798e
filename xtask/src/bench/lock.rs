//! How long the memory manager's locks are held: the kernel records it, on machines whose time is their instructions.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::{started, write};
use crate::arch::{Arch, Image};
use crate::machine::{Config, Dimm, Machine};
use crate::size::{DimmSpec, GIB, Size, grouped};

/// The longest that a zone may be locked, in instructions.
const LIMIT: u64 = 20_000;
/// The memory manager. Other code has locks of the same kind.
const MANAGER: &str = "mm/src/";
/// Where caches of CPUs are locked: another CPU waits for one only while it empties it.
const CACHES: [&str; 4] =
    ["alloc/cache.rs", "alloc/cached.rs", "alloc/drain.rs", "verify/cached.rs"];
/// A conversion holds a lock of its own, which no other CPU waits for, while it copies the descriptors of a block.
const CONVERSION: &str = "memmap/mod.rs";
/// A DIMM beside the large one, whose pages are all used and moved.
const SMALL: &str = "1G";
/// Boot memory: more than the owners of pages take.
const BOOT: u64 = 2 * GIB;

/// The holds of locks that began at one place in the code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Hold {
    file: String,
    line: u32,
    times: u64,
    /// Of the longest.
    instructions: u64,
}

/// Measures and prints a table.
///
/// # Errors
/// When a machine does not start, what it does fails, or a lock is held for too long.
pub(super) fn main(root: &Path, arch: Arch, dimm: DimmSpec, json: Option<&Path>) -> Result<()> {
    let mut holds = run(root, arch, &[dimm, SMALL.parse()?], "block", lives_in_blocks)?;
    holds.extend(run(root, arch, &[SMALL.parse()?], "device", is_converted)?);
    let holds = longest(holds);
    println!("{:>12} {:>10} {:<10} locked at", "instructions", "times", "lock");
    holds.iter().for_each(|hold| println!("{}", row(hold)));
    write(json, &holds)?;
    let most = longest_of_a_zone(&holds)?;
    println!("A zone is locked for {} instructions at most.", grouped(most));
    ensure!(most <= LIMIT, "that is more than {}", grouped(LIMIT));
    Ok(())
}

impl Hold {
    /// What is locked there.
    fn lock(&self) -> &'static str {
        if CACHES.iter().any(|file| self.file.ends_with(file)) {
            "cache"
        } else if self.file.ends_with(CONVERSION) {
            "conversion"
        } else {
            "zone"
        }
    }
}

/// A line of the table.
fn row(hold: &Hold) -> String {
    let Hold { file, line, times, instructions } = hold;
    let (instructions, times) = (grouped(*instructions), grouped(*times));
    format!("{instructions:>12} {times:>10} {:<10} {file}:{line}", hold.lock())
}

/// The instructions of the longest hold of a zone, or of another lock that the manager has one of.
fn longest_of_a_zone(holds: &[Hold]) -> Result<u64> {
    let zones = holds.iter().filter(|hold| hold.lock() == "zone");
    zones.map(|hold| hold.instructions).max().context("no zone was locked")
}

/// One row for each place, the longest first.
fn longest(holds: Vec<Hold>) -> Vec<Hold> {
    let mut places = BTreeMap::<(String, u32), Hold>::new();
    for hold in holds {
        let place = places.entry((hold.file.clone(), hold.line));
        place
            .and_modify(|other| {
                other.times += hold.times;
                other.instructions = other.instructions.max(hold.instructions);
            })
            .or_insert(hold);
    }
    let mut holds: Vec<_> = places.into_values().collect();
    holds.sort_by_key(|hold| std::cmp::Reverse(hold.instructions));
    holds
}

/// Runs `life` on a machine with room for `dimms`. Returns what its kernel recorded.
fn run(
    root: &Path,
    arch: Arch,
    dimms: &[DimmSpec],
    placement: &str,
    life: fn(&mut Machine, &[DimmSpec]) -> Result<()>,
) -> Result<Vec<Hold>> {
    let config = Config { icount: Some(0), memory: Size::new(BOOT), ..Config::of(arch) };
    let config = Config { timeout: None, ..config }.room_for(dimms);
    let config = config.word("icount").word("policy=online_kernel").word("kernelcore=1G");
    let config = config.word(format!("placement={placement}"));
    let image = Image { holds: true, ..config.image };
    let mut machine = started(root, &Config { image, ..config })?;
    life(&mut machine, dimms)?;
    let mut holds: Vec<Hold> = machine.read("holds --json")?;
    machine.leave()?;
    holds.retain(|hold| hold.file.starts_with(MANAGER));
    Ok(holds)
}

/// Runs commands of the monitor.
fn type_all(machine: &mut Machine, commands: &[&str]) -> Result<()> {
    commands.iter().try_for_each(|command| {
        machine.run(command).map(drop).with_context(|| format!("`{command}`"))
    })
}

/// A large DIMM for the kernel; then one for movable pages, and a small one: everything but a conversion.
fn lives_in_blocks(machine: &mut Machine, dimms: &[DimmSpec]) -> Result<()> {
    let &[large, small] = dimms else { bail!("two DIMMs are needed") };
    let explain = |dimm: &Dimm| format!("explain-remove {:#x} {:#x}", dimm.start, dimm.size);
    let (kernels, ..) = machine.plug_online(large)?;
    type_all(machine, &["bench", "verify", &explain(&kernels)])?;
    machine.unplug_gone(&kernels)?;

    machine.run("policy online_movable")?;
    let ((large, ..), (small, ..)) = (machine.plug_online(large)?, machine.plug_online(small)?);
    // Pages in use everywhere, and free ones between them.
    type_all(machine, &["pool grow 3000", "pool grow 100 4", "cache write 3 100 77 3000000"])?;
    for handle in (0..3000).step_by(2) {
        machine.run(&format!("pool free {handle}"))?;
    }
    type_all(
        machine,
        &[&explain(&large), &explain(&small), "compact 0 movable 9", "verify", "dump"],
    )?;
    let first = small.start / machine.geometry()?.page;
    for page in [1 << 10, 1 << 12, 1 << 13] {
        machine.run(&format!("poison {:#x}", first + page))?;
    }
    type_all(
        machine,
        &["memtrace contig 0 256M", "memtrace release", "pool check", "cache check"],
    )?;
    machine.unplug_gone(&small)?;
    type_all(machine, &["pool shrink 1000", "verify", &explain(&large)])?;
    machine.unplug_gone(&large)?;
    machine.run("verify").map(drop)
}

/// A DIMM with one memmap, in use, which is converted.
fn is_converted(machine: &mut Machine, dimms: &[DimmSpec]) -> Result<()> {
    let &[dimm] = dimms else { bail!("one DIMM is needed") };
    machine.run("policy online_movable")?;
    let (dimm, ..) = machine.plug_online(dimm)?;
    let convert = format!("convert {:#x} {:#x} block", dimm.start, dimm.size);
    type_all(machine, &["pool grow 3000", &convert, "verify"])?;
    machine.unplug_gone(&dimm).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hold(file: &str, line: u32, times: u64, instructions: u64) -> Hold {
        Hold { file: file.into(), line, times, instructions }
    }

    #[test]
    fn each_place_is_shown_once_with_the_longest_hold_of_all_machines() {
        let holds = vec![hold("a", 1, 2, 30), hold("a", 2, 1, 40), hold("a", 1, 5, 50)];
        assert_eq!(longest(holds), [hold("a", 1, 7, 50), hold("a", 2, 1, 40)]);
    }

    #[test]
    fn a_line_fits_the_terminal() {
        let widest = row(&hold("mm/src/operations/offline/migrate.rs", 1234, 1 << 26, 1 << 33));
        assert!(widest.len() <= crate::layout::WIDTH, "{widest}");
    }

    #[test]
    fn a_lock_that_no_cpu_waits_for_and_the_caches_are_not_taken_for_zones() {
        let holds = [
            hold("mm/src/memmap/mod.rs", 1, 1, 900_000),
            hold("mm/src/alloc/cached.rs", 5, 1, 90_000),
            hold("mm/src/alloc/batch.rs", 1, 9, 50),
            hold("mm/src/alloc/frames.rs", 2, 1, 70),
        ];
        assert_eq!(longest_of_a_zone(&holds).unwrap(), 70);
        assert!(longest_of_a_zone(&holds[..2]).is_err());
        assert_eq!(holds.each_ref().map(Hold::lock), ["conversion", "cache", "zone", "zone"]);
    }
}
