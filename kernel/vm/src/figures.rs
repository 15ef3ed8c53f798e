//! What a guest has reported, and what happened to it.

use crate::stops::Stops;
use hotmem_arch::contract::{GuestCall, PAYLOAD_ALONE, PAYLOAD_DONE, PAYLOAD_ROUND};

/// The figures of a virtual CPU, or of a guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Rounds that the payload has finished; a guest has finished those that each of its virtual CPUs has.
    pub rounds: u64,
    /// Words that had another value than the payload wrote.
    pub wrong_words: u64,
    /// The checksum over all words that the payload read.
    pub checksum: u64,
    /// The largest gap that the payload saw between two reads of its counter, in ticks.
    pub longest_gap: u64,
    /// The longest time that the virtual CPU stood still up to its last report, from an exit to the entry after which it
    /// went on, in the same ticks: the host's view of what the payload sees as a gap.
    pub longest_stop: u64,
    /// The longest of those stops in which a batch of pages or tables was moved, in instructions.
    pub longest_move: u64,
    /// Exits of its virtual CPU.
    pub exits: u64,
    /// Accesses that waited for a move.
    pub waits: u64,
}

/// A call of the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Report {
    /// It has finished a round.
    Round,
    /// It has finished.
    Done,
    /// It could not start a CPU, by this error.
    Alone(u64),
    /// The call is unknown.
    Unknown,
}

impl Figures {
    /// Takes a call of the payload, whose virtual CPU stood still for `stops` so far.
    pub(crate) fn take(&mut self, call: GuestCall, stops: &Stops) -> Report {
        let report = match call.number {
            PAYLOAD_ROUND => Report::Round,
            PAYLOAD_DONE => Report::Done,
            PAYLOAD_ALONE => return Report::Alone(call.arguments[0]),
            _ => return Report::Unknown,
        };
        let [rounds, wrong_words, checksum, longest_gap, _] = call.arguments;
        let (longest_stop, longest_move) = (stops.longest(), stops.longest_by_moves());
        *self = Self {
            rounds,
            wrong_words,
            checksum,
            longest_gap,
            longest_stop,
            longest_move,
            ..*self
        };
        report
    }

    /// The figures of a guest whose virtual CPUs have these. Its checksum is that of the first, to which those of the
    /// others are added in turn.
    pub(crate) fn of_all(all: impl IntoIterator<Item = Self>) -> Self {
        let add = |sum: Self, one: Self| Self {
            rounds: sum.rounds.min(one.rounds),
            wrong_words: sum.wrong_words.saturating_add(one.wrong_words),
            checksum: sum.checksum.rotate_left(1).wrapping_add(one.checksum),
            longest_gap: sum.longest_gap.max(one.longest_gap),
            longest_stop: sum.longest_stop.max(one.longest_stop),
            longest_move: sum.longest_move.max(one.longest_move),
            exits: sum.exits + one.exits,
            waits: sum.waits + one.waits,
        };
        all.into_iter().reduce(add).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stops::Moment;
    use hotmem_arch::contract::GuestExit;

    /// The stops of a virtual CPU: the longest of all, and by moves.
    fn stops(longest: u64, by_moves: u64) -> Stops {
        let mut stops = Stops::default();
        for (now, batches, long) in [(0, 0, longest), (100, 2, by_moves)] {
            let at = |time, batches| Moment { ticks: time, instructions: time, batches };
            stops.leave(Some(&GuestExit::Interrupt), at(now, 0));
            stops.enter(at(now + long, batches));
        }
        stops
    }

    #[test]
    fn only_the_calls_of_the_payload_change_the_figures() {
        let mut figures = Figures { exits: 7, ..Figures::default() };
        let call = |number| GuestCall { number, arguments: [1, 2, 3, 4, 5] };
        assert_eq!(figures.take(call(0), &stops(9, 9)), Report::Unknown);
        assert_eq!(figures, Figures { exits: 7, ..Figures::default() });
        assert_eq!(figures.take(call(PAYLOAD_ROUND), &stops(5, 4)), Report::Round);
        let expected = Figures {
            rounds: 1,
            wrong_words: 2,
            checksum: 3,
            longest_gap: 4,
            longest_stop: 5,
            longest_move: 4,
            exits: 7,
            waits: 0,
        };
        assert_eq!(figures, expected);
        assert_eq!(figures.take(call(PAYLOAD_DONE), &stops(5, 4)), Report::Done);
        assert_eq!(figures.take(call(PAYLOAD_ALONE), &stops(9, 9)), Report::Alone(1));
        assert_eq!(figures, expected);
    }

    #[test]
    fn a_guest_has_the_rounds_that_all_its_cpus_have_and_the_checksum_of_one_is_its_own() {
        let one = Figures {
            rounds: 5,
            wrong_words: 1,
            checksum: 1 << 63,
            longest_gap: 9,
            longest_stop: 3,
            longest_move: 2,
            exits: 10,
            waits: 2,
        };
        assert_eq!(Figures::of_all([one]), one);
        assert_eq!(Figures::of_all([]), Figures::default());
        let other = Figures {
            rounds: 4,
            checksum: 6,
            longest_gap: 8,
            longest_stop: 7,
            longest_move: 1,
            wrong_words: 0,
            exits: 1,
            waits: 1,
        };
        let both = Figures {
            rounds: 4,
            wrong_words: 1,
            checksum: 7,
            longest_gap: 9,
            longest_stop: 7,
            longest_move: 2,
            exits: 11,
            waits: 3,
        };
        assert_eq!(Figures::of_all([one, other]), both);
        assert_ne!(Figures::of_all([other, one]).checksum, 7, "which CPU counts");
    }
}
