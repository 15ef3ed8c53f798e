//! The content of a page, as words that several CPUs may access.

// UNSAFETY: makes references to page contents.
#![expect(unsafe_code)]

use core::sync::atomic::{AtomicU64, Ordering};
use hotmem::{Machine, Mm, Pfn};

/// 2^64 divided by the golden ratio: multiplying by it spreads close numbers far apart.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// The words of a page.
///
/// # Safety
///
/// The caller's owner holds the page for as long as it uses the result, and accesses the content only through this
/// function.
pub(super) unsafe fn words<M: Machine>(mm: &Mm<M>, pfn: Pfn) -> &[AtomicU64] {
    let first = mm.machine().pointer(M::address(pfn)).cast::<AtomicU64>();
    let count = M::PAGE_BYTES as usize / size_of::<AtomicU64>();
    // SAFETY: the machine guarantees the pointer up to the end of the frame, which the caller holds; it is aligned,
    // as frames are; any bits are an `AtomicU64`, and no code accesses the words in another way.
    unsafe { core::slice::from_raw_parts(first.as_ptr(), count) }
}

/// Copies a page.
///
/// # Safety
///
/// The caller's owner holds both pages, and no other code accesses either of them meanwhile.
pub(super) unsafe fn copy<M: Machine>(mm: &Mm<M>, from: Pfn, to: Pfn) {
    // SAFETY: pages that are held are mapped RAM; the rest by the contract of this function.
    unsafe { mm.machine().copy(M::address(from), M::address(to), M::PAGE_BYTES as usize) };
}

/// Fills a page with zeros.
pub(super) fn clear(words: &[AtomicU64]) {
    words.iter().for_each(|word| word.store(0, Ordering::Relaxed));
}

/// The word at `index` of the page that `key` names: hardly any other word of any page is the same.
fn pattern(key: u64, index: usize) -> u64 {
    let mixed = key.wrapping_mul(SPREAD).wrapping_add(index as u64).wrapping_mul(SPREAD);
    mixed ^ mixed >> 29
}

/// Fills a page with the pattern of `key`.
pub(super) fn fill(words: &[AtomicU64], key: u64) {
    for (index, word) in words.iter().enumerate() {
        word.store(pattern(key, index), Ordering::Relaxed);
    }
}

/// The first word that differs from the pattern of `key`: its number, and its value.
pub(super) fn find_damage(words: &[AtomicU64], key: u64) -> Option<(usize, u64)> {
    let read = words.iter().map(|word| word.load(Ordering::Relaxed)).enumerate();
    read.into_iter().find(|&(index, word)| word != pattern(key, index))
}

/// A checksum of a page: it depends on each bit and its position.
pub(super) fn checksum(words: &[AtomicU64]) -> u64 {
    words.iter().fold(SPREAD, |sum, word| {
        let mixed = (sum ^ word.load(Ordering::Relaxed)).wrapping_mul(SPREAD);
        mixed ^ mixed >> 32
    })
}

/// The byte at `at`; 0 past the end.
pub(super) fn byte(words: &[AtomicU64], at: usize) -> u8 {
    let word = words.get(at / 8).map_or(0, |word| word.load(Ordering::Relaxed));
    word.to_le_bytes().get(at % 8).copied().unwrap_or_default()
}

/// Stores a byte at `at`; does nothing past the end.
pub(super) fn set_byte(words: &[AtomicU64], at: usize, byte: u8) {
    let Some(word) = words.get(at / 8) else { return };
    let mut bytes = word.load(Ordering::Relaxed).to_le_bytes();
    if let Some(slot) = bytes.get_mut(at % 8) {
        *slot = byte;
    }
    word.store(u64::from_le_bytes(bytes), Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> Vec<AtomicU64> {
        (0..512).map(|_| AtomicU64::new(0)).collect()
    }

    #[test]
    fn a_pattern_differs_from_any_other_and_from_one_with_a_changed_bit() {
        let page = page();
        fill(&page, 7);
        assert_eq!(find_damage(&page, 7), None);
        assert_eq!(find_damage(&page, 8).map(|(index, _)| index), Some(0));
        page[300].fetch_xor(1 << 40, Ordering::Relaxed);
        assert_eq!(find_damage(&page, 7).map(|(index, _)| index), Some(300));
    }

    #[test]
    fn a_checksum_changes_with_swapped_words_and_single_bits() {
        let page = page();
        fill(&page, 1);
        let sum = checksum(&page);
        let (first, last) = (page[0].load(Ordering::Relaxed), page[511].load(Ordering::Relaxed));
        page[0].store(last, Ordering::Relaxed);
        page[511].store(first, Ordering::Relaxed);
        assert_ne!(checksum(&page), sum);
        fill(&page, 1);
        assert_eq!(checksum(&page), sum);
        page[9].fetch_xor(1, Ordering::Relaxed);
        assert_ne!(checksum(&page), sum);
    }

    #[test]
    fn bytes_are_read_back_where_they_were_stored() {
        let page = page();
        for at in [0, 7, 8, 4095] {
            set_byte(&page, at, at as u8 | 1);
            assert_eq!(byte(&page, at), at as u8 | 1);
        }
        set_byte(&page, 4096, 1);
        assert_eq!((byte(&page, 4096), byte(&page, 1)), (0, 0));
    }
}
