//! What a test provides for a mapper.

use super::super::std::time::Duration;
use super::super::std::vec::Vec;
use super::recording::TlbCalls;
use crate::addr::{Address, AddressRange, PhysAddr, PhysRange, Space, Virtual};
use crate::{Attr, Mapper, TableAt};

/// A mapper to check, on the host, with the resources that it may use there.
///
/// Its tables lie in memory of the test, and its [`Tlb`](crate::Tlb) does not execute the CPU's instructions.
pub trait MapperRig<I: Space = Virtual> {
    /// The type to check.
    type Mapper: Mapper<I>;

    /// The mapper.
    fn mapper(&self) -> &Self::Mapper;

    /// Bytes of the leaves that it uses, the largest first; the last is its page.
    fn leaves(&self) -> &[u64];

    /// An unmapped range: aligned to the largest leaf, and at least four of them. Preferably across the border of
    /// two root entries.
    fn window(&self) -> AddressRange<I>;

    /// One past the highest physical address that it can map; no memory is read or written there.
    fn phys_limit(&self) -> PhysAddr;

    /// RAM for its tables, of no other use; 16 MiB are plenty.
    fn table_ram(&self) -> PhysRange;

    /// Fills `bytes` of that RAM with garbage: a new table may hold anything.
    fn spoil(&self, frame: PhysAddr, bytes: u64);

    /// The accesses that it can distinguish.
    fn attrs(&self) -> &[Attr] {
        &[Attr::WRITE]
    }

    /// The target of the CPU's own walk from `at`, if a test can follow it; by default, what the mapper returns.
    fn walk(&self, at: Address<I>) -> Option<(PhysAddr, Attr)> {
        let leaf = self.mapper().translate(at)?;
        Some((leaf.target(at), leaf.attr))
    }

    /// The tables on the CPU's walk towards `at`, the root first, if a test can follow it.
    fn walk_tables(&self, at: Address<I>) -> Vec<TableAt<I>> {
        let _ = at;
        Vec::new()
    }

    /// The calls that its TLB received since the last time, if it records them ([`RecordingTlb`](super::RecordingTlb)). Then
    /// [`walk`](Self::walk) and [`walk_tables`](Self::walk_tables) must not call the mapper: the check plays a CPU that walks while the mapper works.
    fn tlb_calls(&self) -> Option<TlbCalls<I>> {
        None
    }

    /// How long a call of the mapper may take. If one takes longer, the check ends the program, and names the call.
    fn patience(&self) -> Duration {
        Duration::from_secs(60)
    }

    /// Called after each step, for further checks of the rig.
    fn after_step(&self) {}
}
