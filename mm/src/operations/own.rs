//! The kernel's own use of the page tables, beside the manager's: looked at and changed under its locks.

// UNSAFETY: declares functions by which a kernel maps memory a second way.
#![expect(unsafe_code)]

use crate::Mm;
use crate::addr::{PhysAddr, PhysRange, VirtAddr, VirtRange};
use crate::geometry::DESCRIPTOR_BYTES;
use crate::machine::Machine;
use crate::operations::boot::{BootError, EarlyFrames, inner};
use crate::operations::pin::{PinError, pin};
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

/// Why the kernel's own addresses were not mapped or unmapped. Nothing was changed.
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

impl<M: Machine> Mm<M> {
    /// How the kernel's page tables translate `at`. Waits while an operation changes them.
    pub fn walk(&self, at: VirtAddr) -> Walk {
        let _look = self.allocator.turn.looks.enter();
        let mut tables = [None; MAX_LEVELS];
        self.allocator.memmap.mapper().visit_tables(&mut |table| {
            let inside = table.level == 0 || at.offset_from(table.virt) < table.span;
            if let Some(slot) = tables.get_mut(table.level).filter(|_| inside) {
                *slot = Some(table);
            }
        });
        Walk { tables, leaf: self.allocator.memmap.mapper().translate(at) }
    }

    /// Maps addresses of the kernel's own in the page tables that the manager uses, so that both never
    /// change them at once: device registers, stacks, whatever lies outside the two windows. Tables come from
    /// the allocator, not from the reserve.
    ///
    /// Root entries outside the two windows come and go with what is mapped there. Where address spaces
    /// [share](Machine::root_entry_bytes) more than the windows, something stays mapped behind each entry
    /// from before the first is copied.
    ///
    /// # Safety
    ///
    /// Nothing uses the addresses. The memory behind them is the kernel's, and stays so until they are
    /// unmapped; no Rust reference is broken by the second way to it.
    ///
    /// # Errors
    ///
    /// [`OwnMapError`]; nothing is changed.
    pub unsafe fn map_own(&self, mapping: &Mapping) -> Result<(), OwnMapError> {
        let range = VirtRange::new(mapping.virt, mapping.len).unwrap_or_default();
        self.check_own(range)?;
        let _moment = self.allocator.moment().ok_or(OwnMapError::Busy)?;
        let frames = self.allocator.spare_frames();
        self.allocator.memmap.mapper().map(mapping, &frames).map_err(OwnMapError::Map)
    }

    /// Unmaps addresses of the kernel's own, on all CPUs. The memory behind them is free afterwards.
    ///
    /// # Safety
    ///
    /// Nothing uses the addresses any more.
    ///
    /// # Errors
    ///
    /// [`OwnMapError`]; nothing is changed.
    pub unsafe fn unmap_own(&self, range: VirtRange) -> Result<(), OwnMapError> {
        self.check_own(range)?;
        let _moment = self.allocator.moment().ok_or(OwnMapError::Busy)?;
        let mut gather = self.allocator.gather();
        let unmapped = self.allocator.memmap.mapper().unmap(range, &mut gather);
        gather.flush();
        unmapped.map_err(OwnMapError::Unmap)
    }

    fn check_own(&self, range: VirtRange) -> Result<(), OwnMapError> {
        if self
            .allocator
            .memmap
            .windows()
            .into_iter()
            .flatten()
            .any(|window| window.overlaps(range))
        {
            return Err(OwnMapError::InWindow(range));
        }
        Ok(())
    }

    /// Makes the tables behind the root entries that address spaces share.
    pub(super) fn pin_root_entries(
        &self,
        ram: Option<PhysRange>,
        early: &mut dyn EarlyFrames,
    ) -> Result<(), BootError> {
        let page = ram.map_or(PhysAddr::default(), |range| inner::<M>(range).start());
        let memmap = &self.allocator.memmap;
        memmap.shared_root_entries().try_for_each(|entries| {
            pin(entries, memmap.mapper(), early, (page, M::PAGE_BYTES)).map_err(|error| match error
            {
                PinError::NoTable(at) => BootError::RootEntry(at),
                PinError::Map(error) => BootError::Map(error),
            })
        })
    }

    /// Checks that the two windows of virtual addresses are apart, and that the part of them where memory
    /// of `windows` may come is free; or, if the linear map is complete, that it shows that memory.
    pub(super) fn check_windows(&self, windows: &[PhysRange]) -> Result<(), BootError> {
        let (linear, vmemmap) = (self.machine().linear_base(), self.machine().vmemmap_base());
        let limit = self.machine().phys_limit();
        let [Some(one), Some(other)] = self.allocator.memmap.windows() else {
            return Err(BootError::Windows { linear, vmemmap, limit });
        };
        if one.overlaps(other) || !vmemmap.is_aligned(DESCRIPTOR_BYTES) {
            return Err(BootError::Windows { linear, vmemmap, limit });
        }
        windows.iter().try_for_each(|window| {
            let len = limit.get().saturating_sub(window.start().get()).min(window.len());
            let window = PhysRange::new(window.start(), len).unwrap_or_default();
            self.check_window(inner::<M>(window))
        })
    }

    /// Checks one window, whose memory may share sections with RAM that is mapped.
    fn check_window(&self, window: PhysRange) -> Result<(), BootError> {
        let machine = self.machine();
        let mut wrong = None;
        self.allocator.memmap.mapper().visit(self.linear_virt(window), &mut |leaf| {
            let linear = leaf.virt == machine.linear_base().add(leaf.phys.get());
            if !(linear && machine.linear_map_is_complete()) {
                wrong.get_or_insert(leaf);
            }
        });
        self.allocator.memmap.mapper().visit(self.memmap_virt(M::pfns(window)), &mut |leaf| {
            wrong.get_or_insert(leaf);
        });
        wrong.map_or(Ok(()), |leaf| Err(BootError::WindowMapped(leaf)))
    }
}
