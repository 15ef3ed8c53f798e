//! hotmem: memory hotplug for bare-metal kernels.
#![no_std]

pub mod addr;
pub mod geometry;
pub mod machine;
pub mod page;
pub mod paging;
