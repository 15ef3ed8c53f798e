//! Scenarios as data: acts on plugged memory, and the outcome of each.
//!
//! Two drivers play each scenario: `tests/tests/manager/scripts.rs` on the fake machine, which finds every missing
//! flush, and `xtask/src/suite/scripts.rs` at the monitor of the image in QEMU. What only one of them can check is a
//! test there.
//!
//! This file is compiled into both, and uses nothing but `core` and `alloc`.

/// Blocks of memory that is plugged before the first act; not yet added.
pub const BLOCKS: u64 = 8;
/// All of them.
const ALL: Blocks = (0, BLOCKS);

/// Neighbours among them: the first, and how many.
pub type Blocks = (u64, u64);

/// The placement of the memmap of added memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memmap {
    /// At the start of the range.
    Range,
    /// At the start of each block.
    Block,
}

/// One act, or one check. After each, every invariant holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Adds blocks. While self-hosting is allowed, the add takes no memory elsewhere.
    Add(Blocks, Memmap),
    /// Removes blocks; over the script, removes free the memory elsewhere that its adds took.
    Remove(Blocks),
    /// The removal is refused, with an error that contains this text.
    RemoveRefused(Blocks, &'static str),
    /// Brings a block online.
    Online(u64),
    /// Takes it offline.
    Offline(u64),
    /// Gives each block of a range that was added in one piece a memmap of its own.
    Convert(Blocks),
    /// Whether added memory may host its own memmap; it may at the start.
    SelfHosting(bool),
    /// Saves the state of memory.
    Save,
    /// The state of memory is that of the last `Save`.
    Same,
}
use Act::{Add, Convert, Offline, Online, Remove, RemoveRefused, Same, Save, SelfHosting};

/// Calls the macro `$driver` with the names of all scripts.
#[macro_export]
macro_rules! each_script {
    ($driver:ident) => {
        $driver! {
            at01_the_first_block_of_a_device_range_is_not_removed_alone,
            at02_no_other_piece_of_a_device_range_is_removed_alone,
            at03_blocks_with_their_own_memmap_are_removed_in_any_order,
            at06_memory_with_its_memmap_elsewhere_is_not_removed_with_memory_that_hosts_it,
            at15_blocks_are_removed_in_every_order_after_any_use,
            a_converted_device_range_is_removed_block_by_block,
        }
    };
}

/// Pieces of a range that was added under one memmap cannot be removed, even after the range was in use.
fn pieces_stay(pieces: &[Blocks]) -> Vec<Act> {
    let why = "can only be removed together";
    let refused = || pieces.iter().map(|&piece| RemoveRefused(piece, why)).chain([Same]);
    let all = || 0..BLOCKS;
    let mut acts = vec![Save, Add(ALL, Memmap::Range), Save];
    acts.extend(refused());
    acts.extend(all().map(Online).chain(all().map(Offline)));
    acts.extend(refused());
    acts.push(Remove(ALL));
    acts
}

/// AT1.
pub fn at01_the_first_block_of_a_device_range_is_not_removed_alone() -> Vec<Act> {
    pieces_stay(&[(0, 1), (0, 4), (0, 7)])
}

/// AT2.
pub fn at02_no_other_piece_of_a_device_range_is_removed_alone() -> Vec<Act> {
    let single = (1..BLOCKS).map(|block| (block, 1));
    pieces_stay(&single.chain([(1, 7), (2, 4)]).collect::<Vec<_>>())
}

/// AT3.
pub fn at03_blocks_with_their_own_memmap_are_removed_in_any_order() -> Vec<Act> {
    let mut acts = vec![Save];
    for order in orders(8) {
        acts.push(Add(ALL, Memmap::Block));
        acts.extend(order.into_iter().map(|block| Remove((block, 1))));
        acts.push(Same);
    }
    acts
}

/// AT6.
pub fn at06_memory_with_its_memmap_elsewhere_is_not_removed_with_memory_that_hosts_it() -> Vec<Act>
{
    let mut acts = vec![Save];
    for hosts_first in [true, false] {
        for memmap in [Memmap::Range, Memmap::Block] {
            acts.extend([SelfHosting(hosts_first), Add((0, 2), memmap)]);
            acts.extend([SelfHosting(!hosts_first), Add((2, 2), memmap)]);
            acts.push(RemoveRefused((0, 4), "keeps its memmap elsewhere"));
            acts.extend([Remove((0, 2)), Remove((2, 2)), SelfHosting(true), Same]);
        }
    }
    acts
}

/// AT15, for blocks of the machine's size.
pub fn at15_blocks_are_removed_in_every_order_after_any_use() -> Vec<Act> {
    let mut acts = vec![Save];
    for memmap in [Memmap::Range, Memmap::Block] {
        for (onlinings, order) in (0..3).zip(orders(3)) {
            let in_order = || order.iter().copied();
            acts.push(Add(ALL, memmap));
            for _ in 0..onlinings {
                acts.extend(in_order().map(Online).chain(in_order().map(Offline)));
            }
            match memmap {
                Memmap::Range => acts.push(Remove(ALL)),
                Memmap::Block => acts.extend(in_order().map(|block| Remove((block, 1)))),
            }
            acts.push(Same);
        }
    }
    acts
}

/// AT1, after a conversion.
pub fn a_converted_device_range_is_removed_block_by_block() -> Vec<Act> {
    let mut acts = vec![Save];
    for order in orders(5).skip(2) {
        acts.extend([Add(ALL, Memmap::Range), Online(1), Online(4), Convert(ALL)]);
        acts.extend([Offline(1), Offline(4)]);
        acts.extend(order.into_iter().map(|block| Remove((block, 1))));
        acts.push(Same);
    }
    acts
}

/// This many orders of all blocks: ascending, descending, and shuffled ones that are the same in every run.
fn orders(count: u64) -> impl Iterator<Item = Vec<u64>> {
    (0..count).map(|number| match number {
        0 => (0..BLOCKS).collect(),
        1 => (0..BLOCKS).rev().collect(),
        seed => shuffled(seed),
    })
}

/// All blocks, shuffled by `seed` (Fisher and Yates, with xorshift64 as the source).
fn shuffled(seed: u64) -> Vec<u64> {
    let mut order: Vec<u64> = (0..BLOCKS).collect();
    // The odd factor spreads neighbouring seeds; the generator must not start at 0.
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for last in (1..order.len()).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let chosen = usize::try_from(state % (last as u64 + 1)).unwrap_or(last);
        order.swap(chosen, last);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_order_has_all_blocks_and_no_two_are_alike() {
        let mut all: Vec<_> = orders(8).collect();
        for order in &all {
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 2, 3, 4, 5, 6, 7]);
        }
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 8);
    }
}
