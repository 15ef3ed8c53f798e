//! What several architectures share.

pub mod probe;
#[cfg(test)]
pub(crate) mod pte_rig;
pub(crate) mod tlb;
pub(crate) mod trap;
