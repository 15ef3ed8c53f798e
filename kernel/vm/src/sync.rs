//! The atomics of code that is checked under every interleaving: loom's models (`kernel/vm/tests/loom.rs`) include that
//! file with loom's atomics instead.

pub(crate) use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
