//! Random storms over the walker, against a model without tables.

use super::check::{MapperRig, check_mapper, fail_each_of};
use super::std::sync::Arc;
use super::std::vec::Vec;
use super::{FakeRam, LockedMapper, SoftMmu};
use crate::addr::{Address, AddressRange, PhysAddr, PhysRange, Space};
use crate::{Attr, PteFormat, Tables};

/// The address of the root table: aligned for the largest one.
const ROOT: PhysAddr = PhysAddr::new(0x1_0000);
/// The source of the tables below it.
const FRAMES: PhysAddr = PhysAddr::new(0x10_0000);
/// RAM of the machine, from 0.
const RAM_BYTES: u64 = 64 << 20;

/// Every set of accesses.
const ATTRS: [Attr; 16] = {
    let mut attrs = [Attr::empty(); 16];
    let mut bits = 0;
    while bits < attrs.len() {
        attrs[bits] = Attr::from_bits_truncate(bits as u8);
        bits += 1;
    }
    attrs
};

type Mmu<F> = Arc<SoftMmu<F>>;

/// A machine and its tables, behind a lock: the check does not call a mapper from inside the mapper either.
pub(super) struct WalkerRig<F: PteFormat, I: Space> {
    mmu: Mmu<F>,
    tables: LockedMapper<Tables<F, Mmu<F>, Mmu<F>, I>>,
    leaves: Vec<u64>,
}

/// Maps and unmaps at random, `steps` times, and compares tables, caches and frames with a model
/// after each step; ends with everything unmapped and no table left.
///
/// # Panics
///
/// If anything differs.
pub fn storm<F: PteFormat, I: Space>(seed: u64, steps: usize) {
    check_mapper(&WalkerRig::<F, I>::new(), seed, steps);
}

/// Fails each allocation of `mappings` random mappings in turn and compares before with after.
///
/// # Panics
///
/// If a failed mapping leaves a trace.
pub fn fail_each_allocation<F: PteFormat, I: Space>(seed: u64, mappings: usize) {
    fail_each_of(&WalkerRig::<F, I>::new(), seed, mappings);
}

impl<F: PteFormat, I: Space> WalkerRig<F, I> {
    pub(super) fn new() -> Self {
        let ram = FakeRam::new();
        let all = PhysRange::new(PhysAddr::new(0), RAM_BYTES);
        ram.plug(all.unwrap_or_default(), None);
        let mmu = SoftMmu::new(ram, ROOT);
        let leaves = F::LEVELS.iter().filter(|level| level.leaf).map(|level| level.span());
        Self { tables: LockedMapper::new(mmu.tables()), mmu, leaves: leaves.collect() }
    }
}

impl<F: PteFormat, I: Space> MapperRig<I> for WalkerRig<F, I> {
    type Mapper = LockedMapper<Tables<F, Mmu<F>, Mmu<F>, I>>;

    fn mapper(&self) -> &Self::Mapper {
        &self.tables
    }

    fn leaves(&self) -> &[u64] {
        &self.leaves
    }

    /// Across the border of two root entries, in the upper half.
    fn window(&self) -> AddressRange<I> {
        let (root, largest) = (F::LEVELS[0], self.leaves[0]);
        let border = (root.entries() as u64 / 2 + 2) * root.span();
        let start = Address::new(F::canonical(border - 2 * largest));
        AddressRange::new(start, 4 * largest).unwrap_or_default()
    }

    fn phys_limit(&self) -> PhysAddr {
        PhysAddr::new(F::PHYS_LIMIT)
    }

    fn table_ram(&self) -> PhysRange {
        PhysRange::new(FRAMES, RAM_BYTES - FRAMES.get()).unwrap_or_default()
    }

    fn spoil(&self, frame: PhysAddr, bytes: u64) {
        (0..bytes).step_by(8).for_each(|at| self.mmu.fill_word(frame.add(at), 0xa5));
    }

    fn attrs(&self) -> &[Attr] {
        &ATTRS
    }

    fn walk(&self, at: Address<I>) -> Option<(PhysAddr, Attr)> {
        self.mmu.walk_to(at)
    }

    /// No stale entry remains; and the present entries may be cached.
    fn after_step(&self) {
        self.mmu.assert_coherent();
        self.mmu.speculate();
    }
}
