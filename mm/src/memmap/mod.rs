//! What a page descriptor is, where it lies, and who may look.
//!
//! ```text
//!   page       the 64 bytes of a descriptor, encoded and decoded in one place
//!   meta       the kernel's own part of a descriptor
//!   section    the sparse section map; a section's word and its record
//!   block      memory blocks: state, placement, head; word: what a record keeps of one
//!   home       the node and the zone that memory belongs to
//!   extent     heads and tails of runs of pages, initialised part by part
//!   placement  where the memmap of added memory goes
//!   vmemmap    the memmap's translations; altmap: the frames that a range keeps for its own memmap
//!   readers    who looks without a lock, so that a removal can wait
//! ```

pub(crate) mod altmap;
pub(crate) mod block;
pub(crate) mod extent;
pub(crate) mod home;
pub(crate) mod meta;
pub(crate) mod page;
pub(crate) mod placement;
pub(crate) mod readers;
pub(crate) mod section;
pub(crate) mod vmemmap;
pub(crate) mod word;
