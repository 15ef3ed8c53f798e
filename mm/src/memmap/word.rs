//! The number of a memory block, and the word that its record keeps.

use crate::memmap::home::{MAX_NODES, NodeId, ZoneKind};
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

// The word's fields:
//
//   bit   63 . . . . 32   31 . . . . . 16   15 . . . . 9   8 . . . . . . . . . . . . . 5   4 . . . . 3   2 . . . 0
//           granules            seal            node       whole described taken poisoned    placement     state
const STATE: u64 = 0x7;
const PLACEMENT_SHIFT: u32 = 3;
const PLACEMENT: u64 = 0x3;
const POISONED_BIT: u64 = 1 << 5;
const TAKEN_BIT: u64 = 1 << 6;
const DESCRIBED_BIT: u64 = 1 << 7;
const WHOLE_BIT: u64 = 1 << 8;
const NODE_SHIFT: u32 = 9;
const NODE: u64 = MAX_NODES as u64 - 1;
/// Bits that seal the word: the upper 16 of the product of the rest, with the low 16 bits of the number of the section
/// whose record has it in their place, and an odd constant without long runs of a bit, so that each bit changes them.
/// Words of sections that are 65,536 apart may have the same ones.
const SEAL_SHIFT: u32 = 16;
const SEAL: u64 = 0xffff << SEAL_SHIFT;
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
const DIRTY_SHIFT: u32 = 32;

const _: () = assert!(MAX_NODES.is_power_of_two() && NODE << NODE_SHIFT < 1 << SEAL_SHIFT);

/// The word with the seal that it has in the record of section `number`.
#[inline]
const fn sealed(word: u64, number: u64) -> u64 {
    let word = word & !SEAL;
    let product = (word | ((number << SEAL_SHIFT) & SEAL)).wrapping_mul(FACTOR);
    word | ((product >> (48 - SEAL_SHIFT)) & SEAL)
}

/// The word with a seal that is wrong in the record of section `number`.
const fn unsealed(word: u64, number: u64) -> u64 {
    sealed(word, number) ^ (1 << SEAL_SHIFT)
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

    /// The word of a block, in the record of section `number`.
    #[inline]
    pub(crate) fn encode(self, number: u64) -> u64 {
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
        sealed(state | node | (self.placement as u64) << PLACEMENT_SHIFT | rest, number)
    }

    /// Whether a word of section `number` has its seal. A damaged word, or that of another section, almost never has.
    const fn is_sealed(word: u64, number: u64) -> bool {
        sealed(word, number) == word
    }

    /// A word of section `from` in the record of section `to`. A damaged one stays so.
    pub(super) const fn moved(word: u64, from: u64, to: u64) -> u64 {
        if Self::is_sealed(word, from) { sealed(word, to) } else { unsealed(word, to) }
    }

    /// As [`decode`](Self::decode); `None` also without the seal that the word has in the record of section `number`.
    pub(crate) fn decode_sealed(word: u64, number: u64) -> Option<Self> {
        if !Self::is_sealed(word, number) {
            return None;
        }
        Self::decode(word)
    }

    /// `None` if no block has this word, whatever its seal: three in eight words of garbage could be a block's.
    #[inline]
    pub(crate) fn decode(word: u64) -> Option<Self> {
        let state = match word & STATE {
            1 => BlockState::Offline,
            2 => BlockState::Online(ZoneKind::System),
            3 => BlockState::Online(ZoneKind::Normal),
            4 => BlockState::Online(ZoneKind::Movable),
            _ => return None,
        };
        let node = NodeId::new((word >> NODE_SHIFT & NODE) as u32)?;
        let placement = Placement::decode(word >> PLACEMENT_SHIFT & PLACEMENT)?;
        let (poisoned, taken) = (word & POISONED_BIT != 0, word & TAKEN_BIT != 0);
        let (described, whole) = (word & DESCRIBED_BIT != 0, word & WHOLE_BIT != 0);
        let dirty = (word >> DIRTY_SHIFT) as u32;
        Some(Self { state, node, placement, poisoned, taken, described, whole, dirty })
    }

    /// Whether a word is that of a block that was added at once, if it is valid.
    pub(super) const fn is_whole(word: u64) -> bool {
        word & WHOLE_BIT != 0
    }

    /// A word of section `number` with `granules` marked, too. A damaged one stays so.
    pub(super) const fn soiled(word: u64, granules: u32, number: u64) -> u64 {
        let soiled = word | Self::dirty_bits(granules);
        if Self::is_sealed(word, number) {
            sealed(soiled, number)
        } else {
            unsealed(soiled, number)
        }
    }

    /// Whether a word is that of an offline block, if it is valid.
    pub(super) const fn is_offline(word: u64) -> bool {
        word & STATE == 1
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
                        let (offline, encoded) = (state == BlockState::Offline, word.encode(9));
                        assert_eq!(BlockWord::decode_sealed(encoded, 9), Some(word));
                        assert_eq!(BlockWord::is_offline(encoded), offline);
                        assert_eq!(BlockWord::is_poisoned(encoded), word.poisoned);
                    }
                }
            }
        }
    }

    #[test]
    fn a_word_that_is_never_encoded_is_not_decoded_or_not_sealed() {
        let block = BlockWord::new(BlockState::Offline, NodeId::ZERO, Placement::PerRange);
        let word = block.encode(32);
        for bit in 0..u64::BITS {
            let other = word ^ 1 << bit;
            assert!(
                BlockWord::is_sealed(word, 32) && !BlockWord::is_sealed(other, 32),
                "bit {bit}"
            );
        }
        let used = BlockWord { dirty: u32::MAX, ..block }.encode(32);
        for lost in [0xffff, 0xffff << 16, u32::MAX] {
            assert!(!BlockWord::is_sealed(used & !BlockWord::dirty_bits(lost), 32), "{lost:#x}");
        }
        for granules in [0, 1, 1 << 31, u32::MAX] {
            let soiled = BlockWord::soiled(word, granules, 32);
            assert!(BlockWord::is_sealed(soiled, 32));
            assert_eq!(BlockWord::decode_sealed(soiled, 32).map(|word| word.dirty), Some(granules));
        }
        for garbage in [0, 5, 0xff, 3 << PLACEMENT_SHIFT | 1, 0xaaaa_aaaa_aaaa_aaaa, u64::MAX] {
            assert_eq!(BlockWord::decode_sealed(garbage, 32), None, "{garbage:#x}");
            let soiled = BlockWord::soiled(garbage, u32::MAX, 32);
            assert_eq!(BlockWord::decode_sealed(soiled, 32), None, "{garbage:#x}, marked");
        }
        for invalid in [0, 5, 0x7, 3 << PLACEMENT_SHIFT | 1] {
            assert_eq!(BlockWord::decode_sealed(sealed(invalid, 32), 32), None, "{invalid:#x}");
        }
    }

    #[test]
    fn a_word_of_another_section_is_not_sealed_until_it_moves_there() {
        let block = BlockWord::new(BlockState::Offline, NodeId::ZERO, Placement::PerBlock);
        let block = BlockWord { dirty: 0x8001_0000, ..block };
        for (from, to) in [(0, 1), (32, 64), (5, 65_534), (1 << 20, (1 << 20) + 40_000)] {
            let word = block.encode(from);
            assert!(BlockWord::is_sealed(word, from) && !BlockWord::is_sealed(word, to));
            assert_eq!(BlockWord::moved(word, from, to), block.encode(to));
            for granule in 0..u32::BITS {
                let damaged = word ^ 1 << (DIRTY_SHIFT + granule);
                assert!(!BlockWord::is_sealed(BlockWord::moved(damaged, from, to), to));
            }
        }
    }
}
