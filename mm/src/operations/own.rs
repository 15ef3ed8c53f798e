//! The kernel's own use of the page tables, beside the manager's: read and changed under the manager's locks.

// UNSAFETY: declares functions by which a kernel maps memory a second time.
#![expect(unsafe_code)]

use crate::addr::{VirtAddr, VirtRange};
use crate::alloc::Waits;
use crate::machine::Machine;
use crate::memmap::Memmap;
use crate::operations::Operations;
use crate::paging::{MapError, Mapper, Mapping, TableAt, Translation, UnmapError};

/// The highest number of levels in a walk.
const MAX_LEVELS: usize = 8;

/// The translation of an address by the page tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walk {
    /// The tables that lead to it, the root first.
    tables: [Option<TableAt>; MAX_LEVELS],
    /// The leaf, if there is one.
    pub leaf: Option<Translation>,
}

impl Walk {
    /// The tables that lead to it, the root first.
    pub fn tables(&self) -> impl Iterator<Item = TableAt> + '_ {
        self.tables.iter().flatten().copied()
    }
}

hotmem_paging::errors! {
    /// The reason why the kernel's own addresses were not mapped or unmapped. Nothing was changed; but after
    /// `NotFlushed` nothing is mapped, and a CPU may still reach the memory.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[non_exhaustive]
    pub enum OwnMapError {
        /// An operation is under way.
        Busy => "a memory operation is running",
        /// The range overlaps the linear map or the memmap's window, which the manager maps.
        InWindow(range: VirtRange) => "{range} overlaps the memory manager's windows",
        /// The mapper's error.
        Map(error: MapError) => "{error}",
        /// The mapper's error.
        Unmap(error: UnmapError) => "{error}",
    }
}

impl<M: Machine> Operations<M> {
    /// See [`Mm::walk`](crate::Mm::walk).
    pub(crate) fn walk(&self, at: VirtAddr) -> Walk {
        let look = Waits::of(&self.allocator).look();
        let mapper = look.seen().mapper();
        let mut tables = [None; MAX_LEVELS];
        mapper.visit_tables(&mut |table| {
            let inside = table.level == 0 || at.offset_from(table.virt) < table.span;
            if let Some(slot) = tables.get_mut(table.level).filter(|_| inside) {
                *slot = Some(table);
            }
        });
        Walk { tables, leaf: mapper.translate(at) }
    }

    /// See [`Mm::map_own`](crate::Mm::map_own).
    ///
    /// # Safety
    ///
    /// Those of [`Mm::map_own`](crate::Mm::map_own).
    pub(crate) unsafe fn map_own(&self, mapping: &Mapping) -> Result<(), OwnMapError> {
        let range = VirtRange::new(mapping.virt, mapping.len).unwrap_or_default();
        check_own(&self.allocator.memmap, range)?;
        let moment = self.allocator.moment().ok_or(OwnMapError::Busy)?;
        let frames = self.allocator.spare_frames();
        moment.seen().mapper().map(mapping, &frames).map_err(OwnMapError::Map)
    }

    /// See [`Mm::unmap_own`](crate::Mm::unmap_own).
    ///
    /// # Safety
    ///
    /// Those of [`Mm::unmap_own`](crate::Mm::unmap_own).
    pub(crate) unsafe fn unmap_own(&self, range: VirtRange) -> Result<(), OwnMapError> {
        check_own(&self.allocator.memmap, range)?;
        let moment = self.allocator.moment().ok_or(OwnMapError::Busy)?;
        let memmap = moment.seen();
        let mut gather = self.allocator.gather(memmap);
        let unmapped = memmap.unmap(range, &mut gather);
        gather.conclude(unmapped).map_err(OwnMapError::Unmap)
    }
}

/// Refuses a range that overlaps the manager's windows.
fn check_own<M: Machine>(memmap: &Memmap<M>, range: VirtRange) -> Result<(), OwnMapError> {
    if memmap.windows().both().into_iter().flatten().any(|window| window.overlaps(range)) {
        return Err(OwnMapError::InWindow(range));
    }
    Ok(())
}
