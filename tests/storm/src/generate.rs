//! Logs from seeds.

use crate::event::{
    BOOT_BLOCKS, Event, Force, Kind, Memmap, Place, Policy, REGION_BLOCKS, REGIONS, Run,
    SLOT_BLOCKS, SLOTS, WINDOW_BLOCKS, Wait, Zone,
};
use hotmem_paging::testing::Random;

/// Extents of each kind at most: what they hold fits beside everything else on the smallest machine.
const MOST: usize = 24;
/// The largest order, plus one.
const ORDERS: u64 = 4;
/// How often a pool pins, at most at a time.
const MOST_PINNED: usize = 2;
/// Vetoes of one log: a monitor takes so many.
const MOST_VETOES: u32 = 30;
/// Where there are guests, one event of so many is about one.
const GUESTS_EACH: u64 = 16;
/// Of the steps that can fail the first ones do.
const MOST_STEPS: u64 = 12;

/// The log of `seed`, with `count` events, some of them about so many `guests`. It depends on nothing else.
pub fn generate(seed: u64, count: u64, guests: u64) -> Vec<Event> {
    let mut maker = Maker {
        random: Random::new(seed),
        guests,
        names: 0,
        held: Vec::new(),
        grown: Vec::new(),
        pinned: Vec::new(),
        full: [false; SLOTS],
        used: [false; REGIONS],
        then: None,
        groups: Vec::new(),
        vetoes: Vec::new(),
        vetoed: 0,
    };
    (0..count).map(|_| maker.next()).collect()
}

/// Blocks that were probably added in one piece, or one of those that were converted.
#[derive(Debug, Clone, Copy)]
struct Group {
    run: Run,
    memmap: Memmap,
    /// A bit for each block that is online.
    online: u64,
}

/// What the log so far has probably led to, so that most events have an object.
struct Maker {
    random: Random,
    /// How many guests there may be.
    guests: u64,
    names: u64,
    held: Vec<u64>,
    grown: Vec<u64>,
    pinned: Vec<u64>,
    full: [bool; SLOTS],
    /// The regions of persistent memory that serve as RAM.
    used: [bool; REGIONS],
    /// The event that is next in any case.
    then: Option<Event>,
    /// What the operator has added.
    groups: Vec<Group>,
    vetoes: Vec<Kind>,
    vetoed: u32,
}

impl Maker {
    fn next(&mut self) -> Event {
        if let Some(event) = self.then.take() {
            return event;
        }
        if self.guests > 0 && self.random.one_in(GUESTS_EACH) {
            return self.guest();
        }
        match self.random.below(106) {
            0..8 => self.plug(),
            8..16 => self.unplug(),
            16..18 => Event::Cancel,
            18..22 => Event::Turn(1 + self.random.below(12)),
            22 if self.random.one_in(2) => self.reset(),
            22 => Event::Settle,
            23..30 => self.add(),
            30..40 => self.remove(),
            40..42 => self.convert(),
            42..51 => self.online(),
            51..59 => Event::Offline(self.place()),
            59 => Event::Take(Place::Boot(self.random.below(BOOT_BLOCKS))),
            60 => Event::Release,
            61 => self.poison(),
            62..69 => self.alloc(),
            69..75 => self.free(),
            75..85 => self.grow(),
            85..92 => self.drop(),
            92 => self.pin(),
            93 if self.random.one_in(2) => self.veto(),
            93 => self.unpin(),
            94 => Event::Compact(self.zone(), below(&mut self.random, 8)),
            95 => self.policy(),
            96 => Event::Hosting(!self.random.one_in(4)),
            97 => self.fault(),
            98..104 => self.region(),
            _ => self.vetoes.pop().map_or_else(|| self.unpin(), Event::Allow),
        }
    }

    fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        *self.random.pick(all)
    }

    /// Half of all requests do not wait for their end.
    fn wait(&mut self) -> Wait {
        self.pick(Wait::ALL)
    }

    /// Most of what comes online can go again.
    fn zone(&mut self) -> Zone {
        if self.random.one_in(6) { Zone::Normal } else { Zone::Movable }
    }

    /// Of the operator's blocks, short runs more often, and most of them whole pairs or fours: so they meet.
    fn run(&mut self) -> Run {
        let count = self.pick(&[1, 1, 2, 2, 4, 4, 1 + self.random.clone().below(WINDOW_BLOCKS)]);
        let first = self.random.below(WINDOW_BLOCKS - count + 1);
        let aligned = first / count * count;
        Run { first: if self.random.one_in(5) { first } else { aligned }, count }
    }

    /// Mostly blocks that are not there.
    fn add(&mut self) -> Event {
        let (mut run, memmap) = (self.run(), self.pick(Memmap::ALL));
        let added = |block: u64, groups: &[Group]| groups.iter().any(|group| group.has(block));
        let free = (0..WINDOW_BLOCKS).filter(|&block| !added(block, &self.groups));
        let free: Vec<u64> = free.collect();
        if !free.is_empty() && !self.random.one_in(4) {
            let first = self.pick(&free);
            let ends = (first..first + run.count).find(|block| !free.contains(block));
            run = Run { first, count: ends.unwrap_or(first + run.count) - first };
        }
        if (run.first..run.first + run.count).all(|block| free.contains(&block)) {
            self.groups.push(Group { run, memmap, online: 0 });
            self.split(memmap != Memmap::Range);
        }
        Event::Add(run, memmap)
    }

    /// Makes each block of the last group a group of its own.
    fn split(&mut self, splits: bool) {
        let Some(last) = self.groups.pop_if(|_| splits) else { return };
        for block in last.run.first..last.run.first + last.run.count {
            let run = Run { first: block, count: 1 };
            let online = last.online & 1 << block;
            self.groups.push(Group { run, memmap: Memmap::Block, online });
        }
    }

    /// Mostly a group that was added, or the offline that it takes before that.
    fn remove(&mut self) -> Event {
        if self.groups.is_empty() || self.random.one_in(5) {
            return Event::Remove(self.run());
        }
        let index = self.random.below(self.groups.len() as u64) as usize;
        let group = &mut self.groups[index];
        if group.online == 0 {
            return Event::Remove(self.groups.swap_remove(index).run);
        }
        let block = u64::from(group.online.trailing_zeros());
        group.online &= group.online - 1;
        Event::Offline(Place::Window(block))
    }

    /// Mostly what was added with one memmap.
    fn convert(&mut self) -> Event {
        let ranges = self.groups.iter().position(|group| group.memmap == Memmap::Range);
        let Some(index) = ranges.filter(|_| !self.random.one_in(4)) else {
            return Event::Convert(self.run());
        };
        let group = self.groups.swap_remove(index);
        self.groups.push(group);
        self.split(true);
        Event::Convert(group.run)
    }

    /// Mostly blocks that were added.
    fn online(&mut self) -> Event {
        let zone = self.zone();
        if self.groups.is_empty() || self.random.one_in(3) {
            return Event::Online(self.place(), zone);
        }
        let index = self.random.below(self.groups.len() as u64) as usize;
        let group = &mut self.groups[index];
        let block = group.run.first + self.random.below(group.run.count);
        group.online |= 1 << block;
        Event::Online(Place::Window(block), zone)
    }

    fn place(&mut self) -> Place {
        match self.random.below(10) {
            0 => Place::Boot(self.random.below(BOOT_BLOCKS)),
            3 => {
                let region = self.random.below(REGIONS as u64) as usize;
                Place::Region(region, self.random.below(REGION_BLOCKS))
            }
            1..3 => {
                let slot = self.random.below(SLOTS as u64) as usize;
                Place::Slot(slot, self.random.below(SLOT_BLOCKS))
            }
            _ => Place::Window(self.random.below(WINDOW_BLOCKS)),
        }
    }

    /// A slot that is probably full, or empty, if there is one.
    fn slot(&mut self, full: bool) -> usize {
        let start = self.random.below(SLOTS as u64) as usize;
        let mut order = (0..SLOTS).map(|step| (start + step) % SLOTS);
        order.find(|&slot| self.full[slot] == full).unwrap_or(start)
    }

    fn plug(&mut self) -> Event {
        let slot = self.slot(false);
        self.full[slot] = true;
        Event::Plug(slot, 1 + self.random.below(SLOT_BLOCKS), self.wait())
    }

    fn unplug(&mut self) -> Event {
        let slot = self.slot(true);
        self.full[slot] = false;
        let wait = self.wait();
        if self.random.one_in(3) { Event::Twice(slot, wait) } else { Event::Unplug(slot, wait) }
    }

    /// Persistent memory that is unused is mostly used, and the other way round.
    fn region(&mut self) -> Event {
        let region = self.random.below(REGIONS as u64) as usize;
        let uses = !self.used[region] ^ self.random.one_in(6);
        self.used[region] = uses;
        if !uses {
            return Event::PmemRemove(region, self.wait());
        }
        let memmap = self.pick(&[Memmap::Range, Memmap::Block]);
        let memmap = if self.random.one_in(8) { Memmap::Boot } else { memmap };
        let event = Event::PmemAdd(region, memmap, self.pick(Force::ALL));
        if !self.random.one_in(3) {
            return event;
        }
        // It is added rarely enough that few faults would meet it.
        self.then = Some(event);
        self.fault()
    }

    fn fault(&mut self) -> Event {
        Event::Fault(1 + self.random.below(MOST_STEPS))
    }

    /// Rare: a bad page stays bad until its memory is removed.
    fn poison(&mut self) -> Event {
        match self.place() {
            Place::Boot(block) => Event::Online(Place::Boot(block), Zone::Movable),
            place => Event::Poison(place, self.random.below(1 << 20)),
        }
    }

    fn name(&mut self) -> u64 {
        self.names += 1;
        self.names
    }

    fn alloc(&mut self) -> Event {
        if self.held.len() == MOST {
            return self.free();
        }
        let name = self.name();
        self.held.push(name);
        Event::Alloc(name, below(&mut self.random, ORDERS))
    }

    fn free(&mut self) -> Event {
        remove(&mut self.random, &mut self.held).map_or(Event::Turn(1), Event::Free)
    }

    fn grow(&mut self) -> Event {
        if self.grown.len() == MOST {
            return self.drop();
        }
        let name = self.name();
        self.grown.push(name);
        Event::Grow(name, below(&mut self.random, ORDERS))
    }

    /// What is pinned is not forgotten: the drop is refused.
    fn drop(&mut self) -> Event {
        let Some(name) = remove(&mut self.random, &mut self.grown) else { return Event::Turn(1) };
        if self.pinned.contains(&name) {
            self.grown.push(name);
        }
        Event::Drop(name)
    }

    fn pin(&mut self) -> Event {
        if self.pinned.len() == MOST_PINNED || self.grown.is_empty() {
            return self.unpin();
        }
        let name = self.pick(&self.grown.clone());
        self.pinned.push(name);
        Event::Pin(name)
    }

    fn unpin(&mut self) -> Event {
        remove(&mut self.random, &mut self.pinned).map_or(Event::Turn(1), Event::Unpin)
    }

    /// What is vetoed is allowed again before anything else is.
    fn veto(&mut self) -> Event {
        if let Some(kind) = self.vetoes.pop() {
            return Event::Allow(kind);
        }
        if self.vetoed == MOST_VETOES {
            return Event::Settle;
        }
        self.vetoed += 1;
        let kind = self.pick(Kind::ALL);
        self.vetoes.push(kind);
        Event::Veto(kind)
    }

    /// Of what the log has led to only the DIMMs are left.
    fn reset(&mut self) -> Event {
        self.held.clear();
        self.grown.clear();
        self.pinned.clear();
        self.groups.clear();
        self.vetoes.clear();
        self.vetoed = 0;
        self.used = [false; REGIONS];
        Event::Reset
    }

    /// A guest begins more often than it ends.
    fn guest(&mut self) -> Event {
        let name = self.random.below(self.guests);
        if self.random.one_in(3) { Event::Kill(name) } else { Event::Guest(name) }
    }

    /// Mostly one by which what comes can go.
    fn policy(&mut self) -> Event {
        let often = [Policy::Movable, Policy::Movable, Policy::Offline];
        let rare = self.random.one_in(6);
        Event::Policy(if rare { Policy::Kernel } else { self.pick(&often) })
    }
}

impl Group {
    const fn has(&self, block: u64) -> bool {
        self.run.first <= block && block < self.run.first + self.run.count
    }
}

fn below(random: &mut Random, end: u64) -> u32 {
    u32::try_from(random.below(end)).unwrap_or(0)
}

fn remove(random: &mut Random, all: &mut Vec<u64>) -> Option<u64> {
    (!all.is_empty()).then(|| all.swap_remove(random.below(all.len() as u64) as usize))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_seed_gives_the_same_log_again_and_its_beginning_if_it_is_shorter() {
        let log = generate(7, 1000, 2);
        assert_eq!(log, generate(7, 1000, 2));
        assert_eq!(log[..100], generate(7, 100, 2));
        assert_ne!(log, generate(8, 1000, 2));
    }

    #[test]
    fn half_of_all_requests_do_not_wait_and_every_kind_of_event_occurs() {
        let log = generate(1, 20_000, 2);
        let waits = |wanted: Wait| {
            let waits = |event: &&Event| match event {
                Event::Plug(_, _, wait) | Event::Unplug(_, wait) | Event::Twice(_, wait) => {
                    *wait == wanted
                }
                _ => false,
            };
            log.iter().filter(waits).count()
        };
        let (no, yes) = (waits(Wait::No), waits(Wait::Yes));
        assert!(no.abs_diff(yes) * 10 < no + yes, "{no} {yes}");
        let names: BTreeSet<String> = log.iter().map(Event::name).collect();
        assert_eq!(names.len(), 31, "{names:?}");
    }
}
