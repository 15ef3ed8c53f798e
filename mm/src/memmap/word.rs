//! The number of a memory block, and the word that its record keeps.

use crate::memmap::home::{NodeId, ZoneKind};
use crate::memmap::placement::Placement;
use core::fmt;

/// The number of a memory block: its first address divided by the block size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockId(u64);

impl BlockId {
    /// Wraps a raw number.
    pub const fn new(raw: u64) -> Self {
        Self(raw)
    }

    /// The raw number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "block {}", self.0)
    }
}

/// The state of a present memory block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockState {
    /// Mapped and described, but not given to the allocator.
    Offline,
    /// Given to the allocator, in this zone of the block's node.
    Online(ZoneKind),
}

impl fmt::Display for BlockState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Offline => f.write_str("offline"),
            Self::Online(_) => f.write_str("online"),
        }
    }
}

/// The contents of the block's word in a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockWord {
    pub(crate) state: BlockState,
    pub(crate) node: NodeId,
    pub(crate) placement: Placement,
    /// A part of its memory is bad.
    pub(crate) poisoned: bool,
    /// Its content must not be accessed: it is, or is about to be, out of the linear map.
    pub(crate) taken: bool,
    /// Descriptors of its pages were written since it was scrubbed last.
    pub(crate) described: bool,
    /// It was added at once, all of it.
    pub(crate) whole: bool,
    /// A bit for each granule that may hold data of a user: see [`granules`](crate::memmap::granules).
    pub(crate) dirty: u32,
}

const NODE_SHIFT: u32 = 8;
const PLACEMENT_SHIFT: u32 = 16;
const POISONED_BIT: u64 = 1 << 24;
const TAKEN_BIT: u64 = 1 << 25;
const DESCRIBED_BIT: u64 = 1 << 26;
const WHOLE_BIT: u64 = 1 << 27;
/// Bits that seal the word: the sum of its other digits in base 16, modulo 15, which changes with each bit. It takes a
/// multiplication and few more instructions; to count bits takes three times as many where no instruction does that.
const SEAL_SHIFT: u32 = 28;
const SEAL: u64 = 0xf << SEAL_SHIFT;
const DIRTY_SHIFT: u32 = 32;

/// The word with its seal.
#[inline]
const fn sealed(word: u64) -> u64 {
    let word = word & !SEAL;
    word | (word % 15) << SEAL_SHIFT
}

impl BlockWord {
    /// The value used for a block with an invalid word: it does not come online, and is not taken.
    pub(crate) const BROKEN: Self = Self {
        state: BlockState::Offline,
        node: NodeId::ZERO,
        placement: Placement::Boot,
        poisoned: true,
        taken: false,
        described: true,
        whole: false,
        dirty: u32::MAX,
    };

    #[inline]
    pub(crate) fn encode(self) -> u64 {
        let state = match self.state {
            BlockState::Offline => 1,
            BlockState::Online(kind) => 2 + kind as u64,
        };
        let node = u64::from(self.node.get()) << NODE_SHIFT;
        let poisoned = if self.poisoned { POISONED_BIT } else { 0 };
        let taken = if self.taken { TAKEN_BIT } else { 0 };
        let described = if self.described { DESCRIBED_BIT } else { 0 };
        let whole = if self.whole { WHOLE_BIT } else { 0 };
        let rest = poisoned | taken | described | whole | Self::dirty_bits(self.dirty);
        sealed(state | node | (self.placement as u64) << PLACEMENT_SHIFT | rest)
    }

    /// Whether a word has the seal of its other bits: one that was damaged in a bit has not. Only `verify` asks.
    pub(super) const fn is_sealed(word: u64) -> bool {
        sealed(word) == word
    }

    /// `None` if no block has this word.
    #[inline]
    pub(crate) fn decode(word: u64) -> Option<Self> {
        let state = match word & 0xff {
            1 => BlockState::Offline,
            2 => BlockState::Online(ZoneKind::System),
            3 => BlockState::Online(ZoneKind::Normal),
            4 => BlockState::Online(ZoneKind::Movable),
            _ => return None,
        };
        let node = NodeId::new((word >> NODE_SHIFT) as u32 & 0xff)?;
        let placement = Placement::decode(word >> PLACEMENT_SHIFT & 0xff)?;
        let (poisoned, taken) = (word & POISONED_BIT != 0, word & TAKEN_BIT != 0);
        let (described, whole) = (word & DESCRIBED_BIT != 0, word & WHOLE_BIT != 0);
        let dirty = (word >> DIRTY_SHIFT) as u32;
        Some(Self { state, node, placement, poisoned, taken, described, whole, dirty })
    }

    /// Whether a word is that of a block that was added at once, if it is valid.
    pub(super) const fn is_whole(word: u64) -> bool {
        word & WHOLE_BIT != 0
    }

    /// A word with `granules` marked, too.
    pub(super) const fn soiled(word: u64, granules: u32) -> u64 {
        sealed(word | Self::dirty_bits(granules))
    }

    /// Whether a word is that of an offline block, if it is valid.
    pub(super) const fn is_offline(word: u64) -> bool {
        word & 0xff == 1
    }

    /// Whether a word is that of a block with bad memory, if it is valid.
    pub(super) const fn is_poisoned(word: u64) -> bool {
        word & POISONED_BIT != 0
    }

    /// The bits of granules in a word.
    #[inline]
    pub(super) const fn dirty_bits(granules: u32) -> u64 {
        (granules as u64) << DIRTY_SHIFT
    }

    /// The word of a block that was just described.
    pub(crate) const fn new(state: BlockState, node: NodeId, placement: Placement) -> Self {
        let (poisoned, taken, described, whole, dirty) = (false, false, true, false, 0);
        Self { state, node, placement, poisoned, taken, described, whole, dirty }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_word_survives_its_encoding() {
        let online = ZoneKind::ALL.map(BlockState::Online);
        for state in online.into_iter().chain([BlockState::Offline]) {
            for placement in Placement::ALL {
                for node in [0, 1, 127].map(|raw| NodeId::new(raw).unwrap()) {
                    for flag in 0..5 {
                        let word = BlockWord {
                            poisoned: flag == 1,
                            taken: flag == 2,
                            described: flag == 3,
                            whole: flag == 4,
                            dirty: 0x8000_0001 << flag,
                            ..BlockWord::new(state, node, placement)
                        };
                        assert_eq!(BlockWord::decode(word.encode()), Some(word));
                        let offline = state == BlockState::Offline;
                        assert_eq!(BlockWord::is_offline(word.encode()), offline);
                        assert_eq!(BlockWord::is_poisoned(word.encode()), word.poisoned);
                    }
                }
            }
        }
    }
    #[test]
    fn a_word_that_is_never_encoded_is_not_decoded_or_not_sealed() {
        let word = BlockWord::new(BlockState::Offline, NodeId::ZERO, Placement::PerRange).encode();
        for bit in 0..u64::BITS {
            let other = word ^ 1 << bit;
            assert!(BlockWord::is_sealed(word) && !BlockWord::is_sealed(other), "bit {bit}");
        }
        for granules in [0, 1, 1 << 31, u32::MAX] {
            let soiled = BlockWord::soiled(word, granules);
            assert!(BlockWord::is_sealed(soiled));
            assert_eq!(BlockWord::decode(soiled).map(|word| word.dirty), Some(granules));
        }
        for garbage in [0, 5, 0xff, 3 << PLACEMENT_SHIFT | 1, 0x80 << NODE_SHIFT | 1, u64::MAX] {
            assert_eq!(BlockWord::decode(garbage), None, "{garbage:#x}");
        }
    }
}
