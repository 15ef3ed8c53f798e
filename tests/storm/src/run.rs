//! Storms from beginning to end: played, and if they fail, shrunk and kept, with the command that plays them again.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};

use crate::event::Event;
use crate::generate::generate;
use crate::log;
use crate::play::Failed;
use crate::shrink::shrink;
use crate::stats::Stats;

/// The logs of a long storm: each is for a machine of its own. Seeds and logs.
fn chunks(
    seed: u64,
    events: u64,
    each: u64,
    guests: u64,
) -> impl Iterator<Item = (u64, Vec<Event>)> {
    let firsts = (0..events).step_by(usize::try_from(each.max(1)).unwrap_or(usize::MAX));
    firsts.enumerate().map(move |(number, first)| {
        let seed = seed.wrapping_add(number as u64);
        (seed, generate(seed, each.min(events - first), guests))
    })
}

/// Which logs are played.
#[derive(Debug, Clone, Copy)]
pub enum Logs<'a> {
    /// The one in a file.
    Replay(&'a Path),
    /// Those that follow from a seed.
    Seed {
        /// The seed of the first; each has the next.
        seed: u64,
        /// The events of all of them.
        events: u64,
        /// The events of each.
        each: u64,
        /// The guests on each machine.
        guests: u64,
    },
}

/// What to do about a log that fails.
#[derive(Debug, Clone, Copy)]
pub struct Storm<'a> {
    /// What the option `--arch` is called.
    pub arch: &'a str,
    /// Further options of the command that plays a log again.
    pub options: &'a str,
    /// Where failing logs are kept.
    pub folder: &'a Path,
    /// How many shorter logs are tried at most.
    pub tries: u32,
}

impl Storm<'_> {
    /// Plays logs by `play`, each of which is announced to `begin`. Returns the sum of their outcomes.
    ///
    /// # Errors
    ///
    /// When a log cannot be read. When one fails: why, and the command that plays the fewest of its events that fail
    /// alike.
    pub fn run(
        &self,
        logs: Logs<'_>,
        mut begin: impl FnMut(&str),
        mut play: impl FnMut(&[Event]) -> Result<Stats, Failed>,
    ) -> Result<Stats> {
        let (mut replayed, mut made) = (None, None);
        match logs {
            Logs::Replay(path) => replayed = Some(("replay".to_owned(), log::load(path)?)),
            Logs::Seed { seed, events, each, guests } => {
                made = Some(chunks(seed, events, each, guests));
            }
        }
        let made = made.into_iter().flatten();
        let made = made.map(|(seed, log)| (format!("{}-{seed}", self.arch), log));
        let mut sum = Stats::default();
        for (name, log) in replayed.into_iter().chain(made) {
            begin(&format!("{name}: {} events", log.len()));
            sum.add(self.run_one(&name, &log, &mut play)?);
        }
        Ok(sum)
    }

    fn run_one(
        &self,
        name: &str,
        log: &[Event],
        play: &mut impl FnMut(&[Event]) -> Result<Stats, Failed>,
    ) -> Result<Stats> {
        let failed = match play(log) {
            Ok(stats) => return Ok(stats),
            Err(failed) if failed.is_of_host() => return Err(anyhow!("{name}: {:#}", failed.why)),
            Err(failed) => failed,
        };
        let whole = self.keep(&format!("{name}.log"), &failed, log);
        // What follows the event that failed is not needed; the end takes everything away in any case.
        let begun = log.get(..=failed.index).unwrap_or(log);
        let (kind, mut last, mut other) = (failed.kind(), failed, None);
        let shrunk = shrink(begun, self.tries, |log| match play(log) {
            Err(failed) if failed.kind() == kind => {
                last = failed;
                Some(true)
            }
            Err(failed) => {
                let more = !failed.is_of_host();
                other.get_or_insert(failed);
                more.then_some(false)
            }
            Ok(_) => Some(false),
        });
        let repeat = match self.keep(&format!("{name}.short.log"), &last, &shrunk.log) {
            Ok(path) => {
                let (arch, options) = (self.arch, self.options);
                format!("cargo xtask storm --arch {arch}{options} --replay {}", path.display())
            }
            Err(error) => format!("these events, which are not kept: {error:#}"),
        };
        let whole = whole
            .map_or_else(|error| format!("not kept: {error:#}"), |path| path.display().to_string());
        let count = shrunk.log.len();
        let events: String = shrunk.log.iter().map(|event| format!("\n    {event}")).collect();
        let other =
            other.map(|failed| format!("\n  shorter logs also fail in another way: {failed}"));
        Err(anyhow!(
            "{last}\n  {count} of {} events are left after {} tries:{events}\n  all of them: {whole}\n  \
             repeat: {repeat}{}",
            log.len(),
            shrunk.tries,
            other.unwrap_or_default(),
        ))
    }

    /// Writes a log that fails to a file.
    fn keep(&self, name: &str, failed: &Failed, log: &[Event]) -> Result<PathBuf> {
        let path = self.folder.join(name);
        let why = format!("{:#}", failed.why);
        let why = why.lines().next().unwrap_or_default();
        let note = format!("{}, fails at {}: {why}", self.arch, failed.index);
        fs::create_dir_all(self.folder)
            .and_then(|()| fs::write(&path, log::write(&note, log)))
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A conversion behind an allocation breaks something at an address; without one, each compaction does not end.
    fn play(log: &[Event]) -> Result<Stats, Failed> {
        let fails = |index: usize, why: String| Err(Failed { index, why: anyhow!(why) });
        let allocated = log.iter().position(|event| matches!(event, Event::Alloc(..)));
        for (index, event) in log.iter().enumerate() {
            match event {
                Event::Convert(_) if allocated.is_some_and(|at| at < index) => {
                    return fails(index, format!("{event}: block {index} is lost at {index:#x}"));
                }
                Event::Compact(..)
                    if !log.iter().any(|event| matches!(event, Event::Convert(_))) =>
                {
                    return fails(index, format!("{event}: no end of step {index}"));
                }
                _ => {}
            }
        }
        Ok(Stats::default())
    }

    /// A seed whose log fails behind a compaction.
    fn seed() -> u64 {
        let is_compaction = |event: &Event| matches!(event, Event::Compact(..));
        let fits = |seed: &u64| {
            let log = generate(*seed, 500, 0);
            play(&log).is_err_and(|failed| log[..failed.index].iter().any(is_compaction))
        };
        (0..).find(fits).unwrap()
    }

    #[test]
    fn a_log_is_shrunk_to_one_that_fails_in_the_same_way() {
        let seed = seed();
        let folder = std::env::temp_dir().join(format!("hotmem-storm-run-{}", std::process::id()));
        let storm = Storm { arch: "host", options: "", folder: &folder, tries: 1000 };
        let logs = Logs::Seed { seed, events: 500, each: 500, guests: 0 };
        let mut begun = Vec::new();
        let error = storm.run(logs, |name| begun.push(name.to_owned()), play).unwrap_err();
        let text = error.to_string();
        let short = log::load(&folder.join(format!("host-{seed}.short.log")));
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(begun, [format!("host-{seed}: 500 events")]);
        let short = short.unwrap();
        assert!(matches!(short[..], [Event::Alloc(..), Event::Convert(_)]), "{short:?}");
        assert!(text.contains("is lost"), "{text}");
        assert!(text.contains("in another way") && text.contains("no end of step"), "{text}");
    }

    #[test]
    fn a_failure_is_told_although_its_log_cannot_be_kept() {
        let folder = std::path::Path::new("/dev/null/storm");
        let storm = Storm { arch: "host", options: "", folder, tries: 1000 };
        let logs = Logs::Seed { seed: 3, events: 500, each: 500, guests: 0 };
        let text = storm.run(logs, |_| {}, play).unwrap_err().to_string();
        assert!(text.contains("is lost") && text.contains("alloc "), "{text}");
        assert_eq!(text.matches("cannot write /dev/null/storm/").count(), 2, "{text}");
    }

    #[test]
    fn a_host_that_lacks_something_ends_a_storm_before_a_shorter_log_is_tried() {
        let storm = Storm { arch: "host", options: "", folder: Path::new("/dev/null"), tries: 9 };
        let logs = Logs::Seed { seed: 3, events: 50, each: 50, guests: 0 };
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        let mut plays = 0;
        let error = storm.run(
            logs,
            |_| {},
            |_| {
                plays += 1;
                Err(Failed {
                    index: 50,
                    why: anyhow!(std::io::Error::from(full.kind())).context("a log"),
                })
            },
        );
        let text = format!("{:#}", error.unwrap_err());
        assert_eq!((plays, text), (1, format!("host-3: a log: {full}")));
    }

    #[test]
    fn the_kind_of_a_failure_is_that_of_the_same_fault_elsewhere() {
        let kind = |why: &str| Failed { index: 0, why: anyhow!("{why}") }.kind();
        let known = kind("add 0+2 block: invariant 4: free pages at 0x4000: 3 instead of 2");
        assert_eq!(kind("settle: invariant 4: free pages at 0x5fff: 13 instead of 12"), known);
        assert_eq!(kind("invariant 4: free pages at 0x1: 1 instead of 0"), known);
        assert_ne!(kind("settle: invariant 4: managed pages at 0x4000: 3 instead of 2"), known);
    }

    #[test]
    fn a_long_storm_is_cut_into_logs_of_their_own_seeds() {
        let all: Vec<_> = chunks(5, 250, 100, 1).collect();
        let sizes: Vec<_> = all.iter().map(|(seed, log)| (*seed, log.len())).collect();
        assert_eq!(sizes, [(5, 100), (6, 100), (7, 50)]);
        assert_eq!(all[2].1, generate(7, 50, 1));
    }
}
