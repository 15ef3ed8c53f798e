//! The lab: lets people and tests operate a kernel. A product image leaves it out.
//!
//! ```text
//!   console --> monitor ---> hotplug driver, memory manager
//!                  |-------> movers: a page pool and a page cache, whose pages move
//!                  |-------> bench: the cost of an allocation
//!                  \-------> fault: a step of an operation that fails on purpose
//! ```

#![cfg_attr(not(any(test, feature = "testing")), no_std)]

extern crate alloc;

pub mod bench;
pub mod fault;
pub mod monitor;
pub mod movers;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
