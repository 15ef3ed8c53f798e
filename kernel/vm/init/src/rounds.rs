//! The rounds: what is written, and what was found.

/// What was found so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// Words that had another value than was written.
    pub(crate) wrong: u64,
    /// Over all words that were read: rotate by one, then add.
    pub(crate) checksum: u64,
}

/// The word with this index, in a round.
const fn word(index: usize, round: u64) -> u64 {
    let place = (index as u64).wrapping_add(round.wrapping_mul(0xd134_2543_de82_ef95));
    place.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl Found {
    /// Writes all of `memory`, and reads it back. `black_box` has the compiler load each word again.
    pub(crate) fn round(mut self, memory: &mut [u64], round: u64) -> Self {
        for (index, place) in memory.iter_mut().enumerate() {
            *place = word(index, round);
        }
        let memory = core::hint::black_box(memory);
        for (index, read) in memory.iter().enumerate() {
            self.wrong += u64::from(*read != word(index, round));
            self.checksum = self.checksum.rotate_left(1).wrapping_add(*read);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_round_and_place_has_its_own_word_and_all_of_them_count() {
        let mut memory = vec![0; 100];
        let one = Found::default().round(&mut memory, 1);
        assert!(one.wrong == 0 && memory.iter().all(|word| *word != 0));
        let first = memory.clone();
        let two = one.round(&mut memory, 2);
        assert!(memory.iter().zip(&first).all(|(now, before)| now != before));
        let sum = first
            .iter()
            .chain(&memory)
            .fold(0_u64, |sum, word| sum.rotate_left(1).wrapping_add(*word));
        assert_eq!(two, Found { wrong: 0, checksum: sum });
    }
}
