//! The process's address space as page tables: what the manager maps is mapped by the system.

// UNSAFETY: vouches that the system translates as asked.
#![expect(unsafe_code)]

use crate::windows::Windows;
use hotmem::paging::{
    Attr, Gather, MapError, Mapper, Mapping, NotFlushed, OutOfFrames, TableAt, TableFrames, Tlb,
    Translation, UnmapError,
};
use hotmem::{PhysAddr, VirtAddr, VirtRange};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes of a page.
const PAGE: u64 = 4096;

/// Leaves by their start: a record of the mappings requested from the system, since querying the system is slow.
/// Their sizes are those that page tables could have.
type Leaves = BTreeMap<u64, Translation>;

/// The mappings in both windows.
#[derive(Debug)]
pub struct ProcessMap {
    windows: Windows,
    leaves: Mutex<Leaves>,
    tlb: SystemTlb,
}

/// The translation caches, which the system flushes before a change of its page tables returns.
#[derive(Debug)]
pub struct SystemTlb;

// SAFETY: `mmap` returns when the old translations are gone from every CPU that runs this process.
unsafe impl Tlb for SystemTlb {
    fn publish(&self) {}

    fn flush(&self, _ranges: &[VirtRange]) -> Result<(), NotFlushed> {
        Ok(())
    }
}

impl ProcessMap {
    pub(crate) fn new(windows: Windows) -> Self {
        Self { windows, leaves: Mutex::new(Leaves::new()), tlb: SystemTlb }
    }

    fn leaves(&self) -> MutexGuard<'_, Leaves> {
        self.leaves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The leaves that translate a byte of `range`, ascending.
fn leaves_in(leaves: &Leaves, range: VirtRange) -> Vec<Translation> {
    let first = leaves.range(..=range.start().get()).next_back().map_or(0, |(&at, _)| at);
    let reaches = |leaf: &Translation| leaf.virt < range.start() || range.contains(leaf.virt);
    let found = leaves.range(first..).map(|(_, leaf)| *leaf).take_while(reaches);
    found.filter(|leaf| leaf.range().overlaps(range)).collect()
}

/// The largest leaf at `virt` that a mapping can have there.
fn leaf_bytes(mapping: &Mapping, done: u64) -> u64 {
    let (virt, phys) = (mapping.virt.add(done).get(), mapping.phys.add(done).get());
    let aligned = 1 << (virt | phys).trailing_zeros().min(63);
    let fits = 1 << (mapping.len - done).ilog2();
    mapping.max_leaf.max(PAGE).min(aligned).min(fits)
}

// SAFETY: `map` and `unmap` return `Ok` only if the system did what they requested, and the leaves record those
// requests. No other code maps anything in the windows.
unsafe impl Mapper for ProcessMap {
    type Tlb = SystemTlb;

    fn tlb(&self) -> &SystemTlb {
        &self.tlb
    }

    fn map<S: TableFrames>(&self, mapping: &Mapping, _frames: &S) -> Result<(), MapError> {
        let &Mapping { virt, phys, len, attr, .. } = mapping;
        if !(virt.get() | phys.get() | len).is_multiple_of(PAGE) {
            return Err(MapError::Misaligned { virt, phys, len });
        }
        let beyond = MapError::BeyondFormat { virt, phys, len };
        let range = VirtRange::new(virt, len).filter(|&range| Windows::has(range)).ok_or(beyond)?;
        let mut leaves = self.leaves();
        if let Some(leaf) = leaves_in(&leaves, range).first() {
            return Err(MapError::AlreadyMapped { at: leaf.virt.max(virt) });
        }
        let mapped = self.windows.map(range, phys, attr.contains(Attr::WRITE));
        mapped.map_err(|_| MapError::OutOfFrames(OutOfFrames { bytes: PAGE }))?;
        let mut done = 0;
        while done < len {
            let bytes = leaf_bytes(mapping, done);
            let (virt, phys) = (virt.add(done), phys.add(done));
            leaves.insert(virt.get(), Translation { virt, phys, len: bytes, attr });
            done += bytes;
        }
        Ok(())
    }

    fn unmap<S: TableFrames>(
        &self,
        range: VirtRange,
        gather: &mut Gather<'_, SystemTlb, S>,
    ) -> Result<(), UnmapError> {
        let mut leaves = self.leaves();
        let cleared = leaves_in(&leaves, range);
        if let Some(leaf) = cleared.iter().find(|leaf| !range.covers(leaf.range())) {
            return Err(UnmapError::CutsLeaf { at: leaf.virt, len: leaf.len });
        }
        for leaf in cleared.iter().rev() {
            Windows::unmap(leaf.range()).map_err(|_| UnmapError::BeyondFormat { range })?;
            leaves.remove(&leaf.virt.get());
            gather.cleared(leaf.range());
        }
        Ok(())
    }

    fn translate(&self, at: VirtAddr) -> Option<Translation> {
        let leaves = self.leaves();
        let (_, leaf) = leaves.range(..=at.get()).next_back()?;
        leaf.range().contains(at).then_some(*leaf)
    }

    fn visit(&self, range: VirtRange, each: &mut dyn FnMut(Translation)) {
        let leaves = leaves_in(&self.leaves(), range);
        leaves.into_iter().for_each(each);
    }

    /// The system has tables of its own.
    fn tables_for(&self, _range: VirtRange, _max_leaf: u64, _each: &mut dyn FnMut(u64, u64)) {}

    fn visit_tables(&self, _each: &mut dyn FnMut(TableAt)) {}
}

impl ProcessMap {
    /// The address of `phys` in the linear map, if it is mapped.
    pub fn linear(&self, phys: PhysAddr) -> Option<VirtAddr> {
        let at = crate::windows::LINEAR.add(phys.get());
        self.translate(at).map(|_| at)
    }
}
