//! Page tables of any format in a fake machine's memory, for the tests of the formats.

extern crate std;

use hotmem_paging::addr::{PhysAddr, PhysRange, VirtAddr, Virtual};
use hotmem_paging::testing::{
    FakeRam, FakeTables, FaultPlan, SoftMmu, fail_each_allocation, storm,
};
use hotmem_paging::{Attr, MapError, Mapper, Mapping, PteFormat, Tables};
use std::sync::Arc;
use std::vec::Vec;

/// The address of the root.
pub(crate) const ROOT: u64 = 0x1_0000;
/// A test's tables are allocated from here, in the order they are needed.
const FRAMES: u64 = 0x10_0000;

type Mmu<F> = Arc<SoftMmu<F>>;

/// A machine with an empty root.
pub(crate) struct Rig<F: PteFormat> {
    pub(crate) mmu: Mmu<F>,
    pub(crate) tables: Tables<F, Mmu<F>, Mmu<F>>,
    pub(crate) frames: FakeTables<F>,
}

impl<F: PteFormat> Rig<F> {
    pub(crate) fn new() -> Self {
        let ram = FakeRam::new();
        ram.plug(PhysRange::new(PhysAddr::new(0), 4 << 20).unwrap(), None);
        let mmu = SoftMmu::new(ram, PhysAddr::new(ROOT));
        let range = PhysRange::new(PhysAddr::new(FRAMES), 1 << 20).unwrap();
        let frames = FakeTables::new(&mmu, range, &Arc::new(FaultPlan::never()));
        Self { tables: mmu.tables(), mmu, frames }
    }

    pub(crate) fn map(&self, virt: u64, phys: u64, len: u64, attr: Attr) -> Result<(), MapError> {
        let (virt, phys) = (VirtAddr::new(virt), PhysAddr::new(phys));
        let mapping = Mapping { virt, phys, len, attr, max_leaf: 1 << 30 };
        self.tables.map(&mapping, &self.frames)
    }

    /// The entries of a table of `entries` that are not zero.
    pub(crate) fn table(&self, at: u64, entries: u64) -> Vec<(u64, u64)> {
        let word = |index| (index, self.mmu.peek(PhysAddr::new(at + 8 * index)));
        (0..entries).map(word).filter(|(_, word)| *word != 0).collect()
    }
}

/// Random mappings agree with the model, and a mapping that runs out of frames leaves no trace.
pub(crate) fn storms<F: PteFormat>(seeds: u64) {
    for seed in 0..seeds {
        storm::<F, Virtual>(seed, 120);
    }
    fail_each_allocation::<F, Virtual>(1, 60);
}
