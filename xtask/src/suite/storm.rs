//! A storm: DIMMs are plugged, unplugged and replaced at random moments, often before the request before is
//! answered. Now and then all is let come to rest, and QEMU and the kernel have to agree.
//!
//! Which requests are sent, and the pauses before them, depend on the seed alone. How they meet the kernel at
//! work also depends on the host, so that a seed repeats the input and not always the failure.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use super::lab::{Lab, Storm, end_well};
use crate::arch::{Arch, Replies};
use crate::machine::{Asked, Config, Dimm, Machine, Place, Spare, Step, UnplugEnd};
use crate::size::Size;
use hotmem_storm::Random;

/// Rounds on one machine: each machine is asked for something before its kernel is ready, too.
const ROUNDS_EACH: u64 = 20;
/// Slots of a machine.
const PLACES: u64 = 4;
/// Requests before the kernel is ready, at most.
const MOST_EARLY: u64 = 3;
/// The longest pause before a request, in microseconds.
const LONGEST_PAUSE: u64 = 50_000;
/// How long any one reply may take on a busy host.
const PATIENCE: Duration = Duration::from_secs(60);
/// How much may be heard of a DIMM that was asked back before it is gone. On pseries each of the five steps
/// by which the kernel configures a block cancels a request that came before it.
const MOST_HEARD: usize = 32;
/// The largest DIMM, which is what a place has room for, and the smallest.
const LARGEST: &str = "256M";
const SMALLEST: &str = "128M";
/// Pages that have to move when their DIMM goes.
const MOVED: u64 = 200;

/// What is in a slot.
#[derive(Debug)]
enum Slot {
    Empty,
    /// A DIMM that was not asked back.
    Full(Dimm),
    /// Asked back; whether QEMU has passed the request on.
    Leaving(Dimm, bool),
}

/// What one round asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    /// A DIMM comes.
    Plug,
    /// One is asked back.
    Unplug,
    /// One is asked back twice.
    UnplugTwice,
    /// One is asked back, and another comes elsewhere.
    Swap,
    /// One comes and is asked back.
    PlugAndUnplug,
    /// One is asked back, and as soon as it is gone another comes into its slot, at its address.
    Refill,
}

impl Act {
    const ALL: [Self; 6] = [
        Self::Plug,
        Self::Unplug,
        Self::UnplugTwice,
        Self::Swap,
        Self::PlugAndUnplug,
        Self::Refill,
    ];

    /// Does it take a DIMM that is there?
    fn takes(self) -> bool {
        !matches!(self, Self::Plug | Self::PlugAndUnplug)
    }

    /// Does it need a place that is empty?
    fn fills(self) -> bool {
        matches!(self, Self::Plug | Self::PlugAndUnplug | Self::Swap)
    }
}

pub(super) fn dimms_come_and_go_at_random_moments_and_none_is_lost(lab: &Lab) -> Result<()> {
    let Storm { seed, rounds, .. } = lab.storm();
    for first in (0..rounds).step_by(usize::try_from(ROUNDS_EACH)?) {
        let seed = seed.wrapping_add(first / ROUNDS_EACH);
        let count = ROUNDS_EACH.min(rounds - first);
        on_one_machine(lab, seed, count)
            .with_context(|| format!("again with: --seed {seed} --rounds {count}"))?;
    }
    Ok(())
}

fn on_one_machine(lab: &Lab, seed: u64, rounds: u64) -> Result<()> {
    let mut random = Random::new(seed);
    let slots = usize::try_from(PLACES)?;
    let placement = if random.one_in(2) { "device" } else { "block" };
    let config = lab.room(&vec![LARGEST; slots])?.word(format_args!("placement={placement}"));
    let config = Config { patience: PATIENCE, ..config };
    lab.started(&config, |machine| {
        let mut state = State::new(lab, machine, random)?;
        state.early(machine)?;
        for round in 0..rounds {
            let act = state.choose(machine)?;
            state.round(machine, act).with_context(|| format!("round {round}, {act:?}"))?;
        }
        state.clear(machine)
    })
}

/// What was asked for so far, and what became of it.
struct State {
    random: Random,
    sizes: [Size; 2],
    places: Vec<Place>,
    slots: Vec<Slot>,
    /// DIMMs for which a status to the firmware is still to come.
    unreported: Vec<Dimm>,
    /// The memory that the kernel says it has added and not removed: first byte and size.
    added: BTreeMap<u64, u64>,
    ready: bool,
    /// Whether the guest may report that a DIMM stays: on pseries it takes a DIMM by the same call by which it
    /// refuses an unplug, so that taking one can also refuse its unplug.
    may_keep: bool,
    /// Memory that was to be removed, and stays: the kernel may add it again.
    kept: BTreeSet<u64>,
    /// Whether what was asked for before the kernel is ready has to be asked for again: the event device of
    /// QEMU's Arm boards raises its interrupt for a moment only, before the kernel can receive it.
    forgets: bool,
}

impl State {
    fn new(lab: &Lab, machine: &mut Machine, random: Random) -> Result<Self> {
        let sizes = [lab.dimm(SMALLEST)?.size, lab.dimm(LARGEST)?.size];
        let places = machine.places(PLACES, sizes[1])?;
        let slots = places.iter().map(|_| Slot::Empty).collect();
        let (unreported, added, kept) = (Vec::new(), BTreeMap::new(), BTreeSet::new());
        let may_keep = lab.about().replies == Replies::Stays;
        let forgets = lab.arch() == Arch::Aarch64;
        let ready = false;
        Ok(Self { random, sizes, places, slots, unreported, added, ready, may_keep, kept, forgets })
    }

    /// Asks for something before the kernel is ready, and waits until it is.
    fn early(&mut self, machine: &mut Machine) -> Result<()> {
        for _ in 0..self.random.below(MOST_EARLY + 1) {
            self.pause();
            let act = *self.random.pick(&[Act::Plug, Act::PlugAndUnplug]);
            self.held(machine, act)?;
        }
        machine.wait_ready()?;
        self.ready = true;
        if self.forgets {
            self.leaving().into_iter().try_for_each(|slot| self.ask(machine, slot))?;
        }
        self.settle(machine).context("before the first round")?;
        machine.run(&format!("pool grow {MOVED}")).map(|_| ())
    }

    /// Draws the next act. If it lacks a DIMM or a place, waits first until all pending acts have ended.
    fn choose(&mut self, machine: &mut Machine) -> Result<Act> {
        let act = *self.random.pick(&Act::ALL);
        let lacks = |this: &Self| {
            (act.fills() && this.empty().is_empty()) || (act.takes() && this.full().is_empty())
        };
        if !lacks(self) {
            return Ok(act);
        }
        self.settle(machine).with_context(|| format!("before {act:?}"))?;
        let other = if act.takes() && self.full().is_empty() { Act::Plug } else { Act::Unplug };
        Ok(if lacks(self) { other } else { act })
    }

    fn round(&mut self, machine: &mut Machine, act: Act) -> Result<()> {
        self.held(machine, act)?;
        if self.random.one_in(2) { self.settle(machine) } else { Ok(()) }
    }

    /// Performs an act, now and then while the machine is stopped.
    fn held(&mut self, machine: &mut Machine, act: Act) -> Result<()> {
        let stopped = self.random.one_in(4) && act != Act::Refill;
        if stopped {
            machine.qmp("stop", json!({}))?;
        }
        self.perform(machine, act)?;
        if stopped {
            self.pause();
            machine.qmp("cont", json!({}))?;
        }
        Ok(())
    }

    fn perform(&mut self, machine: &mut Machine, act: Act) -> Result<()> {
        self.pause();
        match act {
            Act::Plug => self.plug(machine).map(|_| ()),
            Act::Unplug => self.unplug(machine).map(|_| ()),
            Act::UnplugTwice => {
                let slot = self.unplug(machine)?;
                self.pause();
                self.ask(machine, slot)
            }
            Act::Swap => {
                self.unplug(machine)?;
                self.pause();
                self.plug(machine).map(|_| ())
            }
            Act::PlugAndUnplug => {
                let slot = self.plug(machine)?;
                self.pause();
                self.ask(machine, slot)
            }
            Act::Refill => {
                let spare = self.spare(machine)?;
                let slot = self.unplug(machine)?;
                self.wait_gone(machine, slot)?;
                self.fill(machine, slot, spare)
            }
        }
    }

    /// Lets time pass: a third of the requests come at once, the others at any moment up to the longest.
    fn pause(&mut self) {
        let micros = self.random.below(LONGEST_PAUSE + 1);
        if !self.random.one_in(3) {
            thread::sleep(Duration::from_micros(micros));
        }
    }

    fn numbers(&self, wanted: fn(&Slot) -> bool) -> Vec<usize> {
        let numbered = self.slots.iter().enumerate();
        numbered.filter(|(_, slot)| wanted(slot)).map(|(number, _)| number).collect()
    }

    fn empty(&self) -> Vec<usize> {
        self.numbers(|slot| matches!(slot, Slot::Empty))
    }

    fn full(&self) -> Vec<usize> {
        self.numbers(|slot| matches!(slot, Slot::Full(_)))
    }

    fn leaving(&self) -> Vec<usize> {
        self.numbers(|slot| matches!(slot, Slot::Leaving(..)))
    }

    fn set(&mut self, slot: usize, now: Slot) {
        if let Some(there) = self.slots.get_mut(slot) {
            *there = now;
        }
    }

    fn spare(&mut self, machine: &mut Machine) -> Result<Spare> {
        let size = *self.random.pick(&self.sizes);
        machine.spare(size)
    }

    /// Plugs a DIMM into an empty slot.
    fn plug(&mut self, machine: &mut Machine) -> Result<usize> {
        let empty = self.empty();
        ensure!(!empty.is_empty(), "every slot is full");
        let slot = *self.random.pick(&empty);
        let spare = self.spare(machine)?;
        self.fill(machine, slot, spare)?;
        Ok(slot)
    }

    fn fill(&mut self, machine: &mut Machine, slot: usize, spare: Spare) -> Result<()> {
        let place = *self.places.get(slot).context("no such slot")?;
        let dimm = machine.plug_into(spare, place)?;
        if self.ready {
            self.unreported.push(dimm.clone());
        }
        self.set(slot, Slot::Full(dimm));
        Ok(())
    }

    /// Asks a DIMM back.
    fn unplug(&mut self, machine: &mut Machine) -> Result<usize> {
        let full = self.full();
        ensure!(!full.is_empty(), "every slot is empty");
        let slot = *self.random.pick(&full);
        self.ask(machine, slot)?;
        Ok(slot)
    }

    /// Asks the DIMM of a slot back, be it the first time or not.
    fn ask(&mut self, machine: &mut Machine, slot: usize) -> Result<()> {
        let (dimm, before) = match self.slots.get(slot) {
            Some(Slot::Full(dimm)) => (dimm.clone(), false),
            Some(Slot::Leaving(dimm, asked)) => (dimm.clone(), *asked),
            _ => bail!("slot {slot} is empty"),
        };
        let passed_on = match machine.ask_back(&dimm)? {
            Asked::Accepted => true,
            Asked::Pending | Asked::Gone => {
                ensure!(before, "{} was not asked back before", dimm.id);
                true
            }
            Asked::TooEarly => {
                ensure!(!self.ready, "{} is not asked back of a kernel that is ready", dimm.id);
                false
            }
        };
        self.unreported.retain(|other| other.id != dimm.id);
        self.set(slot, Slot::Leaving(dimm, passed_on));
        Ok(())
    }

    /// Waits until the DIMM of a slot is gone. One that the guest may keep, and keeps, has to go when it is
    /// asked back again.
    fn wait_gone(&mut self, machine: &mut Machine, slot: usize) -> Result<()> {
        for _ in 0..MOST_HEARD {
            let heard = match self.slots.get(slot) {
                Some(Slot::Leaving(dimm, true)) => Some(machine.wait_unplug_end(&dimm.clone())?),
                _ => None,
            };
            match heard {
                Some(UnplugEnd::Gone) => {
                    self.set(slot, Slot::Empty);
                    return Ok(());
                }
                Some(UnplugEnd::Kept) if !self.may_keep => break,
                Some(UnplugEnd::Kept) | None => self.ask(machine, slot)?,
            }
        }
        bail!("the guest keeps the DIMM of slot {slot}: {:?}", self.slots.get(slot));
    }

    /// Waits until all that was asked for is done, and checks it.
    fn settle(&mut self, machine: &mut Machine) -> Result<()> {
        for slot in self.leaving() {
            self.wait_gone(machine, slot)?;
        }
        machine.no_other_is_gone()?;
        let there: BTreeSet<String> = machine.dimms()?.into_iter().map(|dimm| dimm.id).collect();
        let wanted: BTreeSet<String> = self.plugged().map(|dimm| dimm.id.clone()).collect();
        ensure!(there == wanted, "QEMU has {there:?} instead of {wanted:?}");

        self.wait_for_agreement(machine)?;
        self.unreported.drain(..).try_for_each(|dimm| machine.wait_taken(&dimm))?;
        machine.run("pool check")?;
        machine.run("verify").map(|_| ())
    }

    fn plugged(&self) -> impl Iterator<Item = &Dimm> {
        self.slots.iter().filter_map(|slot| match slot {
            Slot::Full(dimm) => Some(dimm),
            Slot::Empty | Slot::Leaving(..) => None,
        })
    }

    /// Waits until the kernel has added each DIMM that QEMU has, and nothing else, and has it online. It
    /// reports each step, so the two are compared after each.
    fn wait_for_agreement(&mut self, machine: &mut Machine) -> Result<()> {
        let block = machine.geometry()?.block;
        let wanted: BTreeMap<u64, u64> =
            self.plugged().map(|dimm| (dimm.start, dimm.size)).collect();
        let numbers = |(start, size): (&u64, &u64)| start / block..(start + size) / block;
        let online: BTreeSet<u64> = wanted.iter().flat_map(numbers).collect();
        loop {
            machine.unread_steps()?.into_iter().try_for_each(|step| self.note(step))?;
            let (found, half) = blocks(machine)?;
            if found == online && half.is_empty() && self.added == wanted {
                return Ok(());
            }
            let step = machine.next_step().with_context(|| {
                let added = &self.added;
                format!(
                    "QEMU has {wanted:x?}; the kernel has added {added:x?}, its blocks {found:?} are \
                     online and {half:?} offline"
                )
            })?;
            self.note(step)?;
        }
    }

    /// Follows what the kernel has added. No step may fail but the removal of what may stay.
    fn note(&mut self, step: Step) -> Result<()> {
        match (step.error(), &step) {
            (None, _) => {}
            (Some(_), Step::Remove(_)) if self.may_keep => {}
            (Some(why), _) => bail!("{} failed: {why}", step.operation()),
        }
        match step {
            Step::Add(add) => {
                let before = self.added.insert(add.start(), add.size());
                let again = before.is_none() || self.kept.remove(&add.start());
                ensure!(again, "memory at {:#x} was added twice", add.start());
            }
            Step::Remove(remove) => {
                let start = remove.more.get("start").and_then(|start| start.as_u64());
                let start = start.filter(|start| self.added.contains_key(start));
                let start = start.with_context(|| format!("{remove:x?} was not added"))?;
                if remove.error.is_some() {
                    self.kept.insert(start);
                } else {
                    self.added.remove(&start);
                }
            }
            Step::Online(_) | Step::Offline(_) | Step::Scrub(_) => {}
            Step::Use(_) => bail!("memory was used, which was not asked for"),
        }
        Ok(())
    }

    /// The end: every DIMM goes, and the kernel says pass.
    fn clear(&mut self, machine: &mut Machine) -> Result<()> {
        self.settle(machine).context("after the last round")?;
        for slot in self.full() {
            self.ask(machine, slot)?;
        }
        self.settle(machine).context("at the end")?;
        machine.run(&format!("pool shrink {MOVED}"))?;
        end_well(machine)
    }
}

/// The numbers of the blocks of plugged memory: those that are online, and those that are not.
fn blocks(machine: &mut Machine) -> Result<(BTreeSet<u64>, BTreeSet<u64>)> {
    let plugged = machine.blocks()?.into_iter().filter(|block| !block.boot);
    let (online, offline): (Vec<_>, Vec<_>) =
        plugged.partition(|block| block.state.starts_with("online"));
    let numbers = |blocks: Vec<crate::machine::Block>| {
        blocks.into_iter().map(|block| block.block).collect::<BTreeSet<_>>()
    };
    Ok((numbers(online), numbers(offline)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_act_that_takes_a_dimm_or_a_place_says_so() {
        let of = |wanted: fn(Act) -> bool| {
            Act::ALL.into_iter().filter(|&act| wanted(act)).collect::<Vec<_>>()
        };
        assert_eq!(of(Act::takes), [Act::Unplug, Act::UnplugTwice, Act::Swap, Act::Refill]);
        assert_eq!(of(Act::fills), [Act::Plug, Act::Swap, Act::PlugAndUnplug]);
    }
}
