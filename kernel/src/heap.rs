//! The kernel heap: of fixed size, for data that is set up once. Memory hotplug never needs it.

// UNSAFETY: implements the global allocator.
#![expect(unsafe_code)]

use crate::lock::Mutex;
use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::ptr::NonNull;
use linked_list_allocator::Heap;

/// Bytes of the heap.
const HEAP_BYTES: usize = 4 << 20;

#[repr(align(4096))]
struct Space(UnsafeCell<[u8; HEAP_BYTES]>);

// SAFETY: only `init` takes the address, once; from then on the allocator owns the bytes.
unsafe impl Sync for Space {}

static SPACE: Space = Space(UnsafeCell::new([0; HEAP_BYTES]));

struct KernelHeap(Mutex<Heap>);

#[cfg_attr(bare, global_allocator)]
static HEAP: KernelHeap = KernelHeap(Mutex::new(Heap::empty()));

impl KernelHeap {
    fn with<R>(&self, f: impl FnOnce(&mut Heap) -> R) -> R {
        f(&mut self.0.lock())
    }
}

// SAFETY: `Heap` returns disjoint, suitably aligned blocks of the one space it was given, and the lock allows one
// user of its lists at a time.
unsafe impl GlobalAlloc for KernelHeap {
    /// # Safety
    ///
    /// Those of [`GlobalAlloc::alloc`].
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let block = self.with(|heap| heap.allocate_first_fit(layout));
        block.map_or(core::ptr::null_mut(), NonNull::as_ptr)
    }

    /// # Safety
    ///
    /// Those of [`GlobalAlloc::dealloc`].
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if let Some(block) = NonNull::new(block) {
            // SAFETY: the caller got the block from `alloc` with this layout, and no longer uses it.
            self.with(|heap| unsafe { heap.deallocate(block, layout) });
        }
    }
}

/// Gives the heap its memory. Called once, before the first allocation.
pub(crate) fn init() {
    HEAP.with(|heap| {
        if heap.size() == 0 {
            // SAFETY: the space is a static of that size which no other code refers to, and the heap had none
            // before.
            unsafe { heap.init(SPACE.0.get().cast(), HEAP_BYTES) }
        }
    });
}

/// Bytes in use and bytes free.
#[cfg(feature = "lab")]
pub(crate) fn usage() -> (usize, usize) {
    HEAP.with(|heap| (heap.used(), heap.free()))
}
