//! Logs of `hotmem-storm` on a machine in QEMU: the driver, and a short storm.

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use hotmem_storm::{
    Driver, End, Event, Failed, Layout, Player, Reply, SLOT_BLOCKS, SLOTS, Stats, WINDOW_BLOCKS,
    generate, undoes,
};

use super::lab::{Lab, Storm, unowned};
use super::{Scenario, scenarios};
use crate::arch::Replies;
use crate::machine::{Config, Dimm, Machine, Place, UnplugEnd};
use crate::size::{DimmSpec, MIB, Size};

pub(crate) const SCENARIOS: &[Scenario] =
    scenarios![a_log_of_random_events_does_what_the_model_says];

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
    let again = format!(
        "`cargo xtask storm --arch {arch} --smp {cpus} --seed {seed} --events {EVENTS}`, with this machine's other \
         options, finds the events that it takes"
    );
    match play(lab, &generate(seed, EVENTS)) {
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
    Ok(Config { memory: lab.memory(BOOT * lab.block()), ..config })
}

/// A DIMM of so many blocks.
fn size(lab: &Lab, blocks: u64) -> DimmSpec {
    DimmSpec { size: Size::new(blocks * lab.block()), node: None }
}

/// A machine in QEMU on which a log is played.
struct Guest<'m> {
    machine: &'m mut Machine,
    layout: Layout,
    places: Vec<Place>,
    dimms: [Option<Dimm>; SLOTS],
    /// Whether the guest takes a DIMM by the same call by which it refuses an unplug.
    may_ask_again: bool,
    checks: u32,
}

impl<'m> Guest<'m> {
    fn new(lab: &Lab, machine: &'m mut Machine) -> Result<Self> {
        // As scenarios write it: on each machine it has as many blocks.
        let window = unowned(machine, &Size::new(WINDOW_BLOCKS * 128 * MIB).word())?;
        let places = machine.places(SLOTS as u64, size(lab, SLOT_BLOCKS).size)?;
        let (block, page) = (lab.block(), lab.page());
        let starts: Vec<u64> = places.iter().map(|place| place.start() / block).collect();
        let slots = starts.try_into().ok().context("too few places")?;
        let boot = machine.blocks()?.into_iter();
        let movable = boot.filter(|one| one.boot && one.zone.as_deref() == Some("movable"));
        let movable: Vec<u64> = movable.map(|one| one.block).collect();
        let [.., last, next] = movable[..] else { bail!("only {movable:?} can go offline") };
        let layout = Layout { block, page, window: window / block, slots, boot: [last, next] };
        let may_ask_again = lab.about().replies == Replies::Stays;
        let dimms = [const { None }; SLOTS];
        Ok(Self { machine, layout, places, dimms, may_ask_again, checks: 0 })
    }

    fn dimm(&self, slot: usize) -> Result<Dimm> {
        self.dimms.get(slot).cloned().flatten().with_context(|| format!("slot {slot} is empty"))
    }

    /// The end. The kernel's own verdict depends on the events: a block that a listener keeps offline after an unplug
    /// that was refused is a failure to it.
    fn leave(self) -> Result<()> {
        let exit = self.machine.exit(0)?;
        ensure!(exit == self.machine.left(0), "{exit}");
        Ok(())
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
        }
        Ok(())
    }
}
