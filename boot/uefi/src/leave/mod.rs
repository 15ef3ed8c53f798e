//! From UEFI's world to the kernel's entry, as each architecture has it.

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(target_arch = "aarch64")]
pub(crate) use aarch64::Way;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86_64::Way;
