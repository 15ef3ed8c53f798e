//! Invalid numbers, passed to every function that takes a number: none panics, and nothing changes.

// UNSAFETY: asks for mappings that are refused.
#![expect(unsafe_code)]

use hotmem::paging::{Attr, Mapping};
use hotmem::testing::{Bench, Random, Shape, Tag};
use hotmem::{
    BlockId, NodeId, OnlineAs, Order, Pfn, PfnRange, PhysAddr, PhysRange, Piece, Placement,
    PoisonError, Request, VirtAddr, VirtRange, ZoneKind,
};

/// Numbers around powers of two and around the ends.
fn number(random: &mut Random) -> u64 {
    let power = 1_u64 << random.below(64);
    let near = random.below(3);
    match random.below(5) {
        0 => power.wrapping_add(near),
        1 => power.wrapping_sub(near),
        2 => power.wrapping_neg().wrapping_add(near),
        3 => near,
        _ => u64::MAX - near,
    }
}

fn phys_range(random: &mut Random) -> PhysRange {
    let (start, len) = (PhysAddr::new(number(random)), number(random));
    PhysRange::new(start, len)
        .unwrap_or_else(|| PhysRange::new(start, start.get().wrapping_neg()).unwrap_or_default())
}

/// Makes one call that must change nothing.
pub(super) fn call<S: Shape>(bench: &Bench<S>, random: &mut Random) {
    match random.below(4) {
        0 => look(bench, random),
        1 => allocate(bench, random),
        2 => operate(bench, random),
        _ => map(bench, random),
    }
}

fn look<S: Shape>(bench: &Bench<S>, random: &mut Random) {
    let mm = &bench.mm;
    let (pfn, id, range) =
        (Pfn::new(number(random)), BlockId::new(number(random)), phys_range(random));
    let (block, limit) = (mm.block_size().bytes(), S::PHYS_LIMIT.get());
    if pfn.get() > limit / 4096 {
        assert_eq!((mm.page_info(pfn), mm.group(pfn)), (None, None));
    }
    if id.get() > limit / block {
        assert_eq!(mm.block(id), None);
        let _ = mm.explain_offline(id);
    }
    let _ = (mm.page_info(pfn), mm.group(pfn), mm.private(pfn), mm.block(id), mm.block_range(id));
    let _ = (mm.explain_remove(range), mm.auto_zone(&[range, range], NodeId::ZERO));
    let _ = mm.zone_of(range, NodeId::ZERO, OnlineAs::Default);
    let _ = (mm.blocks_in(range).next(), mm.blocks_in(range).next_back(), mm.linear_virt(range));
    let _ = (mm.walk(VirtAddr::new(number(random))), mm.memmap_virt(PfnRange::new(pfn, 1)));
}

fn allocate<S: Shape>(bench: &Bench<S>, random: &mut Random) {
    let (mm, pfn) = (&bench.mm, Pfn::new(number(random)));
    let order = Order::new(random.below(Order::COUNT as u64) as u8).unwrap_or(Order::MAX);
    let align = Order::new(random.below(Order::COUNT as u64) as u8).unwrap_or(Order::MAX);
    let request = Request::from(order).aligned(align).below(Pfn::new(number(random)));
    drop(mm.alloc(request.with_private(number(random))));
    // Fails for any page: no page in this storm has this owner.
    assert!(mm.free_movable(pfn, &bench.stubborn).is_err());
    assert!(mm.with_meta(pfn, number(random), &bench.stubborn, Tag::get).is_err());
}

fn operate<S: Shape>(bench: &Bench<S>, random: &mut Random) {
    let (mm, id, range) = (&bench.mm, BlockId::new(number(random)), phys_range(random));
    let (block, limit) = (mm.block_size().bytes(), S::PHYS_LIMIT.get());
    let bytes = number(random);
    let odd = |unit| !range.start().is_aligned(unit) || !range.len().is_multiple_of(unit);
    if odd(mm.subsection()) || range.end().get() > limit {
        assert!(mm.hot_add(range, NodeId::ZERO, *random.pick(&Placement::ALL)).is_err());
        assert!(mm.remove(range).is_err());
    }
    if odd(block) || range.end().get() > limit {
        assert!(mm.convert(range).is_err());
    }
    if id.get() > limit / block {
        assert!(mm.online(id, ZoneKind::Movable).is_err() && mm.offline(id).is_err());
        assert!(mm.cancel_offline(id).is_err());
        let piece = Piece { node: NodeId::ZERO, first: id, last: BlockId::new(u64::MAX) };
        assert!(mm.take(&[piece]).is_err() && mm.take(&[piece, piece]).is_err());
    }
    if !bytes.is_multiple_of(block) || bytes > limit {
        assert!(mm.take_contig(NodeId::ZERO, bytes).is_err());
    }
    let pfn = Pfn::new(number(random).max(limit));
    let refused = mm.poison(pfn);
    assert!(matches!(refused, Err(PoisonError::NotMemory(_) | PoisonError::Busy)), "{refused:?}");
}

fn map<S: Shape>(bench: &Bench<S>, random: &mut Random) {
    let (virt, phys) = (VirtAddr::new(number(random)), PhysAddr::new(number(random)));
    let (len, max_leaf) = (number(random).min(1 << 22), number(random));
    let mapping = Mapping { virt, phys, len, attr: Attr::DEVICE, max_leaf };
    let range = VirtRange::new(virt, len).unwrap_or_default();
    // SAFETY: no test uses the addresses, nor the memory through them.
    if unsafe { bench.mm.map_own(&mapping) }.is_ok() && !range.is_empty() {
        // SAFETY: as above.
        let unmapped = unsafe { bench.mm.unmap_own(range) };
        assert_eq!(unmapped, Ok(()), "{range}");
    }
    let tiny = VirtRange::new(virt, number(random)).unwrap_or_default();
    let mapped = bench.mm.walk(virt).leaf.is_some();
    if !mapped && tiny.len() < 4096 {
        // SAFETY: no page is mapped there.
        let _ = unsafe { bench.mm.unmap_own(tiny) };
    }
}
