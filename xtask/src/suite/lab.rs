//! What scenarios share: booting, plugging and unplugging with all the checks that always hold.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;

use crate::arch::Arch;
use crate::machine::{Add, Config, Dimm, Machine, Online, Remove, Step, Verdict};
use crate::size::{DimmSpec, MIB, Size};

/// Console lines shown with a failure.
const TAIL: usize = 40;
/// How long any one answer may take: seconds on an idle host, more on one that builds beside it.
const PATIENCE: Duration = Duration::from_secs(90);
/// How long one scenario may take.
const TIMEOUT: Duration = Duration::from_secs(600);

/// Where scenarios run.
pub(crate) struct Lab {
    image: PathBuf,
    /// What machines are like unless a scenario says otherwise.
    usual: Config,
}

/// A DIMM that the kernel took and put online.
pub(crate) struct Taken {
    pub(crate) dimm: Dimm,
    pub(crate) add: Add,
    pub(crate) online: Online,
}

impl Lab {
    /// A lab that boots `image` on machines like `usual`.
    pub(crate) fn new(image: PathBuf, usual: Config) -> Self {
        Self { image, usual }
    }

    /// The architecture of its machines.
    pub(crate) fn arch(&self) -> Arch {
        self.usual.image.arch
    }

    /// Where the kernel maps the physical address `phys`.
    pub(crate) fn linear(&self, phys: u64) -> u64 {
        self.arch().about().linear_base.saturating_add(phys)
    }

    /// A machine with room for DIMMs of these sizes (`SIZE[@NODE]`).
    pub(crate) fn room(&self, sizes: &[&str]) -> Result<Config> {
        let dimms = sizes.iter().map(|size| size.parse()).collect::<Result<Vec<DimmSpec>>>()?;
        let usual = self.usual.clone();
        let config = Config { timeout: Some(TIMEOUT), patience: PATIENCE, ..usual };
        Ok(config.room_for(&dimms))
    }

    /// Room for [`unowned`] memory of these sizes.
    pub(crate) fn room_unowned(&self, sizes: &[&str]) -> Result<Config> {
        let mut config = self.room(sizes)?;
        // The odd 2 MiB may cost up to one more alignment step each.
        config.window += config.alignment() * u64::from(config.slots);
        Ok(config)
    }

    /// Starts a machine, waits until it is ready, saves a snapshot, and runs `body`.
    ///
    /// # Errors
    /// The body's own, with the end of the console.
    pub(crate) fn with(
        &self,
        config: &Config,
        body: impl FnOnce(&mut Machine) -> Result<()>,
    ) -> Result<()> {
        self.started(config, |machine| {
            machine.wait_ready()?;
            machine.run("snapshot save")?;
            body(machine)
        })
    }

    /// Starts a machine and runs `body` at once.
    ///
    /// # Errors
    /// The body's own, with the end of the console.
    pub(crate) fn started(
        &self,
        config: &Config,
        body: impl FnOnce(&mut Machine) -> Result<()>,
    ) -> Result<()> {
        let mut machine = Machine::start(&self.image, config, None)?;
        body(&mut machine).map_err(|error| {
            let tail: String =
                machine.tail(TAIL).iter().map(|line| format!("\n  | {line:.200}")).collect();
            anyhow!("{error:#}\n  the console's last lines:{tail}")
        })
    }
}

/// Plugs a DIMM (`SIZE[@NODE]`) that has to be taken and put online.
pub(crate) fn plug(machine: &mut Machine, size: &str) -> Result<Taken> {
    plug_filled(machine, size, None)
}

/// Plugs a DIMM whose memory holds `fill`, that has to be taken and put online.
pub(crate) fn plug_filled(machine: &mut Machine, size: &str, fill: Option<u8>) -> Result<Taken> {
    let dimm = machine.plug(size.parse()?, fill)?;
    let add = machine.next_add()?;
    check_add(&add, &dimm)?;
    let told = machine.insertion_status(&dimm)?;
    ensure!(
        told == 0 && add.ost == Some(0),
        "the firmware was told {told:#x}, the step says {:?}",
        add.ost
    );
    let online = machine.next_online()?;
    ensure!(online.error.is_none(), "online failed: {:?}", online.error);
    check_online(&add, &online)?;
    Ok(Taken { dimm, add, online })
}

/// Checks that an add is of this DIMM, and good.
pub(crate) fn check_add(add: &Add, dimm: &Dimm) -> Result<()> {
    ensure!(add.error.is_none(), "the add failed: {:?}", add.error);
    ensure!(
        (add.start(), add.size()) == (dimm.start, dimm.size),
        "added {:#x}+{:#x} instead of {:#x}+{:#x}",
        add.start(),
        add.size(),
        dimm.start,
        dimm.size
    );
    ensure!(add.node == Some(dimm.node), "added to node {:?} instead of {}", add.node, dimm.node);
    check_groups(add)
}

/// Checks that every memmap lies in the range and describes it whole, 64 bytes a page.
pub(crate) fn check_groups(add: &Add) -> Result<()> {
    for group in &add.groups {
        let end = group.memmap_start + group.memmap_pages * 4096;
        ensure!(
            add.start() <= group.memmap_start && end <= add.end(),
            "the memmap {:#x}..{end:#x} lies outside the range",
            group.memmap_start
        );
        // 128 MiB have 32,768 pages of 64 bytes of description each.
        ensure!(
            group.memmap_pages == group.sections * 512,
            "{} memmap pages for {} sections",
            group.memmap_pages,
            group.sections
        );
    }
    let sections: u64 = add.groups.iter().map(|group| group.sections).sum();
    let all = add.groups.is_empty() || sections * 128 * MIB == add.size();
    ensure!(all, "the groups describe {sections} sections of a range of {:#x} bytes", add.size());
    Ok(())
}

/// Checks that what went online is the range less its memmap.
pub(crate) fn check_online(add: &Add, online: &Online) -> Result<()> {
    let managed: u64 = online.blocks.iter().map(|block| block.managed_bytes).sum();
    let memmap: u64 = add.groups.iter().map(|group| group.memmap_pages * 4096).sum();
    ensure!(
        managed + memmap == add.size(),
        "{managed} bytes managed and {memmap} of memmap are not {}",
        add.size()
    );
    let odd = online.blocks.iter().find(|block| !block.state.starts_with("online"));
    ensure!(odd.is_none(), "after online a block is {odd:?}");
    Ok(())
}

/// Unplugs a DIMM that has to go, and answers with its last step.
pub(crate) fn unplug(machine: &mut Machine, dimm: &Dimm) -> Result<Remove> {
    machine.unplug(dimm)?;
    let offline = machine.next_offline()?;
    ensure!(offline.error.is_none(), "offline failed: {:?}", offline.error);
    let remove = machine.next_remove()?;
    ensure!(remove.error.is_none(), "remove failed: {:?}", remove.error);
    machine.wait_deleted(dimm)?;
    let told = machine.ejection_status(dimm)?;
    ensure!(
        told == 0 && remove.ost == Some(0),
        "the firmware was told {told:#x}, the step says {:?}",
        remove.ost
    );
    Ok(remove)
}

/// Unplugs a DIMM and checks that it gave back exactly what its add took.
pub(crate) fn unplug_taken(machine: &mut Machine, taken: &Taken) -> Result<()> {
    let remove = unplug(machine, &taken.dimm)?;
    ensure!(
        taken.add.system_bytes + remove.system_bytes == 0,
        "the add took {} bytes elsewhere and the remove {}",
        taken.add.system_bytes,
        remove.system_bytes
    );
    Ok(())
}

/// Runs the monitor's `use`, which has to succeed.
pub(crate) fn use_all(machine: &mut Machine) -> Result<u64> {
    machine.run("use all")?;
    let used = machine.next_use()?;
    ensure!(used.error.is_none(), "use failed: {:?}", used.error);
    Ok(used.touched_bytes)
}

/// Nothing differs from the last snapshot, and every law holds.
pub(crate) fn unchanged(machine: &mut Machine) -> Result<()> {
    machine.run("snapshot check").context("memory is not as it was")?;
    machine.run("verify").context("a law is broken")?;
    Ok(())
}

/// The end of a scenario in which all went well: memory is as it was, and the kernel says pass.
pub(crate) fn finish(machine: &mut Machine) -> Result<()> {
    unchanged(machine)?;
    let verdict = machine.verdict()?;
    ensure!(verdict == Verdict::Pass, "the verdict is {verdict}");
    leave(machine)
}

/// The end of a scenario in which the kernel refused something: memory is as it was, and it says so.
pub(crate) fn finish_refused(machine: &mut Machine) -> Result<()> {
    unchanged(machine)?;
    let verdict = machine.verdict()?;
    ensure!(matches!(verdict, Verdict::Refused(_)), "the verdict is {verdict}");
    leave(machine)
}

/// Ends the machine in good order, with no step left unread.
pub(crate) fn leave(machine: &mut Machine) -> Result<()> {
    let steps = machine.unread_steps()?;
    let verbs: Vec<_> = steps.iter().map(Step::verb).collect();
    ensure!(verbs.is_empty(), "the kernel did more than it was asked: {}", verbs.join(", "));
    let exit = machine.exit(0)?;
    ensure!(exit == machine.left(0), "{exit}");
    Ok(())
}

/// A DIMM that the kernel refuses because 2 MiB are no whole block: plugged memory that nobody owns,
/// for the monitor's own `add` and `remove`. Answers with where its first whole blocks begin.
pub(crate) fn unowned(machine: &mut Machine, size: &str) -> Result<u64> {
    let whole: Size = size.parse()?;
    let odd = Size::new(whole.bytes() + 2 * MIB);
    let dimm = machine.plug(DimmSpec { size: odd, node: None }, None)?;
    let add = machine.next_add()?;
    ensure!(add.error.is_some(), "a DIMM of {} bytes was not refused", dimm.size);
    Ok(dimm.start)
}

/// The monitor's `add`, which has to succeed.
pub(crate) fn add(machine: &mut Machine, start: u64, size: u64, placement: &str) -> Result<Add> {
    machine.run(&format!("add {start:#x} {size:#x} {placement}"))?;
    let add = machine.next_add()?;
    ensure!(add.error.is_none(), "the add failed: {:?}", add.error);
    ensure!(
        (add.start(), add.size()) == (start, size),
        "added {:#x}+{:#x}",
        add.start(),
        add.size()
    );
    check_groups(&add)?;
    Ok(add)
}

/// The monitor's `remove`, which has to succeed.
pub(crate) fn remove(machine: &mut Machine, start: u64, size: u64) -> Result<Remove> {
    machine.run(&format!("remove {start:#x} {size:#x}"))?;
    let remove = machine.next_remove()?;
    ensure!(remove.error.is_none(), "the remove failed: {:?}", remove.error);
    Ok(remove)
}

/// A monitor command that has to be refused and reports a failed step, or none at all.
pub(crate) fn refused(machine: &mut Machine, command: &str) -> Result<String> {
    let why = machine.refused(command)?;
    let steps = machine.unread_steps()?;
    let good = steps.iter().find(|step| step.error().is_none());
    ensure!(good.is_none(), "`{command}` was refused but reports a good step");
    Ok(why)
}

/// The monitor's `online` or `offline` of one block, which has to succeed.
pub(crate) fn switch(machine: &mut Machine, verb: &str, block: u64) -> Result<Step> {
    machine.run(&format!("{verb} {block}"))?;
    let step = machine.next_step()?;
    ensure!(
        step.verb() == verb && step.error().is_none(),
        "{verb} {block}: {} {:?}",
        step.verb(),
        step.error()
    );
    Ok(step)
}

/// The monitor's `alloc`: the page frame number, or `None` when there is no memory left.
pub(crate) fn alloc(machine: &mut Machine, order: u32) -> Result<Option<u64>> {
    let reply = machine.command(&format!("alloc {order}"))?;
    if reply.error.is_some() {
        return Ok(None);
    }
    let number = reply.lines.iter().find_map(|line| first_number(line));
    let pfn =
        number.with_context(|| format!("`alloc` told no page frame number: {:?}", reply.lines))?;
    Ok(Some(pfn))
}

/// The monitor's `free`, which has to succeed.
pub(crate) fn free(machine: &mut Machine, pfn: u64) -> Result<()> {
    machine.run(&format!("free {pfn:#x}")).map(|_| ())
}

/// Takes every page the allocator has; answers with what to free again.
pub(crate) fn exhaust(machine: &mut Machine) -> Result<Vec<u64>> {
    let mut taken = Vec::new();
    for order in (0..=18).rev() {
        while let Some(pfn) = alloc(machine, order)? {
            taken.push(pfn);
        }
    }
    ensure!(!taken.is_empty(), "there was nothing to allocate");
    Ok(taken)
}

/// The first number in a line, decimal or behind 0x.
fn first_number(line: &str) -> Option<u64> {
    let words = line.split(|c: char| !c.is_ascii_alphanumeric());
    words.into_iter().find_map(|word| match word.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => word.parse().ok(),
    })
}

/// Every object in `value` that has a number under `key`.
pub(crate) fn objects_with<'a>(value: &'a Value, key: &str) -> Vec<&'a Value> {
    let mut found = Vec::new();
    let inner: Vec<&Value> = match value {
        Value::Object(map) => map.values().collect(),
        Value::Array(list) => list.iter().collect(),
        _ => Vec::new(),
    };
    if value[key].is_u64() {
        found.push(value);
    }
    inner.into_iter().for_each(|value| found.extend(objects_with(value, key)));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_number_of_a_line_is_found_in_both_bases() {
        assert_eq!(first_number("pfn 0x1f00, order 3"), Some(0x1f00));
        assert_eq!(first_number("allocated 42"), Some(42));
        assert_eq!(first_number("nothing"), None);
    }

    #[test]
    fn objects_are_found_at_any_depth() {
        let value = serde_json::json!({"zones": [{"node": 0}, {"node": 1, "inner": {"node": 2}}]});
        assert_eq!(objects_with(&value, "node").len(), 3);
    }
}
