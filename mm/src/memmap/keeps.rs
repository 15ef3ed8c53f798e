//! What a guard promises of the memmap.

// UNSAFETY: declares that promise.
#![expect(unsafe_code)]

/// A guard that keeps sections where they are.
///
/// # Safety
///
/// While such a value is borrowed, no section that the section map shows as present or online is unmapped, nor is its
/// memmap: the value is a read guard, an operation, a look, the turn, or the lock of a zone, which speaks for the extents
/// on its lists, with what describes their blocks, and for no others.
pub(crate) unsafe trait Keeps {}
