//! Sparse physical memory out of host allocations.

// UNSAFETY: allocates the memory behind its pointers, and frees it when unplugged.
#![expect(unsafe_code)]

use super::std;
use super::std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use super::std::boxed::Box;
use super::std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use super::std::vec::Vec;
use crate::addr::{PhysAddr, PhysRange};

use core::cell::Cell;
use core::fmt;
use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

/// Bytes of host memory allocated at a time, and their alignment: pointers are valid up to the next multiple of it,
/// which covers the largest page-table root (ppc64 radix: 64 KiB).
const CHUNK: usize = 64 << 10;

const LAYOUT: Layout = match Layout::from_size_align(CHUNK, CHUNK) {
    Ok(layout) => layout,
    Err(_) => panic!("a chunk is a power of two"),
};

/// The RAM of a fake machine. Untouched memory costs 8 bytes per 64 KiB.
///
/// An access to unplugged memory panics ("bus error").
pub struct FakeRam {
    dimms: RwLock<Vec<Dimm>>,
    /// The present set of DIMMs has this number, which no other set has: see [`Recent`].
    generation: AtomicU64,
    /// On a flat machine all chunks by their numbers: threads find them without a lock.
    flat: Option<Chunks>,
}

/// A pointer to each chunk, null until the chunk exists.
type Chunks = Box<[AtomicPtr<u8>]>;

/// Numbers for sets of DIMMs; no two sets of any machine ever share one.
static GENERATIONS: AtomicU64 = AtomicU64::new(1);

/// Chunks that a thread has used recently, so that most accesses need no lock: suites make billions of them.
type Recent = [Cell<(u64, u64, *mut u8)>; RECENT];
/// Number of cached chunks.
const RECENT: usize = 64;

std::thread_local! {
    /// Generation, number of the chunk (address / [`CHUNK`]), and its pointer.
    static CHUNKS: Recent = const { [const { Cell::new((0, 0, null_mut())) }; RECENT] };
}

/// One plugged range; chunks are allocated at the first access.
struct Dimm {
    range: PhysRange,
    fill: u8,
    /// There is no memory: stores that leave the caches are lost, and loads read `fill`.
    hollow: bool,
    chunks: Chunks,
}

impl FakeRam {
    /// A machine without memory.
    pub fn new() -> Self {
        let generation = AtomicU64::new(next_generation());
        Self { dimms: RwLock::default(), generation, flat: None }
    }

    /// A machine without memory, for threads that only the code under test orders: accesses take no lock, and what is
    /// plugged is not initialised, which memcheck and Miri notice of what reads it. Its addresses end at `limit`.
    pub fn flat(limit: PhysAddr) -> Self {
        let chunks = limit.get().div_ceil(CHUNK as u64);
        let flat = (0..chunks).map(|_| AtomicPtr::new(null_mut())).collect();
        Self { flat: Some(flat), ..Self::new() }
    }

    /// Plugs memory that holds `fill` in every byte, or zeroes; that of a flat machine holds anything.
    ///
    /// # Panics
    ///
    /// If some of it is plugged already. On a flat machine, if it is not whole chunks of 64 KiB below the limit.
    pub fn plug(&self, range: PhysRange, fill: Option<u8>) {
        let mut dimms = self.write();
        if let Some(old) = dimms.iter().find(|dimm| dimm.range.overlaps(range)) {
            panic!("{range} plugged over {}", old.range);
        }
        let dimm = Dimm::new(range, fill.unwrap_or(0));
        if let Some(flat) = &self.flat {
            dimm.show(flat);
        }
        dimms.push(dimm);
        self.generation.store(next_generation(), Ordering::SeqCst);
    }

    /// Makes `range` addresses that firmware describes as memory, without memory behind them: loads read all ones.
    /// Stored values stay in the caches until they are [cleaned](Self::clean).
    ///
    /// # Panics
    ///
    /// If some of it is plugged already.
    pub fn plug_hollow(&self, range: PhysRange) {
        self.plug(range, Some(0xff));
        if let Some(dimm) = self.write().last_mut() {
            dimm.hollow = true;
        }
    }

    /// Cleans and invalidates the caches for the 64 KiB around `at`.
    pub fn clean(&self, at: PhysAddr) {
        let dimms = self.read();
        if let Some(dimm) = dimms.iter().find(|dimm| dimm.hollow && dimm.range.contains(at)) {
            dimm.lose(at);
        }
    }

    /// Unplugs every plugged range in `range`; their contents are lost.
    ///
    /// # Panics
    ///
    /// If there is none, or one lies only partly in `range`.
    pub fn unplug(&self, range: PhysRange) {
        let mut dimms = self.write();
        self.generation.store(next_generation(), Ordering::SeqCst);
        let before = dimms.len();
        dimms.retain(|dimm| {
            let inside = range.covers(dimm.range);
            assert!(
                inside || !range.overlaps(dimm.range),
                "unplugging {range} would break {}",
                dimm.range
            );
            if inside && let Some(flat) = &self.flat {
                dimm.hide(flat);
            }
            !inside
        });
        assert!(dimms.len() < before, "nothing is plugged in {range}");
    }

    /// A pointer to the byte at `at`; valid up to the next multiple of 64 KiB.
    ///
    /// # Panics
    ///
    /// If there is no RAM ("bus error").
    #[inline]
    pub fn pointer(&self, at: PhysAddr) -> NonNull<u8> {
        let (number, offset) = (at.get() / CHUNK as u64, at.get() as usize % CHUNK);
        if let Some(flat) = &self.flat {
            // Relaxed: the machine orders nothing.
            let chunk = flat.get(number as usize).map(|chunk| chunk.load(Ordering::Relaxed));
            let Some(chunk) = chunk.and_then(NonNull::new) else { no_ram(at) };
            // SAFETY: the chunk is an allocation of CHUNK bytes, and the offset is below that.
            return unsafe { chunk.add(offset) };
        }
        let generation = self.generation.load(Ordering::SeqCst);
        let recent = CHUNKS.with(|chunks| chunks[number as usize % RECENT].get());
        if (recent.0, recent.1) == (generation, number)
            && let Some(chunk) = NonNull::new(recent.2)
        {
            // SAFETY: the chunk is an allocation of CHUNK bytes of this set of DIMMs, and the offset is
            // below that.
            return unsafe { chunk.add(offset) };
        }
        self.look_up(at, generation)
    }

    /// Finds the byte at `at` among the DIMMs, and caches its chunk.
    fn look_up(&self, at: PhysAddr, generation: u64) -> NonNull<u8> {
        let dimms = self.read();
        let Some(dimm) = dimms.iter().find(|dimm| dimm.range.contains(at)) else { no_ram(at) };
        let pointer = dimm.pointer(at);
        let (number, offset) = (at.get() / CHUNK as u64, at.get() as usize % CHUNK);
        // A chunk that is RAM only in part is not cached: an access past the DIMM's end must fail.
        let whole = PhysRange::new(PhysAddr::new(number * CHUNK as u64), CHUNK as u64);
        if whole.is_some_and(|whole| dimm.range.covers(whole)) {
            let chunk = pointer.as_ptr().wrapping_sub(offset);
            CHUNKS.with(|chunks| chunks[number as usize % RECENT].set((generation, number, chunk)));
        }
        pointer
    }

    /// Takes all RAM away, whatever is in it: a machine that a test keeps for ever takes no memory of the host then.
    pub fn turn_off(&self) {
        let mut dimms = self.write();
        self.generation.store(next_generation(), Ordering::SeqCst);
        if let Some(flat) = &self.flat {
            dimms.iter().for_each(|dimm| dimm.hide(flat));
        }
        dimms.clear();
    }

    /// Another number whenever RAM was plugged or unplugged: pointers are valid as long as it stays.
    #[inline]
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    /// Whether there is RAM at `at`.
    pub fn is_plugged(&self, at: PhysAddr) -> bool {
        self.read().iter().any(|dimm| dimm.range.contains(at))
    }

    fn read(&self) -> RwLockReadGuard<'_, Vec<Dimm>> {
        self.dimms.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Vec<Dimm>> {
        self.dimms.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for FakeRam {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dimms = self.read();
        f.debug_list().entries(dimms.iter().map(|dimm| dimm.range)).finish()
    }
}

impl Default for FakeRam {
    fn default() -> Self {
        Self::new()
    }
}

/// Reports an access where the machine lacks RAM.
#[cold]
fn no_ram(at: PhysAddr) -> ! {
    panic!("bus error: no RAM at {at}")
}

/// A number that no set of DIMMs had before.
fn next_generation() -> u64 {
    GENERATIONS.fetch_add(1, Ordering::SeqCst)
}

/// A chunk without a value.
fn allocate() -> NonNull<u8> {
    // SAFETY: the layout's size is not zero.
    let chunk = unsafe { alloc(LAYOUT) };
    NonNull::new(chunk).unwrap_or_else(|| handle_alloc_error(LAYOUT))
}

impl Dimm {
    fn new(range: PhysRange, fill: u8) -> Self {
        let first = range.start().get() / CHUNK as u64;
        let end = (range.start().get() + range.len()).div_ceil(CHUNK as u64);
        let chunks = (first..end).map(|_| AtomicPtr::new(null_mut())).collect();
        Self { range, fill, hollow: false, chunks }
    }

    /// Allocates all chunks, without a value, and adds them to those of a flat machine.
    fn show(&self, flat: &Chunks) {
        let (start, len) = (self.range.start(), self.range.len());
        let whole = start.is_aligned(CHUNK as u64) && len.is_multiple_of(CHUNK as u64);
        assert!(whole, "{} on a flat machine", self.range);
        for (own, shown) in self.chunks.iter().zip(&flat[start.get() as usize / CHUNK..]) {
            // Relaxed: as an access to memory, an access to what was plugged is ordered by the code under test.
            own.store(allocate().as_ptr(), Ordering::Relaxed);
            shown.store(own.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// Removes all chunks from those of a flat machine.
    fn hide(&self, flat: &Chunks) {
        let first = self.range.start().get() as usize / CHUNK;
        let shown = flat.iter().skip(first).take(self.chunks.len());
        shown.for_each(|chunk| chunk.store(null_mut(), Ordering::Relaxed));
    }

    /// Fills the chunk that contains `at` with the value that loads of missing memory return.
    fn lose(&self, at: PhysAddr) {
        let chunk = self.pointer(PhysAddr::new(at.get() & !(CHUNK as u64 - 1)));
        // SAFETY: the chunk is an allocation of CHUNK bytes; tests access hollow memory from one thread.
        unsafe { chunk.write_bytes(self.fill, CHUNK) };
    }

    fn pointer(&self, at: PhysAddr) -> NonNull<u8> {
        let first = self.range.start().get() / CHUNK as u64;
        let index = (at.get() / CHUNK as u64 - first) as usize;
        let chunk = match NonNull::new(self.chunks[index].load(Ordering::Acquire)) {
            Some(chunk) => chunk,
            None => self.fill_chunk(&self.chunks[index]),
        };
        let offset = at.get() as usize % CHUNK;
        // SAFETY: the chunk is an allocation of CHUNK bytes, and the offset is below that.
        unsafe { chunk.add(offset) }
    }

    /// Allocates a chunk for `slot`, unless another thread is faster.
    #[cold]
    fn fill_chunk(&self, slot: &AtomicPtr<u8>) -> NonNull<u8> {
        let fresh = allocate();
        // SAFETY: the allocation has CHUNK bytes, and is not published yet.
        unsafe { fresh.write_bytes(self.fill, CHUNK) };
        // Release pairs with the acquire load of a thread that finds the chunk: it is filled.
        let placed =
            slot.compare_exchange(null_mut(), fresh.as_ptr(), Ordering::AcqRel, Ordering::Acquire);
        let Err(other) = placed else { return fresh };
        // SAFETY: allocated above with this layout, and never published.
        unsafe { dealloc(fresh.as_ptr(), LAYOUT) };
        NonNull::new(other).unwrap_or(fresh)
    }
}

impl Drop for Dimm {
    fn drop(&mut self) {
        for slot in &self.chunks {
            let chunk = slot.load(Ordering::Acquire);
            if !chunk.is_null() {
                // SAFETY: allocated with this layout by `fill_chunk`; the memory is unplugged, so a pointer into it
                // is as invalid as one into a DIMM that was pulled.
                unsafe { dealloc(chunk, LAYOUT) };
            }
        }
    }
}
