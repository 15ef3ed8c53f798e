//! A heap over the manager's pages (feature `heap`): the kernel's `#[global_allocator]`.
//!
//! ```text
//!   layout  --small-->  Talc  --no room-->  one more extent of 32 KiB  <--\
//!      \                  \--the last piece of an extent is freed----------> the manager: movable zones excluded,
//!       \--large--------------------------> pages of its own  <----------/   the pages have the name "heap"
//! ```
//!
//! It grows with what is allocated, and shrinks with what is freed: an empty heap holds no page. What it holds cannot
//! move, so it is never in a block that was brought online as movable, and keeps any other block from going offline:
//! [`Mm::explain_remove`] then reports that the block is held by `heap`.
//!
//! Small is what fits into a quarter of an extent together with its alignment: the crate `talc` divides extents for
//! it, under one lock of the kind [`Machine::Lock`]. Anything larger gets pages of its own, a power of two.
//!
//! ```
//! use hotmem::heap::Heap;
//! use hotmem::{Machine, Mm, TooManyOwners};
//!
//! // In a kernel, with its own machine: #[global_allocator] static HEAP: Heap<MyMachine> = Heap::new();
//!
//! /// Called right after `Mm::boot`. Allocations before that fail.
//! ///
//! /// # Safety
//! ///
//! /// As for [`Heap::start`].
//! unsafe fn start<M: Machine + 'static>(
//!     heap: &'static Heap<M>,
//!     mm: &'static Mm<M>,
//! ) -> Result<(), TooManyOwners> {
//!     // SAFETY: by the contract of this function.
//!     unsafe { heap.start(mm) }
//! }
//! ```
//!
//! It is called from where the manager may be called for an allocation: see [`crate::machine`]. So the functions that
//! the manager calls with locks held must not use it, and neither must the sink of `log`.

// UNSAFETY: divides pages of the manager among the users of a global allocator.
#![expect(unsafe_code)]

mod extents;

use crate::alloc::owners::TooManyOwners;
use crate::facade::Mm;
use crate::lock::Mutex;
use crate::machine::Machine;
use extents::{Extents, Source};

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::fmt;
use core::mem::MaybeUninit;
use core::ptr::{NonNull, null_mut};
use spin::Once;
use talc::DefaultBinning;
use talc::base::Talc;

/// Bytes of the lists of free pieces: they are in the heap itself, so that it can give all of its pages back.
const LISTS: usize = talc::min_first_heap_size::<DefaultBinning>();

/// A heap of unmovable memory.
pub struct Heap<M: Machine + 'static> {
    small: Mutex<M::Lock, Talc<Extents<M>, DefaultBinning>>,
    source: Once<Source<M>>,
    lists: UnsafeCell<MaybeUninit<[u8; LISTS]>>,
}

// SAFETY: `lists` is only used by `small`, behind its lock.
unsafe impl<M: Machine + 'static> Sync for Heap<M> where Mm<M>: Sync {}

impl<M: Machine + 'static> Heap<M> {
    /// A heap without memory.
    pub const fn new() -> Self {
        Self {
            small: Mutex::new(Talc::new(Extents::NONE)),
            source: Once::new(),
            lists: UnsafeCell::new(MaybeUninit::uninit()),
        }
    }

    /// Has the heap take its memory from `mm`, which has booted. A heap that was started already stays as it is.
    ///
    /// # Safety
    ///
    /// The linear map is this program's own: [`PhysMem::pointer`](crate::PhysMem::pointer) returns the address of
    /// [`linear_base`](crate::PhysMem::linear_base) plus the physical address, as it does by default.
    ///
    /// # Errors
    ///
    /// [`TooManyOwners`]: `mm` has no room for one more name.
    pub unsafe fn start(&'static self, mm: &'static Mm<M>) -> Result<(), TooManyOwners> {
        // SAFETY: by the contract of this function.
        let source = self.source.try_call_once(|| unsafe { Source::new(mm) })?;
        let mut small = self.small.lock();
        if !small.is_metadata_established() {
            small.source = Extents::of(source);
            // SAFETY: this heap lives for ever, and uses its `lists` for nothing else. The size is what they need.
            let _end = unsafe { small.claim(self.lists.get().cast(), LISTS) };
        }
        Ok(())
    }

    /// The pages that it holds at the moment.
    pub fn pages(&self) -> u64 {
        self.source.get().map_or(0, Source::pages)
    }
}

impl<M: Machine + 'static> Default for Heap<M> {
    fn default() -> Self {
        Self::new()
    }
}

impl<M: Machine + 'static> fmt::Debug for Heap<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Heap").field("pages", &self.pages()).finish_non_exhaustive()
    }
}

// SAFETY: pieces of extents and extents are each handed out once until they are freed, are large enough, and are
// aligned. `dealloc` finds the way by the layout that `alloc` used. Nothing here panics or unwinds.
unsafe impl<M: Machine + 'static> GlobalAlloc for Heap<M>
where
    Mm<M>: Sync,
{
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let at = if Source::<M>::is_small(layout) {
            // SAFETY: by the contract, the size is not 0.
            unsafe { self.small.lock().allocate(layout) }
        } else {
            self.source.get().and_then(|source| source.take(layout))
        };
        at.map_or(null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        if Source::<M>::is_small(layout) {
            // SAFETY: by the contract, `alloc` returned it for the same layout.
            unsafe { self.small.lock().deallocate(at, layout) };
        } else if let Some(source) = self.source.get() {
            // SAFETY: as above, so `take` has returned it.
            unsafe { source.give_back(at) };
        }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let Ok(wanted) = Layout::from_size_align(size, layout.align()) else { return null_mut() };
        let stays = match (Source::<M>::is_small(layout), Source::<M>::is_small(wanted)) {
            // SAFETY: by the contract, it was allocated for `layout`, and `size` is not 0.
            (true, true) => unsafe { self.small.lock().try_realloc_in_place(at, layout, size) },
            (false, false) => Source::<M>::order(layout) == Source::<M>::order(wanted),
            _ => false,
        };
        if stays {
            return at;
        }
        // SAFETY: by the contract, `size` is not 0.
        let to = unsafe { self.alloc(wanted) };
        if !to.is_null() {
            // SAFETY: both are allocated, so they are separate, and at least so large.
            unsafe { at.copy_to_nonoverlapping(to, layout.size().min(size)) };
            // SAFETY: by the contract, it was allocated for `layout`.
            unsafe { self.dealloc(at, layout) };
        }
        to
    }
}
