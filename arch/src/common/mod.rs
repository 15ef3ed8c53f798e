//! What several architectures share.

#[cfg(not(target_arch = "x86_64"))]
pub mod no_io;
pub(crate) mod trap;
