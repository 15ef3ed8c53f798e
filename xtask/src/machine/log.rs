//! What a guest wrote to its console: rounds of our program in Linux, checks of our own kernel, and the lines that have to be
//! the same in every run.

use anyhow::{Context, Result, ensure};

/// Lines that have a measured number, or come at a time of their own: a line that contains one of these is left out when
/// two runs are compared.
const MEASURED: [&str; 7] = [
    // Milliseconds of a thread that initialises memory.
    "deferred pages initialised in",
    // Pages that are free at this time: some are in use for a while only.
    "K available (",
    // A time stamp of its own.
    "audit: type=",
    // When enough interrupts were counted.
    "random: crng init done",
    // The host ran something else in the middle of an interrupt: said once, with the time it took.
    "hrtimer: interrupt took ",
    // Two clocks at one time.
    "sched_clock: Marking stable",
    // On x86_64 the counter is compared with others for a second before it is used.
    "clocksource: ",
];

/// What our own kernel says after a check, and before a checksum.
const PASSED: &str = " extents hold what was written";
const SUM: &str = " extents have the checksum ";

/// A report of our program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Round {
    pub(crate) number: u64,
    pub(crate) wrong_words: u64,
    pub(crate) checksum: String,
}

/// The lines of a console so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log {
    lines: Vec<String>,
    /// Bytes read.
    pub(crate) read: u64,
}

impl Log {
    /// Adds the reply to `vm console NAME BYTE`.
    ///
    /// # Errors
    /// When it is none, or lines were lost.
    pub(crate) fn add(&mut self, reply: &[String]) -> Result<()> {
        let (head, lines) = reply.split_first().context("`vm console` says nothing")?;
        let range = head.strip_prefix("bytes ").and_then(|rest| rest.split_once(" to "));
        let range = range.and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
        let (from, to): (u64, u64) = range.with_context(|| format!("what is {head:?}?"))?;
        ensure!(from == self.read, "the guest's console lost bytes {} to {from}", self.read);
        self.read = to;
        self.lines.extend(
            lines.iter().map(|line| line.strip_prefix('|').unwrap_or(line).trim().to_owned()),
        );
        Ok(())
    }

    /// The last round that was reported.
    pub(crate) fn round(&self) -> Option<Round> {
        self.lines.iter().rev().find_map(|line| round(line))
    }

    /// The CPUs that our program uses, once it has begun.
    pub(crate) fn cpus(&self) -> u64 {
        let found = self.lines.iter().find_map(|line| {
            line.split_once("init: computing on ")?.1.split_once("CPUs: ")?.1.parse().ok()
        });
        found.unwrap_or(0)
    }

    /// Whether this round was reported.
    pub(crate) fn has_round(&self, number: u64) -> bool {
        self.round().is_some_and(|round| round.number >= number)
    }

    /// The same log as if it had ended with this round.
    pub(crate) fn up_to(mut self, number: u64) -> Self {
        let is_last = |line: &String| round(line).is_some_and(|round| round.number == number);
        if let Some(last) = self.lines.iter().position(is_last) {
            self.lines.truncate(last + 1);
        }
        self
    }

    /// The last round.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn last_round(&self) -> Result<Round> {
        let none = || format!("the guest's program reported no round: {:?}", self.tail(5));
        self.round().with_context(none)
    }

    /// Checks of all its pages that our own kernel, as a guest, has passed.
    pub(crate) fn checks(&self) -> u64 {
        self.lines.iter().filter(|line| line.ends_with(PASSED)).count() as u64
    }

    /// The checksum of its pages that our own kernel reported last.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn checksum(&self) -> Result<String> {
        let found = self.lines.iter().rev().find_map(|line| Some(line.split_once(SUM)?.1));
        let found = found.with_context(|| format!("no checksum in {:?}", self.tail(5)))?;
        Ok(found.to_owned())
    }

    /// Whether a line contains this.
    pub(crate) fn has(&self, text: &str) -> bool {
        self.find(text).is_some()
    }

    /// The first line that contains this.
    pub(crate) fn find(&self, text: &str) -> Option<&str> {
        self.lines.iter().map(String::as_str).find(|line| line.contains(text))
    }

    /// The last lines.
    pub(crate) fn tail(&self, count: usize) -> &[String] {
        self.lines.get(self.lines.len().saturating_sub(count)..).unwrap_or_default()
    }

    /// The lines without what is measured.
    fn comparable(&self) -> Vec<&str> {
        let lines = self.lines.iter().map(|line| without_time(line));
        lines.filter(|line| !MEASURED.iter().any(|part| line.contains(part))).collect()
    }

    /// Compares two runs; returns how many lines are the same.
    ///
    /// # Errors
    /// The first line that differs.
    pub(crate) fn compare(&self, other: &Self) -> Result<usize> {
        let (one, two) = (self.comparable(), other.comparable());
        let longest = one.len().max(two.len());
        let differs = (0..longest).find(|index| one.get(*index) != two.get(*index));
        match differs {
            None => Ok(longest),
            Some(index) => anyhow::bail!(
                "line {index} of the guest's console differs: {:?}, and without a pull {:?}",
                one.get(index),
                two.get(index)
            ),
        }
    }
}

/// `[    1.234567] text` without its time.
fn without_time(line: &str) -> &str {
    let inner = line.strip_prefix('[').and_then(|rest| rest.split_once("] "));
    match inner {
        Some((time, text)) if time.trim().parse::<f64>().is_ok() => text,
        _ => line,
    }
}

/// Reads `init: round 7: 0 wrong words, checksum 0x12`.
fn round(line: &str) -> Option<Round> {
    let (_, rest) = line.split_once("init: round ")?;
    let (number, rest) = rest.split_once(": ")?;
    let (wrong, checksum) = rest.split_once(" wrong words, checksum ")?;
    let (number, wrong_words) = (number.parse().ok()?, wrong.parse().ok()?);
    Some(Round { number, wrong_words, checksum: checksum.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(lines: &[&str]) -> Log {
        let mut reply = vec![format!("bytes 0 to {}", lines.len())];
        reply.extend(lines.iter().map(|line| format!("| {line}")));
        let mut log = Log::default();
        log.add(&reply).unwrap();
        log
    }

    #[test]
    fn the_last_round_of_the_program_is_found_among_the_kernels_lines() {
        let log = log(&[
            "[    3.0] init: computing on 8 MiB, CPUs: 2",
            "[    3.1] init: round 1: 0 wrong words, checksum 0x12",
            "[    3.2] init: round 2: 7 wrong words, checksum 0x34",
            "[    3.3] reboot: Power down",
        ]);
        let round = log.round().unwrap();
        assert_eq!((round.number, round.wrong_words, round.checksum.as_str()), (2, 7, "0x34"));
        assert!(log.has("Power down") && !log.has("panic"));
        assert!(log.has_round(2) && !log.has_round(3));
        assert_eq!(log.cpus(), 2);
        let first = log.up_to(1);
        assert_eq!((first.last_round().unwrap().number, first.lines.len()), (1, 2));
    }

    #[test]
    fn checks_of_our_own_kernel_are_counted_and_its_checksum_is_found() {
        let log =
            log(&["9 extents hold what was written", "ok", "9 extents have the checksum 0x7"]);
        assert_eq!((log.checks(), log.checksum().unwrap().as_str()), (1, "0x7"));
        assert!(Log::default().checksum().is_err());
    }

    #[test]
    fn runs_are_the_same_but_for_times_and_measured_lines() {
        let one = log(&["[    0.1] a", "node 0 deferred pages initialised in 4ms", "[ 12.5] b"]);
        let two = log(&["[    0.2] a", "[   90.000001] b"]);
        assert_eq!(one.compare(&two).unwrap(), 2);
        let other = log(&["[    0.2] a", "[    0.2] c"]);
        let why = one.compare(&other).unwrap_err().to_string();
        assert!(why.contains("line 1 ") && why.contains("\"b\"") && why.contains("\"c\""), "{why}");
        assert!(log(&["a"]).compare(&log(&["a", "[x] b"])).is_err());
    }

    #[test]
    fn lost_bytes_are_an_error() {
        let mut log = log(&["a"]);
        assert_eq!(log.read, 1);
        assert!(log.add(&["bytes 5 to 9".into()]).is_err());
        assert!(log.add(&["| a".into()]).is_err());
        log.add(&["bytes 1 to 4".into(), "| b".into()]).unwrap();
        assert_eq!((log.read, log.tail(1)), (4, &["b".to_owned()][..]));
    }
}
