//! What a machine's memory must be after each event, as far as that follows from the events and their outcomes.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::contents::Region;
use crate::driver::Layout;
use crate::event::{Event, Kind, Memmap, Place, Policy, REGIONS, Run, SLOTS, Zone};

/// What the outcome of an event must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expect {
    /// It is done.
    Done,
    /// It is refused, and changes nothing.
    Refused,
    /// One or the other: that depends on what the model does not know.
    Either,
}

/// A memory block, as `blocks --json` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Shown {
    pub(crate) block: u64,
    pub(crate) state: String,
    pub(crate) zone: Option<String>,
    pub(crate) placement: String,
    pub(crate) boot: bool,
}

/// A block that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block {
    /// Its zone while it is online.
    pub(crate) zone: Option<Zone>,
    memmap: Memmap,
    /// The blocks that go with it: the first, and the one behind the last.
    pub(crate) group: (u64, u64),
    /// It has a bad page.
    bad: bool,
    /// It may have one: a page was marked when it was not known to be there.
    may_be_bad: bool,
    taken: bool,
}

/// A slot for a DIMM; or persistent memory, which nothing is in unless it serves as RAM.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Slot {
    /// Blocks of what is in it; 0 if it is empty.
    pub(crate) blocks: u64,
    /// It came, and the kernel may not have seen it yet.
    pub(crate) fresh: bool,
    /// It was asked for.
    pub(crate) asked: bool,
    /// Nothing has held it since.
    pub(crate) free: bool,
    /// By this policy it comes online, if nothing else has happened to it.
    pub(crate) policy: Option<Policy>,
    /// A page of its memory was marked bad before that was known to be there.
    may_be_bad: bool,
}

impl Slot {
    /// Whether a request has not ended.
    pub(crate) const fn open(&self) -> bool {
        self.fresh || self.asked
    }

    /// Whether nothing is in it.
    pub(crate) const fn is_empty(&self) -> bool {
        self.blocks == 0
    }
}

/// The model.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) layout: Layout,
    pub(crate) blocks: BTreeMap<u64, Block>,
    /// Those of DIMMs, and then those of persistent memory.
    pub(crate) slots: [Slot; SLOTS + REGIONS],
    pub(crate) regions: [Region; REGIONS],
    /// Unmovable extents: first page and order.
    pub(crate) held: BTreeMap<u64, (u64, u32)>,
    /// Movable extents: the pool's handle.
    pub(crate) grown: BTreeMap<u64, u64>,
    pub(crate) pinned: BTreeSet<u64>,
    /// Guests that compute.
    pub(crate) guests: BTreeSet<u64>,
    /// The numbers of watchers that object.
    pub(crate) vetoes: [Option<u64>; 2],
    policy: Policy,
    hosting: bool,
}

/// The index of what listeners object to.
pub(crate) const fn index(kind: Kind) -> usize {
    match kind {
        Kind::Online => 0,
        Kind::Offline => 1,
    }
}

impl Model {
    /// Of a machine on which nothing has happened yet; boot memory is online.
    pub(crate) fn new(layout: Layout) -> Self {
        let boot = |number: u64| Block {
            zone: Some(Zone::Movable),
            memmap: Memmap::Boot,
            group: (number, number + 1),
            bad: false,
            may_be_bad: false,
            taken: false,
        };
        Self {
            layout,
            blocks: layout.boot.into_iter().map(|number| (number, boot(number))).collect(),
            slots: [Slot::default(); SLOTS + REGIONS],
            regions: [Region::default(); REGIONS],
            held: BTreeMap::new(),
            grown: BTreeMap::new(),
            pinned: BTreeSet::new(),
            guests: BTreeSet::new(),
            vetoes: [None; 2],
            policy: Policy::Movable,
            hosting: true,
        }
    }

    /// Of the same machine when it was reset: DIMMs that were asked for before are gone, and the others have come. Persistent
    /// memory has kept what is in it.
    pub(crate) fn after_reset(&self) -> Self {
        let mut model = Self::new(self.layout);
        let stays = |slot: &Slot| slot.blocks > 0 && !slot.asked;
        let dimms = self.slots.iter().take(SLOTS).enumerate();
        for (slot, one) in dimms.filter(|(_, slot)| stays(slot)) {
            model.plugged(slot, one.blocks);
        }
        model.regions = self.regions.map(|region| region.after_reset());
        model
    }

    /// Whether no request of firmware is open.
    pub(crate) fn quiet(&self) -> bool {
        !self.slots.iter().any(Slot::open)
    }

    /// The lowest handle that the pool has not given out.
    pub(crate) fn free_handle(&self) -> u64 {
        let used: BTreeSet<u64> = self.grown.values().copied().collect();
        (0..).find(|handle| !used.contains(handle)).unwrap_or(u64::MAX)
    }

    /// The numbers of the operator's blocks.
    pub(crate) fn numbers(&self, run: Run) -> std::ops::Range<u64> {
        let first = self.layout.window + run.first;
        first..first + run.count
    }

    /// Whether the slot that has this block, if one has, has an open request.
    pub(crate) fn is_open(&self, number: u64) -> bool {
        let slot = self.layout.device_of(number).and_then(|slot| self.slots.get(slot));
        slot.is_some_and(Slot::open)
    }

    /// Whether unmovable pages are in a block.
    fn is_held(&self, number: u64) -> bool {
        let pages = self.layout.block / self.layout.page;
        self.held.values().any(|(pfn, _)| pfn / pages == number)
    }

    /// What must come of an event that types a command.
    pub(crate) fn expect(&self, event: &Event) -> Expect {
        let known = match *event {
            Event::Add(run, _) => self.expect_add(run),
            Event::Remove(run) => self.expect_remove(run),
            Event::Convert(run) => self.expect_convert(run),
            Event::PmemAdd(region, memmap, force) => self.expect_pmem_add(region, memmap, force),
            Event::PmemRemove(region, _) => self.expect_pmem_remove(region),
            Event::Online(place, _) => self.expect_online(place),
            Event::Offline(place) => self.expect_offline(place),
            Event::Take(place) => self.expect_take(place),
            Event::Poison(place, _) => match self.blocks.get(&self.layout.number(place)) {
                None => Expect::Refused,
                Some(_) => Expect::Either,
            },
            Event::Drop(name) if self.pinned.contains(&name) => Expect::Refused,
            Event::Cancel if self.quiet() => Expect::Refused,
            Event::Cancel | Event::Compact(..) => Expect::Either,
            Event::Release | Event::Veto(_) | Event::Allow(_) => Expect::Done,
            _ => return Expect::Done,
        };
        // While firmware waits for memory, some of the operator's commands are refused.
        let open = match *event {
            Event::Online(place, _) | Event::Offline(place) | Event::Poison(place, _) => {
                self.is_open(self.layout.number(place))
            }
            _ => false,
        };
        match known {
            _ if open => Expect::Either,
            Expect::Done if !self.quiet() => Expect::Either,
            known => known,
        }
    }

    /// Whether a listener objects to blocks that come online.
    pub(crate) const fn vetoes_online(&self) -> bool {
        self.vetoes[index(Kind::Online)].is_some()
    }

    fn expect_add(&self, run: Run) -> Expect {
        let there = self.numbers(run).any(|number| self.blocks.contains_key(&number));
        if there { Expect::Refused } else { Expect::Done }
    }

    fn expect_remove(&self, run: Run) -> Expect {
        let numbers = self.numbers(run);
        let blocks: Option<Vec<_>> =
            numbers.clone().map(|number| self.blocks.get(&number)).collect();
        let Some(blocks) = blocks else { return Expect::Refused };
        let goes = |block: &&Block| {
            let (first, end) = block.group;
            block.zone.is_none() && numbers.start <= first && end <= numbers.end
        };
        let hosts = blocks.iter().filter(|block| block.memmap != Memmap::Boot).count();
        let alike = hosts == 0 || hosts == blocks.len();
        if alike && blocks.iter().all(goes) { Expect::Done } else { Expect::Refused }
    }

    fn expect_convert(&self, run: Run) -> Expect {
        let numbers = self.numbers(run);
        let whole = |number: u64| {
            let block = self.blocks.get(&number)?;
            let one = block.group == (numbers.start, numbers.end);
            (one && block.memmap == Memmap::Range).then_some(block)
        };
        let Some(blocks) = numbers.clone().map(whole).collect::<Option<Vec<_>>>() else {
            return Expect::Refused;
        };
        let stays =
            |block: &&Block| block.bad || block.may_be_bad || block.zone == Some(Zone::Normal);
        let fixed = !self.pinned.is_empty() || blocks.iter().any(stays);
        if fixed { Expect::Either } else { Expect::Done }
    }

    fn expect_online(&self, place: Place) -> Expect {
        let vetoed = self.vetoes_online();
        let can = |block: &&Block| block.zone.is_none() && !block.bad && !block.taken && !vetoed;
        match self.blocks.get(&self.layout.number(place)).filter(can) {
            Some(block) if block.may_be_bad => Expect::Either,
            Some(_) => Expect::Done,
            None => Expect::Refused,
        }
    }

    fn expect_offline(&self, place: Place) -> Expect {
        let number = self.layout.number(place);
        let vetoed = self.vetoes[index(Kind::Offline)].is_some();
        match self.blocks.get(&number).and_then(|block| block.zone) {
            Some(_) if vetoed || self.is_held(number) => Expect::Refused,
            Some(Zone::Movable) if self.pinned.is_empty() => Expect::Done,
            Some(_) => Expect::Either,
            None => Expect::Refused,
        }
    }

    fn expect_take(&self, place: Place) -> Expect {
        let can = |block: &Block| block.zone.is_none() && !block.bad && !block.taken;
        let there = self.blocks.get(&self.layout.number(place)).is_some_and(can);
        let boot = matches!(place, Place::Boot(_));
        if there && boot { Expect::Done } else { Expect::Refused }
    }

    /// Notes that an event was done.
    pub(crate) fn done(&mut self, event: &Event) {
        match *event {
            Event::Add(run, memmap) => self.add(run, memmap),
            Event::Remove(run) => {
                for number in self.numbers(run) {
                    self.blocks.remove(&number);
                }
            }
            Event::Convert(run) => {
                for number in self.numbers(run) {
                    if let Some(block) = self.blocks.get_mut(&number) {
                        (block.memmap, block.group) = (Memmap::Block, (number, number + 1));
                    }
                }
            }
            Event::Online(place, zone) => self.set_zone(place, Some(zone)),
            Event::Offline(place) => self.set_zone(place, None),
            Event::Take(place) => {
                if let Some(block) = self.blocks.get_mut(&self.layout.number(place)) {
                    block.taken = true;
                }
            }
            Event::Release => self.blocks.values_mut().for_each(|block| block.taken = false),
            Event::Cancel => self.slots.iter_mut().for_each(|slot| slot.free = false),
            Event::Policy(policy) => self.policy = policy,
            Event::Hosting(hosting) => self.hosting = hosting,
            _ => {}
        }
        if matches!(event, Event::Policy(_) | Event::Veto(Kind::Online)) {
            self.slots.iter_mut().for_each(|slot| slot.policy = None);
        }
    }

    fn add(&mut self, run: Run, memmap: Memmap) {
        let memmap = if self.hosting { memmap } else { Memmap::Boot };
        let numbers = self.numbers(run);
        for number in numbers.clone() {
            let whole = memmap == Memmap::Range;
            let group = if whole { (numbers.start, numbers.end) } else { (number, number + 1) };
            let block =
                Block { zone: None, memmap, group, bad: false, may_be_bad: false, taken: false };
            self.blocks.insert(number, block);
        }
    }

    fn set_zone(&mut self, place: Place, zone: Option<Zone>) {
        let number = self.layout.number(place);
        if let Some(block) = self.blocks.get_mut(&number) {
            block.zone = zone;
        }
        if let Some(slot) = self.layout.device_of(number).and_then(|slot| self.slots.get_mut(slot))
        {
            slot.policy = None;
            slot.free &= zone != Some(Zone::Normal);
        }
    }

    /// Notes that a page of a block is bad; with `memmap`, one that holds descriptors, of a block that goes with it: both are
    /// bad then.
    pub(crate) fn spoil(&mut self, number: u64, memmap: bool) {
        let Some(&Block { group: (first, end), .. }) = self.blocks.get(&number) else {
            let slot = self.layout.device_of(number).and_then(|slot| self.slots.get_mut(slot));
            return slot.into_iter().for_each(|slot| slot.may_be_bad = true);
        };
        for (&other, block) in self.blocks.range_mut(first..end) {
            block.bad |= other == number;
            block.may_be_bad |= memmap;
        }
    }

    /// A DIMM has come.
    pub(crate) fn plugged(&mut self, slot: usize, blocks: u64) {
        let vetoed = self.vetoes_online();
        let policy = Some(self.policy).filter(|_| !vetoed);
        self.slots[slot] = Slot { blocks, fresh: true, free: true, policy, ..Slot::default() };
    }

    /// A DIMM was asked for.
    pub(crate) fn asked(&mut self, slot: usize) {
        let one = &mut self.slots[slot];
        let may_be_normal = one.fresh && one.policy.is_none_or(|policy| policy == Policy::Kernel);
        (one.asked, one.free) = (true, !may_be_normal);
    }

    /// Notes what holds the DIMMs that were asked for. Called after each event.
    pub(crate) fn note_obstacles(&mut self) {
        let held = !self.pinned.is_empty() || self.vetoes[index(Kind::Offline)].is_some();
        let devices: Vec<_> = self.layout.devices().collect();
        for (slot, (first, _)) in devices.into_iter().enumerate() {
            let mut blocks = self.blocks.range(first..first + self.slots[slot].blocks);
            let stays =
                |block: &Block| block.bad || block.may_be_bad || block.zone == Some(Zone::Normal);
            let stays = blocks.any(|(_, block)| stays(block)) || self.slots[slot].may_be_bad;
            let one = &mut self.slots[slot];
            one.free &= !held && !stays && (!one.fresh || self.policy != Policy::Kernel);
        }
    }

    /// Takes over what became of the DIMM of a slot, whose requests have ended: it is gone, or all of it is there.
    pub(crate) fn settle(&mut self, slot: usize, gone: bool, shown: &[Shown]) -> Result<()> {
        let Slot { blocks, asked, policy, may_be_bad, .. } = self.slots[slot];
        let first = self.layout.devices().nth(slot).map_or(u64::MAX, |(first, _)| first);
        let numbers = first..first.saturating_add(blocks);
        if gone {
            self.blocks.retain(|number, _| !numbers.contains(number));
            self.slots[slot] = Slot::default();
            return Ok(());
        }
        for number in numbers.clone() {
            let one = shown.iter().find(|one| one.block == number);
            let one = one.with_context(|| format!("block {number} of slot {slot} is missing"))?;
            let zone = one.zone.as_deref().map(str::parse).transpose()?;
            let memmap: Memmap = one.placement.parse()?;
            let by_policy = policy.is_none_or(|policy| asked || policy.zone() == zone);
            ensure!(by_policy, "by {policy:?}, block {number} is {zone:?}");
            let whole = memmap == Memmap::Range;
            let group = if whole { (numbers.start, numbers.end) } else { (number, number + 1) };
            let before = self.blocks.get(&number);
            let bad = before.is_some_and(|block| block.bad);
            let may_be_bad = may_be_bad || before.is_some_and(|block| block.may_be_bad);
            let block = Block { zone, memmap, group, bad, may_be_bad, taken: false };
            self.blocks.insert(number, block);
        }
        self.slots[slot] = Slot { blocks, policy: None, ..Slot::default() };
        Ok(())
    }

    /// Compares with what the monitor shows, but for slots with open requests.
    pub(crate) fn compare(&self, shown: &[Shown]) -> Result<()> {
        let ours = |one: &&Shown| {
            let number = one.block;
            let slot = self.layout.device_of(number).is_some() && !self.is_open(number);
            slot || self.layout.in_window(number) || self.layout.boot.contains(&number)
        };
        let found: BTreeMap<u64, &Shown> =
            shown.iter().filter(ours).map(|one| (one.block, one)).collect();
        for (number, block) in self.blocks.iter().filter(|(number, _)| !self.is_open(**number)) {
            let one = found.get(number).with_context(|| format!("block {number} is missing"))?;
            let zone = block.zone.map(Zone::word);
            let memmap = one.boot || one.placement == block.memmap.word();
            let state = if zone.is_some() { "online" } else { "offline" };
            let same = one.zone.as_deref() == zone && one.state == state && memmap;
            ensure!(same, "{one:?} must be {block:?}");
        }
        let surplus = found.keys().find(|number| !self.blocks.contains_key(number));
        ensure!(surplus.is_none(), "block {surplus:?} must not be there");
        Ok(())
    }

    /// Checks an extent that was allocated: in memory that is online and for the kernel, and not allocated twice.
    pub(crate) fn check_extent(&self, pfn: u64, order: u32) -> Result<()> {
        ensure!(pfn.is_multiple_of(1 << order), "pfn {pfn:#x} for order {order}");
        let number = pfn / (self.layout.block / self.layout.page);
        let block = self.blocks.get(&number).filter(|_| !self.is_open(number));
        let for_kernel = block.is_none_or(|block| block.zone == Some(Zone::Normal));
        ensure!(for_kernel, "pfn {pfn:#x} was allocated in {block:?}");
        let end = pfn + (1 << order);
        let twice = self.held.values().find(|(at, order)| *at < end && pfn < at + (1 << order));
        ensure!(twice.is_none(), "pfn {pfn:#x} was allocated twice: {twice:x?}");
        Ok(())
    }
}
