//! Writes flattened device trees (Devicetree Specification 0.4, 5), without a heap.
//!
//! ```text
//!   header | no reservations | structure: nodes and properties, END | strings: names of properties
//! ```

/// A node begins, and ends; a property; the end.
const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROPERTY: u32 = 3;
const END: u32 = 9;
/// Bytes before the structure: the header, and the list of reservations, which has its end only.
const HEAD_BYTES: usize = 40 + 16;

/// Bytes in the making. What does not fit is lost, and that is noted.
#[derive(Debug)]
struct Buffer<const N: usize> {
    bytes: [u8; N],
    len: usize,
    is_full: bool,
}

impl<const N: usize> Buffer<N> {
    const fn new() -> Self {
        Self { bytes: [0; N], len: 0, is_full: false }
    }

    fn push(&mut self, bytes: &[u8]) {
        let end = self.len.saturating_add(bytes.len());
        match self.bytes.get_mut(self.len..end) {
            Some(room) => {
                room.copy_from_slice(bytes);
                self.len = end;
            }
            None => self.is_full = true,
        }
    }

    fn push_word(&mut self, word: u32) {
        self.push(&word.to_be_bytes());
    }

    /// Zeroes up to a multiple of four bytes.
    fn align(&mut self) {
        let padding = self.len.next_multiple_of(4) - self.len;
        self.push(&[0; 4][..padding]);
    }

    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

/// A tree in the making.
#[derive(Debug)]
pub(super) struct Tree {
    structure: Buffer<4096>,
    strings: Buffer<512>,
}

/// The three parts of a finished tree, which follow one another.
pub(super) struct Parts<'t> {
    pub(super) head: [u8; HEAD_BYTES],
    pub(super) structure: &'t [u8],
    pub(super) strings: &'t [u8],
}

impl Tree {
    pub(super) const fn new() -> Self {
        Self { structure: Buffer::new(), strings: Buffer::new() }
    }

    /// Adds a node, with what `fill` adds to it.
    pub(super) fn node(&mut self, name: &str, fill: impl FnOnce(&mut Self)) {
        self.structure.push_word(BEGIN_NODE);
        self.structure.push(name.as_bytes());
        self.structure.push(&[0]);
        self.structure.align();
        fill(self);
        self.structure.push_word(END_NODE);
    }

    /// Adds a property with the bytes of `parts`, one after the other.
    pub(super) fn property(&mut self, name: &str, parts: &[&[u8]]) {
        let len = parts.iter().map(|part| part.len()).sum::<usize>();
        let at = self.strings.len;
        self.strings.push(name.as_bytes());
        self.strings.push(&[0]);
        self.structure.push_word(PROPERTY);
        self.structure.push_word(u32::try_from(len).unwrap_or(u32::MAX));
        self.structure.push_word(at as u32);
        parts.iter().for_each(|part| self.structure.push(part));
        self.structure.align();
    }

    /// Adds a text, or several that are separated by zeroes.
    pub(super) fn text(&mut self, name: &str, text: &str) {
        self.property(name, &[text.as_bytes(), &[0]]);
    }

    /// Adds numbers of 32 bits.
    pub(super) fn cells<const N: usize>(&mut self, name: &str, cells: [u32; N]) {
        let cells = cells.map(u32::to_be_bytes);
        self.property(name, &[cells.as_flattened()]);
    }

    /// Adds pairs of an address and a size.
    pub(super) fn ranges<const N: usize>(&mut self, name: &str, numbers: [u64; N]) {
        let numbers = numbers.map(u64::to_be_bytes);
        self.property(name, &[numbers.as_flattened()]);
    }

    /// Ends the tree; `None` if it was too large.
    pub(super) fn finish(&mut self) -> Option<Parts<'_>> {
        self.structure.push_word(END);
        if self.structure.is_full || self.strings.is_full {
            return None;
        }
        let (structure, strings) = (self.structure.len, self.strings.len);
        let strings_at = HEAD_BYTES + structure;
        let numbers = [
            0xd00d_feed,
            strings_at + strings,
            HEAD_BYTES,
            strings_at,
            HEAD_BYTES - 16,
            17,
            16,
            0,
            strings,
            structure,
        ];
        let mut head = [0; HEAD_BYTES];
        for (place, number) in head.chunks_exact_mut(4).zip(numbers) {
            place.copy_from_slice(&(number as u32).to_be_bytes());
        }
        Some(Parts { head, structure: self.structure.as_bytes(), strings: self.strings.as_bytes() })
    }
}
