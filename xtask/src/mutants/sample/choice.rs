//! Which fault is tried next: they are spread over the lines of the sources, however many are made of one line.

use super::possible::Possible;
use super::record::{Record, what};

/// The next fault: of a line in the middle half of the longest stretch of lines of which none was tried. Where in that
/// half, and which of that line's faults, follows from `seed`.
pub(super) fn next<'a>(all: &'a [Possible], record: &Record, seed: &str) -> Option<&'a Possible> {
    let lines: Vec<&[Possible]> =
        all.chunk_by(|a, b| (&a.file, a.line()) == (&b.file, b.line())).collect();
    let is_new = |one: &Possible| !record.has(&one.file, what(&one.name));
    let is_free = |line: &[Possible]| line.iter().all(is_new);
    let stretch =
        lines.chunk_by(|a, b| is_free(a) && is_free(b)).filter(|stretch| is_free(stretch[0]));
    // The last of several that are as long: `rev` makes it the first.
    let longest =
        stretch.collect::<Vec<_>>().into_iter().rev().max_by_key(|stretch| stretch.len())?;
    let quarter = longest.len() / 4;
    let faults = longest[quarter..longest.len() - quarter].iter();
    let line = faults.min_by_key(|line| rank(seed, &line[0].file, line[0].line()))?;
    line.iter().min_by_key(|one| rank(seed, &one.name, 0))
}

/// A number that looks random (FNV-1a, then the last step of SplitMix64, since its low bits alone are mixed well).
fn rank(seed: &str, name: &str, line: usize) -> u64 {
    let bytes = [seed.as_bytes(), name.as_bytes(), &line.to_le_bytes()].concat();
    let mut hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::super::possible::possible;
    use super::*;
    use crate::mutants::sample::record::Row;

    /// `lines` lines in two files, each with two faults.
    fn listed(lines: usize) -> Vec<Possible> {
        let line = |line: usize| {
            let file = if line <= lines / 2 { "a.rs" } else { "b.rs" };
            [format!("replace {line} with 0"), format!("delete {line}")]
                .map(|what| possible(file, line, &what))
        };
        (1..=lines).flat_map(line).collect()
    }

    /// The lines that are chosen one after another.
    fn chosen(count: usize, seed: &str) -> Vec<usize> {
        let (all, mut record) = (listed(64), Record::default());
        let mut lines = Vec::new();
        for _ in 0..count {
            let Some(next) = next(&all, &record, seed) else { break };
            lines.push(next.line());
            record.put(Row::new(&next.name, "survived", 1, "c0ffee"));
        }
        lines
    }

    #[test]
    fn the_same_commit_has_the_same_choice_and_another_one_another() {
        assert_eq!(chosen(9, "c0ffee"), chosen(9, "c0ffee"));
        assert_ne!(chosen(9, "c0ffee"), chosen(9, "beef"));
    }

    #[test]
    fn faults_are_spread_over_the_lines() {
        for seed in ["1", "2", "3", "4", "5"] {
            let mut lines = chosen(16, seed);
            lines.extend([0, 65]);
            lines.sort_unstable();
            let widest = lines.windows(2).map(|two| two[1] - two[0]).max();
            assert!(widest <= Some(12), "{lines:?}");
        }
    }

    #[test]
    fn each_line_is_tried_once_and_then_none_is_left() {
        let mut lines = chosen(100, "c0ffee");
        lines.sort_unstable();
        assert_eq!(lines, (1..=64).collect::<Vec<_>>());
    }
}
