//! How often each kind of event had each outcome.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Error, Result};

/// Counts of outcomes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats(BTreeMap<(String, String), u64>);

impl Stats {
    /// Counts an outcome of an event.
    pub fn count(&mut self, event: &str, outcome: &str) {
        *self.0.entry((event.to_owned(), outcome.to_owned())).or_default() += 1;
    }

    /// How often events of this name had this outcome.
    pub fn of(&self, event: &str, outcome: &str) -> u64 {
        self.0.get(&(event.to_owned(), outcome.to_owned())).copied().unwrap_or(0)
    }

    /// Adds those of another storm.
    pub fn add(&mut self, other: Self) {
        for (key, count) in other.0 {
            *self.0.entry(key).or_default() += count;
        }
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        for ((event, outcome), count) in &self.0 {
            write!(f, "{comma}{count} {event} {outcome}")?;
            comma = ", ";
        }
        Ok(())
    }
}

impl FromStr for Stats {
    type Err = Error;

    /// Reads what `Display` writes.
    fn from_str(text: &str) -> Result<Self> {
        let mut stats = Self::default();
        for part in text.split(", ").filter(|part| !part.is_empty()) {
            let mut words = part.splitn(3, ' ');
            let mut next = || words.next().with_context(|| format!("'{part}' is not a count"));
            let (count, event, outcome) = (next()?.parse()?, next()?, next()?);
            stats.0.insert((event.to_owned(), outcome.to_owned()), count);
        }
        Ok(stats)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_as_they_are_written_and_added_up() {
        let mut stats = Stats::default();
        stats.count("plug", "waited for");
        stats.count("plug", "waited for");
        stats.count("add", "done");
        assert_eq!(stats.to_string(), "1 add done, 2 plug waited for");
        stats.add(stats.to_string().parse().unwrap());
        assert_eq!((stats.of("plug", "waited for"), stats.of("add", "refused")), (4, 0));
        assert!("two add done".parse::<Stats>().is_err());
    }
}
