//! Any mapper against a model: a kernel runs this on the host over its own implementation of [`Mapper`].

mod frames;
mod map;
mod model;
mod recording;
mod refuse;
mod rig;
mod see;
mod speculation;
#[cfg(test)]
mod tests;
mod unmap;
mod watch;

pub use self::recording::{RecordingTlb, TlbCalls};
pub use self::rig::MapperRig;

use self::frames::Frames;
use self::model::Model;
use self::speculation::Speculation;
use self::watch::Watch;
use super::Random;
use super::std::vec::Vec;
use crate::addr::{AddressRange, Space};
use crate::{Gather, Mapper, Mapping, TableAt};

/// A single mapping has at most this many leaves.
const MOST_LEAVES: u64 = 1500;
/// Leaves of a mapping that the CPU tries while it is made.
const TRIED: usize = 64;

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
///   finds the same, if the rig can [follow it](MapperRig::walk);
/// - a mapping is published, one that fails is flushed as far as a CPU may have cached it, and no table is freed
///   before, if the rig [records](MapperRig::tlb_calls) that, and [shows](MapperRig::walk_tables) the tables;
/// - each call returns, within the rig's [patience](MapperRig::patience): the mapper may be behind a lock, and must
///   not call itself with the lock held.
///
/// The check does not detect the order of stores, and whether [`Tlb`](crate::Tlb) reaches all CPUs. The same seed
/// makes the same steps.
///
/// # Panics
///
/// If the mapper breaks its contract, with a message that names the fault.
pub fn check_mapper<I: Space, R: MapperRig<I>>(rig: &R, seed: u64, steps: usize) {
    let speculation = Speculation::new(rig);
    let mut check = Check::new(rig, &speculation, seed);
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
    let speculation = Speculation::new(rig);
    let mut check = Check::new(rig, &speculation, seed);
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
    speculation: &'r Speculation<'r, R, I>,
    watch: Watch,
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
    fn new(rig: &'r R, speculation: &'r Speculation<'r, R, I>, seed: u64) -> Self {
        let frames = Frames::new(rig.table_ram(), speculation);
        let watch = Watch::new(rig.patience());
        let model = Model::new(rig.leaves());
        let window = rig.window();
        let largest = model.sizes()[0];
        assert!(
            window.start().is_aligned(largest) && window.len() >= 4 * largest,
            "the rig's window is four leaves of {largest:#x} bytes"
        );
        let random = Random::new(seed);
        let last = "in the rig's window";
        let mut check =
            Self { rig, frames, speculation, watch, model, before: Vec::new(), random, last };
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

    /// The mapper, for a call of this name.
    fn mapper(&self, call: &'static str) -> &'r R::Mapper {
        self.watch.begins(call);
        self.rig.mapper()
    }

    fn gather(&self) -> CheckGather<'_, 'r, R, I> {
        Gather::watched(self.mapper("tlb").tlb(), &self.frames)
    }
}

fn range<I: Space>(mapping: &Mapping<I>) -> AddressRange<I> {
    AddressRange::new(mapping.virt, mapping.len).unwrap_or_default()
}
