//! The atomics of code that is checked under every interleaving: loom's models include those files with loom's
//! atomics instead.

pub(crate) use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};
