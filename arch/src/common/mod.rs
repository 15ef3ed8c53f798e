//! What several architectures share.

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "powerpc64"))]
pub mod probe;
#[cfg(test)]
pub(crate) mod pte_rig;
pub(crate) mod trap;
