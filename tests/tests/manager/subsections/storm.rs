//! Random adds, removes, onlines and offlines, and a model that says what they do.

use hotmem::ZoneKind;
use hotmem::testing::{Granule16, Holder, Lmb, Random, Shape, TinyShared};
use hotmem::{
    AddError, BlockState, ConvertError, NodeId, Order, PhysRange, Placement, Removability,
    RemoveError,
};
use hotmem_tests::memory::{MIB, Sequence, TINY_WINDOW, assert_same, small, tiny};

use super::{BLOCKS, Rig};

/// A DIMM, and the units that it has.
#[derive(Clone, Copy, Debug)]
struct Dimm {
    first: u64,
    len: u64,
}

/// What was done to a rig, and so what its answers must be.
struct Model {
    dimms: Vec<Dimm>,
    online: [bool; BLOCKS as usize],
    per_block: u64,
}

impl Model {
    fn blocks(&self, first: u64, len: u64) -> std::ops::RangeInclusive<u64> {
        first / self.per_block..=(first + len - 1) / self.per_block
    }

    /// Units of a block that are there.
    fn units(&self, block: u64) -> u64 {
        let (start, end) = (block * self.per_block, (block + 1) * self.per_block);
        let here =
            |dimm: &Dimm| end.min(dimm.first + dimm.len).saturating_sub(start.max(dimm.first));
        self.dimms.iter().map(here).sum()
    }

    fn overlaps(&self, first: u64, len: u64) -> bool {
        self.dimms.iter().any(|dimm| first < dimm.first + dimm.len && dimm.first < first + len)
    }

    /// A block of which nothing is there is not online.
    fn settle(&mut self) {
        for block in 0..BLOCKS {
            self.online[block as usize] &= self.units(block) != 0;
        }
    }

    fn check<S: Shape>(&self, rig: &Rig<S>) {
        rig.bench.check();
        let pages_of_unit = |pages: u64| pages * rig.per_block() / (rig.block / page(rig));
        for index in 0..BLOCKS {
            let block = rig.bench.mm.block(rig.block_at(index));
            let units = block.map_or(0, |block| pages_of_unit(block.pages));
            assert_eq!(units, self.units(index), "block {index}: {block:?}");
            let online = block.is_some_and(|block| block.state != BlockState::Offline);
            assert_eq!(online, self.online[index as usize], "block {index}");
        }
    }
}

/// Bytes of a page: there is always boot memory.
fn page<S: Shape>(rig: &Rig<S>) -> u64 {
    rig.bench.mm.blocks().next().map_or(4096, |block| rig.block / block.pfns.pages())
}

/// Adds, removes, brings online and takes offline at random, with pages in use.
fn storm<S: Shape>(rig: &Rig<S>, seed: u64, steps: u64) {
    let mut random = Random::new(seed);
    let before = rig.bench.snapshot();
    let mut model =
        Model { dimms: Vec::new(), online: [false; BLOCKS as usize], per_block: rig.per_block() };
    let (holder, mut held) = (Holder::register(&rig.bench), Vec::new());
    let units = BLOCKS * rig.per_block();
    for _ in 0..steps {
        match random.below(10) {
            0..3 => add(rig, &mut model, &mut random, units),
            3 | 4 => remove(rig, &mut model, &mut random, units),
            5 => toggle(rig, &mut model, random.below(BLOCKS), random.bits()),
            6 => leave(rig, &mut model, &mut random),
            7 => convert(rig, &model, &mut random),
            8 => held.extend(holder.take(&rig.bench, Order::new(random.below(3) as u8).unwrap())),
            _ => {
                if !held.is_empty() {
                    let handle = held.swap_remove(random.below(held.len() as u64) as usize);
                    holder.release(&rig.bench, handle);
                }
            }
        }
        model.settle();
        model.check(rig);
        holder.check(&rig.bench);
    }
    held.into_iter().for_each(|handle| holder.release(&rig.bench, handle));
    for block in (0..BLOCKS).filter(|&block| model.online[block as usize]) {
        rig.bench.mm.offline(rig.block_at(block)).unwrap();
    }
    for dimm in Sequence::Random(seed).arrange(model.dimms) {
        rig.bench.remove(rig.units(dimm.first, dimm.len));
    }
    assert_same(&before, &rig.bench.snapshot());
}

fn add<S: Shape>(rig: &Rig<S>, model: &mut Model, random: &mut Random, units: u64) {
    let first = random.below(units);
    let len = 1 + random.below((units - first).min(2 * model.per_block));
    let placement = Placement::ALL[random.below(3) as usize];
    let added = rig.bench.mm.hot_add(rig.units(first, len), NodeId::ZERO, placement);
    match added {
        Ok(_) => {
            assert!(!model.overlaps(first, len));
            model.dimms.push(Dimm { first, len });
        }
        Err(AddError::Overlaps { .. }) => assert!(model.overlaps(first, len)),
        Err(error) => assert!(is_for_lack_of_memory(&error), "{error}"),
    }
}

/// Boot memory may be used up by memmaps and held pages.
fn is_for_lack_of_memory(error: &AddError) -> bool {
    matches!(error, AddError::Map(_) | AddError::NoRoomForMemmap { .. } | AddError::OutOfMemory(_))
}

fn remove<S: Shape>(rig: &Rig<S>, model: &mut Model, random: &mut Random, units: u64) {
    if random.below(4) == 0 || model.dimms.is_empty() {
        let first = random.below(units);
        let odd = rig.units(first, 1 + random.below(units - first));
        let known = |dimm: &Dimm| rig.units(dimm.first, dimm.len) == odd;
        if !model.dimms.iter().any(known) {
            let before = rig.bench.snapshot();
            if rig.bench.mm.remove(odd).is_ok() {
                // Whole DIMMs, or blocks that can go alone: what stays is as the manager says.
                relearn(rig, model, odd);
            } else {
                assert_same(&before, &rig.bench.snapshot());
            }
        }
        return;
    }
    let index = random.below(model.dimms.len() as u64) as usize;
    let dimm = model.dimms[index];
    let online = model.blocks(dimm.first, dimm.len).any(|block| model.online[block as usize]);
    match rig.bench.mm.remove(rig.units(dimm.first, dimm.len)) {
        Ok(_) => {
            assert!(!online);
            model.dimms.swap_remove(index);
        }
        Err(error) => assert!(online && matches!(error, RemoveError::NotOffline(_)), "{error}"),
    }
}

/// Takes note that `gone` went: DIMMs of which something went lost all of some blocks.
fn relearn<S: Shape>(rig: &Rig<S>, model: &mut Model, gone: PhysRange) {
    let first = gone.start().offset_from(rig.units(0, 1).start()) / rig.unit;
    let end = first + gone.len() / rig.unit;
    let mut rest = Vec::new();
    for dimm in model.dimms.drain(..) {
        let last = dimm.first + dimm.len;
        for (from, to) in [(dimm.first, last.min(first)), (dimm.first.max(end), last)] {
            if from < to {
                rest.push(Dimm { first: from, len: to - from });
            }
        }
    }
    model.dimms = rest;
}

/// Takes a DIMM offline, only its parts of online blocks that others share, and removes it; or brings all of it back.
fn leave<S: Shape>(rig: &Rig<S>, model: &mut Model, random: &mut Random) {
    if model.dimms.is_empty() {
        return;
    }
    let index = random.below(model.dimms.len() as u64) as usize;
    let dimm = model.dimms[index];
    let (range, mut done) = (rig.units(dimm.first, dimm.len), Ok(()));
    for block in model.blocks(dimm.first, dimm.len) {
        if done.is_err() || !model.online[block as usize] {
            continue;
        }
        let (id, start) = (rig.block_at(block), block * model.per_block);
        let end = (dimm.first + dimm.len).min(start + model.per_block);
        if end - dimm.first.max(start) == model.units(block) {
            done = rig.bench.mm.offline(id);
            model.online[block as usize] = done.is_err();
        } else {
            done = rig.bench.mm.offline_part(id, range);
        }
        rig.bench.check();
    }
    if done.is_ok() && random.below(4) != 0 {
        rig.bench.remove(range);
        model.dimms.swap_remove(index);
        return;
    }
    assert!(done.is_ok() || rig.bench.mm.remove(range).is_err());
    for block in model.blocks(dimm.first, dimm.len).filter(|&block| model.online[block as usize]) {
        // A part that did not go is online.
        _ = rig.bench.mm.online_part(rig.block_at(block), range);
    }
}

/// Converts a DIMM: what it has of each block can go alone then.
fn convert<S: Shape>(rig: &Rig<S>, model: &Model, random: &mut Random) {
    if model.dimms.is_empty() {
        return;
    }
    let dimm = model.dimms[random.below(model.dimms.len() as u64) as usize];
    let before = rig.bench.snapshot();
    match rig.bench.mm.convert(rig.units(dimm.first, dimm.len)) {
        Ok(count) => {
            let blocks = model.blocks(dimm.first, dimm.len);
            assert_eq!(count, blocks.end() - blocks.start() + 1);
        }
        // Pages may have moved before the head of another block was found in use.
        Err(ConvertError::InUse(..) | ConvertError::NoRoom(..)) => {}
        Err(error) => {
            // What it has of its first block has a memmap of its own.
            let alone =
                matches!(error, ConvertError::NotPerRange(..) | ConvertError::NotOnePiece(_));
            assert!(alone, "{error}");
            assert_same(&before, &rig.bench.snapshot());
        }
    }
}

fn toggle<S: Shape>(rig: &Rig<S>, model: &mut Model, block: u64, bits: u64) {
    let id = rig.block_at(block);
    let there = model.units(block) != 0;
    if model.online[block as usize] {
        let predicted = rig.bench.mm.explain_offline(id);
        let gone = rig.bench.mm.offline(id);
        let can = !matches!(predicted, Removability::Blocked(_));
        assert_eq!(gone.is_ok(), can, "{predicted}: {gone:?}");
        model.online[block as usize] = gone.is_err();
    } else {
        let kind = if bits & 1 == 0 { ZoneKind::Normal } else { ZoneKind::Movable };
        let came = rig.bench.mm.online(id, kind);
        assert_eq!(came.is_ok(), there, "{came:?}");
        model.online[block as usize] = there;
    }
}

#[test]
fn any_ranges_come_and_go_in_any_order_as_a_model_says() {
    for seed in 0..12 {
        storm(&Rig::over(tiny(MIB), MIB, TINY_WINDOW), seed, 120);
        storm(&Rig::over(tiny(4 * MIB), 4 * MIB, TINY_WINDOW), seed, 120);
        storm(&Rig::over(small::<TinyShared>(MIB), MIB, TINY_WINDOW), seed, 120);
    }
    for seed in 0..2 {
        storm(&Rig::<Granule16>::new(256 * MIB, 256 * MIB, 4 << 30), seed, 40);
        storm(&Rig::<Lmb>::new(512 * MIB, 256 * MIB, 4 << 30), seed, 60);
    }
}
