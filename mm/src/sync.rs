//! The atomics of what is checked under every interleaving: loom's models (`mm/tests/loom`) include those files with
//! loom's in their place, which no constant holds.

pub(crate) use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// A function that makes atomics: a constant one.
macro_rules! constant {
    ($(#[$attribute:meta])* $visibility:vis fn $($rest:tt)*) => {
        $(#[$attribute])* $visibility const fn $($rest)*
    };
}

/// An array of atomics, or of what holds them.
macro_rules! array {
    ($each:expr; $count:expr) => {
        [const { $each }; $count]
    };
}

pub(crate) use {array, constant};
