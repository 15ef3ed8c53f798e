//! Takes an input apart.

/// The bytes of an input that are not read yet. Past the end all is 0 or empty, so that each input means something.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Input<'d>(pub(crate) &'d [u8]);

impl<'d> Input<'d> {
    /// The next number of `N` bytes, little-endian.
    fn number<const N: usize>(&mut self) -> u64 {
        let (bytes, rest) = self.0.split_at(N.min(self.0.len()));
        self.0 = rest;
        bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.number::<1>() as u8
    }

    pub(crate) fn half(&mut self) -> u32 {
        self.number::<4>() as u32
    }

    pub(crate) fn word(&mut self) -> u64 {
        self.number::<8>()
    }

    /// The next piece: two bytes with its length, then as many bytes as there are.
    pub(crate) fn piece(&mut self) -> &'d [u8] {
        let len = self.number::<2>() as usize;
        let (piece, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        piece
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Fills `into`.
    pub(crate) fn fill(&mut self, into: &mut [u8]) {
        into.fill_with(|| self.byte());
    }
}
