//! The heap.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{self, NonNull};
use linked_list_allocator::Heap;
use spin::Mutex;

/// Where it is.
pub const START: u64 = 0x4444_4444_0000;
/// How large it is: the byte code of firmware is kept there.
pub const BYTES: u64 = 4 << 20;

struct Locked(Mutex<Heap>);

#[global_allocator]
static HEAP: Locked = Locked(Mutex::new(Heap::empty()));

// SAFETY: the heap behind a lock; interrupt handlers do not allocate.
unsafe impl GlobalAlloc for Locked {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.0.lock().allocate_first_fit(layout).map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { self.0.lock().deallocate(NonNull::new_unchecked(at), layout) }
    }
}

/// Starts the heap.
///
/// # Safety
///
/// Its memory is mapped, and unused.
pub unsafe fn init() {
    // SAFETY: the caller's promise.
    unsafe { HEAP.0.lock().init(START as *mut u8, BYTES as usize) }
}
