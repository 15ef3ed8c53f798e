//! A machine on Linux: its memory is a file without a name, and its two windows are addresses of this process,
//! where that file is mapped. So the real MMU translates, and an access to memory that was removed is a fault.
//!
//! ```text
//!   memfd          0                     BOOT         DIMM
//!   linear map     LINEAR + physical address            mmap(MAP_SHARED | MAP_FIXED), page by page of it
//!   vmemmap        VMEMMAP + 64 * pfn                    the same file, where the memmap was placed
//! ```
//!
//! The manager runs as in a kernel, at full speed, with locks of any kind: nothing is checked or translated in
//! software. This machine does not find the faults that the fake machine of `hotmem::testing` finds (stale
//! translations, accesses out of order).

mod boot;
mod machine;
mod map;
mod windows;

pub use boot::{Booted, boot, boot_with};
pub use machine::{Hosted, on_cpu};
pub use map::ProcessMap;
