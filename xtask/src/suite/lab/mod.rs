//! What scenarios share: booting, plugging and unplugging with all the checks that always hold.

mod operations;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::arch::{About, Arch, Firmware, Image, Replies};
use crate::build::{self, Text};
use crate::machine::{
    Add, Block, Config, DESCRIPTOR, Dimm, Machine, Online, Remove, Request, Step, Use, Verdict,
};
use crate::size::{DimmSpec, MIB, Size};
pub(crate) use operations::{add, alloc, exhaust, free, refused, remove, switch, take_all};

/// Console lines shown with a failure.
const TAIL: usize = 40;
/// How long any one reply may take: seconds on an idle host, more on one that builds beside it.
const PATIENCE: Duration = Duration::from_secs(90);
/// How long one scenario may take.
const TIMEOUT: Duration = Duration::from_secs(600);

/// The memory block of the machines that scenarios are written for.
const WRITTEN_FOR: u64 = 128 * MIB;

/// How much of a storm there is, and which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Storm {
    /// What its requests and pauses follow from.
    pub(crate) seed: u64,
    /// How many rounds it has, over all its machines.
    pub(crate) rounds: u64,
    /// How many times a DIMM comes and goes while all CPUs are busy.
    pub(crate) cycles: u64,
    /// How many times memory changes at random beside a virtio-mem device, over all its machines.
    pub(crate) changes: u64,
}

/// Where scenarios run.
///
/// Sizes in scenarios are those of machines with memory blocks of 128 MiB. Where blocks are larger, every DIMM
/// is larger by as much, so that it has as many blocks as the scenario says.
pub(crate) struct Lab {
    /// The kernel's file.
    program: PathBuf,
    /// What machines are like unless a scenario says otherwise.
    usual: Config,
    /// Which storms there are.
    storm: Storm,
}

/// A DIMM that the kernel took and put online.
pub(crate) struct Taken {
    pub(crate) dimm: Dimm,
    pub(crate) add: Add,
    pub(crate) online: Online,
}

impl Lab {
    /// A lab that boots `program` on machines like `usual`.
    pub(crate) fn new(program: PathBuf, usual: Config, storm: Storm) -> Self {
        Self { program, usual, storm }
    }

    /// Which storms there are.
    pub(crate) fn storm(&self) -> Storm {
        self.storm
    }

    /// What machines are like unless a scenario says otherwise.
    pub(crate) fn usual(&self) -> &Config {
        &self.usual
    }

    /// Where the kernel's instructions are.
    pub(crate) fn text(&self) -> Result<Text> {
        build::text(&self.program)
    }

    /// The architecture of its machines.
    pub(crate) fn arch(&self) -> Arch {
        self.usual.image.arch
    }

    /// Whether the kernel runs guests on these machines; `None` if that depends on the host.
    pub(crate) fn runs_guests(&self) -> Option<bool> {
        (self.arch().about().runs_guests)(&self.usual)
    }

    /// What runs before the kernel.
    pub(crate) fn firmware(&self) -> Firmware {
        self.usual.image.firmware
    }

    /// The first number of QEMU's version.
    pub(crate) fn qemu_version(&self) -> Option<u32> {
        self.usual.qemu.version(self.about().qemu.name)
    }

    /// Where the kernel maps the physical address `phys`.
    pub(crate) fn linear(&self, phys: u64) -> u64 {
        self.arch().about().linear_base.saturating_add(phys)
    }

    /// A machine with room for DIMMs of these sizes (`SIZE[@NODE]`).
    pub(crate) fn room(&self, sizes: &[&str]) -> Result<Config> {
        let dimms = sizes.iter().map(|size| self.dimm(size)).collect::<Result<Vec<DimmSpec>>>()?;
        let usual = self.usual.clone();
        let config = Config { timeout: Some(TIMEOUT), patience: PATIENCE, ..usual };
        let config = config.room_for(&dimms);
        let memory = config.memory.max(Size::new(config.least_memory()));
        Ok(Config { memory, ..config })
    }

    /// A DIMM of this size (`SIZE[@NODE]`).
    pub(crate) fn dimm(&self, size: &str) -> Result<DimmSpec> {
        scaled(self.usual.image, size)
    }

    /// What is particular about the architecture of its machines.
    pub(crate) fn about(&self) -> &'static About {
        self.arch().about()
    }

    /// Bytes of the smallest memory block, which is the one unless a scenario says otherwise.
    pub(crate) fn block(&self) -> u64 {
        self.about().block(self.usual.image.page)
    }

    /// Bytes in a page.
    pub(crate) fn page(&self) -> u64 {
        self.usual.image.page
    }

    /// Does QEMU take a DIMM that is not a whole number of blocks, for the kernel to refuse?
    pub(crate) fn has_odd_dimms(&self) -> bool {
        self.about().memory_unit < self.block()
    }

    /// Checks that the firmware got these statuses, or none where it takes no statuses.
    pub(crate) fn check_reported(&self, reported: impl AsRef<[u64]>, codes: &[u64]) -> Result<()> {
        let reported = reported.as_ref();
        let good = match self.about().replies {
            Replies::Ost => reported == codes,
            Replies::Stays => reported.is_empty(),
        };
        ensure!(good, "the firmware got {reported:x?} instead of {codes:x?}");
        Ok(())
    }

    /// As [`begun`](Self::begun), on a machine with room for `sizes`, for each placement in added memory.
    pub(crate) fn self_hosted(
        &self,
        sizes: &[&str],
        body: impl Fn(&mut Machine) -> Result<()>,
    ) -> Result<()> {
        for placement in ["device", "block"] {
            let config = self.room(sizes)?.word(format_args!("placement={placement}"));
            self.begun(&config, &body).context(placement)?;
        }
        Ok(())
    }

    /// Boot memory of `bytes` bytes, or the least that the machine can have above that.
    pub(crate) fn memory(&self, bytes: u64) -> Size {
        let bytes = bytes.max(self.usual.image.boot().memory);
        Size::new(bytes.next_multiple_of(self.about().memory_unit))
    }

    /// As [`begun`](Self::begun); when `body` is done, memory is as it was, and the kernel says pass.
    ///
    /// # Errors
    /// The body's own, with the end of the console.
    pub(crate) fn with<T>(
        &self,
        config: &Config,
        body: impl FnOnce(&mut Machine) -> Result<T>,
    ) -> Result<()> {
        self.begun(config, |machine| {
            body(machine)?;
            finish(machine)
        })
    }

    /// Starts a machine, waits until it is ready, saves a snapshot, and runs `body`, which ends the machine.
    ///
    /// # Errors
    /// The body's own, with the end of the console.
    pub(crate) fn begun(
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
        let mut machine = Machine::start(&self.program, config, None)?;
        body(&mut machine).map_err(|error| {
            let tail: String =
                machine.tail(TAIL).iter().map(|line| format!("\n  | {line:.200}")).collect();
            let what = format!("{error:#}\n  the console's last lines:{tail}");
            Failure { what, console: machine.lines_from(0) }.into()
        })
    }
}

/// What went wrong on a machine, and all that its console said.
#[derive(Debug)]
pub(crate) struct Failure {
    what: String,
    /// The console's lines.
    pub(crate) console: Vec<String>,
}

#[cfg(test)]
impl Failure {
    /// A failure with these words and console lines.
    pub(crate) fn new(what: &str, console: &[&str]) -> Self {
        let console = console.iter().map(|&line| line.to_owned()).collect();
        Self { what: what.to_owned(), console }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Failure {}

/// A DIMM of this size on a machine that runs `image`.
fn scaled(image: Image, size: &str) -> Result<DimmSpec> {
    let written: DimmSpec = size.parse()?;
    let factor = image.arch.about().block(image.page) / WRITTEN_FOR;
    Ok(DimmSpec { size: Size::new(written.size.bytes() * factor.max(1)), ..written })
}

/// Plugs a DIMM (`SIZE[@NODE]`) without waiting for what the kernel makes of it.
pub(crate) fn insert(machine: &mut Machine, size: &str) -> Result<Dimm> {
    machine.plug(scaled(machine.image(), size)?, None)
}

/// Plugs a DIMM (`SIZE[@NODE]`) that has to be taken and put online.
pub(crate) fn plug(machine: &mut Machine, size: &str) -> Result<Taken> {
    plug_filled(machine, size, None)
}

/// Plugs a DIMM whose memory holds `fill`, that has to be taken and put online.
pub(crate) fn plug_filled(machine: &mut Machine, size: &str, fill: Option<u8>) -> Result<Taken> {
    plug_spec(machine, scaled(machine.image(), size)?, fill)
}

/// Plugs a DIMM of exactly this size, that has to be taken and put online.
pub(crate) fn plug_spec(machine: &mut Machine, spec: DimmSpec, fill: Option<u8>) -> Result<Taken> {
    let dimm = machine.plug(spec, fill)?;
    plugged(machine, dimm)
}

/// What the kernel says of a DIMM that was plugged, which has to be taken and put online.
pub(crate) fn plugged(machine: &mut Machine, dimm: Dimm) -> Result<Taken> {
    let add = taken(machine, &dimm)?;
    let reported = machine.status(&dimm, Request::Insertion)?;
    check_success(reported, add.ost)?;
    let online = machine.done()?;
    check_online(machine, &add, &online)?;
    Ok(Taken { dimm, add, online })
}

/// Checks that the firmware got the status of success, if it takes statuses, and that the step says so.
pub(crate) fn check_success(reported: Option<u64>, claimed: Option<u64>) -> Result<()> {
    let good = reported.is_none_or(|reported| reported == 0) && claimed == reported;
    ensure!(good, "the firmware got {reported:x?}, the step says {claimed:x?}");
    Ok(())
}

/// The next step, which has to add this DIMM.
pub(crate) fn taken(machine: &mut Machine, dimm: &Dimm) -> Result<Add> {
    let add: Add = machine.done()?;
    ensure!(
        (add.start(), add.size()) == (dimm.start, dimm.size),
        "added {:#x}+{:#x} instead of {:#x}+{:#x}",
        add.start(),
        add.size(),
        dimm.start,
        dimm.size
    );
    ensure!(add.node == Some(dimm.node), "added to node {:?} instead of {}", add.node, dimm.node);
    check_groups(machine, &add)?;
    Ok(add)
}

/// As [`taken`], and then put online.
pub(crate) fn taken_online(machine: &mut Machine, dimm: &Dimm) -> Result<()> {
    taken(machine, dimm)?;
    machine.done::<Online>().map(drop)
}

/// Checks that every memmap lies in the range and describes it whole, 64 bytes a page.
pub(crate) fn check_groups(machine: &mut Machine, add: &Add) -> Result<()> {
    let geometry = machine.geometry()?;
    for group in &add.groups {
        let end = group.memmap_start + group.memmap_pages * geometry.page;
        ensure!(
            add.start() <= group.memmap_start && end <= add.end(),
            "the memmap {:#x}..{end:#x} lies outside the range",
            group.memmap_start
        );
        ensure!(
            group.memmap_pages <= geometry.memmap_pages(group.sections),
            "{} memmap pages for {} sections",
            group.memmap_pages,
            group.sections
        );
    }
    let described = add.memmap_pages() * geometry.page / DESCRIPTOR * geometry.page;
    let all = add.groups.is_empty() || described == add.size();
    ensure!(all, "the groups describe {described:#x} bytes of a range of {:#x}", add.size());
    Ok(())
}

/// Checks that an add took nothing from memory elsewhere.
pub(crate) fn check_nothing_elsewhere(add: &Add) -> Result<()> {
    ensure!(add.system_bytes == 0, "the add took {} bytes elsewhere", add.system_bytes);
    Ok(())
}

/// Checks that what went online is the range less its memmap.
pub(crate) fn check_online(machine: &mut Machine, add: &Add, online: &Online) -> Result<()> {
    let page = machine.geometry()?.page;
    let (managed, memmap) = (online.managed(), add.memmap_pages() * page);
    ensure!(
        managed + memmap == add.size(),
        "{managed} bytes managed and {memmap} of memmap are not {}",
        add.size()
    );
    let odd = online.blocks.iter().find(|block| !block.state.starts_with("online"));
    ensure!(odd.is_none(), "after online a block is {odd:?}");
    Ok(())
}

/// Unplugs a DIMM that has to go, and returns its last step.
pub(crate) fn unplug(machine: &mut Machine, dimm: &Dimm) -> Result<Remove> {
    let (_, remove) = machine.unplug_gone(dimm)?;
    let reported = machine.status(dimm, Request::Ejection)?;
    check_success(reported, remove.ost)?;
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
    Ok(machine.done::<Use>()?.touched_bytes)
}

/// Uses all memory, which has to be that of `taken`, and unplugs it.
pub(crate) fn use_and_unplug(machine: &mut Machine, taken: &Taken) -> Result<()> {
    let (touched, managed) = (use_all(machine)?, taken.online.managed());
    ensure!(touched == managed, "{touched} bytes were touched of {managed}");
    unplug_taken(machine, taken)
}

/// Nothing differs from the last snapshot, and every invariant holds.
pub(crate) fn unchanged(machine: &mut Machine) -> Result<()> {
    machine.run("snapshot check").context("memory is not as it was")?;
    machine.run("verify").context("an invariant is broken")?;
    Ok(())
}

/// The end of a scenario in which all went well: memory is as it was, and the kernel says pass.
pub(crate) fn finish(machine: &mut Machine) -> Result<()> {
    unchanged(machine)?;
    passed(machine)
}

/// Ends a machine whose kernel says pass.
fn passed(machine: &mut Machine) -> Result<()> {
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

/// Ends a scenario that has no snapshot of the beginning.
pub(crate) fn end_well(machine: &mut Machine) -> Result<()> {
    machine.run("verify")?;
    passed(machine)
}

/// Ends a machine whose invariants hold, whatever its verdict.
pub(crate) fn leave_verified(machine: &mut Machine) -> Result<()> {
    machine.run("verify").context("an invariant is broken")?;
    leave(machine)
}

/// Ends the machine in good order, with no step left unread.
pub(crate) fn leave(machine: &mut Machine) -> Result<()> {
    let steps = machine.unread_steps()?;
    let operations: Vec<_> = steps.iter().map(Step::operation).collect();
    ensure!(
        operations.is_empty(),
        "the kernel did more than it was asked: {}",
        operations.join(", ")
    );
    machine.leave()
}

/// Plugs a DIMM that the kernel refuses because there is no page left for its descriptors: memory without an
/// owner, for the monitor's own `add` and `remove`. Returns its address.
pub(crate) fn unowned(machine: &mut Machine, size: &str) -> Result<u64> {
    insert_unowned(machine, size).map(|dimm| dimm.start)
}

/// As [`unowned`], but returns the DIMM.
pub(crate) fn insert_unowned(machine: &mut Machine, size: &str) -> Result<Dimm> {
    machine.run("vmemmap disable")?;
    let pages = take_all(machine)?;
    let dimm = insert(machine, size)?;
    let add: Add = machine.next()?;
    ensure!(add.error.is_some(), "a DIMM of {} bytes was not refused", dimm.size);
    pages.into_iter().try_for_each(|pfn| free(machine, pfn))?;
    machine.run("vmemmap enable")?;
    Ok(dimm)
}

/// The size of a DIMM whose first block its own memmap fills, as scenarios write it.
pub(crate) fn all_memmap(lab: &Lab) -> String {
    // So many blocks have a block of descriptors.
    let blocks = lab.page() / DESCRIPTOR;
    Size::new(blocks * WRITTEN_FOR).word()
}

/// The blocks of a DIMM that the kernel lists.
pub(crate) fn blocks_of(machine: &mut Machine, dimm: &Dimm) -> Result<Vec<Block>> {
    let block = machine.geometry()?.block;
    let numbers = dimm.start / block..(dimm.start + dimm.size) / block;
    let listed = machine.blocks()?.into_iter();
    Ok(listed.filter(|one| numbers.contains(&one.block)).collect())
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn a_dimm_has_as_many_blocks_as_the_scenario_says_on_every_machine() {
        for &arch in Arch::value_variants() {
            for &page in arch.about().pages {
                let image = Image { page, ..Image::of(arch) };
                let dimm = scaled(image, "1G@1").unwrap();
                assert_eq!(dimm.size.bytes(), 8 * arch.about().block(page), "{arch} {page}");
                assert_eq!(dimm.node, Some(1));
            }
        }
    }
}
