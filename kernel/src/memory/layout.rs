//! Where everything is in the kernel's address space.
//!
//! ```text
//!   ffff_8000_0000_0000   64 TiB  linear map: physical address 0 and on
//!   ffff_c000_0000_0000    1 TiB  virtual memmap: the descriptor of pfn n at +64 n
//!   ffff_e000_0000_0000           device registers, uncached, at +physical address modulo the window
//!   ffff_e800_0000_0000           firmware's tables, read-only, likewise
//!   ffff_f000_0000_0000           stacks, each above a page that is never mapped
//!   ffff_ffff_8000_0000           the image
//! ```
//!
//! Nothing is mapped in the lower half: a null pointer, or a physical address used as a pointer,
//! faults.

use hotmem::addr::{PhysAddr, VirtAddr, VirtRange};
use hotmem::geometry::DESCRIPTOR_BYTES;

/// Where physical address 0 is in the linear map.
pub const LINEAR_BASE: VirtAddr = VirtAddr::new(0xffff_8000_0000_0000);
/// Where the descriptor of pfn 0 is.
pub const VMEMMAP_BASE: VirtAddr = VirtAddr::new(0xffff_c000_0000_0000);
/// Where device registers are mapped.
pub const DEVICE_BASE: VirtAddr = VirtAddr::new(0xffff_e000_0000_0000);
/// Where firmware's tables are mapped.
pub const FIRMWARE_BASE: VirtAddr = VirtAddr::new(0xffff_e800_0000_0000);
/// Where the stacks are.
pub const STACK_BASE: VirtAddr = VirtAddr::new(0xffff_f000_0000_0000);

/// Bytes of a base page.
pub const PAGE: u64 = 4096;
/// Bytes of the device window and of the firmware window.
pub const WINDOW_BYTES: u64 = FIRMWARE_BASE.get() - DEVICE_BASE.get();
/// One past the highest physical address that the linear map and the memmap have room for.
pub const PHYS_LIMIT: PhysAddr = PhysAddr::new(1 << 46);

const _: () = {
    assert!(LINEAR_BASE.get() + PHYS_LIMIT.get() <= VMEMMAP_BASE.get());
    let descriptors = PHYS_LIMIT.get() / PAGE * DESCRIPTOR_BYTES;
    assert!(VMEMMAP_BASE.get() + descriptors <= DEVICE_BASE.get());
    assert!(FIRMWARE_BASE.get() + WINDOW_BYTES <= STACK_BASE.get());
};

/// Where `address` is in the window at `base`; `None` past the window's end.
pub fn in_window(base: VirtAddr, address: PhysAddr) -> Option<VirtAddr> {
    (address.get() < WINDOW_BYTES).then(|| base.add(address.get()))
}

/// Address space set aside for each stack; what a stack does not use of it guards its end.
const STACK_STRIDE: u64 = 1 << 20;

/// The kernel's stacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stack {
    /// Where everything runs.
    Kernel,
    /// Double faults only.
    DoubleFault,
    /// Page faults only: a stack overflow is one.
    PageFault,
    /// Non-maskable interrupts only.
    Nmi,
}

impl Stack {
    /// Every stack, in address order.
    pub const ALL: [Self; 4] = [Self::Kernel, Self::DoubleFault, Self::PageFault, Self::Nmi];

    /// Bytes of the stack.
    pub const fn bytes(self) -> u64 {
        match self {
            Self::Kernel => 512 << 10,
            Self::DoubleFault | Self::PageFault | Self::Nmi => 32 << 10,
        }
    }

    /// One past the stack's highest byte.
    pub const fn top(self) -> VirtAddr {
        STACK_BASE.add((self as u64 + 1) * STACK_STRIDE)
    }

    /// The stack's bytes. The page below is never mapped.
    pub fn range(self) -> VirtRange {
        let start = VirtAddr::new(self.top().get() - self.bytes());
        VirtRange::new(start, self.bytes()).unwrap_or_default()
    }

    /// The stack that ran over its end, if an access to `address` faulted.
    pub fn overflowed(address: VirtAddr) -> Option<Self> {
        Self::ALL.into_iter().find(|stack| {
            let to_top = stack.top().offset_from(address);
            to_top > stack.bytes() && to_top <= STACK_STRIDE
        })
    }

    /// The stack that holds all of `bytes`.
    pub fn holding(bytes: VirtRange) -> Option<Self> {
        Self::ALL.into_iter().find(|stack| stack.range().covers(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stack_has_a_guard_below_and_above() {
        for stack in Stack::ALL {
            let range = stack.range();
            assert!(range.start().is_aligned(PAGE) && range.end().is_aligned(PAGE));
            for guard in [range.start().get() - PAGE, range.end().get()] {
                let guard = VirtRange::new(VirtAddr::new(guard), PAGE).unwrap();
                assert!(Stack::ALL.iter().all(|other| !other.range().overlaps(guard)));
            }
        }
    }

    #[test]
    fn an_access_below_a_stack_is_its_overflow() {
        for stack in Stack::ALL {
            let start = stack.range().start().get();
            assert_eq!(Stack::overflowed(VirtAddr::new(start - 8)), Some(stack));
            assert_eq!(Stack::overflowed(VirtAddr::new(start)), None);
            assert_eq!(Stack::overflowed(VirtAddr::new(stack.top().get() - 8)), None);
        }
        assert_eq!(Stack::overflowed(VirtAddr::new(0)), None);
        assert_eq!(Stack::overflowed(VirtAddr::new(u64::MAX)), None);
    }

    #[test]
    fn a_word_belongs_to_the_stack_that_holds_all_of_it() {
        let word = |at| VirtRange::new(VirtAddr::new(at), 8).unwrap();
        let top = Stack::PageFault.top().get();
        assert_eq!(Stack::holding(word(top - 8)), Some(Stack::PageFault));
        assert_eq!(Stack::holding(word(top - 4)), None);
        assert_eq!(Stack::holding(word(0)), None);
    }

    #[test]
    fn a_window_holds_what_lies_below_its_end() {
        let last = PhysAddr::new(WINDOW_BYTES - 1);
        assert_eq!(in_window(DEVICE_BASE, last), Some(DEVICE_BASE.add(WINDOW_BYTES - 1)));
        assert_eq!(in_window(DEVICE_BASE, PhysAddr::new(WINDOW_BYTES)), None);
    }
}
