//! Machines for the memory manager's suites, and comparisons of their memory before and after.
#![expect(clippy::panic, clippy::unreachable, reason = "a suite fails by a panic")]

use core::fmt::Debug;
use hotmem::testing::{Bench, Random, Setup, Shape, Tiny};
use hotmem::{BlockId, Fact, PhysAddr, PhysRange, VirtAddr};
use hotmem_arch::x86_64::pte::X86Pte4;

/// Bytes of a KiB.
pub const KIB: u64 = 1 << 10;
/// Bytes of a MiB.
pub const MIB: u64 = 1 << 20;
/// Bytes of a GiB.
pub const GIB: u64 = 1 << 30;

/// The sizes of the x86_64 kernel: 4 KiB pages, 128 MiB sections, its windows in the address space.
#[derive(Clone, Copy, Debug)]
pub struct Real;

impl Shape for Real {
    type Format = X86Pte4;
    const SECTION_SHIFT: u32 = 27;
    const LINEAR_BASE: VirtAddr = VirtAddr::new(0xffff_8000_0000_0000);
    const VMEMMAP_BASE: VirtAddr = VirtAddr::new(0xffff_c000_0000_0000);
    const PHYS_LIMIT: PhysAddr = PhysAddr::new(1 << 46);
}

/// The address where DIMMs are plugged into a [`Real`] machine: above 4 GiB, as PC firmware does it.
pub const REAL_WINDOW: u64 = 4 * GIB;

/// A machine of real sizes with `ram` bytes of boot memory, memory blocks of `block` bytes, and room
/// for `window` bytes of DIMMs from [`REAL_WINDOW`] on.
pub fn real(ram: u64, block: u64, window: u64) -> Bench<Real> {
    Bench::new(&Setup {
        ram: vec![(0, ram, 0)],
        block,
        window: (REAL_WINDOW, window),
        kernelcore: None,
    })
}

/// The address where DIMMs are plugged into a [`Tiny`] machine.
pub const TINY_WINDOW: u64 = 64 * MIB;

/// A small machine with memory blocks of `block` bytes, 16 MiB of boot memory, and room for 512 MiB
/// of DIMMs from [`TINY_WINDOW`] on.
pub fn tiny(block: u64) -> Bench<Tiny> {
    small(block)
}

/// The same of another shape: [`Tiny`], or like it.
pub fn small<S: Shape>(block: u64) -> Bench<S> {
    Bench::new(&Setup {
        ram: vec![(0, 16 * MIB, 0)],
        block,
        window: (TINY_WINDOW, 512 * MIB),
        kernelcore: None,
    })
}

/// As [`tiny`], but firmware names no window: every table comes out of the allocator.
pub fn tiny_without_reserve(block: u64) -> Bench<Tiny> {
    small_without_reserve(block)
}

/// The same of another shape: [`Tiny`], or like it.
pub fn small_without_reserve<S: Shape>(block: u64) -> Bench<S> {
    Bench::new(&Setup {
        ram: vec![(0, 16 * MIB, 0)],
        block,
        window: (TINY_WINDOW, 0),
        kernelcore: None,
    })
}

/// Fails unless two snapshots hold the same facts; names those that only one of them has.
///
/// # Panics
///
/// If they differ.
#[track_caller]
pub fn assert_same(before: &[Fact], after: &[Fact]) {
    if before == after {
        return;
    }
    let gone: Vec<_> = before.iter().filter(|fact| !after.contains(fact)).collect();
    let new: Vec<_> = after.iter().filter(|fact| !before.contains(fact)).collect();
    panic!("the snapshots differ\n  only before: {gone:#?}\n  only after: {new:#?}");
}

/// Runs `operation` with its first allocation failing, then its second, and so on, until a run meets no fault:
/// returns the result of that run, and the number of allocations that failed before.
///
/// The MMU caches every translation before each run. After a failed run the bench is checked and its snapshot is
/// compared with the one before. If a run succeeds without the allocation that failed, `undo` undoes it, and the
/// same comparison follows.
///
/// # Panics
///
/// If a run leaves a trace, or fails although no allocation failed.
#[track_caller]
pub fn fail_each_allocation<S: Shape, T, E: Debug>(
    bench: &Bench<S>,
    operation: impl Fn() -> Result<T, E>,
    undo: impl Fn(T),
) -> (T, u64) {
    let before = bench.snapshot();
    let plan = bench.mm.machine().plan();
    for failing in 1.. {
        bench.mm.machine().mmu().speculate();
        plan.arm(failing);
        let result = operation();
        let fired = plan.fired();
        plan.disarm();
        bench.check();
        match result {
            Ok(done) if !fired => return (done, failing - 1),
            Ok(done) => {
                undo(done);
                bench.check();
            }
            Err(error) => assert!(fired, "no allocation failed, and yet: {error:?}"),
        }
        assert_same(&before, &bench.snapshot());
    }
    unreachable!("the operation has an end")
}

/// The order in which the pieces of a range are removed.
#[derive(Clone, Copy, Debug)]
pub enum Sequence {
    /// Lowest first.
    Ascending,
    /// Highest first.
    Descending,
    /// Shuffled by the seed.
    Random(u64),
}

impl Sequence {
    /// One of each.
    pub const ALL: [Self; 3] = [Self::Ascending, Self::Descending, Self::Random(7)];

    /// Puts `items`, which are ascending, into this order.
    pub fn arrange<T>(self, mut items: Vec<T>) -> Vec<T> {
        match self {
            Self::Ascending => {}
            Self::Descending => items.reverse(),
            Self::Random(seed) => shuffle(&mut items, &mut Random::new(seed)),
        }
        items
    }
}

/// Shuffles `items` (Fisher and Yates).
pub fn shuffle<T>(items: &mut [T], random: &mut Random) {
    for last in (1..items.len()).rev() {
        items.swap(last, random.below(last as u64 + 1) as usize);
    }
}

/// The bytes of block `id`.
///
/// # Panics
///
/// If the block lies past the end of the address space.
#[track_caller]
pub fn block_range<S: Shape>(bench: &Bench<S>, id: BlockId) -> PhysRange {
    bench.mm.block_range(id).unwrap_or_else(|| panic!("{id} is past the end"))
}
