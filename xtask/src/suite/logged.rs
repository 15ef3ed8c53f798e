//! Logs of `hotmem-storm` on a machine in QEMU: the driver, and a short storm.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use hotmem_storm::{
    Driver, End, Event, Failed, Layout, Player, REGION_BLOCKS, REGIONS, Reply, SLOT_BLOCKS, SLOTS,
    Stats, WINDOW_BLOCKS, generate, undoes,
};

use super::lab::{Lab, Storm, blocks_of, insert_unowned};
use super::{Scenario, on_acpi, scenarios};
use crate::arch::{Arch, Replies};
use crate::machine::{Config, Dimm, Guest as Payload, Machine, Nvdimm, Place, UnplugEnd};
use crate::size::{DimmSpec, MIB, Size};

pub(crate) const SCENARIOS: &[Scenario] =
    scenarios![a_log_of_random_events_does_what_the_model_says];

/// How often a DIMM is asked for after a reset, and how long the kernel may take to put one online.
const MOST_ASKED: u32 = 32;
const PATIENCE: Duration = Duration::from_secs(60);
/// Events of the short storm.
const EVENTS: u64 = 120;
/// Events between two checks of every invariant, which takes longer than all else.
const BETWEEN_CHECKS: u32 = 8;
/// Blocks of boot memory, and how many of them stay system memory.
const BOOT: u64 = 8;
const CORE: u64 = 2;

fn a_log_of_random_events_does_what_the_model_says(lab: &Lab) -> Result<()> {
    let seed = lab.storm().seed;
    let (arch, cpus) = (lab.arch(), lab.usual().cpus);
    let guests = u64::from(lab.runs_guests() == Some(true));
    let again = format!(
        "`cargo xtask storm --arch {arch} --smp {cpus} --guests {guests} --seed {seed} --events {EVENTS}`, with this \
         machine's other options, finds the events that it takes"
    );
    match play(lab, &generate(seed, EVENTS, guests)) {
        Ok(_) => Ok(()),
        Err(Failed { index, why }) => Err(why.context(format!("event {index}; {again}"))),
    }
}

/// Plays a log on a machine like `usual` that runs `program`.
pub(crate) fn play_on(program: PathBuf, usual: &Config, log: &[Event]) -> Result<Stats, Failed> {
    // A log has no pauses that follow from a seed.
    let storm = Storm { seed: 0, rounds: 0, cycles: 0, changes: 0 };
    play(&Lab::new(program, usual.clone(), storm), log)
}

fn play(lab: &Lab, log: &[Event]) -> Result<Stats, Failed> {
    let mut index = 0;
    let mut stats = Stats::default();
    let played = config(lab).and_then(|config| {
        lab.started(&config, |machine| {
            machine.wait_ready()?;
            let player = Player::new(Guest::new(lab, machine)?)?;
            let (guest, counted) = player.play(log, |_| {}).map_err(|failed| {
                index = failed.index;
                failed.why
            })?;
            (index, stats) = (log.len(), counted);
            guest.leave()
        })
    });
    played.map_or_else(|why| Err(Failed { index, why }), |()| Ok(stats))
}

/// A machine with room for the operator's memory and for DIMMs, and with boot memory that can go offline.
fn config(lab: &Lab) -> Result<Config> {
    let (window, dimm) = (size(lab, WINDOW_BLOCKS), size(lab, SLOT_BLOCKS));
    let specs = [vec![window], vec![dimm; SLOTS]].concat();
    let config = lab.room(&[])?.room_for(&specs);
    let config = config.word(format_args!("kernelcore={}", CORE * lab.block()));
    let config = if on_acpi(lab) { config.nvdimms(regions(lab)) } else { config };
    Ok(Config { memory: lab.memory(BOOT * lab.block()), restarts: true, ..config })
}

/// Persistent memory. What is in it is looked at, since it has no labels.
fn regions(lab: &Lab) -> Vec<Nvdimm> {
    let bytes = REGION_BLOCKS * lab.block();
    vec![Nvdimm { bytes, labels: 0, file: None, node: None }; REGIONS]
}

/// The size of the operator's memory, as scenarios write it: on each machine it has as many blocks.
fn window_size() -> String {
    Size::new(WINDOW_BLOCKS * 128 * MIB).word()
}

/// A DIMM of so many blocks.
fn size(lab: &Lab, blocks: u64) -> DimmSpec {
    DimmSpec { size: Size::new(blocks * lab.block()), node: None }
}

/// A machine in QEMU on which a log is played.
struct Guest<'m> {
    machine: &'m mut Machine,
    layout: Layout,
    /// The operator's memory, which the kernel refuses as a DIMM.
    window: Dimm,
    places: Vec<Place>,
    dimms: [Option<Dimm>; SLOTS],
    /// Whether the guest takes a DIMM by the same call by which it refuses an unplug.
    may_ask_again: bool,
    runs_guests: bool,
    /// Whether QEMU aborts if it resets a CPU that is in a guest. On pseries it does (7.2, hw/ppc/spapr_hcall.c,
    /// spapr_exit_nested: `Assertion env->spr[SPR_LPIDR] != 0 failed`): guests end before a reset.
    ends_guests: bool,
    checks: u32,
}

impl<'m> Guest<'m> {
    fn new(lab: &Lab, machine: &'m mut Machine) -> Result<Self> {
        let window = insert_unowned(machine, &window_size())?;
        let places = machine.places(SLOTS as u64, size(lab, SLOT_BLOCKS).size)?;
        let (block, page) = (lab.block(), lab.page());
        let starts: Vec<u64> = places.iter().map(|place| place.start() / block).collect();
        let slots = starts.try_into().ok().context("too few places")?;
        let boot = machine.blocks()?.into_iter();
        let movable = boot.filter(|one| one.boot && one.zone.as_deref() == Some("movable"));
        let movable: Vec<u64> = movable.map(|one| one.block).collect();
        let [.., last, next] = movable[..] else { bail!("only {movable:?} can go offline") };
        let first = window.start / block;
        let found: Vec<u64> = machine.pmem()?.iter().map(|one| one.start / block).collect();
        let regions = match found[..] {
            [] => None,
            _ => Some(found.try_into().ok().context("another number of regions")?),
        };
        let layout = Layout { block, page, window: first, slots, regions, boot: [last, next] };
        let may_ask_again = lab.about().replies == Replies::Stays;
        let runs_guests = lab.runs_guests() == Some(true);
        let ends_guests = runs_guests && lab.arch() == Arch::Ppc64;
        Ok(Self {
            machine,
            layout,
            window,
            places,
            dimms: [const { None }; SLOTS],
            may_ask_again,
            runs_guests,
            ends_guests,
            checks: 0,
        })
    }

    fn dimm(&self, slot: usize) -> Result<Dimm> {
        self.dimms.get(slot).cloned().flatten().with_context(|| format!("slot {slot} is empty"))
    }

    /// Waits until the kernel has put all of a DIMM online.
    fn wait_online(&mut self, dimm: &Dimm) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let blocks = blocks_of(self.machine, dimm)?;
            let online = blocks.iter().filter(|one| one.zone.as_deref() == Some("movable")).count();
            if online as u64 * self.layout.block == dimm.size {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "{} is not online after a reset: {blocks:?}",
                dimm.id
            );
        }
    }

    /// Has a DIMM go that nothing holds. It may have gone in the reset, or the kernel may know of the request by then.
    fn goes(&mut self, dimm: &Dimm) -> Result<()> {
        for _ in 0..MOST_ASKED {
            self.machine.ask_back(dimm)?;
            if self.machine.wait_unplug_end(dimm)? == UnplugEnd::Gone {
                return Ok(());
            }
        }
        bail!("{} stays after a reset", dimm.id)
    }

    /// The end. The kernel's own verdict depends on the events: a block that a listener keeps offline after an unplug
    /// that was refused is a failure to it.
    fn leave(self) -> Result<()> {
        self.machine.leave()
    }
}

impl Driver for Guest<'_> {
    fn layout(&self) -> Layout {
        self.layout
    }

    fn command(&mut self, line: &str) -> Result<Reply> {
        let reply = self.machine.command(line)?;
        Ok(Reply { lines: reply.lines, error: reply.error })
    }

    fn plug(&mut self, slot: usize, blocks: u64) -> Result<()> {
        let spare = self.machine.spare(Size::new(blocks * self.layout.block))?;
        let place = *self.places.get(slot).context("no such slot")?;
        let dimm = self.machine.plug_into(spare, place)?;
        if let Some(one) = self.dimms.get_mut(slot) {
            *one = Some(dimm);
        }
        Ok(())
    }

    fn ask_back(&mut self, slot: usize, times: u32) -> Result<()> {
        let dimm = self.dimm(slot)?;
        self.machine.forget_ends(&dimm);
        let ask =
            |machine: &mut Machine| (0..times).try_for_each(|_| machine.ask_back(&dimm).map(drop));
        // While it is stopped, the kernel sees one request.
        if times > 1 { self.machine.stopped(ask) } else { ask(self.machine) }
    }

    fn end(&mut self, slot: usize) -> Result<End> {
        let end = self.machine.wait_unplug_end(&self.dimm(slot)?)?;
        if end == UnplugEnd::Kept {
            return Ok(End::Kept);
        }
        if let Some(one) = self.dimms.get_mut(slot) {
            *one = None;
        }
        Ok(End::Gone)
    }

    /// The kernel takes the operator's memory, too, which has to go and come again for that.
    fn reset(&mut self, asked: [bool; SLOTS]) -> Result<()> {
        if self.ends_guests {
            for guest in self.machine.guests()? {
                self.machine.run(&format!("vm kill {}", guest.name))?;
            }
        }
        self.machine.reset()?;
        self.machine.wait_ready()?;
        for (slot, asked) in asked.into_iter().enumerate() {
            match self.dimms.get_mut(slot).filter(|_| asked).and_then(Option::take) {
                Some(dimm) => self.goes(&dimm)?,
                None => {
                    self.dimms[slot].clone().iter().try_for_each(|dimm| self.wait_online(dimm))?
                }
            }
        }
        let before = self.window.clone();
        self.wait_online(&before)?;
        self.goes(&before)?;
        // With its reply all that the kernel did is on the console.
        self.machine.run("verify")?;
        self.machine.unread_steps()?;
        self.window = insert_unowned(self.machine, &window_size())?;
        let places = [&before, &self.window].map(|dimm| dimm.start);
        ensure!(places[0] == places[1], "the operator's memory was and is at {places:x?}");
        Ok(())
    }

    fn runs_guests(&self) -> bool {
        self.runs_guests
    }

    fn may_ask_again(&self) -> bool {
        self.may_ask_again
    }

    /// It runs by itself.
    fn turn(&mut self, _: u64) {}

    fn fault(&mut self, line: &str, nth: u64) -> Result<bool> {
        let Some(word) = line.split(' ').next().filter(|_| undoes(line)) else { return Ok(false) };
        self.machine.run(&format!("fault {word} {nth}"))?;
        Ok(true)
    }

    /// It was of one command only.
    fn no_fault(&mut self) {}

    fn check(&mut self) -> Result<()> {
        self.checks += 1;
        if self.checks.is_multiple_of(BETWEEN_CHECKS) {
            self.machine.run("verify").context("an invariant is broken")?;
            let guests = self.machine.guests()?;
            let wrong = |guest: &&Payload| guest.state == "stopped" || guest.wrong_words > 0;
            let wrong = guests.iter().find(wrong);
            ensure!(wrong.is_none(), "a guest does not compute: {wrong:?}");
        }
        Ok(())
    }
}
