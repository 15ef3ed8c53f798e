//! Pages given out and taken back: zones over a memmap.
//!
//! ```text
//!   zone, node, span   free lists of a zone, the zones of a node, the blocks they span
//!   buddy              free lists: split, merge
//!   request, pages     what users ask for, and get: owned pages, and pages in a mover's name
//!   meta               the kernel's own data of the pages that it allocates
//!   owners             who registers: owners of pages that move, and names
//!   isolate, evacuate, migrate, compact, poison   pages moved, and kept out of use
//!   frames, packed     frames of page tables: the reserve, and tables that share a page
//!   populate           memmaps mapped and unmapped, with those frames
//! ```

pub(crate) mod buddy;
pub(crate) mod compact;
pub(crate) mod evacuate;
pub(crate) mod frames;
pub(crate) mod isolate;
pub(crate) mod meta;
pub(crate) mod migrate;
pub(crate) mod node;
pub(crate) mod owners;
pub(crate) mod packed;
pub(crate) mod pages;
pub(crate) mod poison;
pub(crate) mod populate;
pub(crate) mod request;
pub(crate) mod span;
pub(crate) mod zone;
