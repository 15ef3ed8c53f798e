//! The heap of the kernel without hotmem: of a fixed size.

use crate::paging::BootFrames;
use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{self, NonNull};
use linked_list_allocator::Heap;
use spin::Mutex;
use x86_64::VirtAddr;
use x86_64::structures::paging::{FrameAllocator, Mapper, OffsetPageTable, Page};
use x86_64::structures::paging::{PageTableFlags as Flags, Size4KiB};

/// Where it is.
const START: u64 = 0x4444_4444_0000;
/// How large it is.
const BYTES: u64 = 4 << 20;

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

/// Maps memory for the heap, and starts it.
pub fn init(tables: &mut OffsetPageTable<'static>, frames: &mut BootFrames) {
    for at in (START..START + BYTES).step_by(4096) {
        let frame = frames.allocate_frame().expect("memory for the heap");
        let flags = Flags::PRESENT | Flags::WRITABLE | Flags::NO_EXECUTE;
        let page = Page::<Size4KiB>::containing_address(VirtAddr::new(at));
        // SAFETY: the addresses and the frame are used for nothing else.
        unsafe { tables.map_to(page, frame, flags, frames) }.expect("memory for tables").flush();
    }
    // SAFETY: its memory is mapped, and unused.
    unsafe { HEAP.0.lock().init(START as *mut u8, BYTES as usize) }
}
