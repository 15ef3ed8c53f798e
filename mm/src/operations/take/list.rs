//! The list of blocks to take: `0:20-24,1:30-32` is blocks 20 to 24 of node 0 and 30 to 32 of node 1.

use crate::alloc::node::NodeId;
use crate::memmap::block::BlockId;
use core::fmt;

/// Pieces that a list can have.
pub const MAX_PIECES: usize = 32;

/// Adjacent blocks on one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The node.
    pub node: NodeId,
    /// The first block.
    pub first: BlockId,
    /// The last block, not below the first.
    pub last: BlockId,
}

impl Piece {
    /// Its blocks, ascending.
    pub(crate) fn blocks(self) -> impl Iterator<Item = BlockId> {
        (self.first.get()..=self.last.get()).map(BlockId::new)
    }

    /// Whether both contain the same block.
    pub(crate) fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

/// A list of pieces, as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TakeList {
    pieces: [Piece; MAX_PIECES],
    len: usize,
}

/// The error in a list, and its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListError<'t> {
    /// The wrong part.
    pub part: &'t str,
    /// The error.
    pub why: &'static str,
}

impl fmt::Display for ListError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\": {}", self.part.escape_default(), self.why)
    }
}

impl core::error::Error for ListError<'_> {}

impl TakeList {
    /// Reads `NODE:BLOCK[-BLOCK]`, separated by commas, all numbers decimal.
    ///
    /// # Errors
    ///
    /// [`ListError`] with the first part that is wrong.
    pub fn parse(text: &str) -> Result<Self, ListError<'_>> {
        let zero = BlockId::new(0);
        let none = Piece { node: NodeId::ZERO, first: zero, last: zero };
        let mut list = Self { pieces: [none; MAX_PIECES], len: 0 };
        for part in text.split(',') {
            let piece = piece(part)?;
            if list.pieces().iter().any(|other| other.overlaps(piece)) {
                return Err(ListError { part, why: "repeats a block" });
            }
            let slot = list.pieces.get_mut(list.len);
            *slot.ok_or(ListError { part, why: "exceeds the limit of 32 pieces" })? = piece;
            list.len += 1;
        }
        Ok(list)
    }

    /// The pieces, in the order in which they were written.
    pub fn pieces(&self) -> &[Piece] {
        self.pieces.get(..self.len).unwrap_or_default()
    }
}

fn piece(part: &str) -> Result<Piece, ListError<'_>> {
    let wrong = |why| ListError { part, why };
    let form = wrong("is not of the form NODE:BLOCK or NODE:FIRST-LAST");
    let (node, blocks) = part.split_once(':').ok_or(form)?;
    let (first, last) = blocks.split_once('-').unwrap_or((blocks, blocks));
    let node = u32::try_from(number(node).ok_or(form)?).ok().and_then(NodeId::new);
    let node = node.ok_or(wrong("names a node past the last"))?;
    let first = number(first).ok_or(form)?;
    let last = number(last).ok_or(form)?;
    if first > last {
        return Err(wrong("ends before it begins"));
    }
    Ok(Piece { node, first: BlockId::new(first), last: BlockId::new(last) })
}

/// A decimal number, digits only: no sign, no space.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(node: u32, first: u64, last: u64) -> Piece {
        let node = NodeId::new(node).unwrap();
        Piece { node, first: BlockId::new(first), last: BlockId::new(last) }
    }

    #[test]
    fn a_list_of_several_nodes_is_parsed() {
        let list = TakeList::parse("0:20-24,1:30-32").unwrap();
        assert_eq!(list.pieces(), [piece(0, 20, 24), piece(1, 30, 32)]);
        assert_eq!(TakeList::parse("127:7").unwrap().pieces(), [piece(127, 7, 7)]);
    }

    #[test]
    fn a_malformed_list_is_refused_by_its_first_wrong_part() {
        let wrong = |text| TakeList::parse(text).map(drop).unwrap_err().part;
        for part in [
            "",
            "0",
            "0:",
            ":1",
            "0:1-",
            "0:-1",
            "0:1-2-3",
            "a:1",
            "0:x",
            "+0:1",
            "0: 1",
            "0:5-4",
            "128:1",
            "4294967296:1",
            "0:18446744073709551616",
        ] {
            assert_eq!(wrong(part), part);
        }
        assert_eq!(wrong("0:1,"), "");
        assert_eq!(wrong("0:1-3,1:3"), "1:3");
        assert_eq!(wrong("0:1-9,0:2-3"), "0:2-3");
        assert_eq!(wrong("0:1,0:1"), "0:1");
    }

    #[test]
    fn one_piece_too_many_is_refused() {
        extern crate std;
        let parts = |count: usize| {
            let parts: std::vec::Vec<_> = (0..count).map(|i| std::format!("0:{}", 2 * i)).collect();
            parts.join(",")
        };
        assert_eq!(TakeList::parse(&parts(MAX_PIECES)).unwrap().pieces().len(), MAX_PIECES);
        let text = parts(MAX_PIECES + 1);
        assert_eq!(TakeList::parse(&text).unwrap_err().part, "0:64");
    }
}
