//! The allocators that are compared, each with the same number of frames, all free, behind a lock as in a kernel.
//!
//! `buddy_system_allocator` is the one that most Rust kernels use: a buddy allocator over sets. `bitmap-allocator`
//! is that of ArceOS and rCore, a tree of bitmaps: the other known structure. `free-list` is Hermit's, a sorted list
//! of ranges: the simplest that merges.

// UNSAFETY: frees frame numbers to an allocator that never accesses the frames.
#![expect(unsafe_code)]

use bitmap_allocator::{BitAlloc, BitAlloc16M};
use buddy_system_allocator::FrameAllocator;
use free_list::{FreeList, PageLayout, PageRange};
use hotmem::Order;
use hotmem_lab::bench::Frames;
use spin::Mutex;

/// Frames of each allocator.
pub(crate) const FRAMES: usize = (6 << 30) / 4096;
/// A large page, 2 MiB.
const LARGE: Order = Order::fitting(512);

/// `buddy_system_allocator`.
pub(crate) struct Buddy(Mutex<FrameAllocator>);

impl Buddy {
    pub(crate) fn new() -> Self {
        let mut frames = FrameAllocator::new();
        frames.add_frame(0, FRAMES);
        Self(Mutex::new(frames))
    }
}

impl Frames for Buddy {
    type Held = (usize, Order);
    const LARGE: Order = LARGE;

    #[inline(always)]
    fn alloc(&self, order: Order) -> Option<Self::Held> {
        Some((self.0.lock().alloc(1 << order.get())?, order))
    }

    #[inline(always)]
    fn free(&self, (frame, order): Self::Held) {
        self.0.lock().dealloc(frame, 1 << order.get());
    }
}

/// `bitmap-allocator`, whose bits are too many for a stack.
pub(crate) struct Bitmap(&'static Mutex<BitAlloc16M>);

impl Bitmap {
    pub(crate) fn new() -> Self {
        static BITS: Mutex<BitAlloc16M> = Mutex::new(BitAlloc16M::DEFAULT);
        BITS.lock().insert(0..FRAMES);
        Self(&BITS)
    }
}

impl Frames for Bitmap {
    type Held = (usize, Order);
    const LARGE: Order = LARGE;

    #[inline(always)]
    fn alloc(&self, order: Order) -> Option<Self::Held> {
        let mut bits = self.0.lock();
        let frame = match order {
            Order::ZERO => bits.alloc(),
            order => bits.alloc_contiguous(None, 1 << order.get(), order.get().into()),
        };
        Some((frame?, order))
    }

    #[inline(always)]
    fn free(&self, (frame, order): Self::Held) {
        let mut bits = self.0.lock();
        match order {
            Order::ZERO => bits.dealloc(frame),
            order => bits.dealloc_contiguous(frame, 1 << order.get()),
        };
    }
}

/// `free-list`.
pub(crate) struct Ranges(Mutex<FreeList<64>>);

/// The first page of its range: page 0 cannot be in one.
const FIRST: usize = 512 * 4096;

impl Ranges {
    pub(crate) fn new() -> Option<Self> {
        let mut list = FreeList::new();
        let all = PageRange::from_start_len(FIRST, FRAMES * 4096).ok()?;
        // SAFETY: the list never accesses the memory that it counts.
        unsafe { list.deallocate(all) }.ok()?;
        Some(Self(Mutex::new(list)))
    }
}

impl Frames for Ranges {
    type Held = PageRange;
    const LARGE: Order = LARGE;

    #[inline(always)]
    fn alloc(&self, order: Order) -> Option<Self::Held> {
        let bytes = 4096 << order.get();
        let layout = PageLayout::from_size_align(bytes, bytes).ok()?;
        self.0.lock().allocate(layout).ok()
    }

    #[inline(always)]
    fn free(&self, held: Self::Held) {
        // SAFETY: as in `new`; the pages came from there.
        let freed = unsafe { self.0.lock().deallocate(held) };
        debug_assert!(freed.is_ok(), "there is room for the range");
    }
}
