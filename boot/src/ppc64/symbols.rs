//! What compiled code refers to by name and a C library or an unwinder would have.
//!
//! Compilers come with a `core` for this target that expects them. One that is built from source brings
//! weak ones of its own, which these replace.

// UNSAFETY: symbols that compiled code calls.
#![expect(unsafe_code)]

use super::mem;

/// # Safety
///
/// C11, 7.24.2.1.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    // SAFETY: by the contract the ranges can be used and do not overlap.
    unsafe { mem::copy_up(to, from, len) };
    to
}

/// # Safety
///
/// C11, 7.24.2.2.
#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    // SAFETY: by the contract the ranges can be used.
    unsafe { mem::copy(to, from, len) };
    to
}

/// # Safety
///
/// C11, 7.24.6.1.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, len: usize) -> *mut u8 {
    // SAFETY: by the contract the range can be written.
    unsafe { mem::fill(to, byte as u8, len) };
    to
}

/// # Safety
///
/// C11, 7.24.4.1.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(left: *const u8, right: *const u8, len: usize) -> i32 {
    // SAFETY: by the contract both can be read.
    unsafe { mem::compare(left, right, len) }
}

/// # Safety
///
/// As `memcmp`. Of the result only whether it is zero matters.
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(left: *const u8, right: *const u8, len: usize) -> i32 {
    // SAFETY: by the contract both can be read.
    unsafe { mem::compare(left, right, len) }
}

/// Named by tables for unwinding, which a `core` built for unwinding panics has. The kernel does not unwind,
/// and the tables are left out of the image.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}
