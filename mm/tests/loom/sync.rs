//! Loom's atomics. Loom treats `SeqCst` as `AcqRel`; here such an access is a read-modify-write, which sees the
//! newest value. So all of them have one order, and an access that is not `SeqCst` may still see an old value. But
//! loom lets every read-modify-write see the newest value: it does not find one that should be `SeqCst` and is
//! weaker.

use loom::sync::atomic;
pub(crate) use loom::sync::atomic::{Ordering, fence};

macro_rules! atomic {
    ($name:ident, $word:ty, $nothing:expr) => {
        #[derive(Debug)]
        pub(crate) struct $name(atomic::$name);

        impl Default for $name {
            fn default() -> Self {
                Self::new(Default::default())
            }
        }

        #[allow(dead_code, reason = "each has what one of them needs")]
        impl $name {
            pub(crate) fn new(word: $word) -> Self {
                Self(atomic::$name::new(word))
            }

            pub(crate) fn load(&self, order: Ordering) -> $word {
                match order {
                    Ordering::SeqCst => self.0.fetch_or($nothing, Ordering::Acquire),
                    _ => self.0.load(order),
                }
            }

            pub(crate) fn store(&self, word: $word, order: Ordering) {
                match order {
                    Ordering::SeqCst => _ = self.0.swap(word, Ordering::Release),
                    _ => self.0.store(word, order),
                }
            }

            pub(crate) fn swap(&self, word: $word, order: Ordering) -> $word {
                self.0.swap(word, order)
            }

            pub(crate) fn compare_exchange(
                &self,
                current: $word,
                new: $word,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$word, $word> {
                self.0.compare_exchange(current, new, success, failure)
            }
        }
    };
}

macro_rules! number {
    ($name:ident, $word:ty) => {
        atomic!($name, $word, 0);

        #[allow(dead_code, reason = "each has what one of them needs")]
        impl $name {
            pub(crate) fn fetch_add(&self, more: $word, order: Ordering) -> $word {
                self.0.fetch_add(more, order)
            }

            pub(crate) fn fetch_sub(&self, less: $word, order: Ordering) -> $word {
                self.0.fetch_sub(less, order)
            }

            pub(crate) fn fetch_max(&self, word: $word, order: Ordering) -> $word {
                self.0.fetch_max(word, order)
            }

            pub(crate) fn fetch_or(&self, bits: $word, order: Ordering) -> $word {
                self.0.fetch_or(bits, order)
            }

            pub(crate) fn fetch_and(&self, bits: $word, order: Ordering) -> $word {
                self.0.fetch_and(bits, order)
            }

            pub(crate) fn fetch_update(
                &self,
                set: Ordering,
                fetch: Ordering,
                change: impl FnMut($word) -> Option<$word>,
            ) -> Result<$word, $word> {
                self.0.fetch_update(set, fetch, change)
            }
        }
    };
}

atomic!(AtomicBool, bool, false);
number!(AtomicU64, u64);
number!(AtomicUsize, usize);

/// A function that creates atomics: not a constant one.
macro_rules! constant {
    ($(#[$attribute:meta])* $visibility:vis fn $($rest:tt)*) => {
        $(#[$attribute])* $visibility fn $($rest)*
    };
}

/// An array of atomics, or of types that contain them.
macro_rules! array {
    ($each:expr; $count:expr) => {
        core::array::from_fn::<_, { $count }, _>(|_| $each)
    };
}

pub(crate) use {array, constant};
