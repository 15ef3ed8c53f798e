//! The kernel's own use of the page tables, beside the manager's: looked at and changed under its locks.

// UNSAFETY: declares functions by which a kernel maps memory a second way.
#![expect(unsafe_code)]

use crate::addr::{VirtAddr, VirtRange};
use crate::alloc::Waits;
use crate::machine::Machine;
use crate::memmap::Memmap;
use crate::operations::Operations;
use crate::paging::{MapError, Mapper, Mapping, TableAt, Translation, UnmapError};
use core::fmt;

/// The most levels that a walk shows.
const MAX_LEVELS: usize = 8;

/// How the page tables translate an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walk {
    /// The tables on the way, the root first.
    tables: [Option<TableAt>; MAX_LEVELS],
    /// The leaf at the end, if there is one.
    pub leaf: Option<Translation>,
}

impl Walk {
    /// The tables on the way, the root first.
    pub fn tables(&self) -> impl Iterator<Item = TableAt> + '_ {
        self.tables.iter().flatten().copied()
    }
}

/// Why the kernel's own addresses were not mapped or unmapped. Nothing was changed; but what says `NotFlushed` left
/// nothing mapped, and a CPU that may still reach the memory behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OwnMapError {
    /// An operation is under way.
    Busy,
    /// The range reaches into the linear map or the memmap's window, which are the manager's.
    InWindow(VirtRange),
    /// The mapper's refusal.
    Map(MapError),
    /// The mapper's refusal.
    Unmap(UnmapError),
}

impl fmt::Display for OwnMapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy => f.write_str("a memory operation is running"),
            Self::InWindow(range) => write!(f, "{range} is the memory manager's to map"),
            Self::Map(error) => error.fmt(f),
            Self::Unmap(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for OwnMapError {}

impl<M: Machine> Operations<M> {
    /// See [`Mm::walk`](crate::Mm::walk).
    pub(crate) fn walk(&self, at: VirtAddr) -> Walk {
        let _look = Waits::of(&self.allocator).look();
        let mut tables = [None; MAX_LEVELS];
        self.allocator.memmap.mapper().visit_tables(&mut |table| {
            let inside = table.level == 0 || at.offset_from(table.virt) < table.span;
            if let Some(slot) = tables.get_mut(table.level).filter(|_| inside) {
                *slot = Some(table);
            }
        });
        Walk { tables, leaf: self.allocator.memmap.mapper().translate(at) }
    }

    /// See [`Mm::map_own`](crate::Mm::map_own).
    ///
    /// # Safety
    ///
    /// By the same contract.
    pub(crate) unsafe fn map_own(&self, mapping: &Mapping) -> Result<(), OwnMapError> {
        let range = VirtRange::new(mapping.virt, mapping.len).unwrap_or_default();
        check_own(&self.allocator.memmap, range)?;
        let _moment = self.allocator.moment().ok_or(OwnMapError::Busy)?;
        let frames = self.allocator.spare_frames();
        self.allocator.memmap.mapper().map(mapping, &frames).map_err(OwnMapError::Map)
    }

    /// See [`Mm::unmap_own`](crate::Mm::unmap_own).
    ///
    /// # Safety
    ///
    /// By the same contract.
    pub(crate) unsafe fn unmap_own(&self, range: VirtRange) -> Result<(), OwnMapError> {
        check_own(&self.allocator.memmap, range)?;
        let _moment = self.allocator.moment().ok_or(OwnMapError::Busy)?;
        let mut gather = self.allocator.gather();
        let unmapped = self.allocator.memmap.mapper().unmap(range, &mut gather);
        gather.conclude(unmapped).map_err(OwnMapError::Unmap)
    }
}

/// Refuses a range that is the manager's.
fn check_own<M: Machine>(memmap: &Memmap<M>, range: VirtRange) -> Result<(), OwnMapError> {
    if memmap.windows().both().into_iter().flatten().any(|window| window.overlaps(range)) {
        return Err(OwnMapError::InWindow(range));
    }
    Ok(())
}
