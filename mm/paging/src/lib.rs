//! Page tables: entries, formats, and one walker for all of them.
//!
//! ```text
//!            PteFormat (pure bits)          PhysMem (frame -> pointer)     Tlb (publish, flush)
//!                  \                               |                          /
//!                   +---------------- Tables: one loop over levels ---------+
//!                                                  |
//!                                               Mapper   <- used by the operations; a kernel with page
//!                                                           tables of its own implements only this
//! ```
//!
//! The input is an address of any [`Space`]: a kernel's tables take [`VirtAddr`], the default, and second-stage
//! tables take [`GuestAddr`]. The output is a physical address.
//!
//! Three rules hold throughout:
//!
//! - mapping only fills empty slots, so an entry never changes from one live value to another (break-before-make,
//!   Arm ARM D8.16.1, is respected by construction) and a live leaf is never split;
//! - below the root no table is empty except those that [`TableFrames::keeps`] names: any other that loses its last
//!   entry is detached;
//! - memory is free only after clear, then flush, in that order ([`Gather`]).
#![no_std]

pub mod addr;
mod entry;
mod errors;
mod few_pages;
mod fold;
mod gather;
pub mod geometry;
mod map;
mod mapped;
mod mapper;
mod marks;
mod relocate;
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
#[cfg(feature = "x86_64")]
pub mod x86_64;

pub use addr::{Address, AddressRange, Guest, GuestAddr, GuestRange, Space, Virtual};
pub use addr::{Order, Pfn, PfnRange, PhysAddr, PhysRange, VirtAddr, VirtRange};
pub use entry::{Attr, Entry, LeafTest, Level, PteFormat};
pub use few_pages::few_pages;
pub use fold::FoldError;
pub use gather::Gather;
pub use geometry::{BlockSize, Geometry, GeometryError, Sizes};
pub use mapped::MappedBytes;
pub use mapper::{MapError, Mapper, Mapping, StrangeEntry, TableAt, Translation, UnmapError};
pub use relocate::RelocateError;
pub use seam::{
    NoFrames, NotFlushed, OutOfFrames, PhysMem, ReadPhys, TableFrame, TableFrames, TablePlace, Tlb,
    pointer_in, pointer_to,
};
pub use tables::Tables;
