//! The atomics of code that is checked under every interleaving: loom's models (`mm/tests/loom`) include those files
//! with loom's atomics instead, which cannot be created in constants.

pub(crate) use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};

/// A function that makes atomics: a constant one.
macro_rules! constant {
    ($(#[$attribute:meta])* $visibility:vis fn $($rest:tt)*) => {
        $(#[$attribute])* $visibility const fn $($rest)*
    };
}

/// An array of atomics, or of types that contain them.
macro_rules! array {
    ($each:expr; $count:expr) => {
        [const { $each }; $count]
    };
}

pub(crate) use {array, constant};
