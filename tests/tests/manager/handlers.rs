//! The functions that interrupt handlers may call, and the report when they call others.

// UNSAFETY: maps unused addresses, in a call that is refused.
#![expect(unsafe_code)]

use hotmem::paging::{Attr, Mapping};
use hotmem::testing::{Bench, Holder, Setup, Tiny, as_handler, range};
use hotmem::{
    AutoOnline, BlockId, Change, Event, Listen, Listener, NodeId, Order, PhysAddr, Placement,
    TakeList, VirtAddr, VirtRange, ZoneKind,
};
use std::panic::{AssertUnwindSafe, catch_unwind};

const MIB: u64 = 1 << 20;
const DIMM: u64 = 64 * MIB;

fn bench() -> Bench<Tiny> {
    let ram = [(0, 16 * MIB, 0)].into();
    let bench =
        Bench::new(&Setup { ram, block: MIB, window: (DIMM, 8 * MIB), kernelcore: Some(8 * MIB) });
    bench.plug(range(DIMM, 4 * MIB));
    bench.add(range(DIMM, 2 * MIB), Placement::PerBlock);
    bench.online(range(DIMM, 2 * MIB));
    bench
}

#[test]
fn a_handler_may_allocate_free_look_up_and_record_bad_pages() {
    let bench = bench();
    let (mm, holder) = (&bench.mm, Holder::register(&bench));
    as_handler(|| {
        let pages = mm.alloc(Order::ZERO).unwrap();
        let moving = holder.take(&bench, Order::ZERO).unwrap();
        let (pfn, _) = holder.at(moving).unwrap();
        assert!(mm.page_info(pfn).is_some() && mm.block(BlockId::new(64)).is_some());
        assert!(mm.blocks().count() > 0 && mm.zones().count() > 0 && mm.stats().pages.free > 0);
        holder.release(&bench, moving);
        mm.drain_caches();
        mm.set_auto_online(AutoOnline::Offline);
        assert_eq!((mm.offlining(), mm.try_dump(&mut |_| ())), (None, Ok(())));
        mm.poison_later(pages.pfn()).unwrap();
    });
    bench.check();
}

struct Ear;

impl Listen for Ear {
    fn notify(&self, _: Event, _: &Change) -> Result<(), &'static str> {
        Ok(())
    }
}

static LISTENER: Listener = Listener::new("ear", 0, &Ear);

/// Checks that `call` is reported if, and only if, a handler makes it.
#[track_caller]
fn reported<R>(what: &str, call: impl Fn() -> R) {
    let died = catch_unwind(AssertUnwindSafe(|| _ = as_handler(&call))).err();
    let text = died.and_then(|died| died.downcast::<&str>().ok());
    assert!(text.is_some_and(|text| text.starts_with("a handler begins a memory")), "{what}");
    let _ = call();
}

#[test]
fn operations_and_queries_report_a_handler_that_begins_one() {
    let bench = bench();
    let mm = &bench.mm;
    let (dimm, more) = (range(DIMM, 2 * MIB), range(DIMM + 2 * MIB, MIB));
    let (online, boot) = (BlockId::new(64), BlockId::new(15));
    let outside = VirtAddr::new(0xc000_0000);
    let page = VirtRange::new(outside, 4096).unwrap();
    reported("verify", || mm.verify().unwrap());
    reported("verify_machine", || mm.verify_machine().unwrap());
    reported("dump", || mm.dump(&mut |_| ()));
    reported("snapshot", || mm.snapshot(&mut |_| ()));
    reported("explain_remove", || mm.explain_remove(dimm));
    reported("explain_offline", || mm.explain_offline(online));
    reported("check_remove", || mm.check_remove(dimm));
    reported("walk", || mm.walk(outside));
    reported("add", || mm.hot_add(more, NodeId::ZERO, Placement::Boot));
    reported("online", || mm.online(BlockId::new(66), ZoneKind::Movable));
    reported("offline", || mm.offline(BlockId::new(66)));
    reported("remove", || mm.remove(more));
    reported("convert", || mm.convert(dimm));
    reported("cancel_offline", || mm.cancel_offline(online));
    reported("take", || mm.take(TakeList::parse("0:15").unwrap().pieces()));
    reported("take_contig", || mm.take_contig(NodeId::ZERO, MIB));
    reported("release", || mm.release());
    reported("compact", || mm.compact(NodeId::ZERO, ZoneKind::Movable, Order::ZERO));
    reported("poison", || mm.poison(mm.block(boot).unwrap().pfns.start));
    reported("listen", || mm.listen(&LISTENER));
    reported("unlisten", || mm.unlisten(&LISTENER));
    let mapping = Mapping {
        virt: outside,
        phys: PhysAddr::new(0),
        len: 4096,
        attr: Attr::empty(),
        max_leaf: 4096,
    };
    // SAFETY: the addresses are not in use, and the page is only read.
    reported("map_own", || unsafe { mm.map_own(&mapping) });
    // SAFETY: the addresses are not in use.
    reported("unmap_own", || unsafe { mm.unmap_own(page) });
    reported("start_offline", || mm.start_offline(online));
    bench.check();
}
