//! Random storms over the walker, against a model that knows nothing of tables.

use super::std::collections::BTreeMap;
use super::std::sync::Arc;
use super::std::vec::Vec;
use super::{FakeRam, FakeTables, FaultPlan, Random, SoftMmu};
use crate::addr::{Address, AddressRange, PhysAddr, PhysRange, Space};
use crate::{Attr, Gather, MapError, Mapper, Mapping, PteFormat};
use crate::{TableAt, Tables, Translation, UnmapError};

/// Where the root table lies: aligned for the largest one.
const ROOT: PhysAddr = PhysAddr::new(0x1_0000);
/// Where the tables below it come from.
const FRAMES: PhysAddr = PhysAddr::new(0x10_0000);
/// RAM of the machine, from 0.
const RAM_BYTES: u64 = 64 << 20;
/// No single mapping of a storm takes more leaves.
const MOST_LEAVES: u64 = 1500;

type Mmu<F> = Arc<SoftMmu<F>>;

/// A machine, its tables, and what should be in them.
struct Rig<F: PteFormat, I: Space> {
    mmu: Mmu<F>,
    plan: Arc<FaultPlan>,
    frames: FakeTables<F>,
    tables: Tables<F, Mmu<F>, Mmu<F>, I>,
    /// First address of a leaf -> the leaf.
    model: BTreeMap<u64, Translation<I>>,
    random: Random,
}

/// Maps and unmaps at random, `steps` times, and compares tables, caches and frames with a model
/// after each step; ends with everything unmapped and no table left.
///
/// # Panics
///
/// If anything differs.
pub fn storm<F: PteFormat, I: Space>(seed: u64, steps: usize) {
    let mut rig = Rig::<F, I>::new(seed);
    for _ in 0..steps {
        if rig.random.one_in(3) {
            rig.unmap_some();
        } else {
            rig.map_some();
        }
        rig.check();
    }
    rig.unmap_all();
    rig.check();
    assert_eq!(rig.frames.used(), [], "tables left over");
}

/// Fails each allocation of `mappings` random mappings in turn and compares before with after.
///
/// # Panics
///
/// If a failed mapping leaves a trace.
pub fn fail_each_allocation<F: PteFormat, I: Space>(seed: u64, mappings: usize) {
    let mut rig = Rig::<F, I>::new(seed);
    let mut faults = 0;
    for _ in 0..mappings {
        let mapping = rig.wish();
        if rig.overlapping(range(&mapping)).next().is_some() {
            continue;
        }
        faults += rig.map_with_each_fault(&mapping);
        rig.check();
    }
    assert!(faults > 0, "no allocation ever failed");
}

impl<F: PteFormat, I: Space> Rig<F, I> {
    fn new(seed: u64) -> Self {
        let ram = FakeRam::new();
        let all = PhysRange::new(PhysAddr::new(0), RAM_BYTES);
        let rest = PhysRange::new(FRAMES, RAM_BYTES - FRAMES.get());
        ram.plug(all.unwrap_or_default(), None);
        let mmu = SoftMmu::new(ram, ROOT);
        let plan = Arc::new(FaultPlan::never());
        Self {
            tables: mmu.tables(),
            frames: FakeTables::new(&mmu, rest.unwrap_or_default(), &plan),
            mmu,
            plan,
            model: BTreeMap::new(),
            random: Random::new(seed),
        }
    }

    /// A random mapping near the border of two root entries, in the upper half.
    fn wish(&mut self) -> Mapping<I> {
        let root = F::LEVELS[0];
        let spans: Vec<u64> = leaf_spans::<F>().collect();
        loop {
            let granule = *self.random.pick(&spans);
            let window = (4 * spans[0]).min(root.span());
            let border = (root.entries() as u64 / 2 + 2) * root.span();
            let low = border - window / 2 + self.random.below(window / granule) * granule;
            let bits = self.random.below(10);
            let len = granule * (1 + self.random.below(1 << bits));
            // Half of them congruent modulo the largest leaf, so that leaf sizes mix.
            let modulus = if self.random.one_in(2) { spans[0] } else { granule };
            let phys = self.random.below(F::PHYS_LIMIT / 2) & !(modulus - 1) | low & (modulus - 1);
            let mapping = Mapping {
                virt: Address::new(F::canonical(low)),
                phys: PhysAddr::new(phys),
                len,
                attr: Attr::from_bits_truncate(self.random.bits() as u8),
                max_leaf: *self.random.pick(&spans),
            };
            if len / granule.min(mapping.max_leaf) <= MOST_LEAVES {
                return mapping;
            }
        }
    }

    fn map_some(&mut self) {
        let mapping = self.wish();
        let taken = self.overlapping(range(&mapping)).next().is_some();
        match self.tables.map(&mapping, &self.frames) {
            Ok(()) => {
                assert!(!taken, "{mapping:?} went over something");
                self.record(&mapping);
            }
            Err(MapError::AlreadyMapped { at }) => {
                assert!(taken && range(&mapping).contains(at), "{mapping:?} at {at}");
            }
            Err(error) => panic!("{mapping:?}: {error}"),
        }
    }

    /// Maps with the first allocation failing, then the second, ... until none does.
    fn map_with_each_fault(&mut self, mapping: &Mapping<I>) -> usize {
        for nth in 1.. {
            self.mmu.speculate();
            self.plan.arm(nth);
            let result = self.tables.map(mapping, &self.frames);
            let fired = self.plan.fired();
            self.plan.disarm();
            assert_eq!(fired, matches!(result, Err(MapError::OutOfFrames(_))));
            if !fired {
                assert_eq!(result, Ok(()), "{mapping:?}");
                self.record(mapping);
                return nth as usize - 1;
            }
            self.check();
        }
        0
    }

    /// Unmaps one to three random ranges in one gather.
    fn unmap_some(&mut self) {
        let mut gone = Vec::new();
        let mut gather = Gather::new(self.tables.tlb(), &self.frames);
        for _ in 0..1 + self.random.below(3) {
            let range = pick_range::<F, I>(&self.model, &mut self.random);
            let leaves: Vec<_> = overlapping(&self.model, range).collect();
            let cut = leaves.iter().find(|leaf| !range.covers(span(leaf)));
            match self.tables.unmap(range, &mut gather) {
                Ok(()) => {
                    assert_eq!(cut, None, "{range}");
                    for leaf in &leaves {
                        self.model.remove(&leaf.virt.get());
                    }
                    gone.extend(leaves);
                }
                Err(UnmapError::CutsLeaf { at, len }) => {
                    assert_eq!(cut.map(|leaf| (leaf.virt, leaf.len)), Some((at, len)));
                }
                Err(error) => panic!("{range}: {error}"),
            }
        }
        gather.flush();
        for leaf in gone {
            assert_eq!(self.tables.translate(leaf.virt), None);
        }
    }

    fn unmap_all(&mut self) {
        let mut gather = Gather::new(self.tables.tlb(), &self.frames);
        for leaf in self.model.values() {
            assert_eq!(self.tables.unmap(span(leaf), &mut gather), Ok(()));
        }
        gather.flush();
        self.model.clear();
    }

    /// The leaves that a mapping must have been made of, found by trying sizes.
    fn record(&mut self, mapping: &Mapping<I>) {
        let mut done = 0;
        while done < mapping.len {
            let (virt, phys) = (mapping.virt.add(done), mapping.phys.add(done));
            let fits = |len: &u64| {
                *len <= mapping.max_leaf
                    && *len <= mapping.len - done
                    && virt.is_aligned(*len)
                    && phys.is_aligned(*len)
            };
            let len = leaf_spans::<F>().find(fits).unwrap_or(page::<F>());
            let leaf = Translation { virt, phys, len, attr: mapping.attr };
            self.model.insert(virt.get(), leaf);
            done += len;
        }
    }

    fn overlapping(&self, range: AddressRange<I>) -> impl Iterator<Item = Translation<I>> + '_ {
        overlapping(&self.model, range)
    }

    /// Compares everything with the model.
    fn check(&mut self) {
        self.mmu.assert_coherent();
        let mut found = Vec::new();
        self.tables.visit(everything(), &mut |leaf| found.push(leaf));
        found.sort();
        assert!(found.iter().eq(self.model.values()), "the leaves differ");
        self.check_tables();

        for _ in 0..8.min(found.len()) {
            let leaf = *self.random.pick(&found);
            let at = leaf.virt.add(self.random.below(leaf.len));
            assert_eq!(self.tables.translate(at), Some(leaf));
            assert_eq!(self.mmu.translate_through(at), leaf.target(at));
        }
        if self.random.one_in(2) {
            self.mmu.speculate();
        }
    }

    /// Every table in use is in the tree once, and none but the root is without a leaf below it.
    fn check_tables(&self) {
        let mut tables = Vec::new();
        self.tables.visit_tables(&mut |table| tables.push(table));
        assert_eq!(tables.first().map(|root| (root.level, root.frame)), Some((0, ROOT)));
        tables.remove(0);
        let idle = |table: &&TableAt<I>| {
            let span = AddressRange::new(table.virt, table.span).unwrap_or_default();
            self.overlapping(span).next().is_none()
        };
        assert_eq!(tables.iter().find(idle), None, "an empty table");
        let mut frames: Vec<_> = tables.iter().map(|table| (table.frame, table.bytes)).collect();
        frames.sort();
        assert_eq!(frames, self.frames.used());
    }
}

/// A range to unmap: often from leaf to leaf, sometimes anywhere.
fn pick_range<F: PteFormat, I: Space>(
    model: &BTreeMap<u64, Translation<I>>,
    random: &mut Random,
) -> AddressRange<I> {
    let leaves: Vec<_> = model.values().collect();
    let Some(most) = leaves.len().checked_sub(1) else {
        return AddressRange::default();
    };
    let first = random.below(leaves.len() as u64) as usize;
    let bits = random.below(11);
    let last = most.min(first + random.below(1 << bits) as usize);
    let start = leaves[first].virt;
    let end = leaves[last].virt.add(leaves[last].len);
    let skew = if random.one_in(4) { page::<F>() } else { 0 };
    AddressRange::new(start.add(skew), end.offset_from(start)).unwrap_or_default()
}

fn overlapping<I: Space>(
    model: &BTreeMap<u64, Translation<I>>,
    range: AddressRange<I>,
) -> impl Iterator<Item = Translation<I>> + '_ {
    let before = model.range(..range.start().get()).next_back();
    let inside = model.range(range.start().get()..);
    let near = before.into_iter().chain(inside).map(|(_, leaf)| *leaf);
    near.take_while(move |leaf| {
        leaf.virt.offset_from(range.start()) < range.len() || leaf.virt < range.start()
    })
    .filter(move |leaf| span(leaf).overlaps(range))
}

/// Bytes of the leaves of `F`, largest first.
fn leaf_spans<F: PteFormat>() -> impl Iterator<Item = u64> {
    F::LEVELS.iter().filter(|l| l.leaf).map(|l| l.span())
}

fn page<F: PteFormat>() -> u64 {
    F::LEVELS[F::LEVELS.len() - 1].span()
}

fn range<I: Space>(mapping: &Mapping<I>) -> AddressRange<I> {
    AddressRange::new(mapping.virt, mapping.len).unwrap_or_default()
}

fn span<I: Space>(leaf: &Translation<I>) -> AddressRange<I> {
    AddressRange::new(leaf.virt, leaf.len).unwrap_or_default()
}

/// All addresses but the last, which no leaf starts at.
fn everything<I: Space>() -> AddressRange<I> {
    AddressRange::new(Address::new(0), u64::MAX).unwrap_or_default()
}
