//! How much of the stack was ever in use.

use core::sync::atomic::{AtomicU64, Ordering};

unsafe extern "C" {
    static stack_bottom: u64;
    static stack_top: u64;
}

/// The words of the stack: zeroes, until something was stored there.
fn words() -> &'static [AtomicU64] {
    let (bottom, top) = (&raw const stack_bottom, &raw const stack_top);
    let words = (top as usize - bottom as usize) / size_of::<u64>();
    // SAFETY: the boot code has its stack there. Other words change at any time, as atomics may.
    unsafe { core::slice::from_raw_parts(bottom.cast(), words) }
}

/// The most bytes that were ever in use.
pub fn used() -> usize {
    let unused = words().iter().take_while(|word| word.load(Ordering::Relaxed) == 0).count();
    (words().len() - unused) * size_of::<u64>()
}

/// Its bytes.
pub fn bytes() -> usize {
    size_of_val(words())
}
