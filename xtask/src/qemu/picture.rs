//! A picture of a hot-added range: which blocks it has, where its memmap lies, what is usable.
//!
//! ```text
//! blocks  start        layout                              state   memmap  usable
//! 32      0x100000000  |MMMM............................|  online  16 MiB  112 MiB
//! 33-39   0x108000000  |................................|  online       -  128 MiB each
//! ```
//! A block that is only partly there has spaces where it is not. Everything in it comes from what the kernel reported. Neighbours that look alike share a row.

use std::collections::BTreeMap;

use super::page::INNER;
use crate::machine::{Add, Online};
use crate::size::human;

/// Characters in the bar of one block, if there is room for that many.
const BAR: usize = 32;
/// The bar's length is a multiple of this.
const STEP: usize = 8;
/// Above the columns. The bar is the third.
const HEADINGS: [&str; 6] = ["blocks", "start", "layout", "state", "memmap", "usable"];
/// Two columns are so far apart; the bar has two ends.
const GAPS: usize = 2 * (HEADINGS.len() - 1) + 2;

/// One memory block.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Block {
    number: u64,
    start: u64,
    size: u64,
    /// Offsets of the first byte that is memory of the range, and of the one behind the last.
    there: (u64, u64),
    state: String,
    /// Bytes of it that hold page descriptors of the range.
    memmap: u64,
    /// Offset of the first of them.
    memmap_offset: u64,
    managed: u64,
}

/// Draws the range of `add` with the blocks of `online`; `states` are the blocks' states as the kernel lists them,
/// `sizes` those of a page and of a block.
pub(crate) fn draw(
    add: &Add,
    online: &[Online],
    states: &BTreeMap<u64, String>,
    sizes: (u64, u64),
) -> Vec<String> {
    let blocks = blocks(add, online, states, sizes);
    let rows = runs(&blocks);
    let cells: Vec<_> = rows.iter().filter_map(|row| cells(row)).collect();
    let widths: [usize; 6] = std::array::from_fn(|column| {
        let cells = cells.iter().map(|cells| cells[column].len());
        cells.chain([HEADINGS[column].len()]).max().unwrap_or_default()
    });
    // The heading of the bar does not count: the bar is longer.
    let others = widths.iter().sum::<usize>() - widths[2] + GAPS;
    let bar = BAR.min(INNER.saturating_sub(others) / STEP * STEP).max(STEP);

    let line = |[name, start, layout, state, memmap, usable]: [&str; 6]| {
        let [w0, w1, _, w3, w4, _] = widths;
        let w2 = bar + 2;
        let line = format!(
            "{name:<w0$}  {start:<w1$}  {layout:<w2$}  {state:<w3$}  {memmap:>w4$}  {usable}"
        );
        line.trim_end().to_owned()
    };
    let drawn = rows.iter().zip(&cells).filter_map(|(row, cells)| {
        let layout = format!("|{}|", drawn_bar(row.first()?, bar as u64));
        let [name, start, _, state, memmap, usable] = cells.each_ref().map(String::as_str);
        Some(line([name, start, &layout, state, memmap, usable]))
    });
    [line(HEADINGS)].into_iter().chain(drawn).collect()
}

/// The row of blocks that look alike, without its bar.
fn cells(row: &[Block]) -> Option<[String; 6]> {
    let block = row.first()?;
    let size = |bytes| if bytes == 0 { "-".into() } else { human(bytes) };
    let each = if row.len() > 1 { " each" } else { "" };
    let usable = format!("{}{each}", size(block.managed));
    let start = format!("{:#x}", block.start + block.there.0);
    Some([name(row), start, String::new(), block.state.clone(), size(block.memmap), usable])
}

/// The blocks of a range in order.
fn blocks(
    add: &Add,
    online: &[Online],
    states: &BTreeMap<u64, String>,
    (page_size, size): (u64, u64),
) -> Vec<Block> {
    let mut blocks: Vec<_> = online.iter().flat_map(|step| &step.blocks).collect();
    blocks.sort_by_key(|block| block.block);

    blocks
        .into_iter()
        .map(|block| {
            let start = block.block * size;
            let (memmap_offset, memmap) = memmap_in(add, start, size, page_size);
            let first = add.start().max(start) - start;
            let end = add.end().min(start + size).saturating_sub(start);
            let state = states.get(&block.block).unwrap_or(&block.state).clone();
            Block {
                number: block.block,
                start,
                size,
                there: (first, end),
                state,
                memmap,
                memmap_offset,
                managed: block.managed_bytes,
            }
        })
        .collect()
}

/// Offset and number of the memmap bytes inside the block at `start`.
fn memmap_in(add: &Add, start: u64, size: u64, page_size: u64) -> (u64, u64) {
    let mut offset = 0;
    let mut bytes = 0;
    for group in &add.groups {
        let end = group.memmap_start + group.memmap_pages * page_size;
        let (from, to) = (group.memmap_start.max(start), end.min(start + size));
        if from < to {
            offset = if bytes == 0 { from - start } else { offset };
            bytes += to - from;
        }
    }
    (offset, bytes)
}

/// Neighbours that look alike, together.
fn runs(blocks: &[Block]) -> Vec<&[Block]> {
    let alike = |a: &Block, b: &Block| {
        let look = |block: &Block| {
            (block.state.clone(), block.there, block.memmap, block.memmap_offset, block.managed)
        };
        look(a) == look(b) && b.number == a.number + 1
    };
    blocks.chunk_by(alike).collect()
}

/// `32` or `33-39`.
fn name(row: &[Block]) -> String {
    match row {
        [] => String::new(),
        [one] => one.number.to_string(),
        [first, .., last] => format!("{}-{}", first.number, last.number),
    }
}

/// One block to scale; anything that is there shows as at least one character.
fn drawn_bar(block: &Block, length: u64) -> String {
    let size = block.size.max(1);
    let filled = (block.memmap * length).div_ceil(size).min(length);
    let before = (block.memmap_offset * length / size).min(length - filled);
    let there = block.there.0 * length / size..(block.there.1 * length).div_ceil(size);
    let mark = |at| match at {
        at if (before..before + filled).contains(&at) => 'M',
        at if block.managed > 0 && there.contains(&at) => '.',
        _ => ' ',
    };
    (0..length).map(mark).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Step;

    const MIB: u64 = 1 << 20;

    /// A range of `blocks` blocks of 128 MiB at block 32, with groups of (first block, pages).
    fn range(blocks: u64, groups: &[(u64, u64)]) -> (Add, Online) {
        let start = 32 * 128 * MIB;
        let groups: Vec<_> = groups
            .iter()
            .map(|&(block, pages)| serde_json::json!({"memmap_start": start + block * 128 * MIB, "memmap_pages": pages, "sections": 1}))
            .collect();
        let add = serde_json::json!({"start": start, "size": blocks * 128 * MIB, "node": 0, "placement": "device", "groups": groups, "system_bytes": 0});
        let add: Add = serde_json::from_value(add).unwrap();
        let blocks: Vec<_> = (0..blocks)
            .map(|index| {
                let memmap = memmap_in(&add, start + index * 128 * MIB, 128 * MIB, 4096).1;
                serde_json::json!({"block": 32 + index, "state": "online", "managed_bytes": 128 * MIB - memmap})
            })
            .collect();
        let online = serde_json::json!({"operation": "online", "blocks": blocks});
        let Step::Online(online) = serde_json::from_value(online).unwrap() else {
            panic!("not an online");
        };
        (add, online)
    }

    fn drawn(blocks: u64, groups: &[(u64, u64)]) -> Vec<String> {
        let (add, online) = range(blocks, groups);
        draw(&add, &[online], &BTreeMap::new(), (4096, 128 * MIB))
    }

    #[test]
    fn a_memmap_at_the_start_of_the_range_is_drawn_to_scale() {
        assert_eq!(
            drawn(8, &[(0, 4096)]),
            [
                "blocks  start        layout                      state   memmap  usable",
                "32      0x100000000  |MMM.....................|  online  16 MiB  112 MiB",
                "33-39   0x108000000  |........................|  online       -  128 MiB each",
            ]
        );
    }

    #[test]
    fn what_is_not_there_is_blank() {
        let add = serde_json::json!({"start": 33 * 128 * MIB - 32 * MIB, "size": 96 * MIB, "node": 0, "placement": "boot", "groups": [], "system_bytes": 0});
        let blocks = serde_json::json!([{"block": 32, "state": "online", "managed_bytes": 32 * MIB}, {"block": 33, "state": "online", "managed_bytes": 64 * MIB}]);
        let online = serde_json::json!({"operation": "online", "blocks": blocks});
        let Step::Online(online) = serde_json::from_value(online).unwrap() else {
            panic!("not an online");
        };
        let add: Add = serde_json::from_value(add).unwrap();
        assert_eq!(
            draw(&add, &[online], &BTreeMap::new(), (4096, 128 * MIB))[1..],
            [
                "32      0x106000000  |                  ......|  online       -  32 MiB",
                "33      0x108000000  |............            |  online       -  64 MiB",
            ]
        );
    }

    #[test]
    fn a_memmap_in_each_block_makes_one_row() {
        let groups: Vec<_> = (0..8).map(|block| (block, 512)).collect();
        let rows = drawn(8, &groups);
        assert_eq!(
            rows[1..],
            ["32-39   0x100000000  |M.......................|  online   2 MiB  126 MiB each"]
        );
    }

    #[test]
    fn a_block_that_is_all_memmap_says_so() {
        let rows = drawn(64, &[(0, 32768)]);
        assert_eq!(rows[1], "32      0x100000000  |MMMMMMMMMMMMMMMM|  online  128 MiB  -");
        assert_eq!(rows.len(), 3);
    }

    #[test]
    fn a_memmap_in_boot_memory_leaves_the_range_clean() {
        let rows = drawn(1, &[]);
        assert_eq!(
            rows[1..],
            ["32      0x100000000  |........................|  online       -  128 MiB"]
        );
    }

    #[test]
    fn the_state_is_the_one_the_kernel_lists_now() {
        let (add, online) = range(2, &[]);
        let states = BTreeMap::from([(33, String::from("offline"))]);
        let rows = draw(&add, &[online], &states, (4096, 128 * MIB));
        assert!(rows.len() == 3 && rows[2].contains("|  offline  "), "{rows:?}");
    }

    #[test]
    fn it_fits_whatever_the_numbers() {
        let (mut add, online) = range(8, &[(0, 4096)]);
        add.start = Some(0xfff_ffff_f000);
        let states: BTreeMap<_, _> = (32..40).map(|n| (n, String::from("going offline"))).collect();
        for row in draw(&add, &[online], &states, (4096, 128 * MIB)) {
            assert!(row.len() <= INNER, "{row}");
        }
    }
}
