//! Sparse physical memory out of host allocations.

// UNSAFETY: allocates the memory behind the pointers it hands out, and frees it when unplugged.
#![expect(unsafe_code)]

use super::std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use super::std::boxed::Box;
use super::std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use super::std::vec::Vec;
use crate::addr::{PhysAddr, PhysRange};

use core::fmt;
use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{AtomicPtr, Ordering};

/// Bytes of host memory taken at a time, and their alignment: pointers are good up to the next
/// multiple of it, which holds the largest page-table root there is (ppc64 radix: 64 KiB).
const CHUNK: usize = 64 << 10;

const LAYOUT: Layout = match Layout::from_size_align(CHUNK, CHUNK) {
    Ok(layout) => layout,
    Err(_) => panic!("a chunk is a power of two"),
};

/// The RAM of a fake machine. What nobody touches costs 8 bytes per 64 KiB.
///
/// An access where nothing is plugged panics ("bus error").
#[derive(Default)]
pub struct FakeRam {
    dimms: RwLock<Vec<Dimm>>,
}

/// One plugged range; chunks are allocated at the first touch.
struct Dimm {
    range: PhysRange,
    fill: u8,
    chunks: Box<[AtomicPtr<u8>]>,
}

impl FakeRam {
    /// A machine without memory.
    pub fn new() -> Self {
        Self::default()
    }

    /// Plugs memory that holds `fill` in every byte, or zeroes.
    ///
    /// # Panics
    ///
    /// If some of it is plugged already.
    pub fn plug(&self, range: PhysRange, fill: Option<u8>) {
        let mut dimms = self.write();
        if let Some(old) = dimms.iter().find(|dimm| dimm.range.overlaps(range)) {
            panic!("{range} plugged over {}", old.range);
        }
        dimms.push(Dimm::new(range, fill.unwrap_or(0)));
    }

    /// Takes out every plugged range in `range`; their contents are gone.
    ///
    /// # Panics
    ///
    /// If there is none, or one lies only partly in `range`.
    pub fn unplug(&self, range: PhysRange) {
        let mut dimms = self.write();
        let before = dimms.len();
        dimms.retain(|dimm| {
            let inside = range.covers(dimm.range);
            assert!(
                inside || !range.overlaps(dimm.range),
                "unplugging {range} would break {}",
                dimm.range
            );
            !inside
        });
        assert!(dimms.len() < before, "nothing is plugged in {range}");
    }

    /// Where the byte at `at` is; good up to the next multiple of 64 KiB.
    ///
    /// # Panics
    ///
    /// If there is no RAM ("bus error").
    pub fn pointer(&self, at: PhysAddr) -> NonNull<u8> {
        let dimms = self.read();
        match dimms.iter().find(|dimm| dimm.range.contains(at)) {
            Some(dimm) => dimm.pointer(at),
            None => panic!("bus error: no RAM at {at}"),
        }
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

impl Dimm {
    fn new(range: PhysRange, fill: u8) -> Self {
        let first = range.start().get() / CHUNK as u64;
        let end = (range.start().get() + range.len()).div_ceil(CHUNK as u64);
        let chunks = (first..end).map(|_| AtomicPtr::new(null_mut())).collect();
        Self { range, fill, chunks }
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
        // SAFETY: the layout's size is not zero.
        let fresh = unsafe { alloc(LAYOUT) };
        let Some(fresh) = NonNull::new(fresh) else {
            handle_alloc_error(LAYOUT);
        };
        // SAFETY: the allocation has CHUNK bytes, and nobody else knows it yet.
        unsafe { fresh.write_bytes(self.fill, CHUNK) };
        // Release pairs with the acquire load of whoever finds the chunk: it is filled.
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
                // SAFETY: allocated with this layout by `fill_chunk`; the memory is unplugged, so a
                // pointer into it is as dead as one into a DIMM that was pulled out.
                unsafe { dealloc(chunk, LAYOUT) };
            }
        }
    }
}
