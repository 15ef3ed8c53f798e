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
pub fn chunks(seed: u64, events: u64, each: u64) -> impl Iterator<Item = (u64, Vec<Event>)> {
    let firsts = (0..events).step_by(usize::try_from(each.max(1)).unwrap_or(usize::MAX));
    firsts.enumerate().map(move |(number, first)| {
        let seed = seed.wrapping_add(number as u64);
        (seed, generate(seed, each.min(events - first)))
    })
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
    /// Plays a log by `play`.
    ///
    /// # Errors
    ///
    /// When it fails: why, and the command that plays the fewest of its events that fail.
    pub fn run(
        &self,
        name: &str,
        log: &[Event],
        mut play: impl FnMut(&[Event]) -> Result<Stats, Failed>,
    ) -> Result<Stats> {
        let failed = match play(log) {
            Ok(stats) => return Ok(stats),
            Err(failed) => failed,
        };
        let whole = self.keep(&format!("{name}.log"), &failed, log)?;
        // What follows the event that failed is not needed; the end takes everything away in any case.
        let begun = log.get(..=failed.index).unwrap_or(log);
        let mut last = failed;
        let shrunk = shrink(begun, self.tries, |log| match play(log) {
            Ok(_) => false,
            Err(failed) => {
                last = failed;
                true
            }
        });
        let path = self.keep(&format!("{name}.short.log"), &last, &shrunk.log)?;
        let (arch, options, count) = (self.arch, self.options, shrunk.log.len());
        let events: String = shrunk.log.iter().map(|event| format!("\n    {event}")).collect();
        Err(anyhow!(
            "{last}\n  {count} of {} events are left after {} tries:{events}\n  all of them: {}\n  \
             repeat: cargo xtask storm --arch {arch}{options} --replay {}",
            log.len(),
            shrunk.tries,
            whole.display(),
            path.display(),
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

    #[test]
    fn a_long_storm_is_cut_into_logs_of_their_own_seeds() {
        let all: Vec<_> = chunks(5, 250, 100).collect();
        let sizes: Vec<_> = all.iter().map(|(seed, log)| (*seed, log.len())).collect();
        assert_eq!(sizes, [(5, 100), (6, 100), (7, 50)]);
        assert_eq!(all[2].1, generate(7, 50));
    }
}
