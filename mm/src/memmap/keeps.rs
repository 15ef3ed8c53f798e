//! The guarantee of a guard on the memmap.

// UNSAFETY: declares that guarantee.
#![expect(unsafe_code)]

/// A guard that keeps sections from being unmapped.
///
/// # Safety
///
/// While such a value is borrowed, no section that the section map has as present or online is unmapped, nor is its
/// memmap: the value is a read guard, an operation, a look, the turn, or the lock of a zone, which covers only the
/// extents on its lists, with the descriptors and records of their blocks.
pub(crate) unsafe trait Keeps {}
