//! Physical memory at an offset that is chosen at each start, and frames for the time before there is a manager.

use crate::boot::BootInfo;
use core::arch::x86_64::_rdtsc;
use x86_64::registers::control::Cr3;
use x86_64::structures::paging::{FrameAllocator, Mapper, OffsetPageTable, Page, PageTable};
use x86_64::structures::paging::{PageTableFlags as Flags, PhysFrame, Size2MiB, Size4KiB};
use x86_64::{PhysAddr, VirtAddr};

/// Frames behind what is in use, one after the other.
pub struct BootFrames {
    /// The first frame that was not given yet.
    pub next: u64,
    end: u64,
}

impl BootFrames {
    /// The frames of the range of RAM that the kernel is in.
    pub fn new(boot: &BootInfo) -> Self {
        let next = boot.first_free;
        let inside = |&&(at, len): &&(u64, u64)| at <= next && next < at + len;
        let &(at, len) = boot.ram.iter().find(inside).expect("the kernel is in RAM");
        Self { next, end: at + len }
    }
}

// SAFETY: each frame is given once.
unsafe impl FrameAllocator<Size4KiB> for BootFrames {
    fn allocate_frame(&mut self) -> Option<PhysFrame> {
        let at = self.next;
        self.next += 4096;
        (self.next <= self.end).then(|| PhysFrame::containing_address(PhysAddr::new(at)))
    }
}

/// Maps all memory up to the end of RAM at an offset, and returns the tables.
///
/// # Safety
///
/// To be called once, with the tables of the boot code, which map the frames that `frames` gives at `boot.offset`.
pub unsafe fn init(boot: &BootInfo, frames: &mut BootFrames) -> OffsetPageTable<'static> {
    let root = Cr3::read().0.start_address().as_u64();
    let first = (boot.offset + root).as_mut_ptr::<PageTable>();
    // SAFETY: these are the tables in use, by the contract.
    let mut first = unsafe { OffsetPageTable::new(&mut *first, boot.offset) };
    // SAFETY: a counter.
    let random = unsafe { _rdtsc() } >> 4;
    let offset = VirtAddr::new_truncate((256 + random % 128) << 39);
    let flags = Flags::PRESENT | Flags::WRITABLE | Flags::NO_EXECUTE;
    for at in (0..boot.end()).step_by(2 << 20) {
        let frame = PhysFrame::<Size2MiB>::containing_address(PhysAddr::new(at));
        let page = Page::containing_address(offset + at);
        // SAFETY: nothing is mapped there yet, and nothing refers to it.
        unsafe { first.map_to(page, frame, flags, frames) }.expect("memory for tables").flush();
    }
    let root = (offset + root).as_mut_ptr::<PageTable>();
    // SAFETY: all memory is mapped at the offset.
    unsafe { OffsetPageTable::new(&mut *root, offset) }
}
