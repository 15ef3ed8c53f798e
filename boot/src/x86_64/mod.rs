//! x86_64: the PVH hand-off (pure), and the entry from 32-bit protected mode (bare metal only).

#[cfg(all(bare, target_arch = "x86_64"))]
mod entry;
pub mod layout;
pub mod pvh;
