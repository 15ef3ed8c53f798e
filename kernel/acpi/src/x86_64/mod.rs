//! A PC (feature `x86_64`).

#[cfg(target_arch = "x86_64")]
mod pc;
#[cfg(target_arch = "x86_64")]
mod registers;

#[cfg(target_arch = "x86_64")]
pub use pc::PcHardware;
