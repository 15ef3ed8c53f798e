//! Page tables: what an entry is, what a format must tell, and the one walker over them.
//!
//! ```text
//!            PteFormat (pure bits)          PhysMem (frame -> pointer)     Tlb (publish, flush)
//!                  \                               |                          /
//!                   +---------------- Tables: one loop over levels ---------+
//!                                                  |
//!                                               Mapper   <- what the operations use; a kernel with page
//!                                                           tables of its own implements this alone
//! ```
//!
//! What goes in is an address of any [`Space`]: a kernel's tables take [`VirtAddr`], which is meant where
//! nothing is said, and second-stage tables take [`GuestAddr`]. What comes out is physical.
//!
//! Three rules hold throughout:
//!
//! - mapping only ever fills empty slots, so an entry never changes from one live value to another
//!   (break-before-make, Arm ARM D8.16.1, is respected by construction) and a live leaf is never split;
//! - below the root no table is empty but those that [`TableFrames::keeps`] names: another that loses its
//!   last entry is detached;
//! - memory is free only after clear, then flush, in that order ([`Gather`]).
#![no_std]

pub mod addr;
mod entry;
mod gather;
pub mod geometry;
mod map;
mod mapper;
mod seam;
pub mod shootdown;
mod slots;
mod sync;
mod tables;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
mod unmap;
mod visit;

pub use addr::{Address, AddressRange, Guest, GuestAddr, GuestRange, Space, Virtual};
pub use addr::{Order, Pfn, PfnRange, PhysAddr, PhysRange, VirtAddr, VirtRange};
pub use entry::{Attr, Entry, LeafTest, Level, PteFormat};
pub use gather::Gather;
pub use geometry::{BlockSize, Geometry, GeometryError, Sizes};
pub use mapper::{MapError, Mapper, Mapping, TableAt, Translation, UnmapError};
pub use seam::{
    NotFlushed, OutOfFrames, PhysMem, ReadPhys, TableFrame, TableFrames, Tlb, pointer_to,
};
pub use tables::Tables;
