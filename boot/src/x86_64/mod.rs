//! x86_64: the entry from 32-bit protected mode, with a PVH start info (bare metal only).

#[cfg(all(bare, target_arch = "x86_64"))]
mod entry;
pub mod layout;
