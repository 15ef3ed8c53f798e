//! Page tables: what an entry is, what a format must tell, and the one walker over them.
//!
//! ```text
//!            PteFormat (pure bits)          PhysMem (frame -> pointer)     Tlb (publish, flush)
//!                  \                               |                          /
//!                   +---------------- Tables: one loop over levels ---------+
//!                                                  |
//!                                               Mapper   <- what the verbs use; a kernel with page
//!                                                           tables of its own implements this alone
//! ```

mod entry;

pub use entry::{Attr, Entry, Level, PteFormat};
