//! Look-ups in a section that two ranges share, while one of them leaves it and comes back: a look-up never uses a
//! descriptor of a subsection that is not there.
//!
//! ```text
//!   section 0   [ a a a a b b b b ]     descriptors of a, and at first the record, are under A; those of b under B
//! ```
//!
//! The word of the section and the record are the manager's own; the steps are those of `Leaving` and of an add.

// UNSAFETY: speaks for the operation of a model.
#![expect(unsafe_code)]

use crate::addr::Pfn;
use crate::explore;
use crate::lock::relax;
use crate::machine::{Tiny, memmap};
use crate::memmap::Memmap;
use crate::memmap::readers::ReadGuard;
use crate::memmap::record::{Part, Record};
use crate::memmap::section::{SectionState, SectionWord};
use crate::memmap::seen::Seen;
use loom::sync::Arc;
use loom::thread;

/// The descriptors of each range, and the subsection of the section where it begins.
const A: (Pfn, Part) = (Pfn::new(0), Part::new(0));
const B: (Pfn, Part) = (Pfn::new(1), Part::new(32));

/// All subsections of each range.
const PARTS_OF_A: u64 = u32::MAX as u64;
const PARTS_OF_B: u64 = PARTS_OF_A << 32;

impl Memmap<Tiny> {
    /// The record, where it may be: in one of the two memmaps.
    fn record_at(&self, place: Pfn) -> Record<'_> {
        // SAFETY: this is the only operation: it hides what it unmaps, and waits for the readers.
        let memmap = unsafe { Seen::vouched(self) };
        memmap.hidden_section(0, SectionWord::new(SectionState::Present, false, place)).record()
    }

    fn record_moves(&self, from: Pfn, to: Pfn) {
        self.record_at(to).copy(self.record_at(from));
        let word = SectionWord::new(SectionState::Present, false, to);
        self.sections.set_word(&self.machine, 0, word);
    }

    /// Both ranges are there, with their record in one's memmap.
    fn share(&self, record: Pfn) {
        self.machine.map(A.0, true);
        self.machine.map(B.0, true);
        self.record_at(record).reset(None);
        self.record_at(record).begin(true, PARTS_OF_A, None);
        self.record_at(record).begin(true, PARTS_OF_B, None);
        let word = SectionWord::new(SectionState::Present, false, record);
        self.sections.set_word(&self.machine, 0, word);
    }

    /// Range a leaves; whether no reader stayed. If one does, all is as before.
    fn a_leaves(&self, record: Pfn) -> bool {
        if record == A.0 {
            self.record_moves(A.0, B.0);
        }
        self.record_at(B.0).hide_all_but(PARTS_OF_B);
        let left = self.readers.drain(&relax).is_ok();
        if left {
            self.machine.map(A.0, false);
            self.record_at(B.0).starts().remove(A.1);
        } else {
            if record == A.0 {
                self.record_moves(B.0, A.0);
            }
            self.record_at(record).present().set(PARTS_OF_A | PARTS_OF_B);
        }
        left
    }

    /// Range a comes beside b, as an add describes memory beside other memory.
    fn a_comes(&self) {
        self.machine.map(A.0, true);
        self.record_at(B.0).begin(true, PARTS_OF_A, None);
    }

    /// A look-up of the first page of a range: its descriptor is used if it is there, and then memory begins with it.
    fn look_at(&self, _look_up: &ReadGuard<'_>, (descriptors, part): (Pfn, Part)) -> bool {
        // SAFETY: a read guard for the section is borrowed.
        let memmap = unsafe { Seen::vouched(self) };
        let Some(section) = memmap.section(0) else { panic!("the section has memory throughout") };
        let is_there = section.record().present().has(part);
        if is_there {
            assert!(section.record().starts().has(part), "{part:?} is shown before its start");
            self.machine.touch(descriptors);
        }
        // The record is used until now.
        self.machine.touch(section.word().record());
        is_there
    }
}

/// A look-up of both ranges. The one that stays is found.
fn look(memmap: &Memmap<Tiny>, cpu: usize) {
    let look_up = memmap.readers.enter(cpu, || 0, &relax);
    memmap.look_at(&look_up, A);
    assert!(memmap.look_at(&look_up, B), "memory that stays is not found");
}

fn look_twice(memmap: &Memmap<Tiny>, cpu: usize) {
    look(memmap, cpu);
    look(memmap, cpu);
}

/// Runs `act` beside look-ups, with the record in each memmap at first. Bounded: without a bound it takes hours.
fn beside(
    readers: usize,
    bound: Option<usize>,
    looks: fn(&Memmap<Tiny>, usize),
    act: fn(&Memmap<Tiny>, Pfn),
) {
    for record in [A.0, B.0] {
        explore(bound, move || {
            let memmap = Arc::new(memmap());
            memmap.share(record);
            let run = |cpu| {
                let memmap = Arc::clone(&memmap);
                thread::spawn(move || looks(&memmap, cpu))
            };
            let threads: Vec<_> = (0..readers).map(run).collect();
            act(&memmap, record);
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        });
    }
}

#[test]
fn no_look_up_uses_a_descriptor_of_a_range_that_left_a_section_which_stays() {
    beside(1, Some(4), look_twice, |memmap, record| _ = memmap.a_leaves(record));
}

#[test]
fn a_range_that_a_reader_kept_leaves_when_that_is_tried_again() {
    let insist = |memmap: &Memmap<Tiny>, record| {
        if !memmap.a_leaves(record) {
            memmap.a_leaves(record);
        }
    };
    beside(1, Some(6), look, insist);
}

#[test]
fn a_range_that_comes_back_is_found_with_its_start_and_its_descriptors() {
    let live = |memmap: &Memmap<Tiny>, record| {
        if memmap.a_leaves(record) {
            memmap.a_comes();
        }
    };
    beside(1, Some(5), look, live);
}

#[test]
fn two_cpus_look_up_while_a_range_leaves_a_section_and_comes_back() {
    let live = |memmap: &Memmap<Tiny>, record| {
        if memmap.a_leaves(record) {
            memmap.a_comes();
        }
    };
    beside(2, Some(2), look, live);
}
