//! The kernel's own part of a descriptor.

use crate::memmap::page::{PAYLOAD_WORDS, Page};
use core::mem::{align_of, needs_drop, size_of};
use core::ptr::NonNull;

/// Bytes of a descriptor that are the kernel's, and their alignment.
pub const META_BYTES: usize = 32;

/// Their first payload word: they are the last four, so that they begin in the middle of the descriptor.
const META: usize = PAYLOAD_WORDS - META_BYTES / size_of::<u64>();

/// The kernel's own metadata in the descriptor of a page that it allocated: a reference count, flags, a reverse map.
/// It lies in the descriptor, so that of hot-added memory may lie in that memory.
///
/// At most [`META_BYTES`] large and aligned to no more, without a `Drop`: this is checked where a [`Mm`](crate::Mm)
/// with this type is created. `()` takes no room.
pub trait Meta: Sync + 'static {
    /// The initial value when a page is allocated.
    const NEW: Self;

    /// The initial value of the page that receives the content of this one in a migration.
    #[must_use]
    fn moved(&self) -> Self;
}

impl Meta for () {
    const NEW: Self = ();

    fn moved(&self) {}
}

/// Fails the build if a kernel's metadata does not fit a descriptor. So does [`Mm::new`](crate::Mm::new).
///
/// ```
/// # use hotmem::{Meta, check_meta};
/// # use core::sync::atomic::AtomicU64;
/// struct Counts([AtomicU64; 4]);
///
/// impl Meta for Counts {
///     const NEW: Self = Self([const { AtomicU64::new(0) }; 4]);
///     fn moved(&self) -> Self { Self::NEW }
/// }
///
/// const _: () = check_meta::<Counts>();
/// ```
///
/// ```compile_fail,E0080
/// # use hotmem::{Meta, check_meta};
/// # use core::sync::atomic::AtomicU64;
/// struct Counts([AtomicU64; 5]);
///
/// impl Meta for Counts {
///     const NEW: Self = Self([const { AtomicU64::new(0) }; 5]);
///     fn moved(&self) -> Self { Self::NEW }
/// }
///
/// const _: () = check_meta::<Counts>();
/// ```
///
/// # Panics
///
/// In a constant: the build fails.
pub const fn check_meta<T: Meta>() {
    assert!(size_of::<T>() <= META_BYTES, "Machine::Meta is larger than META_BYTES");
    assert!(align_of::<T>() <= META_BYTES, "Machine::Meta is aligned to more than META_BYTES");
    assert!(!needs_drop::<T>(), "Machine::Meta has a Drop, which would never be called");
}

impl Page {
    /// The kernel's part: [`META_BYTES`], aligned to that.
    pub(crate) fn meta(&self) -> NonNull<[u8; META_BYTES]> {
        NonNull::from(&self.payload()[META..]).cast()
    }
}
