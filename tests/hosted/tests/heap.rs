//! The heap over a manager whose linear map the real MMU translates.
//!
//! A process has one such machine: the tests take turns, and each has a heap of its own.

// UNSAFETY: allocates and frees as users of a global allocator do, and adds memory that the machine has.
#![expect(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use hotmem::heap::Heap;
use hotmem::{Fact, Geometry, Mm, NodeId, OfflineError, PhysMem, PhysRange, Placement, ZoneKind};
use hotmem_hosted::{Hosted, boot, on_cpu};
use std::alloc::{GlobalAlloc, Layout};
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError, mpsc};
use std::thread;

const MIB: usize = 1 << 20;

/// The machine, with the memory that can be added.
struct Rig {
    mm: &'static Mm<Hosted>,
    dimm: PhysRange,
}

/// The machine for one test.
fn rig() -> MutexGuard<'static, Rig> {
    static RIG: OnceLock<Mutex<Rig>> = OnceLock::new();
    let rig = RIG.get_or_init(|| {
        let booted = Box::leak(Box::new(boot().unwrap()));
        let dimm = PhysRange::new(booted.window.start(), 128 << 20).unwrap();
        Mutex::new(Rig { mm: &booted.mm, dimm })
    });
    rig.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A heap that lives for ever.
fn heap() -> &'static Heap<Hosted> {
    Box::leak(Box::new(Heap::new()))
}

impl Rig {
    /// A heap over this machine, and its facts before.
    fn start(&self) -> (&'static Heap<Hosted>, Vec<Fact>) {
        let heap = heap();
        // SAFETY: the linear map of this machine is the process's own.
        unsafe { heap.start(self.mm) }.unwrap();
        (heap, self.facts())
    }

    fn facts(&self) -> Vec<Fact> {
        self.mm.verify().unwrap();
        let mut facts = Vec::new();
        self.mm.snapshot(&mut |fact| facts.push(fact));
        facts
    }
}

/// A piece of the heap, filled with its number.
struct Piece {
    heap: &'static Heap<Hosted>,
    at: NonNull<u8>,
    layout: Layout,
    number: u8,
}

// SAFETY: the piece is this value's own.
unsafe impl Send for Piece {}

impl Piece {
    fn new(heap: &'static Heap<Hosted>, size: usize, align: usize, number: u8) -> Option<Self> {
        let layout = Layout::from_size_align(size, align).unwrap();
        // SAFETY: no size in these tests is 0.
        let at = NonNull::new(unsafe { heap.alloc(layout) })?;
        assert_eq!(at.addr().get() % align, 0, "{size} bytes aligned to {align}");
        let mut piece = Self { heap, at, layout, number };
        piece.fill();
        Some(piece)
    }

    fn fill(&mut self) {
        // SAFETY: the piece has so many bytes, and is this value's own.
        unsafe { self.at.write_bytes(self.number, self.layout.size()) };
    }

    /// Whether the first `size` bytes are the piece's number.
    fn holds(&self, size: usize) -> bool {
        // SAFETY: as above; all bytes were written.
        let bytes = unsafe { std::slice::from_raw_parts(self.at.as_ptr(), size) };
        bytes.iter().all(|&byte| byte == self.number)
    }

    fn resize(&mut self, size: usize) {
        // SAFETY: the piece was allocated for its layout.
        let at = unsafe { self.heap.realloc(self.at.as_ptr(), self.layout, size) };
        self.at = NonNull::new(at).unwrap();
        let kept = self.layout.size().min(size);
        self.layout = Layout::from_size_align(size, self.layout.align()).unwrap();
        assert_eq!(self.at.addr().get() % self.layout.align(), 0);
        assert!(self.holds(kept), "{kept} bytes of {size} are kept");
        self.fill();
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        let intact = self.holds(self.layout.size());
        // SAFETY: the piece was allocated for its layout, and goes.
        unsafe { self.heap.dealloc(self.at.as_ptr(), self.layout) };
        assert!(intact || thread::panicking(), "another piece wrote to this one");
    }
}

/// Numbers that look random (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }

    /// Mostly a small size, sometimes one of many pages.
    fn size(&mut self) -> usize {
        let most = [64, 1024, 8192, 200_000][self.below(4)];
        1 + self.below(most)
    }
}

#[test]
fn a_heap_grows_with_what_is_allocated_and_holds_nothing_when_it_is_freed() {
    let rig = rig();
    let (heap, before) = rig.start();
    let mut random = Random(7);
    let mut pieces = Vec::new();
    for round in 0..3 {
        let mut bytes = 0;
        while bytes < 16 * MIB {
            let size = random.size();
            pieces.extend(Piece::new(heap, size, 1 << random.below(5), round));
            bytes += size;
        }
        let held = heap.pages() * <Hosted>::PAGE_BYTES;
        assert!((bytes as u64..2 * bytes as u64).contains(&held), "{held} bytes for {bytes}");
        // What is left after every other piece went is found again.
        let mut odd = 0;
        pieces.retain(|_| {
            odd += 1;
            odd % 2 == 0
        });
        rig.mm.verify().unwrap();
        while !pieces.is_empty() {
            pieces.swap_remove(random.below(pieces.len()));
        }
        assert_eq!(heap.pages(), 0);
        assert!(rig.facts() == before, "memory is as before the heap was used");
    }
}

#[test]
fn a_heap_without_memory_returns_null_and_works_again_when_there_is_some() {
    let rig = rig();
    let unstarted = heap();
    assert!(Piece::new(unstarted, 8, 8, 1).is_none());
    assert!(Piece::new(unstarted, MIB, 8, 1).is_none());

    let (heap, before) = rig.start();
    assert!(Piece::new(heap, 1 << 40, 8, 1).is_none());
    assert!(Piece::new(heap, 8, 1 << 40, 1).is_none());
    let mut pieces = Vec::new();
    for size in [8 * MIB, 64 << 10, 4096, 8] {
        pieces.extend(std::iter::from_fn(|| Piece::new(heap, size, 8, 2)));
        assert!(!pieces.is_empty());
    }
    // A piece that cannot grow stays as it is.
    let mut last = pieces.pop().unwrap();
    // SAFETY: the piece was allocated for its layout.
    let grown = unsafe { heap.realloc(last.at.as_ptr(), last.layout, MIB) };
    assert!(grown.is_null() && last.holds(8));
    last.fill();
    drop(last);
    drop(Piece::new(heap, 8, 8, 3).unwrap());
    drop(pieces);
    assert_eq!(heap.pages(), 0);
    assert!(rig.facts() == before, "memory is as before the heap was used");
}

#[test]
fn every_alignment_up_to_megabytes_is_kept_by_every_size() {
    let rig = rig();
    let (heap, before) = rig.start();
    for align in (0..=22).map(|log| 1 << log) {
        let sizes = [1, 24, 25, 4096 - align.min(4095), 8192, 8193, 100_000];
        let pieces: Vec<_> = (0..3)
            .flat_map(|number| sizes.map(|size| Piece::new(heap, size, align, number).unwrap()))
            .collect();
        drop(pieces);
    }
    assert!(rig.facts() == before, "memory is as before the heap was used");
}

#[test]
fn a_piece_keeps_its_content_and_alignment_when_its_size_changes() {
    let rig = rig();
    let (heap, before) = rig.start();
    for align in [1, 64, 4096, 32768] {
        let (mut one, mut other) =
            (Piece::new(heap, 1, align, 5).unwrap(), Piece::new(heap, 1, align, 6).unwrap());
        let mut random = Random(align as u64);
        for _ in 0..300 {
            one.resize(random.size());
            other.resize(random.size());
        }
    }
    assert_eq!(heap.pages(), 0);
    assert!(rig.facts() == before, "memory is as before the heap was used");
}

#[test]
fn threads_use_one_heap_and_free_what_others_allocated() {
    let rig = rig();
    let (heap, before) = rig.start();
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..3).map(|_| mpsc::channel::<Piece>()).unzip();
    thread::scope(|scope| {
        for (cpu, mail) in receivers.into_iter().enumerate() {
            let next = senders[(cpu + 1) % senders.len()].clone();
            scope.spawn(move || {
                on_cpu(cpu);
                let mut random = Random(cpu as u64 + 1);
                let mut held = Vec::new();
                for round in 0..5_000 {
                    held.extend(Piece::new(heap, random.size(), 8, round as u8));
                    if held.len() > 100 {
                        let piece = held.swap_remove(random.below(held.len()));
                        // The neighbour may have finished: the piece is freed here then.
                        drop(next.send(piece));
                    }
                    mail.try_iter().for_each(drop);
                }
            });
        }
        drop(senders);
    });
    assert_eq!(heap.pages(), 0);
    assert!(rig.facts() == before, "memory is as before the heap was used");
}

#[test]
fn a_block_that_the_heap_is_in_stays_and_the_refusal_names_the_heap() {
    let rig = rig();
    let (heap, before) = rig.start();
    // SAFETY: the machine has memory there, which is not in use.
    unsafe { rig.mm.add(rig.dimm, NodeId::ZERO, Placement::PerRange) }.unwrap();
    let block = rig.mm.blocks_in(rig.dimm).next().unwrap();
    rig.mm.online(block, ZoneKind::Normal).unwrap();
    for size in [1000, MIB] {
        // Cached pages of boot memory would be used before.
        rig.mm.drain_caches();
        let piece = Piece::new(heap, size, 8, 9).unwrap();
        let phys = piece.at.addr().get() as u64 - rig.mm.machine().linear_base().get();
        assert!(rig.dimm.contains(hotmem::PhysAddr::new(phys)), "added memory is used first");
        let reason = rig.mm.explain_remove(rig.dimm).to_string();
        assert!(reason.contains("is held by heap"), "{reason}");
        let refused = rig.mm.offline(block).unwrap_err();
        assert!(matches!(refused, OfflineError::InUse { .. }), "{refused}");
        assert!(refused.to_string().contains("held by heap"), "{refused}");
        drop(piece);
        assert_eq!(rig.mm.explain_remove(rig.dimm).to_string(), "removable now");
    }
    rig.mm.offline(block).unwrap();
    // Memory that came online as movable is not the heap's.
    rig.mm.online(block, ZoneKind::Movable).unwrap();
    let pieces: Vec<_> = (0..64).map(|_| Piece::new(heap, MIB, 8, 9).unwrap()).collect();
    assert_eq!(rig.mm.explain_remove(rig.dimm).to_string(), "removable now");
    drop(pieces);
    rig.mm.offline(block).unwrap();
    rig.mm.remove(rig.dimm).unwrap();
    assert!(rig.facts() == before, "memory is as before the heap was used");
}
