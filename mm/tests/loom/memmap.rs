//! The memmap's wing: only its sections, records and readers.

#[path = "../../src/memmap/home.rs"]
pub(crate) mod home;
#[path = "../../src/memmap/page.rs"]
pub(crate) mod page;
#[path = "../../src/memmap/placement.rs"]
pub(crate) mod placement;
#[path = "../../src/memmap/readers.rs"]
pub(crate) mod readers;
#[path = "../../src/memmap/record.rs"]
pub(crate) mod record;
#[path = "../../src/memmap/section.rs"]
pub(crate) mod section;
#[path = "../../src/memmap/seen.rs"]
pub(crate) mod seen;
#[path = "../../src/memmap/word.rs"]
pub(crate) mod word;

use readers::Readers;
use section::SectionMap;

/// Like the manager's, without the state that boot sets.
pub(crate) struct Memmap<M> {
    pub(crate) machine: M,
    pub(crate) sections: SectionMap,
    pub(crate) readers: Readers,
}
