//! Page, section and memory-block sizes of a machine.

use crate::addr::{Order, Pfn, PfnRange, PhysAddr, PhysRange};

/// Bytes of one page descriptor.
pub const DESCRIPTOR_BYTES: u64 = 64;

/// Bytes of a large page: what one leaf above the last level maps with pages of 4 KiB, and on ppc64 with 64 KiB.
const LARGE_BYTES: u64 = 2 << 20;

/// Subsections of a record: one bit each in its bitmaps.
pub const PARTS_PER_RECORD: u64 = 64;

/// The two sizes that a machine chooses. All others are derived: see [`Geometry`].
pub trait Sizes {
    /// Log2 of the base page's bytes.
    const PAGE_SHIFT: u32;
    /// Log2 of a section's bytes: the unit of the sparse section map.
    const SECTION_SHIFT: u32;
}

/// The sizes that a kernel is compiled for: derived from [`Sizes`], and not overridable.
///
/// ```
/// # use hotmem_paging::{Geometry, Sizes};
/// struct Kernel;
/// impl Sizes for Kernel {
///     const PAGE_SHIFT: u32 = 12;
///     const SECTION_SHIFT: u32 = 27;
/// }
/// assert_eq!(Kernel::PAGE_BYTES, 4096);
/// ```
///
/// ```compile_fail,E0438
/// # use hotmem_paging::{Geometry, Sizes};
/// struct Kernel;
/// impl Sizes for Kernel {
///     const PAGE_SHIFT: u32 = 12;
///     const SECTION_SHIFT: u32 = 27;
///     const PAGE_BYTES: u64 = 8192;
/// }
/// assert_eq!(Kernel::PAGE_BYTES, 4096);
/// ```
pub trait Geometry: Sizes {
    /// Bytes of a page.
    const PAGE_BYTES: u64 = 1 << Self::PAGE_SHIFT;
    /// Bytes of a section.
    const SECTION_BYTES: u64 = 1 << Self::SECTION_SHIFT;
    /// Pages of a section.
    const SECTION_PAGES: u64 = 1 << (Self::SECTION_SHIFT - Self::PAGE_SHIFT);
    /// Pages covered by one record: one section, or, if a section's memmap is under two pages, as many neighbouring
    /// sections as fill two. So the memmap pages of any number of records leave one for the group head.
    const RECORD_PAGES: u64 = {
        let two_pages = 2 * Self::PAGE_BYTES / DESCRIPTOR_BYTES;
        if Self::SECTION_PAGES < two_pages { two_pages } else { Self::SECTION_PAGES }
    };
    /// Sections that share a record.
    const RECORD_SECTIONS: u64 = Self::RECORD_PAGES / Self::SECTION_PAGES;
    /// Pages of a subsection: descriptors are initialised one subsection at a time.
    const PART_PAGES: u64 = Self::RECORD_PAGES / PARTS_PER_RECORD;
    /// The order of a subsection.
    const PART_ORDER: Order = Order::fitting(Self::PART_PAGES);
    /// The order of a large page, 2 MiB: 9 with pages of 4 KiB, 7 with 16 KiB, 5 with 64 KiB.
    const LARGE_ORDER: Order = Order::fitting(LARGE_BYTES >> Self::PAGE_SHIFT);
    /// Pages of the unit of presence: a subsection, or what one page of descriptors describes if that is more. So
    /// memory is added with whole pages of descriptors, and with at least as many of them as it needs records.
    const UNIT_PAGES: u64 = {
        let described = Self::PAGE_BYTES / DESCRIPTOR_BYTES;
        if Self::PART_PAGES < described { described } else { Self::PART_PAGES }
    };

    /// Pages of the descriptors of `pages`, whole units of presence.
    fn memmap_pages(pages: u64) -> u64 {
        pages * DESCRIPTOR_BYTES / Self::PAGE_BYTES
    }

    /// Pages that `memmap_pages` whole pages of descriptors describe.
    fn described_pages(memmap_pages: u64) -> u64 {
        memmap_pages * Self::PAGE_BYTES / DESCRIPTOR_BYTES
    }

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

impl<T: Sizes + ?Sized> Geometry for T {}

/// The size of a memory block, chosen at boot: the unit of online, offline and removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockSize {
    shift: u32,
}

crate::errors! {
    /// The reason why a geometry is invalid.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[non_exhaustive]
    pub enum GeometryError {
        /// A block must be a power of two of whole sections.
        NotWholeSections {
            /// The block's bytes.
            block: u64,
            /// A section's bytes.
            section: u64,
        } => "a memory block of {block:#x} bytes is not a power of two of sections of {section:#x} bytes",
        /// A block has more pages than the largest extent.
        TooLarge {
            /// The block's bytes.
            block: u64,
            /// The largest block's bytes.
            largest: u64,
        } => "a memory block of {block:#x} bytes is larger than {largest:#x} bytes",
        /// A block is too small: its descriptors must fill two whole pages, one for its head and one for its record.
        TooSmall {
            /// The block's bytes.
            block: u64,
            /// The smallest block's bytes.
            smallest: u64,
        } => "a memory block of {block:#x} bytes is smaller than {smallest:#x} bytes, the least that two pages describe",
        /// A section of so many bytes is too small: a subsection must contain two pages, and lie in one section.
        SectionTooSmall(section: u64) => "a section of {section:#x} bytes is too small",
    }
}

impl BlockSize {
    /// The size whose logarithm is `shift`. [`new`](Self::new) checks it against a geometry.
    pub const fn from_shift(shift: u32) -> Self {
        Self { shift }
    }

    /// A block of `bytes`, if this is valid for `G`.
    ///
    /// # Errors
    ///
    /// [`GeometryError`], with the sizes that are incompatible.
    pub const fn new<G: Geometry>(bytes: u64) -> Result<Self, GeometryError> {
        let section = G::SECTION_BYTES;
        let largest = Order::MAX.pages() << G::PAGE_SHIFT;
        if !bytes.is_power_of_two() || bytes < section {
            return Err(GeometryError::NotWholeSections { block: bytes, section });
        }
        if bytes > largest {
            return Err(GeometryError::TooLarge { block: bytes, largest });
        }
        if G::PART_PAGES < 2 || G::SECTION_PAGES < G::PART_PAGES {
            return Err(GeometryError::SectionTooSmall(section));
        }
        let smallest = G::RECORD_PAGES << G::PAGE_SHIFT;
        if bytes < smallest {
            return Err(GeometryError::TooSmall { block: bytes, smallest });
        }
        Ok(Self { shift: bytes.trailing_zeros() })
    }

    /// Bytes of a block; 0 if they exceed the address space.
    pub const fn bytes(self) -> u64 {
        match 1_u64.checked_shl(self.shift) {
            Some(bytes) => bytes,
            None => 0,
        }
    }

    /// Sections of a block.
    pub const fn sections<G: Geometry>(self) -> u64 {
        1 << (self.shift - G::SECTION_SHIFT)
    }

    /// Pages of a block.
    pub const fn pages<G: Geometry>(self) -> u64 {
        1 << (self.shift - G::PAGE_SHIFT)
    }

    /// The order of a block: the largest extent.
    pub const fn order<G: Geometry>(self) -> Order {
        Order::fitting(self.pages::<G>())
    }

    /// Log2 of the block's bytes.
    pub const fn shift(self) -> u32 {
        self.shift
    }
}
