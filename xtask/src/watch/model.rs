//! What the screen shows: a value, so that drawing it needs no machine and no terminal.

use std::collections::VecDeque;

use crate::machine::{Cpu, Guest, Mapped};

/// Events that are kept.
const EVENTS: usize = 200;

/// A DIMM that was plugged here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DimmRow {
    pub(crate) number: usize,
    pub(crate) start: u64,
    pub(crate) size: u64,
    /// Was it asked to go?
    pub(crate) going: bool,
}

/// All that is known of the machine.
#[derive(Debug, Clone, Default)]
pub(crate) struct Model {
    /// What machine it is, in a few words.
    pub(crate) title: String,
    pub(crate) blocks: Vec<Mapped>,
    pub(crate) cpus: Vec<Cpu>,
    pub(crate) guests: Vec<Guest>,
    /// The unplug under way, as the kernel says it.
    pub(crate) moving: Option<String>,
    pub(crate) dimms: Vec<DimmRow>,
    /// The DIMM that keys act on, as an index.
    pub(crate) selected: usize,
    /// The latest last.
    pub(crate) events: VecDeque<String>,
    /// Is a command under way?
    pub(crate) busy: Option<String>,
    /// How the machine ended, if it did.
    pub(crate) ended: Option<String>,
    /// Is the list of keys shown?
    pub(crate) help: bool,
}

/// Bytes in use, by what prevents a removal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Shares {
    pub(crate) size: u64,
    pub(crate) memmap: u64,
    pub(crate) unmovable: u64,
    pub(crate) pinned: u64,
    pub(crate) movable: u64,
    pub(crate) free: u64,
}

impl Shares {
    /// Of these blocks together.
    pub(crate) fn of<'m>(blocks: impl IntoIterator<Item = &'m Mapped>) -> Self {
        blocks.into_iter().fold(Self::default(), |sum, block| Self {
            size: sum.size + block.size,
            memmap: sum.memmap + block.memmap_bytes,
            unmovable: sum.unmovable + block.unmovable_bytes,
            pinned: sum.pinned + block.pinned_bytes,
            movable: sum.movable + block.movable_bytes,
            free: sum.free + block.free_bytes,
        })
    }
}

impl Model {
    /// Adds an event.
    pub(crate) fn add_event(&mut self, event: impl Into<String>) {
        if self.events.len() == EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event.into());
    }

    /// The DIMM that keys act on.
    pub(crate) fn dimm(&self) -> Option<&DimmRow> {
        self.dimms.get(self.selected)
    }

    /// Selects the next DIMM, or the one before.
    pub(crate) fn select(&mut self, forwards: bool) {
        let count = self.dimms.len().max(1);
        let step = if forwards { 1 } else { count - 1 };
        self.selected = (self.selected + step) % count;
    }

    /// Takes what is new of the machine; the selection and the events stay.
    pub(crate) fn refresh(&mut self, new: News) {
        let number = self.dimm().map(|dimm| dimm.number);
        self.blocks = new.blocks;
        self.cpus = new.cpus;
        self.guests = new.guests;
        self.moving = new.moving;
        self.dimms = new.dimms;
        let again = self.dimms.iter().position(|dimm| Some(dimm.number) == number);
        self.selected =
            again.unwrap_or_else(|| self.selected.min(self.dimms.len().saturating_sub(1)));
        new.events.into_iter().for_each(|event| self.add_event(event));
    }

    /// Zones by node, each with its blocks' shares.
    pub(crate) fn zones(&self) -> Vec<(u64, String, Shares)> {
        let mut names: Vec<_> = self
            .blocks
            .iter()
            .filter_map(|block| Some((block.node, block.zone.clone()?)))
            .collect();
        names.sort_unstable();
        names.dedup();
        let zone = |(node, name): (u64, String)| {
            let of = |block: &&Mapped| block.node == node && block.zone.as_ref() == Some(&name);
            let shares = Shares::of(self.blocks.iter().filter(of));
            (node, name, shares)
        };
        names.into_iter().map(zone).collect()
    }
}

/// What a look at the machine found.
#[derive(Debug, Clone, Default)]
pub(crate) struct News {
    pub(crate) blocks: Vec<Mapped>,
    pub(crate) cpus: Vec<Cpu>,
    pub(crate) guests: Vec<Guest>,
    pub(crate) moving: Option<String>,
    pub(crate) dimms: Vec<DimmRow>,
    pub(crate) events: Vec<String>,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// A block of 128 MiB.
    pub(crate) fn block(number: u64, zone: Option<&str>) -> Mapped {
        Mapped {
            block: number,
            start: number * 128 * MIB,
            size: 128 * MIB,
            state: if zone.is_some() { "online" } else { "offline" }.into(),
            zone: zone.map(str::to_owned),
            node: 0,
            boot: number < 4,
            memmap_bytes: 0,
            free_bytes: 128 * MIB,
            movable_bytes: 0,
            pinned_bytes: 0,
            unmovable_bytes: 0,
        }
    }

    fn dimm(number: usize) -> DimmRow {
        DimmRow { number, start: 1 << 32, size: 1 << 30, going: false }
    }

    #[test]
    fn the_selection_follows_its_dimm() {
        let news = |numbers: &[usize]| News {
            dimms: numbers.iter().map(|&number| dimm(number)).collect(),
            ..News::default()
        };
        let mut model = Model::default();
        model.select(true);
        assert_eq!(model.dimm(), None);
        model.refresh(news(&[0, 1, 2]));
        model.select(true);
        model.select(true);
        assert_eq!(model.dimm().unwrap().number, 2);
        model.refresh(news(&[1, 2, 3]));
        assert_eq!(model.dimm().unwrap().number, 2);
        model.refresh(news(&[1]));
        assert_eq!(model.dimm().unwrap().number, 1);
        model.select(false);
        assert_eq!(model.selected, 0);
    }

    #[test]
    fn zones_are_sums_of_their_blocks() {
        let mut blocks =
            vec![block(0, Some("normal")), block(32, Some("movable")), block(33, None)];
        blocks[1].pinned_bytes = 4096;
        let model = Model { blocks, ..Model::default() };
        let zones = model.zones();
        assert_eq!(zones.len(), 2);
        assert_eq!((zones[0].1.as_str(), zones[0].2.pinned), ("movable", 4096));
        assert_eq!(zones[1].2.size, 128 * MIB);
    }

    #[test]
    fn old_events_make_room() {
        let mut model = Model::default();
        (0..EVENTS + 5).for_each(|number| model.add_event(number.to_string()));
        assert_eq!((model.events.len(), model.events[0].as_str()), (EVENTS, "5"));
    }
}
