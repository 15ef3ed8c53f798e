//! Ranges that share memory blocks, and a mapper that refuses any of its calls.

// UNSAFETY: boots and adds fake memory.
#![expect(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use hotmem::testing::{FakeMachine, Granule16, Lmb, Shape, Tiny, TinyShared, range};
use hotmem::{
    AddError, Added, BlockSize, BootMemory, Fact, Mm, NodeId, PhysRange, Placement, ZoneKind,
};
use hotmem_tests::memory::{MIB, TINY_WINDOW, assert_same};

use crate::faulty::Faulty;

struct Rig<S: Shape> {
    mm: Mm<Faulty<S>>,
    window: u64,
    unit: u64,
    per_block: u64,
}

impl<S: Shape> Rig<S> {
    fn new(ram: u64, block: u64, window: u64) -> Self {
        let ram = range(0, ram);
        let (inner, mut early) = FakeMachine::start(&[ram], block);
        let mm = Mm::new(Faulty::over(inner, 0));
        let memory = BootMemory {
            ram: &[(ram, NodeId::ZERO)],
            block_size: BlockSize::new::<Faulty<S>>(block).unwrap(),
            window: &[range(window, 8 * block)],
            kernelcore: None,
        };
        // SAFETY: only the manager under test uses fake RAM.
        unsafe { mm.boot(&memory, &mut early) }.unwrap();
        let unit = mm.subsection();
        mm.machine().inner.plug(range(window, 4 * block));
        mm.machine().inner.mmu().start_cpus(3);
        Self { mm, window, unit, per_block: block / unit }
    }

    /// `len` units from the `first` of the window on.
    fn units(&self, first: u64, len: u64) -> PhysRange {
        range(self.window + first * self.unit, len * self.unit)
    }

    fn add(&self, range: PhysRange, placement: Placement) -> Result<Added, AddError> {
        // SAFETY: only the manager under test uses fake RAM.
        unsafe { self.mm.add(range, NodeId::ZERO, placement) }
    }

    /// The facts that stranded pages do not change.
    fn facts(&self) -> Vec<Fact> {
        let mut facts = Vec::new();
        self.mm.snapshot(&mut |fact| match fact {
            Fact::Block(block) if block.boot => {}
            Fact::Free(_) | Fact::Frames(..) | Fact::Zone(..) | Fact::Node(_) => {}
            fact => facts.push(fact),
        });
        facts
    }

    fn silence(&self, silent: bool) {
        let mmu = self.mm.machine().inner.mmu();
        if silent {
            mmu.speculate();
        }
        mmu.silence(silent.then_some(2));
    }

    /// All blocks that are there come online, and go offline again.
    fn use_all(&self) {
        let added: Vec<_> = self.mm.blocks().filter(|block| !block.boot).collect();
        for block in &added {
            self.mm.online(block.id, ZoneKind::Movable).unwrap();
        }
        added.iter().for_each(|block| self.mm.offline(block.id).unwrap());
    }

    /// Memory that stays hidden is not there, and nothing is added over it.
    #[track_caller]
    fn is_hidden(&self, (first, len): (u64, u64)) {
        assert!(self.mm.check_remove(self.units(first, len)).is_err());
        assert!(self.mm.remove(self.units(first, len)).is_err());
        let pieces = (first..first + len).map(|unit| (unit, 1)).chain([(first, len)]);
        for (first, len) in pieces {
            for placement in Placement::ALL {
                let over = self.units(first, len);
                let added = self.add(over, placement);
                let refused =
                    matches!(added, Err(AddError::Overlaps { range, .. }) if range == over);
                assert!(refused, "unit {first}, {len} of them: {added:?}");
            }
        }
    }
}

/// Three ranges that touch: first unit and units of each, and its placement.
type Three = [((u64, u64), Placement); 3];

/// Runs a test with each placement of the range in the middle, which is within a block or ends two blocks on, and of the
/// others; and with each order of the three adds that matters.
fn in_each_way<S: Shape>(make: impl Fn() -> Rig<S>, run: impl Fn(Rig<S>, Three, u64) -> bool) {
    let per_block = make().per_block;
    for (one, other) in
        Placement::ALL.into_iter().flat_map(|one| Placement::ALL.map(|other| (one, other)))
    {
        for (first, len) in [(1, 2), (1, per_block + 1)] {
            let three = [((0, first), other), ((first, len), one), ((first + len, 1), other)];
            for order in [[0, 1, 2], [1, 2, 0]] {
                let mut nth = 1;
                loop {
                    let rig = make();
                    for (at, placement) in order.map(|index| three[index]) {
                        rig.add(rig.units(at.0, at.1), placement).unwrap();
                    }
                    if !run(rig, three, nth) {
                        break;
                    }
                    nth += 1;
                }
                assert!(nth > 2, "only {nth} calls");
            }
        }
    }
}

/// The range in the middle is not unmapped, since the `nth` call fails; whether there are so many calls.
fn refuses<S: Shape>(rig: Rig<S>, three: Three, nth: u64) -> bool {
    let (first, len) = three[1].0;
    let before = rig.facts();
    rig.mm.machine().arm(nth);
    let removed = rig.mm.remove(rig.units(first, len));
    let fired = rig.mm.machine().fired();
    rig.mm.machine().arm(0);
    assert_eq!(removed.is_err(), fired);
    assert_eq!(rig.mm.verify_machine(), Ok(()));
    if fired {
        assert_same(&before, &rig.facts());
        rig.use_all();
        rig.mm.remove(rig.units(first, len)).unwrap();
    }
    rig.use_all();
    assert_eq!(rig.mm.verify_machine(), Ok(()));
    fired
}

/// The same while a CPU does not acknowledge a flush: from the third call on it is mapped again, and if that fails it
/// stays hidden.
fn loses<S: Shape>(rig: Rig<S>, three: Three, nth: u64) -> bool {
    let [low, middle, high] = three.map(|(at, _)| at);
    let before = rig.facts();
    rig.silence(true);
    rig.mm.machine().arm(nth);
    rig.mm.remove(rig.units(middle.0, middle.1)).unwrap_err();
    let fired = rig.mm.machine().fired();
    rig.mm.machine().arm(0);
    rig.silence(false);
    if !fired || nth <= 2 {
        assert_same(&before, &rig.facts());
        rig.use_all();
        rig.mm.remove(rig.units(middle.0, middle.1)).unwrap();
        rig.use_all();
        assert_eq!(rig.mm.verify_machine(), Ok(()));
        return fired;
    }
    // Its neighbours are as they were, and go in both orders.
    rig.is_hidden(middle);
    rig.use_all();
    for at in if nth.is_multiple_of(2) { [low, high] } else { [high, low] } {
        rig.mm.remove(rig.units(at.0, at.1)).unwrap();
        rig.is_hidden(middle);
        rig.use_all();
    }
    true
}

macro_rules! on_each {
    ($run:expr) => {{
        in_each_way(|| Rig::<Tiny>::new(16 * MIB, MIB, TINY_WINDOW), $run);
        in_each_way(|| Rig::<Tiny>::new(16 * MIB, 4 * MIB, TINY_WINDOW), $run);
        in_each_way(|| Rig::<TinyShared>::new(16 * MIB, MIB, TINY_WINDOW), $run);
        in_each_way(|| Rig::<Granule16>::new(256 * MIB, 256 * MIB, 4 << 30), $run);
        in_each_way(|| Rig::<Lmb>::new(512 * MIB, 256 * MIB, 4 << 30), $run);
    }};
}

#[test]
fn a_removal_beside_other_memory_that_the_mapper_refuses_changes_nothing() {
    on_each!(refuses);
}

#[test]
fn memory_that_cannot_be_mapped_again_stays_hidden_beside_memory_that_lives_on() {
    on_each!(loses);
}
