//! The rig of the mappers.

use super::Faulty;
use crate::arena::MIB;
use crate::mappers::{SMALL, window};
use hotmem::paging::testing::{MapperRig, TlbCalls};
use hotmem::paging::{Attr, Mapper as _, TableAt};
use hotmem::{PhysAddr, PhysRange, VirtAddr, VirtRange};

impl MapperRig for Faulty {
    type Mapper = Self;

    fn mapper(&self) -> &Self {
        self
    }

    fn leaves(&self) -> &[u64] {
        SMALL
    }

    fn window(&self) -> VirtRange {
        let whole = window();
        VirtRange::new(whole.start().add(whole.len() / 2 - 8 * MIB), 16 * MIB).unwrap_or_default()
    }

    fn phys_limit(&self) -> PhysAddr {
        PhysAddr::new(1 << 40)
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
        Some(self.inner.tlb().take())
    }
}
