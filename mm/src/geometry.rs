//! Page, section and memory-block sizes of a machine.

use crate::addr::{Pfn, PfnRange, PhysAddr, PhysRange};

/// Bytes of one page descriptor.
pub const DESCRIPTOR_BYTES: u64 = 64;

/// The sizes that a kernel is compiled for.
pub trait Geometry {
    /// Log2 of the base page's bytes.
    const PAGE_SHIFT: u32;
    /// Log2 of a section's bytes: the unit of the sparse section map.
    const SECTION_SHIFT: u32;

    /// Bytes of a page.
    const PAGE_BYTES: u64 = 1 << Self::PAGE_SHIFT;
    /// Bytes of a section.
    const SECTION_BYTES: u64 = 1 << Self::SECTION_SHIFT;
    /// Pages of a section.
    const SECTION_PAGES: u64 = 1 << (Self::SECTION_SHIFT - Self::PAGE_SHIFT);
    /// The order of a section.
    const SECTION_ORDER: u32 = Self::SECTION_SHIFT - Self::PAGE_SHIFT;

    /// The frame that holds `address`.
    fn pfn(address: PhysAddr) -> Pfn {
        Pfn::new(address.get() >> Self::PAGE_SHIFT)
    }

    /// The first byte of `pfn`.
    fn address(pfn: Pfn) -> PhysAddr {
        PhysAddr::new(pfn.get() << Self::PAGE_SHIFT)
    }

    /// The frames of a page-aligned byte range.
    fn pfns(range: PhysRange) -> PfnRange {
        PfnRange::new(Self::pfn(range.start()), range.len() >> Self::PAGE_SHIFT)
    }
}
