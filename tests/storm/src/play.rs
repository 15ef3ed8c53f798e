//! Plays a log on a machine, and compares it with the model after each event.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use std::{fmt, io};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::driver::{Driver, End, Layout};
use crate::event::{Event, Force, Kind, Place, REGIONS, Run, SLOTS, Wait};
use crate::model::{Block, Expect, Model, Shown, index};
use crate::stats::Stats;

/// How often a DIMM is asked for again that the kernel keeps without a reason.
const MOST_ASKED: u32 = 32;
/// How long a DIMM may take to be there.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Events between two checks of what movable pages hold.
const BETWEEN_CHECKS: usize = 16;
/// Work of the kernel between two looks whether a DIMM is there.
pub(crate) const TURNS: u64 = 1000;

/// The command that has DIMMs come online for movable pages.
const POLICY: &str = "policy online_movable";
/// Bytes of a guest.
const GUEST: &str = "2M";

/// An event that did not do what it must.
#[derive(Debug)]
pub struct Failed {
    /// Its index in the log; that behind the last one for the end.
    pub index: usize,
    /// What is wrong.
    pub why: anyhow::Error,
}

impl Failed {
    /// What is wrong, without the event and without numbers: one fault has one kind, whichever event meets it.
    pub fn kind(&self) -> String {
        let text = format!("{:#}", self.why);
        let cause = text.split_once(": ").filter(|(event, _)| event.parse::<Event>().is_ok());
        let cause = cause.map_or(text.as_str(), |(_, cause)| cause);
        let kinds = cause.split(' ').map(|word| match word.contains("0x") {
            true => "#".to_owned(),
            false => word.replace(|c: char| c.is_ascii_digit(), ""),
        });
        kinds.collect::<Vec<_>>().join(" ")
    }

    /// Whether this host lacks something, so that other logs fail as well: room on a disk, for example.
    pub fn is_of_host(&self) -> bool {
        let lacks = |error: &io::Error| {
            use io::ErrorKind::{
                OutOfMemory, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull,
            };
            let kinds =
                [StorageFull, QuotaExceeded, ReadOnlyFilesystem, PermissionDenied, OutOfMemory];
            kinds.contains(&error.kind())
        };
        self.why.chain().filter_map(<dyn std::error::Error>::downcast_ref).any(lacks)
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "event {}: {:#}", self.index, self.why)
    }
}

/// Plays logs on a machine.
#[derive(Debug)]
pub struct Player<D> {
    pub(crate) driver: D,
    pub(crate) layout: Layout,
    pub(crate) model: Model,
    stats: Stats,
    /// The step that is to fail during the next command.
    fault: u64,
    /// Bytes of boot memory that added memory needs before the first event.
    system: u64,
}

impl<D: Driver> Player<D> {
    /// A player on a machine on which nothing has happened yet.
    ///
    /// # Errors
    ///
    /// When the machine is not as its layout says.
    pub fn new(driver: D) -> Result<Self> {
        let layout = driver.layout();
        let model = Model::new(layout);
        let stats = Stats::default();
        let mut player = Self { driver, layout, model, stats, fault: 0, system: 0 };
        player.system = player.system_bytes()?;
        player.accepted(POLICY)?;
        player.compare()?;
        Ok(player)
    }

    /// Plays a log, then takes everything away again; `each` gets the index of each event before it begins.
    ///
    /// # Errors
    ///
    /// The first event after which something is not as it must be.
    pub fn play(mut self, log: &[Event], each: impl Fn(usize)) -> Result<(D, Stats), Failed> {
        for (index, event) in log.iter().enumerate() {
            each(index);
            let played = self.event(event).with_context(|| event.to_string());
            let played = played.and_then(|()| self.look(index));
            played.map_err(|why| Failed { index, why })?;
        }
        each(log.len());
        self.end().map_err(|why| Failed { index: log.len(), why })?;
        Ok((self.driver, self.stats))
    }

    fn event(&mut self, event: &Event) -> Result<()> {
        self.driver.turn(1);
        match *event {
            Event::Plug(slot, blocks, wait) => self.plug(event, slot, blocks, wait),
            Event::Unplug(slot, wait) => self.unplug(event, slot, 1, wait),
            Event::Twice(slot, wait) => self.unplug(event, slot, 2, wait),
            Event::Settle => self.settle(),
            Event::Reset => self.reset(event),
            Event::Turn(turns) => {
                self.driver.turn(turns);
                Ok(())
            }
            Event::Fault(nth) => {
                self.fault = nth;
                Ok(())
            }
            Event::Guest(_) if !self.driver.runs_guests() => Ok(()),
            _ if event.is_about_region() && self.layout.regions.is_none() => Ok(()),
            _ => self.command(event),
        }
    }

    fn count(&mut self, event: &Event, outcome: &'static str) {
        self.stats.count(&event.name(), outcome);
    }

    fn plug(&mut self, event: &Event, slot: usize, blocks: u64, wait: Wait) -> Result<()> {
        let free = self.model.slots[slot].blocks == 0;
        if free {
            self.driver.plug(slot, blocks)?;
            self.model.plugged(slot, blocks);
            self.count(event, if wait == Wait::No { "now" } else { "waited for" });
        }
        self.wait(wait)
    }

    fn unplug(&mut self, event: &Event, slot: usize, times: u32, wait: Wait) -> Result<()> {
        let there = self.model.slots[slot].blocks > 0 && !self.model.slots[slot].asked;
        if there {
            self.driver.ask_back(slot, times)?;
            self.model.asked(slot);
            self.model.note_obstacles();
            self.count(event, if wait == Wait::No { "now" } else { "waited for" });
        }
        self.wait(wait)
    }

    /// Resets the machine: the policy for DIMMs that come is the one of the beginning again.
    fn reset(&mut self, event: &Event) -> Result<()> {
        self.driver.reset(std::array::from_fn(|slot| self.model.slots[slot].asked))?;
        self.fault = 0;
        self.model = self.model.after_reset();
        self.accepted(POLICY)?;
        self.count(event, "done");
        self.settle()
    }

    pub(crate) fn wait(&mut self, wait: Wait) -> Result<()> {
        if wait == Wait::Yes { self.settle() } else { Ok(()) }
    }

    /// Waits for the end of all requests of firmware, and takes over what became of the DIMMs.
    fn settle(&mut self) -> Result<()> {
        let mut gone = [false; SLOTS + REGIONS];
        for (slot, gone) in gone.iter_mut().enumerate() {
            *gone = self.model.slots[slot].asked && self.ends_gone(slot)?;
        }
        let shown = self.wait_until_there(gone)?;
        for (slot, gone) in gone.into_iter().enumerate() {
            if self.model.slots[slot].open() {
                self.model.settle(slot, gone, &shown)?;
            }
        }
        self.model.compare(&shown)
    }

    /// Waits for the end of the request for what is in a slot; returns whether it is gone.
    fn ends_gone(&mut self, slot: usize) -> Result<bool> {
        let region = slot.checked_sub(SLOTS);
        let what = if region.is_some() { "region" } else { "dimm" };
        for _ in 0..MOST_ASKED {
            let free = self.model.slots[slot].free;
            let end = match region {
                None => self.driver.end(slot)?,
                Some(region) => self.region_end(region)?,
            };
            match (end, region) {
                (End::Gone, _) => {
                    self.stats.count(what, "gone");
                    return Ok(true);
                }
                (End::Kept, _) if !free => {
                    self.stats.count(what, "kept");
                    return Ok(false);
                }
                (End::Kept, None) if self.driver.may_ask_again() => {
                    self.driver.ask_back(slot, 1)?
                }
                (End::Kept, _) => break,
            }
        }
        bail!("the {what} of slot {slot} stays, and nothing holds it")
    }

    /// Waits until all DIMMs that came and did not go are there, and those that are gone are not.
    fn wait_until_there(&mut self, gone: [bool; SLOTS + REGIONS]) -> Result<Vec<Shown>> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.driver.turn(TURNS);
            let shown = self.shown()?;
            let there = |number: u64| shown.iter().any(|one| one.block == number);
            let mut slots = self.model.slots.iter().zip(self.layout.devices()).zip(gone);
            let agrees = slots.all(|((slot, (first, _)), gone)| {
                (first..first + slot.blocks).all(|number| there(number) != gone)
            });
            if agrees {
                return Ok(shown);
            }
            ensure!(Instant::now() < deadline, "in slots there is not {:?}", self.model.slots);
        }
    }

    /// An event that types one command.
    fn command(&mut self, event: &Event) -> Result<()> {
        let Some(line) = self.line(event)? else { return Ok(()) };
        let fault = std::mem::take(&mut self.fault);
        let mut expect = self.model.expect(event);
        let predicted = self.explained(event, fault)?;
        let compares = self.model.quiet()
            && (expect == Expect::Refused || (fault > 0 && matches!(event, Event::Add(..))));
        if compares {
            self.accepted("snapshot save")?;
        }
        if fault > 0 && self.driver.fault(&line, fault)? && expect == Expect::Done {
            expect = Expect::Either;
        }
        let reply = self.driver.command(&line)?;
        if fault > 0 {
            self.driver.no_fault();
        }
        match (&reply.error, expect) {
            (None, Expect::Refused) => bail!("`{line}` must be refused"),
            (Some(why), Expect::Done) => bail!("`{line}` must be done: {why}"),
            _ => {}
        }
        let done = reply.error.is_none();
        let agrees = predicted.is_none_or(|predicted| predicted == done);
        ensure!(agrees, "`{line}` was predicted to be done: {predicted:?}; {:?}", reply.error);
        if done {
            self.model.done(event);
            self.note(event, &reply.lines)?;
        } else if compares {
            self.accepted("snapshot check").context("a refusal changed something")?;
        }
        self.count(event, if done { "done" } else { "refused" });
        match *event {
            Event::PmemAdd(region, ..) => self.note_pmem_add(region, done),
            Event::PmemRemove(region, wait) if done => self.note_pmem_remove(region, wait),
            _ => Ok(()),
        }
    }

    /// What the monitor predicts of taking a block offline, if nothing else can happen.
    fn explained(&mut self, event: &Event, fault: u64) -> Result<Option<bool>> {
        let Event::Offline(place) = *event else { return Ok(None) };
        let number = self.layout.number(place);
        let block = self.model.blocks.get(&number);
        let alone =
            block.is_some_and(|block| block.zone.is_some() && block.group == (number, number + 1));
        let vetoed = self.model.vetoes[index(Kind::Offline)].is_some();
        if !alone || vetoed || fault > 0 || !self.model.quiet() || matches!(place, Place::Boot(_)) {
            return Ok(None);
        }
        let range = self.range(number, 1);
        let explained = self.json(&format!("explain-remove {range} --json"))?;
        Ok(Some(explained["state"] != "blocked"))
    }

    /// Blocks as the monitor takes them: address and size.
    fn range(&self, number: u64, count: u64) -> String {
        format!("{:#x} {:#x}", number * self.layout.block, count * self.layout.block)
    }

    /// The command of an event; `None` if it has no object.
    fn line(&self, event: &Event) -> Result<Option<String>> {
        let (layout, model) = (&self.layout, &self.model);
        let run = |run: Run| self.range(model.numbers(run).start, run.count);
        let handle = |name: u64| model.grown.get(&name);
        let leaves = |region: usize| model.slots[SLOTS + region].asked;
        Ok(match *event {
            Event::Cancel => Some("offline cancel".to_owned()),
            Event::Add(blocks, memmap) => Some(format!("add {} {memmap}", run(blocks))),
            Event::Remove(blocks) => Some(format!("remove {}", run(blocks))),
            Event::Convert(blocks) => Some(format!("convert {} block", run(blocks))),
            Event::PmemAdd(region, ..) | Event::PmemRemove(region, _) if leaves(region) => None,
            Event::PmemAdd(region, memmap, force) => Some(match force {
                Force::No => format!("pmem add {region} {memmap}"),
                Force::Yes => format!("pmem add {region} {memmap} force"),
            }),
            Event::PmemRemove(region, _) => Some(format!("pmem remove {region}")),
            Event::Online(place, zone) => {
                Some(format!("online {} {}", layout.number(place), zone.way()))
            }
            Event::Offline(place) => Some(format!("offline {}", layout.number(place))),
            Event::Take(place) => Some(format!("memtrace 0:{}", layout.number(place))),
            Event::Release => Some("memtrace release".to_owned()),
            Event::Poison(place, page) => {
                let pages = layout.block / layout.page;
                let pfn = layout.number(place) * pages + page % pages;
                Some(format!("poison {pfn:#x}"))
            }
            Event::Alloc(name, order) => {
                (!model.held.contains_key(&name)).then(|| format!("alloc {order}"))
            }
            Event::Free(name) => model.held.get(&name).map(|(pfn, _)| format!("free {pfn:#x}")),
            Event::Grow(name, order) => {
                handle(name).is_none().then(|| format!("pool grow 1 {order}"))
            }
            Event::Drop(name) => handle(name).map(|handle| format!("pool free {handle}")),
            Event::Pin(name) => handle(name).map(|handle| format!("pool pin {handle}")),
            Event::Unpin(name) => handle(name).map(|handle| format!("pool unpin {handle}")),
            Event::Veto(kind) => {
                model.vetoes[index(kind)].is_none().then(|| format!("notify add 0 {kind}"))
            }
            Event::Allow(kind) => {
                model.vetoes[index(kind)].map(|number| format!("notify remove {number}"))
            }
            Event::Compact(zone, order) => Some(format!("compact 0 {zone} {order}")),
            Event::Policy(policy) => Some(format!("policy {policy}")),
            Event::Guest(name) => {
                (!model.guests.contains(&name)).then(|| format!("vm create g{name} {GUEST}"))
            }
            Event::Kill(name) => model.guests.contains(&name).then(|| format!("vm kill g{name}")),
            Event::Hosting(true) => Some("vmemmap enable".to_owned()),
            Event::Hosting(false) => Some("vmemmap disable".to_owned()),
            _ => bail!("it types no command"),
        })
    }

    /// Notes what the monitor wrote to a command that was done.
    fn note(&mut self, event: &Event, lines: &[String]) -> Result<()> {
        let model = &mut self.model;
        match *event {
            Event::Alloc(name, order) => {
                let pfn = number_behind("pfn ", lines)?;
                model.check_extent(pfn, order)?;
                model.held.insert(name, (pfn, order));
            }
            Event::Free(name) => drop(model.held.remove(&name)),
            Event::Grow(name, _) => drop(model.grown.insert(name, model.free_handle())),
            Event::Drop(name) => drop(model.grown.remove(&name)),
            Event::Pin(name) => drop(model.pinned.insert(name)),
            Event::Unpin(name) => drop(model.pinned.remove(&name)),
            Event::Veto(kind) => {
                model.vetoes[index(kind)] = Some(number_behind("watcher ", lines)?);
            }
            Event::Allow(kind) => model.vetoes[index(kind)] = None,
            Event::Guest(name) => {
                model.guests.insert(name);
                self.accepted(&format!("vm run g{name}"))?;
            }
            Event::Kill(name) => drop(model.guests.remove(&name)),
            Event::Poison(place, _) => {
                let memmap = lines.iter().any(|line| line.contains("holds descriptors"));
                model.spoil(self.layout.number(place), memmap);
            }
            _ => {}
        }
        Ok(())
    }

    /// Checks everything after an event.
    fn look(&mut self, index: usize) -> Result<()> {
        self.model.note_obstacles();
        self.driver.check()?;
        if index.is_multiple_of(BETWEEN_CHECKS) {
            self.accepted("pool check")?;
            self.compare_regions()?;
        }
        self.compare()
    }

    fn compare(&mut self) -> Result<()> {
        let shown = self.shown()?;
        self.model.compare(&shown)
    }

    /// Frees everything that the log has left, and takes all memory away: boot memory serves nothing then that it
    /// did not serve before.
    fn end(&mut self) -> Result<()> {
        self.fault = 0;
        let mut last = vec![Event::Settle, Event::Release];
        last.extend(Kind::ALL.iter().map(|&kind| Event::Allow(kind)));
        last.extend(self.model.guests.iter().map(|&name| Event::Kill(name)));
        last.extend(self.model.pinned.iter().map(|&name| Event::Unpin(name)));
        last.extend(self.model.grown.keys().map(|&name| Event::Drop(name)));
        last.extend(self.model.held.keys().map(|&name| Event::Free(name)));
        self.all(&last)?;
        let online = |(&number, block): (&u64, &Block)| {
            let zone = block.zone.filter(|_| self.layout.in_window(number));
            zone.map(|_| Event::Offline(Place::Window(number - self.layout.window)))
        };
        let mut last: Vec<Event> = self.model.blocks.iter().filter_map(online).collect();
        last.extend((0..SLOTS).map(|slot| Event::Unplug(slot, Wait::Yes)));
        let used = |region: &usize| !self.model.slots[SLOTS + region].is_empty();
        last.extend((0..REGIONS).filter(used).map(|region| Event::PmemRemove(region, Wait::Yes)));
        self.all(&last)?;
        let removals = self.removals();
        self.all(&removals)?;
        let left = self.removals();
        ensure!(left.is_empty(), "the operator's memory stays: {left:?}");
        let system = self.system_bytes()?;
        ensure!(
            system == self.system,
            "{system} bytes of boot memory serve added memory that is gone"
        );
        Ok(())
    }

    /// What removes the operator's memory: an event for each group of blocks.
    fn removals(&self) -> Vec<Event> {
        let window = self.layout.window;
        let ours = self.model.blocks.iter().filter(|(number, _)| self.layout.in_window(**number));
        let groups: BTreeSet<(u64, u64)> = ours.map(|(_, block)| block.group).collect();
        let run = |(first, end)| Run { first: first - window, count: end - first };
        groups.into_iter().map(|group| Event::Remove(run(group))).collect()
    }

    fn all(&mut self, events: &[Event]) -> Result<()> {
        for event in events {
            self.event(event).with_context(|| format!("at the end, {event}"))?;
            self.look(0).with_context(|| format!("at the end, {event}"))?;
        }
        Ok(())
    }

    pub(crate) fn shown(&mut self) -> Result<Vec<Shown>> {
        let blocks = self.json("blocks --json")?;
        serde_json::from_value(blocks).context("what `blocks --json` shows")
    }

    fn system_bytes(&mut self) -> Result<u64> {
        self.json("stats --json")?["system_bytes"].as_u64().context("`stats` shows no system bytes")
    }

    pub(crate) fn json(&mut self, line: &str) -> Result<Value> {
        let lines = self.accepted(line)?;
        // What the kernel logs meanwhile may begin alike.
        let mut json = lines.iter().filter(|line| line.starts_with(['{', '[']));
        let found = json.find_map(|line| serde_json::from_str(line).ok());
        found.with_context(|| format!("`{line}` shows no JSON"))
    }

    fn accepted(&mut self, line: &str) -> Result<Vec<String>> {
        let reply = self.driver.command(line)?;
        match reply.error {
            None => Ok(reply.lines),
            Some(why) => bail!("`{line}`: {why}\n{}", reply.lines.join("\n")),
        }
    }
}

/// The number behind a word in the first line that has both.
fn number_behind(word: &str, lines: &[String]) -> Result<u64> {
    let number = |line: &String| {
        let rest = line.split_once(word)?.1;
        let digits = rest.split([',', ' ']).next()?;
        match digits.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16).ok(),
            None => digits.parse().ok(),
        }
    };
    lines.iter().find_map(number).with_context(|| format!("no number behind '{word}': {lines:?}"))
}
