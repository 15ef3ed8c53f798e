//! What a guest has reported, and what happened to it.

use hotmem_arch::contract::{GuestCall, PAYLOAD_DONE, PAYLOAD_ROUND};

/// The figures of a guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Rounds that the payload has finished.
    pub rounds: u64,
    /// Words that had another value than the payload wrote.
    pub wrong_words: u64,
    /// The checksum over all words that the payload read.
    pub checksum: u64,
    /// The largest gap that the payload saw between two reads of its counter, in ticks.
    pub longest_gap: u64,
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
    /// The call is unknown.
    Unknown,
}

impl Figures {
    /// Takes a call of the payload.
    pub(crate) fn take(&mut self, call: GuestCall) -> Report {
        let report = match call.number {
            PAYLOAD_ROUND => Report::Round,
            PAYLOAD_DONE => Report::Done,
            _ => return Report::Unknown,
        };
        let [rounds, wrong_words, checksum, longest_gap, _] = call.arguments;
        *self = Self { rounds, wrong_words, checksum, longest_gap, ..*self };
        report
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_calls_of_the_payload_change_the_figures() {
        let mut figures = Figures { exits: 7, ..Figures::default() };
        let call = |number| GuestCall { number, arguments: [1, 2, 3, 4, 5] };
        assert_eq!(figures.take(call(0)), Report::Unknown);
        assert_eq!(figures, Figures { exits: 7, ..Figures::default() });
        assert_eq!(figures.take(call(PAYLOAD_ROUND)), Report::Round);
        let expected =
            Figures { rounds: 1, wrong_words: 2, checksum: 3, longest_gap: 4, exits: 7, waits: 0 };
        assert_eq!(figures, expected);
        assert_eq!(figures.take(call(PAYLOAD_DONE)), Report::Done);
    }
}
