//! Page tables behind a lock that is not re-entrant: no operation and no query calls the mapper from inside the
//! mapper. The fake machine's mapper has such a lock, and fails the test where a kernel would hang.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use hotmem::paging::Mapper;
use hotmem::testing::{Bench, Setup, Shape, Tiny, TinyShared, range};
use hotmem::{NodeId, Order, PhysRange, Placement, TakeList, ZoneKind};
use hotmem_tests::memory::{MIB, TINY_WINDOW, assert_same};

/// 16 MiB of boot memory, the upper half of it movable.
fn boot<S: Shape>() -> Bench<S> {
    Bench::new(&Setup {
        ram: vec![(0, 16 * MIB, 0)],
        block: MIB,
        window: (TINY_WINDOW, 64 * MIB),
        kernelcore: Some(8 * MIB),
    })
}

fn dimm() -> PhysRange {
    range(TINY_WINDOW, 4 * MIB)
}

/// Calls every query.
fn look<S: Shape>(bench: &Bench<S>) {
    bench.check();
    assert_eq!(bench.mm.verify(), Ok(()));
    let (mut runs, mut facts) = (0, bench.snapshot().len());
    bench.mm.dump(&mut |_| runs += 1);
    bench.mm.try_dump(&mut |_| runs += 1).unwrap();
    facts += bench.mm.walk(S::LINEAR_BASE).tables().count();
    assert!(runs > 0 && facts > 0);
    for id in bench.blocks(dimm()) {
        let _ = (bench.mm.explain_offline(id), bench.mm.block(id));
    }
    let _ = bench.mm.explain_remove(dimm());
}

fn live<S: Shape>(placement: Placement) {
    let bench = boot::<S>();
    look(&bench);
    let before = bench.snapshot();
    bench.plug(dimm());
    bench.add(dimm(), placement);
    look(&bench);
    bench.online(dimm());
    look(&bench);
    let held = bench.alloc_movable_zone(Order::ZERO).unwrap();
    bench.mm.compact(NodeId::ZERO, ZoneKind::Movable, Order::new(3).unwrap()).unwrap();
    bench.mm.free_pages(held).unwrap();
    if placement == Placement::PerRange {
        assert_eq!(bench.mm.convert(dimm()), Ok(4));
        look(&bench);
    }
    bench.offline(dimm());
    look(&bench);
    bench.remove(dimm());
    bench.unplug(dimm());
    assert_same(&before, &bench.snapshot());

    for id in 9..12 {
        bench.mm.offline(hotmem::BlockId::new(id)).unwrap();
    }
    let list = TakeList::parse("0:9-11").unwrap();
    assert_eq!(bench.mm.take(list.pieces()), Ok(3));
    look(&bench);
    assert_eq!(bench.mm.release(), Ok(3));
    bench.mm.take_contig(NodeId::ZERO, 2 * MIB).unwrap();
    look(&bench);
    assert_eq!(bench.mm.release(), Ok(2));
    let page = bench.mm.take_pages(Order::ZERO).unwrap();
    bench.mm.free_pages(page).unwrap();
    bench.mm.poison(page).unwrap();
    look(&bench);
}

#[test]
fn no_operation_or_query_calls_the_mapper_from_inside_itself() {
    for placement in Placement::ALL {
        live::<Tiny>(placement);
        live::<TinyShared>(placement);
    }
}

#[test]
fn an_add_that_fails_does_not_call_the_mapper_from_inside_itself() {
    let bench = boot::<Tiny>();
    bench.plug(dimm());
    let before = bench.snapshot();
    for placement in Placement::ALL {
        for failing in 1.. {
            bench.mm.machine().plan().arm(failing);
            let added = bench.mm.hot_add(dimm(), NodeId::ZERO, placement);
            bench.mm.machine().plan().disarm();
            look(&bench);
            if added.is_ok() {
                bench.remove(dimm());
                break;
            }
            assert_same(&before, &bench.snapshot());
        }
    }
    let leaf = bench.mm.tables().translate(Tiny::LINEAR_BASE);
    assert!(leaf.is_some());
}
