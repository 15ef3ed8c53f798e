//! The adapters pass the check of a mapper.

// UNSAFETY: puts tables into the adapter.
#![expect(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use crate::arena::{Arena, ByFunction, GIB, MIB, all_attrs};
use crate::strict::Strict;
use hotmem::paging::testing::{MapperRig, RecordingTlb, TlbCalls, check_mapper};
use hotmem::paging::x86_64::{LockedTables, TableAccess};
use hotmem::paging::{Attr, Mapper as _, TableAt, Tlb};
use hotmem::{PhysAddr, PhysRange, VirtAddr, VirtRange};
use x86_64::structures::paging::{MappedPageTable, OffsetPageTable};

/// Translation caches that record what is flushed.
pub(crate) trait Recorded: Tlb + Default {
    /// The record.
    fn calls(&self) -> TlbCalls;
}

impl Recorded for RecordingTlb {
    fn calls(&self) -> TlbCalls {
        self.take()
    }
}

/// Tables in an arena, as a rig. The tables are dropped before the arena.
pub(crate) struct Rig<T, B = RecordingTlb> {
    mapper: LockedTables<T, B, Strict>,
    leaves: &'static [u64],
    attrs: Vec<Attr>,
    arena: Arena,
}

impl<T: TableAccess, B: Recorded> Rig<T, B> {
    pub(crate) fn new(tables: impl FnOnce(&Arena) -> T, leaves: &'static [u64]) -> Self {
        let arena = Arena::new(64 * MIB);
        // SAFETY: only this value and the rig's walk use the tables, and no CPU of the host translates by them.
        let mapper = unsafe { LockedTables::new(tables(&arena), arena.root(), B::default()) };
        let mapper = mapper.limited(leaves[0], PhysAddr::new(1 << 52));
        Self { mapper, leaves, attrs: all_attrs(), arena }
    }
}

/// Four large leaves across the border of two root entries, in the upper half.
pub(crate) fn window() -> VirtRange {
    VirtRange::new(VirtAddr::new((0xffff_8000_0000_0000_u64 + (2 << 39)) - 2 * GIB), 4 * GIB)
        .unwrap()
}

impl<T: TableAccess, B: Recorded> MapperRig for Rig<T, B> {
    type Mapper = LockedTables<T, B, Strict>;

    fn mapper(&self) -> &Self::Mapper {
        &self.mapper
    }

    fn leaves(&self) -> &[u64] {
        self.leaves
    }

    fn window(&self) -> VirtRange {
        window()
    }

    fn phys_limit(&self) -> PhysAddr {
        PhysAddr::new(1 << 52)
    }

    fn table_ram(&self) -> PhysRange {
        self.arena.table_ram()
    }

    fn spoil(&self, frame: PhysAddr, bytes: u64) {
        self.arena.spoil(frame, bytes);
    }

    fn attrs(&self) -> &[Attr] {
        &self.attrs
    }

    fn walk(&self, at: VirtAddr) -> Option<(PhysAddr, Attr)> {
        self.arena.walk(at).1
    }

    fn walk_tables(&self, at: VirtAddr) -> Vec<TableAt> {
        self.arena.walk(at).0
    }

    fn tlb_calls(&self) -> Option<TlbCalls> {
        Some(self.mapper.tlb().calls())
    }
}

pub(crate) const SMALL: &[u64] = &[2 * MIB, 4096];
pub(crate) const LARGE: &[u64] = &[GIB, 2 * MIB, 4096];

#[test]
fn an_offset_page_table_passes_the_check() {
    for seed in 0..4 {
        check_mapper(&Rig::<OffsetPageTable<'static>>::new(Arena::offset_table, SMALL), seed, 500);
        check_mapper(&Rig::<OffsetPageTable<'static>>::new(Arena::offset_table, LARGE), seed, 500);
    }
}

#[test]
fn a_mapped_page_table_passes_the_check() {
    type Tables = MappedPageTable<'static, ByFunction>;
    for seed in 0..4 {
        check_mapper(&Rig::<Tables>::new(Arena::mapped_table, SMALL), seed, 500);
        check_mapper(&Rig::<Tables>::new(Arena::mapped_table, LARGE), seed, 500);
    }
}
