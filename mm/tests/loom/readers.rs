//! Look-ups beside who shows a section, hides it and moves its descriptors.

// UNSAFETY: speaks for the operation of a model.
#![expect(unsafe_code)]

use crate::addr::Pfn;
use crate::explore;
use crate::lock::relax;
use crate::machine::{Tiny, memmap};
use crate::memmap::Memmap;
use crate::memmap::keeps::Keeps;
use crate::memmap::readers::ReadGuard;
use crate::memmap::section::{SectionState, SectionWord};
use loom::sync::Arc;
use loom::thread::{self, JoinHandle};

const OLD: Pfn = Pfn::new(0);
const NEW: Pfn = Pfn::new(1);
/// What the record of the section says of its group, before and after its descriptors moved.
const GROUPS: [Pfn; 2] = [Pfn::new(7), Pfn::new(8)];

fn word(state: SectionState, record: Pfn) -> SectionWord {
    SectionWord::new(state, false, record)
}

/// The operation under way, the only one.
struct Operation;

// SAFETY: as the manager's: it hides what it unmaps, and waits for the readers.
unsafe impl Keeps for Operation {}

impl Memmap<Tiny> {
    fn show(&self, state: SectionState, record: Pfn) {
        self.sections.set_word(&self.machine, 0, word(state, record));
    }

    /// As an add does: the record is written before its section is shown.
    fn add(&self) {
        self.machine.map(OLD, true);
        self.describe(OLD);
        self.show(SectionState::Present, OLD);
    }

    fn describe(&self, record: Pfn) {
        // The record of a section that the map does not show.
        let section = self.seen(&Operation).hidden_section(0, word(SectionState::Present, record));
        section.record().set_group(GROUPS[record.get() as usize]);
    }

    /// As a removal does; whether no reader stayed.
    fn remove(&self) -> bool {
        self.show(SectionState::Leaving, OLD);
        let left = self.readers.drain(&relax).is_ok();
        if left {
            self.machine.map(OLD, false);
            self.sections.set_word(&self.machine, 0, SectionWord::ABSENT);
        } else {
            self.show(SectionState::Present, OLD);
        }
        left
    }

    /// As a conversion does; whether no reader stayed.
    fn convert(&self) -> bool {
        let Ok(gate) = self.readers.exclude(|| (), &relax) else { return false };
        self.machine.map(NEW, true);
        self.describe(NEW);
        self.show(SectionState::Present, NEW);
        self.machine.map(OLD, false);
        drop(gate);
        true
    }

    /// A look-up: reads the record of the section, if that is there.
    fn look(&self, look_up: &ReadGuard<'_>) {
        let Some(section) = self.seen(look_up).section(0) else { return };
        let group = section.group_head();
        // It is used until now.
        self.machine.touch(section.word().record());
        assert_eq!(group, GROUPS[section.word().record().get() as usize]);
    }
}

/// Runs `act` beside look-ups on CPU 0, and on CPU 1 if there are two.
fn beside(
    readers: usize,
    bound: Option<usize>,
    start: fn(&Memmap<Tiny>),
    looks: fn(&Memmap<Tiny>, usize),
    act: fn(&Memmap<Tiny>),
) {
    explore(bound, move || {
        let memmap = Arc::new(memmap());
        start(&memmap);
        let look = |cpu| {
            let memmap = Arc::clone(&memmap);
            thread::spawn(move || looks(&memmap, cpu))
        };
        let threads: Vec<JoinHandle<()>> = (0..readers).map(look).collect();
        act(&memmap);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

/// A look-up that waits while readers are held off.
fn look(memmap: &Memmap<Tiny>, cpu: usize) {
    memmap.look(&memmap.readers.enter(cpu, &relax));
}

/// One that does without, then.
fn try_look(memmap: &Memmap<Tiny>, cpu: usize) {
    if let Some(look_up) = memmap.readers.try_enter(cpu) {
        memmap.look(&look_up);
    }
}

fn look_twice(memmap: &Memmap<Tiny>, cpu: usize) {
    look(memmap, cpu);
    look(memmap, cpu);
}

#[test]
fn who_finds_a_section_that_is_added_finds_its_record_written() {
    beside(1, None, |_| (), look_twice, Memmap::add);
}

#[test]
fn no_look_up_uses_a_descriptor_after_a_removal_has_waited_for_the_readers() {
    beside(1, None, Memmap::add, look_twice, |memmap| _ = memmap.remove());
}

#[test]
fn a_removal_that_gave_up_is_tried_again_and_waits_for_the_readers_it_left() {
    let insist = |memmap: &Memmap<Tiny>| {
        if !memmap.remove() {
            memmap.remove();
        }
    };
    beside(1, None, Memmap::add, look, insist);
}

#[test]
fn two_cpus_look_up_while_a_section_goes() {
    beside(2, Some(3), Memmap::add, try_look, |memmap| _ = memmap.remove());
}

#[test]
fn a_section_comes_back_with_its_record_and_goes_again_beside_look_ups() {
    let live = |memmap: &Memmap<Tiny>| {
        if memmap.remove() {
            memmap.add();
        }
    };
    beside(1, None, Memmap::add, look_twice, live);
}

#[test]
fn no_look_up_is_under_way_while_descriptors_move() {
    beside(1, None, Memmap::add, look_twice, |memmap| _ = memmap.convert());
}

#[test]
fn two_cpus_look_up_while_descriptors_move() {
    beside(2, Some(3), Memmap::add, try_look, |memmap| _ = memmap.convert());
}
