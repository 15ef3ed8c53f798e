//! The lab: what people and tests drive a kernel by. A product image leaves it out.
//!
//! ```text
//!   console --> monitor ---> hotplug driver, memory manager
//!                  |-------> movers: a page pool and a page cache, whose pages move
//!                  \-------> bench: what an allocation costs
//! ```

#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod bench;
pub mod monitor;
pub mod movers;
