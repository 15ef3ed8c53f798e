//! A picture of a hot-added range: which blocks it has, where its memmap lies, what is usable.
//!
//! ```text
//!   block  32     0x100000000  |MMMM............................|  online  16 MiB memmap, 112 MiB usable
//!   blocks 33-39  0x108000000  |................................|  online  128 MiB usable, each
//! ```
//! Everything in it comes from what the kernel reported. Neighbours that look alike share a row.

use std::collections::BTreeMap;

use crate::machine::{Add, Online};
use crate::size::human;

/// Characters in the bar of one block.
const BAR: u64 = 32;

/// One memory block.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Block {
    number: u64,
    start: u64,
    size: u64,
    state: String,
    /// Bytes of it that hold page descriptors of the range.
    memmap: u64,
    /// Offset of the first of them.
    memmap_offset: u64,
    managed: u64,
}

/// Draws the range of `add` with the blocks of `online`; `states` are the blocks' states as the kernel lists them.
pub(crate) fn draw(
    add: &Add,
    online: &[Online],
    states: &BTreeMap<u64, String>,
    page_size: u64,
) -> Vec<String> {
    let blocks = blocks(add, online, states, page_size);
    let rows = runs(&blocks);
    let names: Vec<String> = rows.iter().map(|row| name(row)).collect();
    let width = names.iter().map(String::len).max().unwrap_or_default();
    let state_width = blocks.iter().map(|block| block.state.len()).max().unwrap_or_default();

    rows.iter()
        .zip(&names)
        .filter_map(|(row, name)| {
            let block = row.first()?;
            let each = if row.len() > 1 { ", each" } else { "" };
            Some(format!(
                "{name:<width$}  {start:#x}  |{bar}|  {state:<state_width$}  {contents}{each}",
                start = block.start,
                bar = bar(block),
                state = block.state,
                contents = contents(block),
            ))
        })
        .collect()
}

/// The blocks of a range in order.
fn blocks(
    add: &Add,
    online: &[Online],
    states: &BTreeMap<u64, String>,
    page_size: u64,
) -> Vec<Block> {
    let mut blocks: Vec<_> = online.iter().flat_map(|step| &step.blocks).collect();
    blocks.sort_by_key(|block| block.block);
    let size = add.size() / u64::try_from(blocks.len().max(1)).unwrap_or(1);

    (0..)
        .zip(blocks)
        .map(|(index, block)| {
            let start = add.start() + index * size;
            let (memmap_offset, memmap) = memmap_in(add, start, size, page_size);
            let state = states.get(&block.block).unwrap_or(&block.state).clone();
            Block {
                number: block.block,
                start,
                size,
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
        let look =
            |block: &Block| (block.state.clone(), block.memmap, block.memmap_offset, block.managed);
        look(a) == look(b) && b.number == a.number + 1
    };
    blocks.chunk_by(alike).collect()
}

/// `block 32` or `blocks 33-39`.
fn name(row: &[Block]) -> String {
    match row {
        [] => String::new(),
        [one] => format!("block {}", one.number),
        [first, .., last] => format!("blocks {}-{}", first.number, last.number),
    }
}

/// One block to scale; anything that is there shows as at least one character.
fn bar(block: &Block) -> String {
    let filled = (block.memmap * BAR).div_ceil(block.size.max(1)).min(BAR);
    let before = (block.memmap_offset * BAR / block.size.max(1)).min(BAR - filled);
    let rest = if block.managed > 0 { '.' } else { ' ' };
    (0..BAR).map(|at| if (before..before + filled).contains(&at) { 'M' } else { rest }).collect()
}

fn contents(block: &Block) -> String {
    match (block.memmap, block.managed) {
        (0, managed) => format!("{} usable", human(managed)),
        (memmap, 0) => format!("{} memmap, nothing else", human(memmap)),
        (memmap, managed) => format!("{} memmap, {} usable", human(memmap), human(managed)),
    }
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
        draw(&add, &[online], &BTreeMap::new(), 4096)
    }

    #[test]
    fn a_memmap_at_the_start_of_the_range_is_drawn_to_scale() {
        assert_eq!(
            drawn(8, &[(0, 4096)]),
            [
                "block 32      0x100000000  |MMMM............................|  online  16 MiB memmap, 112 MiB usable",
                "blocks 33-39  0x108000000  |................................|  online  128 MiB usable, each",
            ]
        );
    }

    #[test]
    fn a_memmap_in_each_block_makes_one_row() {
        let groups: Vec<_> = (0..8).map(|block| (block, 512)).collect();
        assert_eq!(
            drawn(8, &groups),
            [
                "blocks 32-39  0x100000000  |M...............................|  online  2 MiB memmap, 126 MiB usable, each"
            ]
        );
    }

    #[test]
    fn a_block_that_is_all_memmap_says_so() {
        let rows = drawn(64, &[(0, 32768)]);
        assert_eq!(
            rows[0],
            "block 32      0x100000000  |MMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMM|  online  128 MiB memmap, nothing else"
        );
        assert_eq!(rows.len(), 2);
    }

    #[test]
    fn a_memmap_in_boot_memory_leaves_the_range_clean() {
        assert_eq!(
            drawn(1, &[]),
            ["block 32  0x100000000  |................................|  online  128 MiB usable"]
        );
    }

    #[test]
    fn the_state_is_the_one_the_kernel_lists_now() {
        let (add, online) = range(2, &[]);
        let states = BTreeMap::from([(33, String::from("offline"))]);
        let rows = draw(&add, &[online], &states, 4096);
        assert!(rows.len() == 2 && rows[1].contains("|  offline  "), "{rows:?}");
    }
}
