//! The names by which the kernel knows how it was started.

pub use crate::ppc64::layout::{EARLY_LIMIT, KERNEL_BASE, LINEAR_BASE};
