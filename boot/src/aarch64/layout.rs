//! Where the image and the early page tables put things.
//!
//! The `virt` machine has devices in the first GiB of physical memory and RAM from there on.

use hotmem_paging::addr::{PhysAddr, VirtAddr};

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
