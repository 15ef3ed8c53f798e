//! The manager as the source of frames of the crate `x86_64` (feature `x86_64`).

// UNSAFETY: vouches for the frames, and takes them back on their user's word.
#![expect(unsafe_code)]

use crate::Mm;
use crate::addr::{Order, PhysAddr};
use crate::alloc::pages::Pages;
use crate::machine::Machine;

use ::x86_64::structures::paging::{FrameAllocator, FrameDeallocator, PageSize, PhysFrame};

/// Frames of any size that is a whole number of pages, as unmovable memory of the kernel: `map_to(.., &mut &mm)`.
// SAFETY: an allocated extent is of no other use until it is freed.
unsafe impl<M: Machine, S: PageSize> FrameAllocator<S> for &Mm<M> {
    fn allocate_frame(&mut self) -> Option<PhysFrame<S>> {
        let order = Order::fitting(S::SIZE / M::PAGE_BYTES);
        let whole = order.pages() * M::PAGE_BYTES == S::SIZE;
        let pages = whole.then(|| self.alloc(order).ok()).flatten()?;
        let at = ::x86_64::PhysAddr::try_new(M::address(pages.pfn()).get()).ok()?;
        let frame = PhysFrame::from_start_address(at).ok()?;
        let _kept = pages.into_raw();
        Some(frame)
    }
}

impl<M: Machine, S: PageSize> FrameDeallocator<S> for &Mm<M> {
    /// Frees a frame that the manager allocated. Any other is left alone.
    unsafe fn deallocate_frame(&mut self, frame: PhysFrame<S>) {
        let pfn = M::pfn(PhysAddr::new(frame.start_address().as_u64()));
        // SAFETY: the caller says that the frame is unused: nothing else owns or uses it.
        drop(unsafe { Pages::from_raw(self, pfn) });
    }
}
