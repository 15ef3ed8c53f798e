//! A single word of the manager's memory is damaged, and `verify` finds it: whatever the word, without a panic, an
//! endless walk or an access to what is not memory.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use hotmem::testing::{Bench, FakeMachine, Lmb, Random, Setup, Shape, Word, range};
use hotmem::{Geometry, NodeId, Order, Placement, Request, Subject, Violation, ZoneKind};
use hotmem_tests::memory::{GIB, MIB, Real};

use crate::arm64::Arm64;

/// Words that are damaged where CI runs this test, and in a long run.
const FEW: usize = 1_000;
const MANY: usize = 10_000;

/// Damage that `verify` does not find, and why it does no harm.
const NOT_FOUND: [(&str, &str); 3] = [
    (
        "starts of memory",
        "memory with its memmap elsewhere: a share that begins behind a hole begins there with and without the bit; one \
         that follows another is only removed together with that",
    ),
    (
        "head of an extent in use",
        "another owner that has registered a name: names are for messages, all of them are the kernel's",
    ),
    (
        "initialised subsections",
        "a subsection inside one extent or memmap, whose descriptors are written again before they are read; `scrub` \
         clears it all the same if it was allocated, which the word of its block says",
    ),
];

/// A machine with two blocks of boot memory and DIMMs from `window` on: online in each zone and offline, with memmaps
/// at each place, whole and in shares, on two nodes; with pages in use, cached, isolated by being bad, and taken.
fn machine<S: Shape>(block: u64, start: u64, window: u64, ways: u64) -> Box<Bench<S>> {
    let setup = Setup {
        ram: vec![(start, 4 * block, 0)],
        block,
        window: (window, 64 * block),
        kernelcore: Some(2 * block),
    };
    let bench = Box::new(Bench::<S>::new(&setup));
    let mm = &bench.mm;
    let unit = block / 4;
    let node = |number| NodeId::new(number).unwrap();
    let dimms = [
        (0, 2 * block, Placement::PerRange, 0),
        (2 * block, block, Placement::PerBlock, 1),
        (3 * block, block, Placement::Boot, 0),
        (4 * block, unit, Placement::PerBlock, 0),
        (4 * block + unit, unit, Placement::PerRange, 0),
        (6 * block, block + unit, Placement::PerBlock, 1),
        (8 * block, 2 * block, Placement::PerBlock, 0),
    ];
    for (at, len, placement, number) in dimms {
        let dimm = range(window + at, len);
        bench.plug(dimm);
        mm.hot_add(dimm, node(number), placement).unwrap();
    }
    if ways & 1 != 0 {
        mm.convert(range(window, 2 * block)).unwrap();
    }
    let first = window / block;
    for (nth, kind) in [
        (0, ZoneKind::Movable),
        (1, ZoneKind::Movable),
        (2, ZoneKind::Normal),
        (3, ZoneKind::Normal),
        (4, ZoneKind::Movable),
        (8, ZoneKind::Movable),
    ] {
        mm.online(hotmem::BlockId::new(first + nth), kind).unwrap();
    }
    let user = mm.register_user("a user").unwrap();
    let mut random = Random::new(ways);
    let mut pages = Vec::new();
    for _ in 0..40 {
        let order = Order::new(random.below(5) as u8).unwrap();
        pages.push(bench.alloc_movable_zone(order).unwrap());
        pages.push(mm.take_pages(order).unwrap());
        pages.push(mm.alloc(Request::from(order).named(&user)).unwrap().into_raw());
    }
    let bad = FakeMachine::<S>::pfn(range(window + block - 4096, 1).start());
    mm.poison(bad).unwrap();
    if ways & 2 != 0 {
        mm.take_contig(NodeId::ZERO, block).unwrap();
    }
    // Its tables and nodes go back to where they came from.
    let far = range(window + 63 * block, block);
    bench.plug(far);
    mm.hot_add(far, node(0), Placement::PerRange).unwrap();
    mm.remove(far).unwrap();
    bench.check();
    for pfn in pages.into_iter().step_by(3) {
        mm.free_pages(pfn).unwrap();
    }
    bench
}

/// A machine whose words are damaged: words by their names.
struct Victim<S: Shape> {
    bench: Box<Bench<S>>,
    words: Vec<Vec<Word>>,
}

/// What became of damages.
#[derive(Default)]
struct Outcome {
    tried: BTreeMap<&'static str, usize>,
    missed: BTreeMap<&'static str, Vec<String>>,
    panicked: Vec<String>,
    unplaced: BTreeMap<&'static str, usize>,
}

impl<S: Shape> Victim<S> {
    fn new(bench: Box<Bench<S>>) -> Self {
        let mut words = BTreeMap::<_, Vec<_>>::new();
        bench.words().into_iter().for_each(|word| words.entry(word.name).or_default().push(word));
        Self { words: words.into_values().collect(), bench }
    }

    /// Damages a word, verifies, and repairs it.
    fn damage(&self, random: &mut Random, outcome: &mut Outcome) {
        let words = &self.words[random.below(self.words.len() as u64) as usize];
        let word = words[random.below(words.len() as u64) as usize];
        let other = words[random.below(words.len() as u64) as usize];
        let mmu = self.bench.mm.machine().mmu();
        let right = mmu.peek(word.at);
        let wrong = match random.below(10) {
            0 => random.bits(),
            1 => mmu.peek(other.at),
            2 => right.wrapping_add(1),
            3 => right.wrapping_add(random.below(1 << 20)),
            4 => 0,
            _ => right ^ 1 << random.below(64),
        };
        if wrong == right {
            return;
        }
        *outcome.tried.entry(word.name).or_default() += 1;
        mmu.poke(word.at, wrong);
        mmu.forget();
        let found = catch_unwind(AssertUnwindSafe(|| self.bench.mm.verify_machine()));
        mmu.poke(word.at, right);
        mmu.forget();
        let told = || format!("{} at {}: {right:#x} became {wrong:#x}", word.name, word.at);
        match found {
            Err(_) => outcome.panicked.push(told()),
            Ok(Ok(())) => outcome.missed.entry(word.name).or_default().push(told()),
            Ok(Err(violation)) => {
                let Violation { of, place, what, .. } = violation;
                let named = place.is_some() || matches!(of, Subject::Number(_));
                assert!(named, "{}: {violation}", told());
                if place.is_none() {
                    *outcome.unplaced.entry(what).or_default() += 1;
                }
            }
        }
    }
}

#[test]
fn a_damaged_word_is_found_whatever_it_belongs_to() {
    let count = if std::env::var_os("HOTMEM_ROUNDS").is_some() { MANY } else { FEW };
    let x86_64 = [0, 1, 2].map(|ways| Victim::new(machine::<Real>(128 * MIB, 0, 4 * GIB, ways)));
    let arm64 =
        [0, 1, 2].map(|ways| Victim::new(machine::<Arm64<16>>(512 * MIB, GIB, 4 * GIB, ways)));
    let ppc64 = [0, 1].map(|ways| Victim::new(machine::<Lmb>(256 * MIB, 0, 4 * GIB, ways)));
    let (mut random, mut outcome) = (Random::new(2026), Outcome::default());
    for nth in 0..count {
        match nth % 8 {
            nth @ 0..3 => x86_64[nth].damage(&mut random, &mut outcome),
            nth @ 3..6 => arm64[nth - 3].damage(&mut random, &mut outcome),
            nth => ppc64[nth - 6].damage(&mut random, &mut outcome),
        }
    }
    let Outcome { tried, missed, panicked, unplaced } = &outcome;
    println!(
        "tried {tried:#?}\nwithout a place {unplaced:#?}\npanicked {panicked:#?}\nmissed {missed:#?}"
    );
    let tried: usize = tried.values().sum();
    let lost: usize = missed.values().map(Vec::len).sum();
    println!("{tried} words, {lost} not found");
    assert!(panicked.is_empty());
    assert!(lost * 20 <= tried, "{lost} of {tried}");
    for (name, missed) in missed {
        assert!(NOT_FOUND.iter().any(|(known, _)| known == name), "{name}: {missed:#?}");
        assert!(missed.len() * 50 <= tried, "{name}: {} of {tried}", missed.len());
    }
}
