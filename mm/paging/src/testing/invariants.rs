//! The invariants of every page-table format.

use super::Random;
use crate::addr::PhysAddr;
use crate::{Attr, Entry, PteFormat};

/// Checks the invariants of [`PteFormat`] on random entries and random words.
///
/// # Panics
///
/// If one does not hold.
pub fn check_format<F: PteFormat>(seed: u64) {
    let mut random = Random::new(seed);
    for level in 0..F::LEVELS.len() {
        assert_eq!(F::decode(0, level), Entry::Absent);
        assert_eq!(F::encode(Entry::Absent, level), 0);
        for _ in 0..2000 {
            for entry in entries::<F>(level, &mut random) {
                let word = F::encode(entry, level);
                assert_ne!(word, 0, "{entry:?} at level {level}");
                assert_eq!(F::decode(word, level), entry, "{word:#x} at level {level}");
                agrees::<F>(word, level);
                marks::<F>(entry, word, level);
            }
            // Sparse and dense words alike: all flag combinations occur.
            let word = random.bits() & random.bits();
            agrees::<F>(word, level);
            agrees::<F>(!word, level);
        }
    }
}

/// Random entries that are valid at `level`.
fn entries<F: PteFormat>(level: usize, random: &mut Random) -> impl Iterator<Item = Entry> {
    let here = F::LEVELS[level];
    let mut address = |align: u64| PhysAddr::new(random.below(F::PHYS_LIMIT)).align_down(align);
    let table = F::LEVELS.get(level + 1).map(|below| Entry::Table(address(below.table_bytes())));
    let phys = address(here.span());
    let attr = Attr::from_bits_truncate(random.bits() as u8);
    let leaf = here.leaf.then_some(Entry::Leaf(phys, attr));
    table.into_iter().chain(leaf)
}

/// The quick test for a leaf agrees with decoding.
fn agrees<F: PteFormat>(word: u64, level: usize) {
    if F::LEVELS[level].leaf {
        let leaf = matches!(F::decode(word, level), Entry::Leaf(..));
        let quick = F::leaf_test(level).miss(word) == 0;
        assert_eq!(quick, leaf, "{word:#x} at level {level}");
    }
}

/// A leaf that allows stores is marked as written, and is the same entry without the mark.
fn marks<F: PteFormat>(entry: Entry, word: u64, level: usize) {
    if matches!(entry, Entry::Leaf(_, attr) if attr.contains(Attr::WRITE)) {
        assert_eq!(word & F::WRITTEN, F::WRITTEN, "{word:#x} at level {level}");
        let unmarked = word & !F::WRITTEN;
        assert_eq!(F::decode(unmarked, level), entry, "{unmarked:#x} at level {level}");
        agrees::<F>(unmarked, level);
    }
}
