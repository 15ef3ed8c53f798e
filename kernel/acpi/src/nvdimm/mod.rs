//! Persistent memory: NVDIMMs, where their memory is, and what their labels say of it.
//!
//! ```text
//! _FIT or NFIT --> ranges of addresses ------> regions: what is sound, each with its parts
//!              \-> parts of NVDIMMs ---------/    |
//! ACPI0012 --> device of an NVDIMM: _LSI, _LSR or _DSM --> label storage area --> is there a namespace?
//!                      without labels: samples of the memory itself --> is there anything?
//! ```
//!
//! ACPI 6.5, 5.2.25 and 9.20; UEFI 2.10, 13.19 (the format of labels).

mod blank;
mod error;
mod known;
mod label;
mod limits;
mod nfit;
mod pmem;
mod regions;
mod storage;

pub use error::{LabelError, RegionError};
pub use label::{Area, Contents, contents};
pub use limits::{MOST_PARTS, MOST_REGIONS};
pub use nfit::{Bounds, Nfit};
pub use regions::{Part, Region, Regions};

pub(super) use known::Pmem;
