//! Any mapper against a model: a kernel runs this on the host over its own implementation of [`Mapper`].

mod frames;
mod model;
mod refuse;
mod see;
#[cfg(test)]
mod tests;

use self::frames::Frames;
use self::model::Model;
use super::Random;
use super::std::vec::Vec;
use crate::addr::{Address, AddressRange, PhysAddr, PhysRange, Space, Virtual};
use crate::gather::Call;
use crate::{Attr, Gather, MapError, Mapper, Mapping, TableAt, Translation, UnmapError};

/// A single mapping has at most this many leaves.
const MOST_LEAVES: u64 = 1500;

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

    /// Called after each step, for further checks of the rig.
    fn after_step(&self) {}
}

/// Checks that a mapper keeps the contract of [`Mapper`], by `steps` random steps against a model:
///
/// - `map` maps every address as requested, with the largest leaves that fit and none larger than `max_leaf`, and
///   needs no more tables than `tables_for` reported;
/// - it refuses ranges that are mapped already, with the same translation or another, ranges that are not whole
///   pages, and addresses that no entry can name;
/// - after a refusal, or if any of its tables cannot be allocated, leaves, tables and frames are unchanged;
/// - `unmap` clears the requested range and nothing else, the last address first, reports everything that it cleared
///   and each table that it detached to the gather, and leaves no empty table except those that the gather keeps;
/// - it refuses to cut a leaf, and changes nothing then;
/// - memory that was unmapped with its tables kept is mapped again without a frame;
/// - `translate`, `visit` and `visit_tables` return the mappings, all of them, once and in order; the CPU's walk
///   finds the same, if the rig can [follow it](MapperRig::walk).
///
/// The check does not detect the order of stores, a missing flush after an undo, and whether [`Tlb`](crate::Tlb)
/// reaches all CPUs. The mapper may be behind a lock. The same seed makes the same steps.
///
/// # Panics
///
/// If the mapper breaks its contract, with a message that names the fault.
pub fn check_mapper<I: Space, R: MapperRig<I>>(rig: &R, seed: u64, steps: usize) {
    let spoil = |frame, bytes| rig.spoil(frame, bytes);
    let mut check = Check::new(rig, &spoil, seed);
    for _ in 0..steps {
        check.step();
        check.see();
        rig.after_step();
    }
    check.unmap_all();
    check.see();
    assert_eq!(check.frames.used(), [], "tables are left over");
}

/// Fails each allocation of `mappings` random mappings in turn and compares before with after.
///
/// # Panics
///
/// If a failed mapping leaves a trace.
pub(super) fn fail_each_of<I: Space, R: MapperRig<I>>(rig: &R, seed: u64, mappings: usize) {
    let spoil = |frame, bytes| rig.spoil(frame, bytes);
    let mut check = Check::new(rig, &spoil, seed);
    let mut faults = 0;
    for _ in 0..mappings {
        faults += check.map_with_each_fault();
        check.see();
        rig.after_step();
    }
    assert!(faults > 0, "no allocation ever failed");
}

/// A mapper, and its expected content.
struct Check<'r, R, I: Space> {
    rig: &'r R,
    frames: Frames<'r>,
    model: Model<I>,
    /// The tables that belong to others.
    before: Vec<TableAt<I>>,
    random: Random,
    /// The last operation, for messages.
    last: &'static str,
}

/// A gather over the mapper's own TLB, which frees frames to `Frames`.
type CheckGather<'c, 'r, R, I> =
    Gather<'c, <<R as MapperRig<I>>::Mapper as Mapper<I>>::Tlb, &'c Frames<'r>, I>;

impl<'r, R: MapperRig<I>, I: Space> Check<'r, R, I> {
    fn new(rig: &'r R, spoil: &'r dyn Fn(PhysAddr, u64), seed: u64) -> Self {
        let frames = Frames::new(rig.table_ram(), spoil);
        let model = Model::new(rig.leaves());
        let window = rig.window();
        let largest = model.sizes()[0];
        assert!(
            window.start().is_aligned(largest) && window.len() >= 4 * largest,
            "the rig's window is four leaves of {largest:#x} bytes"
        );
        let random = Random::new(seed);
        let mut check =
            Self { rig, frames, model, before: Vec::new(), random, last: "in the rig's window" };
        check.before = check.tables();
        check.see();
        check
    }

    fn step(&mut self) {
        match self.random.below(16) {
            0..5 => self.unmap_some(),
            5 => self.unmap_and_map_again(),
            6 => _ = self.map_with_each_fault(),
            7 => self.refuse(),
            _ => self.map_some(),
        }
    }

    fn map(&self, mapping: &Mapping<I>) -> Result<(), MapError<I>> {
        self.rig.mapper().map(mapping, &self.frames)
    }

    /// A random mapping in the window.
    fn wish(&mut self) -> Mapping<I> {
        let (window, sizes) = (self.rig.window(), self.model.sizes().to_vec());
        loop {
            let granule = *self.random.pick(&sizes);
            let start = self.random.below(window.len() / granule) * granule;
            let bits = self.random.below(10);
            let len = granule * (1 + self.random.below(1 << bits));
            // Half of them congruent modulo the largest leaf, so that leaf sizes mix.
            let modulus = if self.random.one_in(2) { sizes[0] } else { granule };
            let virt = window.start().add(start);
            let phys = self.random.below(self.rig.phys_limit().get() / 2) & !(modulus - 1)
                | virt.get() & (modulus - 1);
            let mapping = Mapping {
                virt,
                phys: PhysAddr::new(phys),
                len: len.min(window.len() - start),
                attr: *self.random.pick(self.rig.attrs()),
                max_leaf: *self.random.pick(&sizes),
            };
            if len / granule.min(mapping.max_leaf) <= MOST_LEAVES {
                return mapping;
            }
        }
    }

    fn map_some(&mut self) {
        self.last = "after a map";
        let mapping = self.wish();
        let taken = self.model.overlapping(range(&mapping)).next().is_some();
        let before = self.frames.used();
        match self.map(&mapping) {
            Ok(()) => {
                assert!(!taken, "{mapping:?} went over another mapping");
                self.model.record(&mapping);
                self.see_leaves(range(&mapping));
                self.took_no_more_than_announced(&mapping, &before);
            }
            Err(MapError::AlreadyMapped { at }) => {
                let right = taken && range(&mapping).contains(at);
                assert!(right, "{mapping:?} is refused, since {at} is mapped already");
                self.last = "after a map that was refused";
            }
            Err(error) => panic!("{mapping:?} is refused: {error}"),
        }
    }

    /// Checks that the tables that were allocated are no more than `tables_for` reports, if leaves of `max_leaf` fit
    /// throughout.
    fn took_no_more_than_announced(&self, mapping: &Mapping<I>, before: &[(PhysAddr, u64)]) {
        let Mapping { virt, phys, len, max_leaf, .. } = *mapping;
        if (virt.get() | phys.get() | len) & (max_leaf - 1) != 0 {
            return;
        }
        let mut announced = Vec::new();
        let note = &mut |bytes, count| announced.push((bytes, count));
        self.rig.mapper().tables_for(range(mapping), max_leaf, note);
        for size in 0..u64::BITS {
            let bytes = 1 << size;
            let of_size =
                |frames: &[(PhysAddr, u64)]| frames.iter().filter(|f| f.1 == bytes).count();
            let taken = (of_size(&self.frames.used()) - of_size(before)) as u64;
            let announced: u64 =
                announced.iter().filter(|tables| tables.0 == bytes).map(|tables| tables.1).sum();
            assert!(
                taken <= announced,
                "tables_for announced {announced} tables of {bytes} bytes, and {mapping:?} took {taken}"
            );
        }
    }

    /// Maps with the first allocation failing, then the second, ... until none does. Returns how many failed.
    fn map_with_each_fault(&mut self) -> usize {
        let mapping = self.wish();
        if self.model.overlapping(range(&mapping)).next().is_some() {
            return 0;
        }
        for nth in 1.. {
            self.rig.after_step();
            self.frames.plan.arm(nth);
            let result = self.map(&mapping);
            let fired = self.frames.plan.fired();
            self.frames.plan.disarm();
            let refused = matches!(result, Err(MapError::OutOfFrames(_)));
            assert_eq!(fired, refused, "{mapping:?} without a frame for table {nth}: {result:?}");
            if !fired {
                assert_eq!(result, Ok(()), "{mapping:?}");
                self.model.record(&mapping);
                self.last = "after a map";
                return nth as usize - 1;
            }
            self.last = "after a map that got no frame";
            self.see();
        }
        0
    }

    fn gather(&self) -> CheckGather<'_, 'r, R, I> {
        Gather::watched(self.rig.mapper().tlb(), &self.frames)
    }

    /// Unmaps one to three random ranges in one gather.
    fn unmap_some(&mut self) {
        let mut last = "after an unmap";
        let wishes: Vec<_> = (0..1 + self.random.below(3)).map(|_| self.pick_range()).collect();
        let mut gone = Vec::new();
        let mut gather = self.gather();
        for range in wishes {
            let leaves: Vec<_> = self.model.overlapping(range).collect();
            let leaves: Vec<_> = leaves.into_iter().filter(|leaf| !gone.contains(leaf)).collect();
            let cuts = |at, len| {
                let cut = |leaf: &&Translation<I>| !range.covers(leaf.range());
                leaves.iter().filter(cut).any(|leaf| (leaf.virt, leaf.len) == (at, len))
            };
            let before = self.tables();
            match self.rig.mapper().unmap(range, &mut gather) {
                Ok(()) => {
                    let cut = leaves.iter().find(|leaf| !range.covers(leaf.range()));
                    assert_eq!(cut, None, "a leaf is cut by unmapping {range}");
                    self.check_calls(range, &leaves, &before, &gather.calls());
                    gone.extend(leaves);
                }
                Err(UnmapError::CutsLeaf { at, len }) => {
                    assert!(cuts(at, len), "unmapping {range} is refused for the leaf at {at}");
                    last = "after an unmap that was refused";
                    assert_eq!(gather.calls().len(), 0, "a refused unmap changed the gather");
                }
                Err(error) => panic!("unmapping {range} is refused: {error}"),
            }
        }
        assert_eq!(gather.flush(), Ok(()));
        self.last = last;
        for leaf in gone {
            self.model.remove(&leaf);
        }
    }

    /// Checks that the gather received `leaves`, the last one first, and the tables that were detached, while their
    /// frames were in use.
    fn check_calls(
        &self,
        range: AddressRange<I>,
        leaves: &[Translation<I>],
        before: &[TableAt<I>],
        calls: &[Call<I>],
    ) {
        let cleared: Vec<_> = calls.iter().filter_map(Call::cleared).collect();
        for leaf in leaves {
            let mut at = leaf.virt;
            let ends =
                |at| cleared.iter().find(|range| range.contains(at)).map(|range| range.end());
            while leaf.range().contains(at) {
                let next = ends(at);
                assert!(next.is_some(), "the gather was not given {at}");
                at = next.unwrap_or(at);
            }
        }
        let falling = cleared.windows(2).all(|pair| pair[1].start() <= pair[0].start());
        assert!(falling, "unmapping {range} does not begin with the last address");
        let after = self.tables();
        for table in before.iter().filter(|table| !after.contains(table)) {
            let span = AddressRange::new(table.virt, table.span).unwrap_or_default();
            let found = calls.iter().filter_map(Call::detached).any(|(frame, bytes, near)| {
                (frame, bytes) == (table.frame, table.bytes) && near.overlaps(span)
            });
            assert!(found, "the gather lacks the table for {span}");
        }
    }

    /// Unmaps a range with its tables kept, and maps the same again, which needs no frame.
    fn unmap_and_map_again(&mut self) {
        let range = self.pick_range();
        let leaves: Vec<_> = self.model.overlapping(range).collect();
        if leaves.iter().any(|leaf| !range.covers(leaf.range())) {
            return;
        }
        let before = self.tables();
        // Kept by the gather or by the source of frames.
        let by_gather = self.random.one_in(2);
        self.frames.keep_all(!by_gather);
        let mut gather = self.gather();
        if by_gather {
            gather = gather.and_keep_tables();
        }
        let unmapped = self.rig.mapper().unmap(range, &mut gather);
        assert_eq!(gather.conclude(unmapped), Ok(()), "{range}");
        assert_eq!(self.tables(), before, "tables that were to be kept");
        self.frames.plan.arm(1);
        for &Translation { virt, phys, len, attr } in &leaves {
            let again = self.map(&Mapping { virt, phys, len, attr, max_leaf: len });
            assert_eq!(again, Ok(()), "{virt} is mapped again by tables that were kept");
        }
        self.frames.plan.disarm();
        self.frames.keep_all(false);
        self.last = "after an unmap that kept tables";
    }

    fn unmap_all(&mut self) {
        self.last = "after everything was unmapped";
        let mut gather = self.gather();
        for leaf in self.model.leaves() {
            assert_eq!(self.rig.mapper().unmap(leaf.range(), &mut gather), Ok(()));
        }
        assert_eq!(gather.flush(), Ok(()));
        self.model = Model::new(self.rig.leaves());
    }

    /// A range to unmap: often from leaf to leaf, sometimes anywhere.
    fn pick_range(&mut self) -> AddressRange<I> {
        let leaves: Vec<_> = self.model.leaves().copied().collect();
        let Some(most) = leaves.len().checked_sub(1) else {
            return AddressRange::default();
        };
        let first = self.random.below(leaves.len() as u64) as usize;
        let bits = self.random.below(11);
        let last = most.min(first + self.random.below(1 << bits) as usize);
        let start = leaves[first].virt;
        let end = leaves[last].virt.add(leaves[last].len);
        let skew = if self.random.one_in(4) { self.model.page() } else { 0 };
        AddressRange::new(start.add(skew), end.offset_from(start)).unwrap_or_default()
    }
}

fn range<I: Space>(mapping: &Mapping<I>) -> AddressRange<I> {
    AddressRange::new(mapping.virt, mapping.len).unwrap_or_default()
}
