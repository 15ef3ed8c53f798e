//! Look-ups beside an operation that shows a section, hides it or moves its descriptors.

// UNSAFETY: speaks for the operation of a model.
#![expect(unsafe_code)]

use crate::addr::Pfn;
use crate::explore;
use crate::lock::relax;
use crate::machine::{Tiny, memmap};
use crate::memmap::Memmap;
use crate::memmap::readers::ReadGuard;
use crate::memmap::section::{SectionState, SectionWord};
use crate::memmap::seen::Seen;
use loom::sync::Arc;
use loom::thread::{self, JoinHandle};

/// Where the record of a section is before its descriptors move, and afterwards.
fn old(number: u64) -> Pfn {
    Pfn::new(2 * number)
}

fn new(number: u64) -> Pfn {
    Pfn::new(2 * number + 1)
}

/// The group that a record names.
fn group_of(record: Pfn) -> Pfn {
    record.add(7)
}

fn word(state: SectionState, record: Pfn) -> SectionWord {
    SectionWord::new(state, false, record)
}

impl Memmap<Tiny> {
    fn show(&self, number: u64, state: SectionState, record: Pfn) {
        self.sections.set_word(&self.machine, number, word(state, record));
    }

    /// As an add does: the record is written before its section is shown.
    fn add(&self, number: u64) {
        self.machine.map(old(number), true);
        self.describe(number, old(number));
        self.show(number, SectionState::Present, old(number));
    }

    fn describe(&self, number: u64, record: Pfn) {
        // The record of a section that the map does not show.
        let hidden = word(SectionState::Present, record);
        // SAFETY: this is the only operation: it hides what it unmaps, and waits for the readers.
        let memmap = unsafe { Seen::vouched(self) };
        memmap.hidden_section(number, hidden).record().set_group(Some(group_of(record)));
    }

    /// As a removal does; whether no reader stayed.
    fn remove(&self) -> bool {
        self.show(0, SectionState::Leaving, old(0));
        let left = self.readers.drain(&relax).is_ok();
        if left {
            self.machine.map(old(0), false);
            self.sections.set_word(&self.machine, 0, SectionWord::ABSENT);
        } else {
            self.show(0, SectionState::Present, old(0));
        }
        left
    }

    /// As a conversion does with one block, here a section; whether no reader stayed.
    fn convert(&self, number: u64) -> bool {
        let Ok(gate) = self.readers.exclude(number, || (), &relax) else { return false };
        self.machine.map(new(number), true);
        self.describe(number, new(number));
        self.show(number, SectionState::Present, new(number));
        self.machine.map(old(number), false);
        drop(gate);
        true
    }

    /// A look-up: reads the record of a section, if that is there.
    fn look(&self, _look_up: &ReadGuard<'_>, number: u64) {
        // SAFETY: a read guard for the section is borrowed.
        let memmap = unsafe { Seen::vouched(self) };
        let Some(section) = memmap.section(number) else { return };
        let (record, group) = (section.word().record(), section.record().group());
        // It is used until now.
        self.machine.touch(record);
        assert_eq!(group, Some(group_of(record)));
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

fn add(memmap: &Memmap<Tiny>) {
    memmap.add(0);
}

fn add_two(memmap: &Memmap<Tiny>) {
    (0..2).for_each(|number| memmap.add(number));
}

/// A look-up in a section. It waits while readers of the section are held off.
fn look_at(memmap: &Memmap<Tiny>, cpu: usize, number: u64) {
    memmap.look(&memmap.readers.enter(cpu, || number, &relax), number);
}

fn look(memmap: &Memmap<Tiny>, cpu: usize) {
    look_at(memmap, cpu, 0);
}

/// A look-up that never waits, and may look at all sections.
fn try_look(memmap: &Memmap<Tiny>, cpu: usize) {
    if let Some(look_up) = memmap.readers.try_enter(cpu) {
        memmap.look(&look_up, 0);
        memmap.look(&look_up, 1);
    }
}

/// Looks at the section that moves last, or first, by the number of the CPU.
fn look_at_own(memmap: &Memmap<Tiny>, cpu: usize) {
    look_at(memmap, cpu, cpu as u64);
}

/// Looks at both sections, the one that moves last first.
fn look_at_both(memmap: &Memmap<Tiny>, cpu: usize) {
    (0..2).for_each(|number| look_at(memmap, cpu, number));
}

/// One block after the other, as a conversion goes; it stops where a reader stays.
fn convert_two(memmap: &Memmap<Tiny>) {
    _ = (0..2).rev().all(|number| memmap.convert(number));
}

fn look_twice(memmap: &Memmap<Tiny>, cpu: usize) {
    look(memmap, cpu);
    look(memmap, cpu);
}

#[test]
fn a_look_up_that_finds_an_added_section_finds_its_record_written() {
    beside(1, None, |_| (), look_twice, add);
}

#[test]
fn no_look_up_uses_a_descriptor_after_a_removal_has_waited_for_the_readers() {
    beside(1, None, add, look_twice, |memmap| _ = memmap.remove());
}

#[test]
fn a_removal_that_gave_up_is_tried_again_and_waits_for_the_readers_it_left() {
    let insist = |memmap: &Memmap<Tiny>| {
        if !memmap.remove() {
            memmap.remove();
        }
    };
    beside(1, None, add, look, insist);
}

#[test]
fn two_cpus_look_up_while_a_section_goes() {
    beside(2, Some(3), add, try_look, |memmap| _ = memmap.remove());
}

#[test]
fn a_section_comes_back_with_its_record_and_goes_again_beside_look_ups() {
    let live = |memmap: &Memmap<Tiny>| {
        if memmap.remove() {
            memmap.add(0);
        }
    };
    beside(1, None, add, look_twice, live);
}

#[test]
fn no_look_up_is_under_way_while_descriptors_move() {
    beside(1, None, add, look_twice, |memmap| _ = memmap.convert(0));
}

#[test]
fn two_cpus_look_up_while_descriptors_move() {
    beside(2, Some(3), add, try_look, |memmap| _ = memmap.convert(0));
}

#[test]
fn a_cpu_that_looks_at_one_block_after_the_other_finds_each_where_it_is_while_both_move() {
    beside(1, Some(4), add_two, look_at_both, convert_two);
}

// Bounded, as all with two readers: without a bound they take hours.
#[test]
fn two_cpus_look_up_in_a_block_each_while_both_move() {
    beside(2, Some(2), add_two, look_at_own, convert_two);
}
