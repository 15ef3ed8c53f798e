//! Code that several architectures share.

#[cfg(any(test, target_arch = "x86_64", target_arch = "aarch64", target_arch = "powerpc64"))]
pub(crate) mod cache;
pub mod probe;
#[cfg(test)]
pub(crate) mod pte_rig;
pub(crate) mod tables;
pub(crate) mod trap;
