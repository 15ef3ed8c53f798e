//! Writes structures of the NFIT, and label storage areas.

use std::vec;
use std::vec::Vec;

use super::super::firmware::put;

/// The kind of a range that is persistent memory, and of one that is not (volatile memory).
pub(super) const PERSISTENT: [u8; 16] =
    *b"\x79\xd3\xf0\x66\xf3\xb4\x74\x40\xac\x43\x0d\x33\x18\xb7\x8c\xdb";
pub(super) const VOLATILE: [u8; 16] =
    *b"\x4f\x50\x30\x73\x37\x7a\xf7\x44\xad\x56\x35\x65\x32\x94\x66\x34";

/// A range.
pub(in crate::tests) fn range(index: u16, base: u64, length: u64) -> Vec<u8> {
    range_of(PERSISTENT, index, base, length)
}

pub(super) fn range_of(kind: [u8; 16], index: u16, base: u64, length: u64) -> Vec<u8> {
    let mut bytes = vec![0; 56];
    put(&mut bytes, 2, 2, 56);
    put(&mut bytes, 4, 2, index.into());
    put(&mut bytes, 6, 2, 3);
    put(&mut bytes, 12, 4, 1);
    bytes[16..32].copy_from_slice(&kind);
    put(&mut bytes, 32, 8, base);
    put(&mut bytes, 40, 8, length);
    bytes
}

/// A part of an NVDIMM, from its first address on.
pub(in crate::tests) fn part(index: u16, handle: u32, length: u64) -> Vec<u8> {
    let mut bytes = vec![0; 48];
    put(&mut bytes, 0, 2, 1);
    put(&mut bytes, 2, 2, 48);
    put(&mut bytes, 4, 4, handle.into());
    put(&mut bytes, 12, 2, index.into());
    put(&mut bytes, 16, 8, length);
    bytes
}

/// The checksum of labels.
pub(super) fn sum(bytes: &[u8]) -> u64 {
    let (mut low, mut high) = (0u32, 0u32);
    for word in bytes.chunks(4) {
        low = low.wrapping_add(u32::from_le_bytes(word.try_into().unwrap()));
        high = high.wrapping_add(low);
    }
    u64::from(high) << 32 | u64::from(low)
}

/// Puts the checksum of bytes among them.
pub(super) fn seal(bytes: &mut [u8], at: usize) {
    put(bytes, at, 8, 0);
    let sum = sum(bytes);
    put(bytes, at, 8, sum);
}

/// An area of 2 KiB: two index blocks of 256 bytes, and six labels of 256 bytes.
pub(super) struct Labels {
    pub(super) bytes: Vec<u8>,
}

pub(super) const BLOCK: usize = 256;
pub(super) const SLOTS: usize = 6;

impl Labels {
    /// With an empty list.
    pub(super) fn new() -> Self {
        let mut labels = Self { bytes: vec![0; 8 * BLOCK] };
        for block in 0..2 {
            let bytes = labels.block(block);
            bytes[..16].copy_from_slice(b"NAMESPACE_INDEX\0");
            bytes[19] = 1;
            for (at, size, value) in [
                (20, 4, 1 + block as u64),
                (24, 8, (block * BLOCK) as u64),
                (32, 8, BLOCK as u64),
                (40, 8, ((1 - block) * BLOCK) as u64),
                (48, 8, 2 * BLOCK as u64),
                (56, 4, SLOTS as u64),
                (60, 2, 1),
                (62, 2, 2),
                (72, 1, (1 << SLOTS) - 1),
            ] {
                put(bytes, at, size, value);
            }
            seal(bytes, 64);
        }
        labels
    }

    /// The bytes of an index block.
    pub(super) fn block(&mut self, block: usize) -> &mut [u8] {
        &mut self.bytes[block * BLOCK..(block + 1) * BLOCK]
    }

    /// The bytes of a label.
    pub(super) fn label(&mut self, slot: usize) -> &mut [u8] {
        &mut self.bytes[(2 + slot) * BLOCK..(3 + slot) * BLOCK]
    }

    /// Changes an index block, which adds up again.
    pub(super) fn change(mut self, block: usize, at: usize, size: usize, value: u64) -> Self {
        put(self.block(block), at, size, value);
        seal(self.block(block), 64);
        self
    }

    /// With a label of a namespace in the list that counts.
    pub(super) fn with(mut self, slot: usize, name: &str, base: u64, length: u64) -> Self {
        let label = self.label(slot);
        label[16..16 + name.len()].copy_from_slice(name.as_bytes());
        for (at, size, value) in [(104, 8, base), (112, 8, length), (120, 4, slot as u64)] {
            put(label, at, size, value);
        }
        seal(label, 248);
        let free = u64::from(self.block(1)[72]) & !(1 << slot);
        self.change(1, 72, 1, free)
    }
}
