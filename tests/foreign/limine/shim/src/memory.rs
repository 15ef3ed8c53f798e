//! Memory for what the kernel gets, and the page tables.

use crate::boot::BootInfo;
use x86_64::registers::control::Cr3;
use x86_64::structures::paging::{FrameAllocator, Mapper, OffsetPageTable, Page, PageTable};
use x86_64::structures::paging::{PageTableFlags as Flags, PhysFrame, Size2MiB, Size4KiB};
use x86_64::{PhysAddr, VirtAddr};

/// The registers of the local APIC.
pub const APIC: u64 = 0xfee0_0000;
const LARGE: u64 = 2 << 20;
const PAGE: u64 = 4096;

/// The tables in use, and memory behind this program, one piece after the other.
pub struct Memory {
    tables: OffsetPageTable<'static>,
    root: PhysFrame,
    bump: Bump,
    /// Where physical memory is mapped for the kernel.
    pub offset: u64,
}

struct Bump(u64);

// SAFETY: each frame is given once.
unsafe impl FrameAllocator<Size4KiB> for Bump {
    fn allocate_frame(&mut self) -> Option<PhysFrame> {
        Some(PhysFrame::containing_address(PhysAddr::new(self.take(PAGE))))
    }
}

impl Bump {
    /// Cleared memory; mapped to itself, as the first GiB is.
    fn take(&mut self, bytes: u64) -> u64 {
        let at = self.0;
        self.0 += bytes.next_multiple_of(PAGE);
        // SAFETY: RAM that nothing uses.
        unsafe { (at as *mut u8).write_bytes(0, bytes as usize) };
        at
    }
}

impl Memory {
    /// The memory behind this program, and its tables, to which the registers of the local APIC are added.
    ///
    /// # Safety
    ///
    /// To be called once, with the tables of the boot code in use.
    pub unsafe fn new(boot: &BootInfo, offset: u64) -> Self {
        let start = boot.first_free;
        let inside = |&&(at, len): &&(u64, u64)| at <= start && start < at + len;
        boot.ram[..boot.ranges].iter().find(inside).expect("this program is in RAM");
        let root = Cr3::read().0;
        // SAFETY: the tables in use, in the first GiB, which is mapped to itself.
        let tables = unsafe { &mut *(root.start_address().as_u64() as *mut PageTable) };
        // SAFETY: as above.
        let tables = unsafe { OffsetPageTable::new(tables, VirtAddr::zero()) };
        let mut memory = Self { tables, root, bump: Bump(start), offset };
        memory.map(
            APIC & !(LARGE - 1),
            APIC & !(LARGE - 1),
            LARGE,
            Flags::WRITABLE | Flags::NO_CACHE,
        );
        memory
    }

    /// Maps all RAM at the offset.
    pub fn map_all(&mut self, boot: &BootInfo) {
        for &(at, len) in &boot.ram[..boot.ranges] {
            let (start, end) = (at.next_multiple_of(PAGE), (at + len) & !(PAGE - 1));
            let flags = Flags::WRITABLE | Flags::NO_EXECUTE;
            self.map(self.offset + start, start, end - start, flags);
        }
    }

    /// Maps `bytes` at `to` for the kernel.
    pub fn map(&mut self, to: u64, from: u64, bytes: u64, flags: Flags) {
        let flags = flags | Flags::PRESENT;
        let mut done = 0;
        while done < bytes {
            let (virt, phys) = (VirtAddr::new(to + done), PhysAddr::new(from + done));
            let large = (to + done | from + done) % LARGE == 0 && bytes - done >= LARGE;
            // SAFETY: of the kernel's addresses this program uses none.
            unsafe {
                if large {
                    let (page, frame) = (
                        Page::<Size2MiB>::containing_address(virt),
                        PhysFrame::containing_address(phys),
                    );
                    self.tables
                        .map_to(page, frame, flags, &mut self.bump)
                        .expect("an empty entry")
                        .ignore();
                } else {
                    let (page, frame) = (
                        Page::<Size4KiB>::containing_address(virt),
                        PhysFrame::containing_address(phys),
                    );
                    self.tables
                        .map_to(page, frame, flags, &mut self.bump)
                        .expect("an empty entry")
                        .ignore();
                }
            }
            done += if large { LARGE } else { PAGE };
        }
    }

    /// Cleared memory of so many bytes.
    pub fn take(&mut self, bytes: u64) -> u64 {
        self.bump.take(bytes)
    }

    /// Memory for `count` values that may be all zeroes.
    pub fn words(&mut self, count: usize) -> &'static mut [u64] {
        let at = self.take(8 * count as u64);
        // SAFETY: cleared memory that nothing else uses.
        unsafe { core::slice::from_raw_parts_mut(at as *mut u64, count) }
    }

    /// The top of a new stack, for the kernel.
    pub fn stack(&mut self, bytes: u64) -> u64 {
        self.offset + self.take(bytes) + bytes
    }

    /// The kernel's address of what lies at `here`.
    pub fn high<T: ?Sized>(&self, here: &T) -> u64 {
        self.offset + (&raw const *here).cast::<u8>() as u64
    }

    /// The tables in use.
    pub fn root(&self) -> u64 {
        self.root.start_address().as_u64()
    }

    /// The kernel's: the same without the lower half.
    pub fn high_root(&mut self) -> u64 {
        let root = self.words(512);
        let address = root.as_ptr() as u64;
        // SAFETY: the root in use, mapped to itself.
        let own = unsafe { core::slice::from_raw_parts(self.root() as *const u64, 512) };
        root[256..].copy_from_slice(&own[256..]);
        address
    }

    /// The end of what was taken.
    pub fn end(&self) -> u64 {
        self.bump.0
    }
}
