//! Cuts a log that fails down to few events, by delta debugging (Zeller and Hildebrandt, "Simplifying and isolating
//! failure-inducing input").

use crate::event::Event;

/// A log that was cut down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shrunk {
    /// What is left.
    pub log: Vec<Event>,
    /// How many logs were tried.
    pub tries: u32,
}

/// The fewest events of `log`, which fails, that were found to fail in `most` tries: pieces of it are left out, halves
/// at first and single events at last. `fails` plays a log; `None` if no more can be played.
pub fn shrink(log: &[Event], most: u32, mut fails: impl FnMut(&[Event]) -> Option<bool>) -> Shrunk {
    let mut shrunk = Shrunk { log: log.to_vec(), tries: 0 };
    let mut piece = log.len().div_ceil(2);
    while piece > 0 && shrunk.tries < most {
        let before = shrunk.log.len();
        if shrunk.leave_out(piece, most, &mut fails).is_none() {
            break;
        }
        let less = shrunk.log.len() < before;
        // Once some went, what is left may go without others: pieces of this size are tried again.
        piece = if less && piece == 1 { 1 } else { piece / 2 };
    }
    shrunk
}

impl Shrunk {
    /// Leaves out each piece of so many events without which the log still fails; the last ones first, since most events
    /// that are needed come early.
    fn leave_out(
        &mut self,
        piece: usize,
        most: u32,
        fails: &mut impl FnMut(&[Event]) -> Option<bool>,
    ) -> Option<()> {
        let mut end = self.log.len();
        while end > 0 && self.tries < most {
            let start = end.saturating_sub(piece);
            let kept = [self.log.get(..start), self.log.get(end..)];
            let kept = kept.map(Option::unwrap_or_default).concat();
            self.tries += 1;
            if fails(&kept)? {
                self.log = kept;
            }
            end = start.min(self.log.len());
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::generate;

    /// Fails if a conversion is followed by a compaction, anywhere, and an allocation was before both.
    fn fails(log: &[Event]) -> Option<bool> {
        let wanted = [
            |event: &Event| matches!(event, Event::Alloc(..)),
            |event: &Event| matches!(event, Event::Convert(_)),
            |event: &Event| matches!(event, Event::Compact(..)),
        ];
        let mut events = log.iter();
        Some(wanted.iter().all(|wanted| events.any(wanted)))
    }

    #[test]
    fn what_is_needed_is_left_of_a_long_log() {
        let log = generate(3, 5000, 0);
        let shrunk = shrink(&log, 1000, fails);
        assert_eq!(shrunk.log.len(), 3, "{:?}", shrunk.log);
        assert!(fails(&shrunk.log) == Some(true) && shrunk.tries < 200, "{} tries", shrunk.tries);
    }

    #[test]
    fn no_more_logs_are_tried_than_allowed() {
        let mut tries = 0;
        let shrunk = shrink(&generate(3, 5000, 0), 10, |log| {
            tries += 1;
            fails(log)
        });
        assert_eq!((shrunk.tries, tries), (10, 10));
        assert_eq!(fails(&shrunk.log), Some(true));
    }

    #[test]
    fn nothing_is_tried_once_no_log_can_be_played() {
        let mut tries = 0;
        let log = generate(3, 500, 0);
        let shrunk = shrink(&log, 100, |_| {
            tries += 1;
            (tries < 3).then_some(false)
        });
        assert_eq!((shrunk.tries, tries, shrunk.log), (3, 3, log));
    }

    #[test]
    fn a_log_that_fails_without_any_event_is_shrunk_to_nothing() {
        assert_eq!(shrink(&generate(1, 100, 0), 100, |_| Some(true)).log, []);
    }
}
