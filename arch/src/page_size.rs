//! The page size that an image is built for, on an architecture with several.
//!
//! One of the features `page-4k`, `page-16k` and `page-64k` chooses it. A feature, not a variable of the environment, so
//! that builds for different sizes share what does not depend on the size.

/// Log2 of the page size that was chosen, or `default`.
pub(crate) const fn page_shift(default: u32) -> u32 {
    match CHOSEN {
        [true, false, false] => 12,
        [false, true, false] => 14,
        [false, false, true] => 16,
        _ => default,
    }
}

const CHOSEN: [bool; 3] =
    [cfg!(feature = "page-4k"), cfg!(feature = "page-16k"), cfg!(feature = "page-64k")];

// Documentation has all features; an image has one page size.
#[cfg(bare)]
const _: () = assert!(
    CHOSEN[0] as u8 + CHOSEN[1] as u8 + CHOSEN[2] as u8 <= 1,
    "choose one of the features page-4k, page-16k and page-64k",
);
