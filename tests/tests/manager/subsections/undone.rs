//! Removals beside other memory of the same blocks that fail half-way: a CPU does not acknowledge the flush.

use hotmem::paging::{NotFlushed, UnmapError};
use hotmem::testing::{Granule16, Lmb, Shape, TinyShared};
use hotmem::{Fact, PhysRange, Placement, RemoveError};
use hotmem_tests::memory::{MIB, TINY_WINDOW, assert_same, small, tiny, tiny_without_reserve};

use super::Rig;

/// The CPU, of three, that does not acknowledge.
const SILENT: NotFlushed = NotFlushed { cpu: 2 };

fn silence<S: Shape>(rig: &Rig<S>, silent: bool) {
    let mmu = rig.bench.mm.machine().mmu();
    if silent {
        mmu.speculate();
    }
    mmu.silence(silent.then_some(SILENT.cpu));
}

/// The facts that stranded pages do not change.
fn facts<S: Shape>(rig: &Rig<S>) -> Vec<Fact> {
    let stays = |fact: &Fact| match fact {
        Fact::Block(block) => !block.boot,
        Fact::Free(_) | Fact::Frames(..) | Fact::Zone(..) | Fact::Node(_) => false,
        _ => true,
    };
    rig.bench.snapshot().into_iter().filter(stays).collect()
}

/// Adds three ranges that touch, in the order of `adds`; each fails to be removed, and changes nothing. Then they go.
fn fails_and_goes<S: Shape>(
    rig: &Rig<S>,
    dimms: [(PhysRange, Placement); 3],
    adds: [usize; 3],
    removes: [usize; 3],
) {
    for nth in adds {
        rig.bench.add(dimms[nth].0, dimms[nth].1);
    }
    for nth in removes {
        let (dimm, _) = dimms[nth];
        let before = facts(rig);
        silence(rig, true);
        let error = RemoveError::Unmap(UnmapError::NotFlushed(SILENT));
        assert_eq!(rig.bench.mm.remove(dimm), Err(error));
        assert_eq!(rig.bench.mm.verify(), Ok(()));
        assert_same(&before, &facts(rig));
        silence(rig, false);
        rig.bench.check();
        rig.bench.remove(dimm);
    }
}

fn undone<S: Shape>(rig: &Rig<S>) {
    rig.bench.mm.machine().mmu().start_cpus(3);
    let per_block = rig.per_block();
    for (one, other) in
        Placement::ALL.into_iter().flat_map(|one| Placement::ALL.map(|other| (one, other)))
    {
        // The one in the middle is within a block, or ends two blocks on.
        for (first, len) in [(1, 2), (1, 2 * per_block), (per_block - 1, 2)] {
            let end = first + len;
            let dimms = [
                (rig.units(0, first), other),
                (rig.units(first, len), one),
                (rig.units(end, 1), other),
            ];
            for (adds, removes) in
                [([0, 1, 2], [1, 0, 2]), ([1, 2, 0], [1, 2, 0]), ([2, 0, 1], [0, 1, 2])]
            {
                fails_and_goes(rig, dimms, adds, removes);
            }
        }
    }
}

#[test]
fn a_removal_beside_other_memory_that_is_not_acknowledged_changes_nothing() {
    undone(&Rig::over(tiny(MIB), MIB, TINY_WINDOW));
    undone(&Rig::over(tiny_without_reserve(4 * MIB), 4 * MIB, TINY_WINDOW));
    undone(&Rig::over(small::<TinyShared>(MIB), MIB, TINY_WINDOW));
    undone(&Rig::<Granule16>::new(256 * MIB, 256 * MIB, 4 << 30));
    undone(&Rig::<Lmb>::new(512 * MIB, 256 * MIB, 4 << 30));
}
