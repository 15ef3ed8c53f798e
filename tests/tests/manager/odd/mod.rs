//! Every operation in any order, on machines of odd sizes and places, with allocations that fail in between, and
//! with invalid numbers. Every invariant is checked after each step.

mod numbers;
mod wild;

use hotmem::testing::{Granule16, Lmb, Shape, Tiny, TinyShared};
use hotmem::{PhysAddr, VirtAddr};
use hotmem_arch::x86_64::pte::X86Pte4;
use hotmem_tests::memory::{GIB, KIB, MIB, Real};

use wild::{OPERATIONS, Place, Wild};

/// Memory blocks as small as x86_64 can have them.
#[derive(Clone, Copy, Debug)]
struct Fine;

impl Shape for Fine {
    type Format = X86Pte4;
    const SECTION_SHIFT: u32 = 21;
    const LINEAR_BASE: VirtAddr = Real::LINEAR_BASE;
    const VMEMMAP_BASE: VirtAddr = Real::VMEMMAP_BASE;
    const PHYS_LIMIT: PhysAddr = PhysAddr::new(64 * GIB);
}

/// The number of successes of each operation.
#[derive(Default)]
struct Done([u64; OPERATIONS.len()]);

impl Done {
    /// Runs a storm in each place.
    fn wild<S: Shape>(mut self, steps: u64, places: impl IntoIterator<Item = Place>) -> Self {
        for place in places {
            let mut wild = Wild::<S>::new(&place);
            let booted = wild.facts();
            wild.run(steps);
            for (all, here) in self.0.iter_mut().zip(wild.end(&booted)) {
                *all += here;
            }
        }
        self
    }

    /// Checks that every operation succeeded at least once, except those that cannot succeed there.
    #[track_caller]
    fn all_but(self, never: &[&str]) {
        for (operation, count) in OPERATIONS.iter().zip(self.0) {
            assert!(
                count > 0 || never.contains(operation),
                "{operation} was never done: {:?}",
                self.0
            );
        }
    }
}

/// Boot memory of 16 MiB, half of it movable, with memory that is plugged right above it, right below it from
/// physical address 0 on, and up to the end of the addressable memory.
fn around<S: Shape>(block: u64) -> impl Iterator<Item = Place> {
    let (blocks, limit) = (10, S::PHYS_LIMIT.get());
    let above = |start: u64| vec![(start, 10 * MIB, 0), (start + 10 * MIB, 6 * MIB, 1)];
    let low = (blocks * block).next_multiple_of(16 * MIB);
    let places = [
        (above(0), 16 * MIB),
        (above(low), low - blocks * block),
        (above(0), limit - blocks * block),
    ];
    (0..).zip(places).map(move |(seed, (ram, window))| Place {
        seed,
        block,
        ram,
        core: Some(6 * MIB),
        window: (window, blocks),
    })
}

#[test]
fn blocks_of_one_and_of_four_sections_in_every_place() {
    Done::default().wild::<Tiny>(400, around::<Tiny>(MIB)).all_but(&[]);
    let four = Done::default().wild::<Tiny>(400, around::<Tiny>(4 * MIB));
    four.all_but(&["take", "release"]);
}

#[test]
fn blocks_whose_sections_share_pages_of_memmap_in_every_place() {
    Done::default().wild::<TinyShared>(250, around::<TinyShared>(512 * KIB)).all_but(&[]);
    Done::default().wild::<TinyShared>(250, around::<TinyShared>(2 * MIB)).all_but(&[]);
}

#[test]
fn blocks_of_2_mib_and_of_64_mib_of_4_kib_pages() {
    Done::default().wild::<Fine>(300, around::<Fine>(2 * MIB)).all_but(&[]);
    let ram = vec![(0, 64 * MIB, 0)];
    let place = Place { seed: 7, block: 64 * MIB, ram, core: None, window: (GIB, 6) };
    Done::default().wild::<Fine>(500, [place]).all_but(&["take", "release"]);
}

/// Unmovable boot memory, and blocks of this size above it and at the end of the addresses.
fn large<S: Shape>(ram: u64, block: u64) -> impl Iterator<Item = Place> {
    let limit = S::PHYS_LIMIT.get();
    let starts = [ram.next_multiple_of(block), limit - 6 * block];
    (40..).zip(starts).map(move |(seed, start)| Place {
        seed,
        block,
        ram: vec![(0, ram, 0)],
        core: None,
        window: (start, 6),
    })
}

#[test]
fn blocks_of_128_mib_to_8_gib_of_larger_pages() {
    // Few steps, each of which checks millions of descriptors.
    Done::default()
        .wild::<Granule16>(150, large::<Granule16>(256 * MIB, 128 * MIB))
        .wild::<Granule16>(20, large::<Granule16>(256 * MIB, 8 * GIB))
        .wild::<Lmb>(150, large::<Lmb>(512 * MIB, 256 * MIB))
        .wild::<Lmb>(20, large::<Lmb>(512 * MIB, 8 * GIB))
        .wild::<Real>(20, large::<Real>(256 * MIB, 2 * GIB))
        .all_but(&["take", "release"]);
}
