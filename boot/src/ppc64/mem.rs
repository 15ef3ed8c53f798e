//! Copying, filling and comparing memory, for the functions that the compiler calls by their C names.
//!
//! The target is one of Linux's, so that its prebuilt `core` expects them of a C library. Accesses are
//! volatile: a loop that copies, in a function named `memcpy`, would else be made a call of itself.
//! Eight bytes go at a time where both sides are equally aligned.

// UNSAFETY: raw memory is what it is about.
#![expect(unsafe_code)]

use core::mem::MaybeUninit;

const WORD: usize = size_of::<u64>();

/// Copies the `T` at `offset`, whatever it holds.
///
/// # Safety
///
/// It can be read and written there, and is aligned on both sides.
#[inline(always)]
unsafe fn copy_one<T>(to: *mut u8, from: *const u8, offset: usize) {
    let from = from.wrapping_add(offset).cast::<MaybeUninit<T>>();
    // SAFETY: by the contract of this function.
    let value = unsafe { from.read_volatile() };
    let to = to.wrapping_add(offset).cast::<MaybeUninit<T>>();
    // SAFETY: as above.
    unsafe { to.write_volatile(value) };
}

/// Where whole words begin and end of `len` bytes at both addresses; at the end if they never do.
fn words(to: usize, from: usize, len: usize) -> (usize, usize) {
    if to % WORD != from % WORD {
        return (len, len);
    }
    let head = (to.wrapping_neg() % WORD).min(len);
    (head, head + (len - head) / WORD * WORD)
}

/// Copies `len` bytes, the first ones first.
///
/// # Safety
///
/// `from` can be read and `to` written for `len` bytes. `to` does not lie inside of what is read.
pub unsafe fn copy_up(to: *mut u8, from: *const u8, len: usize) {
    let (head, end) = words(to.addr(), from.addr(), len);
    for at in 0..head {
        // SAFETY: inside of `len` bytes; a byte is aligned.
        unsafe { copy_one::<u8>(to, from, at) };
    }
    for at in (head..end).step_by(WORD) {
        // SAFETY: a word inside of `len` bytes, and both sides are aligned from `head` on.
        unsafe { copy_one::<u64>(to, from, at) };
    }
    for at in end..len {
        // SAFETY: inside of `len` bytes; a byte is aligned.
        unsafe { copy_one::<u8>(to, from, at) };
    }
}

/// Copies `len` bytes, the last ones first.
///
/// # Safety
///
/// `from` can be read and `to` written for `len` bytes. `from` does not lie inside of what is written,
/// unless both are the same.
pub unsafe fn copy_down(to: *mut u8, from: *const u8, len: usize) {
    let (head, end) = words(to.addr(), from.addr(), len);
    for at in (end..len).rev() {
        // SAFETY: inside of `len` bytes; a byte is aligned.
        unsafe { copy_one::<u8>(to, from, at) };
    }
    for at in (head..end).step_by(WORD).rev() {
        // SAFETY: a word inside of `len` bytes, and both sides are aligned from `head` on.
        unsafe { copy_one::<u64>(to, from, at) };
    }
    for at in (0..head).rev() {
        // SAFETY: inside of `len` bytes; a byte is aligned.
        unsafe { copy_one::<u8>(to, from, at) };
    }
}

/// Copies `len` bytes between ranges that may overlap.
///
/// # Safety
///
/// `from` can be read and `to` written for `len` bytes.
pub unsafe fn copy(to: *mut u8, from: *const u8, len: usize) {
    if to.addr().wrapping_sub(from.addr()) < len {
        // SAFETY: `to` is at `from` or behind it, so `from` is not behind the start of what is written.
        unsafe { copy_down(to, from, len) }
    } else {
        // SAFETY: `to` is before `from`, or behind all that is read.
        unsafe { copy_up(to, from, len) }
    }
}

/// Makes `len` bytes `byte`.
///
/// # Safety
///
/// `to` can be written for `len` bytes.
pub unsafe fn fill(to: *mut u8, byte: u8, len: usize) {
    let (head, end) = words(to.addr(), to.addr(), len);
    for at in (0..head).chain(end..len) {
        // SAFETY: inside of `len` bytes.
        unsafe { to.wrapping_add(at).write_volatile(byte) };
    }
    let word = u64::from_ne_bytes([byte; WORD]);
    for at in (head..end).step_by(WORD) {
        // SAFETY: a word inside of `len` bytes, aligned from `head` on.
        unsafe { to.wrapping_add(at).cast::<u64>().write_volatile(word) };
    }
}

/// The difference of the first bytes that differ, as `memcmp` returns it; 0 if all are equal.
///
/// # Safety
///
/// Both can be read for `len` bytes.
pub unsafe fn compare(left: *const u8, right: *const u8, len: usize) -> i32 {
    for at in 0..len {
        // SAFETY: inside of `len` bytes.
        let left = unsafe { left.wrapping_add(at).read_volatile() };
        // SAFETY: as above.
        let right = unsafe { right.wrapping_add(at).read_volatile() };
        if left != right {
            return i32::from(left) - i32::from(right);
        }
    }
    0
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::vec::Vec;

    const BYTES: usize = 64;

    fn numbered() -> [u8; BYTES] {
        core::array::from_fn(|at| at as u8 + 1)
    }

    /// Every length up to four words, from and to every alignment.
    fn cases() -> impl Iterator<Item = (usize, usize, usize)> {
        (0..=32)
            .flat_map(|len| (0..32).flat_map(move |to| (0..32).map(move |from| (to, from, len))))
    }

    #[test]
    fn ranges_that_overlap_are_copied_as_if_by_way_of_others() {
        for (to, from, len) in cases() {
            let (mut memory, mut expected) = (numbered(), numbered());
            expected.copy_within(from..from + len, to);
            let base = memory.as_mut_ptr();
            // SAFETY: 31 + 32 is less than the array has.
            unsafe { copy(base.wrapping_add(to), base.wrapping_add(from), len) };
            assert_eq!(memory, expected, "{len} bytes from {from} to {to}");
        }
    }

    #[test]
    fn either_direction_copies_the_bytes_and_no_others() {
        for copy in [copy_up, copy_down] {
            for (to, from, len) in cases() {
                let (source, mut memory, mut expected) = (numbered(), [0; BYTES], [0; BYTES]);
                expected[to..to + len].copy_from_slice(&source[from..from + len]);
                let (at, source) = (memory.as_mut_ptr(), source.as_ptr());
                // SAFETY: 31 + 32 is less than each array has.
                unsafe { copy(at.wrapping_add(to), source.wrapping_add(from), len) };
                assert_eq!(memory, expected, "{len} bytes from {from} to {to}");
            }
        }
    }

    #[test]
    fn a_fill_reaches_its_bytes_and_no_others() {
        for (to, _, len) in cases() {
            let (mut memory, mut expected) = (numbered(), numbered());
            expected[to..to + len].fill(0xa5);
            // SAFETY: 31 + 32 is less than the array has.
            unsafe { fill(memory.as_mut_ptr().wrapping_add(to), 0xa5, len) };
            assert_eq!(memory, expected, "{len} bytes at {to}");
        }
    }

    #[test]
    fn the_first_difference_decides_as_bytes_without_sign() {
        let base: Vec<u8> = numbered().to_vec();
        for at in 0..BYTES {
            let mut other = base.clone();
            other[at] = 0xff;
            let compare = |len| {
                // SAFETY: both have 64 bytes.
                unsafe { compare(base.as_ptr(), other.as_ptr(), len) }
            };
            assert_eq!(compare(at), 0);
            assert_eq!(compare(BYTES), at as i32 + 1 - 0xff);
        }
    }
}
