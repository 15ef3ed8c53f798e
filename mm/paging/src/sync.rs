//! The atomics of what is checked under every interleaving: loom includes those files with its own in their place.

pub(crate) use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};
