//! The atomics and the patience of code that is checked under every interleaving: loom's models
//! (`kernel/vm/tests/loom.rs`) include that file with their own instead.

pub(crate) use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Poll limit of a wait for another CPU to leave its guest, which takes microseconds, on a busy host tenths of a second.
/// In the tests of this crate one that is in a guest stays: no thread runs it.
pub(crate) const MAX_TURNS: u64 = if cfg!(test) { 0 } else { 1 << 24 };
