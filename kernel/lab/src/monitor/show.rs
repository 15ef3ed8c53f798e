//! Blocks, counts and zones, as text and as JSON.

use core::fmt::{self, Write};
use hotmem::{Block, BlockState, Machine, Mm, PageCounts, Shares, ZoneInfo};
use hotmem_hotplug::{JsonString, OrNull, json_list};

/// Bytes with the largest unit that divides them.
struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
        let fits = |&&(shift, _): &&(u32, &str)| self.0 != 0 && self.0.trailing_zeros() >= shift;
        match units.iter().find(fits) {
            Some(&(shift, unit)) => write!(f, "{} {unit}", self.0 >> shift),
            None => write!(f, "{} B", self.0),
        }
    }
}

/// The zone of a block that is online.
fn zone(block: &Block) -> Option<&'static str> {
    match block.state {
        BlockState::Online(kind) => Some(kind.name()),
        BlockState::Offline => None,
    }
}

/// `"present_bytes":...` and so on, without braces.
struct CountsJson<'c>(&'c PageCounts, u64);

impl fmt::Display for CountsJson<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(counts, page) = self;
        write!(
            f,
            "\"present_bytes\":{},\"managed_bytes\":{},\"memmap_bytes\":{},\"free_bytes\":{}",
            counts.present * page,
            counts.managed * page,
            counts.memmap * page,
            counts.free * page,
        )
    }
}

/// The blocks as one line of JSON: a list.
pub(super) fn blocks_json<M: Machine>(mm: &Mm<M>, out: &mut dyn Write) -> fmt::Result {
    let size = mm.block_size().bytes();
    json_list(out, mm.blocks(), |block, out| {
        let start = M::address(block.pfns.start).get();
        write!(
            out,
            "{{\"block\":{},\"start\":{start},\"size\":{size},\"state\":\"{}\",\"zone\":{},\
             \"node\":{},\"placement\":\"{}\",\"boot\":{},\"memmap_start\":{},\"shares\":",
            block.id.get(),
            block.state,
            OrNull(zone(&block).map(JsonString)),
            block.node.get(),
            block.placement,
            block.boot,
            OrNull(block.group.map(|head| M::address(head).get())),
        )?;
        block_shares_json(mm, &block, out)?;
        write!(out, ",{}}}", CountsJson(&block.counts, M::PAGE_BYTES))
    })?;
    writeln!(out)
}

/// The memory of a block, as a list of parts that were added apart.
fn block_shares_json<M: Machine>(mm: &Mm<M>, block: &Block, out: &mut dyn Write) -> fmt::Result {
    json_list(out, mm.block_shares(block.id), |share, out| {
        let (start, size) =
            (M::address(share.pfns.start).get(), share.pfns.pages() * M::PAGE_BYTES);
        write!(out, "{{\"start\":{start},\"size\":{size}}}")
    })
}

/// The blocks, as text.
pub(super) fn blocks_text<M: Machine>(mm: &Mm<M>, out: &mut dyn Write) -> fmt::Result {
    writeln!(
        out,
        "{:>7}  {:<18} {:<8} {:<8} {:<9} contents",
        "block", "start", "state", "zone", "memmap"
    )?;
    for block in mm.blocks() {
        let start = M::address(block.pfns.start);
        let origin = if block.boot { "boot" } else { block_placement(&block) };
        let counts = &block.counts;
        writeln!(
            out,
            "{:>7}  {:<#18x} {:<8} {:<8} {origin:<9} {} usable, {} free, {} memmap, {}",
            block.id.get(),
            start.get(),
            if zone(&block).is_some() { "online" } else { "offline" },
            zone(&block).unwrap_or("-"),
            Size(counts.managed * M::PAGE_BYTES),
            Size(counts.free * M::PAGE_BYTES),
            Size(counts.memmap * M::PAGE_BYTES),
            block.node,
        )?;
    }
    Ok(())
}

fn block_placement(block: &Block) -> &'static str {
    match block.placement {
        hotmem::Placement::PerRange => "device",
        hotmem::Placement::PerBlock => "block",
        hotmem::Placement::Boot => "system",
    }
}

/// What is in use of each block that has pages in use, as one line of JSON: a list.
pub(super) fn shares_json<M: Machine>(mm: &Mm<M>, out: &mut dyn Write) -> fmt::Result {
    let shares = mm.blocks().map(|block| (block.id, mm.shares(block.id)));
    let used = shares
        .filter(|(_, share)| share.movable + share.pinned + share.unmovable + share.offline > 0);
    json_list(out, used, |(id, Shares { free, movable, pinned, unmovable, offline }), out| {
        write!(
            out,
            "{{\"block\":{},\"free_bytes\":{},\"movable_bytes\":{},\"pinned_bytes\":{},\
             \"unmovable_bytes\":{},\"offline_bytes\":{}}}",
            id.get(),
            free * M::PAGE_BYTES,
            movable * M::PAGE_BYTES,
            pinned * M::PAGE_BYTES,
            unmovable * M::PAGE_BYTES,
            offline * M::PAGE_BYTES,
        )
    })?;
    writeln!(out)
}

/// What is in use of each block that is online, as text.
pub(super) fn shares_text<M: Machine>(mm: &Mm<M>, out: &mut dyn Write) -> fmt::Result {
    for block in mm.blocks().filter(|block| zone(block).is_some()) {
        let Shares { free, movable, pinned, unmovable, offline } = mm.shares(block.id);
        writeln!(
            out,
            "{:>7}  {} free, {} movable, {} pinned, {} unmovable, {} offline",
            block.id.get(),
            Size(free * M::PAGE_BYTES),
            Size(movable * M::PAGE_BYTES),
            Size(pinned * M::PAGE_BYTES),
            Size(unmovable * M::PAGE_BYTES),
            Size(offline * M::PAGE_BYTES),
        )?;
    }
    Ok(())
}

/// Counts over all memory as one line of JSON.
pub(super) fn stats_json<M: Machine>(
    mm: &Mm<M>,
    heap: (u64, u64),
    out: &mut dyn Write,
) -> fmt::Result {
    let stats = mm.stats();
    writeln!(
        out,
        "{{\"page_size\":{},\"section_size\":{},\"block_size\":{},\"blocks_online\":{},\
         \"blocks_offline\":{},{},\"system_bytes\":{},\"reserved_for_hotplug\":{},\
         \"reserve_free_bytes\":{},\"heap_used_bytes\":{},\"heap_free_bytes\":{}}}",
        M::PAGE_BYTES,
        M::SECTION_BYTES,
        mm.block_size().bytes(),
        stats.blocks.0,
        stats.blocks.1,
        CountsJson(&stats.pages, M::PAGE_BYTES),
        stats.system_pages * M::PAGE_BYTES,
        stats.reserve * M::PAGE_BYTES,
        stats.reserve_free * M::PAGE_BYTES,
        heap.0,
        heap.1,
    )
}

/// Counts over all memory, as text.
pub(super) fn stats_text<M: Machine>(
    mm: &Mm<M>,
    heap: (u64, u64),
    out: &mut dyn Write,
) -> fmt::Result {
    let stats = mm.stats();
    let bytes = |pages: u64| Size(pages * M::PAGE_BYTES);
    let block = Size(mm.block_size().bytes());
    writeln!(out, "blocks    {} online, {} offline, of {block}", stats.blocks.0, stats.blocks.1)?;
    let PageCounts { present, managed, memmap, free } = stats.pages;
    writeln!(out, "present   {}", bytes(present))?;
    writeln!(out, "managed   {}, {} free", bytes(managed), bytes(free))?;
    writeln!(out, "memmap    {} in the memory it describes", bytes(memmap))?;
    writeln!(out, "system    {} held by hotplug", bytes(stats.system_pages))?;
    let (reserve, left) = (bytes(stats.reserve), bytes(stats.reserve_free));
    writeln!(out, "reserve   {reserve} for tables, {left} free")?;
    writeln!(out, "heap      {} used, {} free", Size(heap.0), Size(heap.1))
}

/// The zones as one line of JSON: a list.
pub(super) fn zones_json<M: Machine>(mm: &Mm<M>, out: &mut dyn Write) -> fmt::Result {
    json_list(out, mm.zones(), |zone, out| {
        let ZoneInfo { node, kind, span, counts, isolated, extents, .. } = zone;
        let counts = CountsJson(&counts, M::PAGE_BYTES);
        write!(
            out,
            "{{\"node\":{},\"zone\":\"{kind}\",\"span\":[{},{}],{counts},\"isolated_bytes\":{},\"free_extents\":",
            node.get(),
            M::address(span.start).get(),
            M::address(span.end).get(),
            isolated * M::PAGE_BYTES
        )?;
        json_list(out, extents, |count, out| write!(out, "{count}"))?;
        write!(out, "}}")
    })?;
    writeln!(out)
}

/// The zones, as text.
pub(super) fn zones_text<M: Machine>(mm: &Mm<M>, out: &mut dyn Write) -> fmt::Result {
    for zone in mm.zones() {
        let PageCounts { present, managed, free, .. } = zone.counts;
        writeln!(
            out,
            "{} {}: {} to {}: {} present, {} managed, {} free",
            zone.node,
            zone.kind,
            M::address(zone.span.start),
            M::address(zone.span.end),
            Size(present * M::PAGE_BYTES),
            Size(managed * M::PAGE_BYTES),
            Size(free * M::PAGE_BYTES),
        )?;
        write!(out, "  free extents by order:")?;
        zone.extents.iter().try_for_each(|count| write!(out, " {count}"))?;
        writeln!(out)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_take_the_largest_unit_that_is_exact() {
        let shown = |bytes| Size(bytes).to_string();
        assert_eq!(shown(0), "0 B");
        assert_eq!(shown(4097), "4097 B");
        assert_eq!(shown(12 << 10), "12 KiB");
        assert_eq!(shown(112 << 20), "112 MiB");
        assert_eq!(shown(3 << 30), "3 GiB");
    }
}
