//! Where the image and the early page tables put things.
//!
//! The `virt` machine has devices in the first GiB of physical memory and RAM from there on.

use hotmem_paging::addr::{PhysAddr, PhysRange, VirtAddr};

/// Where the image appears: virtual minus physical address.
pub const KERNEL_BASE: VirtAddr = VirtAddr::new(0xffff_c000_0000_0000);

/// Where early tables (and, later, the kernel's own) show physical address 0.
pub const LINEAR_BASE: VirtAddr = VirtAddr::new(0xffff_0000_0000_0000);

/// Where early tables (and, later, the kernel's own) show devices.
pub const DEVICE_BASE: VirtAddr = VirtAddr::new(0xffff_a000_0000_0000);

/// Physical memory below this is shown by the early tables.
pub const EARLY_LIMIT: PhysAddr = PhysAddr::new(4 << 30);

/// Where RAM begins, and with it the device tree (QEMU, `docs/system/arm/virt.rst`).
pub const RAM_BASE: PhysAddr = PhysAddr::new(1 << 30);

/// Where the early tables show `range`, if it is RAM that they show.
pub fn early(range: PhysRange) -> Option<VirtAddr> {
    let shown = PhysRange::new(RAM_BASE, EARLY_LIMIT.get() - RAM_BASE.get())?;
    shown.covers(range).then(|| LINEAR_BASE.add(range.start().get()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(start: u64, len: u64) -> Option<u64> {
        let range = PhysRange::new(PhysAddr::new(start), len).unwrap();
        early(range).map(|at| at.offset_from(LINEAR_BASE))
    }

    #[test]
    fn ram_below_the_limit_is_shown_and_nothing_else() {
        assert_eq!(shown(1 << 30, 3 << 30), Some(1 << 30));
        assert_eq!(shown((4 << 30) - 8, 8), Some((4 << 30) - 8));
        assert_eq!(shown((1 << 30) - 8, 16), None);
        assert_eq!(shown((4 << 30) - 8, 16), None);
        // The end of such a range is address 0.
        assert_eq!(shown(u64::MAX - 55, 56), None);
    }
}
