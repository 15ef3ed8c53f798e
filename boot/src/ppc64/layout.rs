//! Where the image and the early page tables put things.

use hotmem_paging::addr::{PhysAddr, VirtAddr};

/// Where the image appears: virtual minus physical address.
pub const KERNEL_BASE: VirtAddr = VirtAddr::new(0xc00f_0000_0000_0000);

/// Where early tables (and, later, the kernel's own) show physical address 0.
pub const LINEAR_BASE: VirtAddr = VirtAddr::new(0xc000_0000_0000_0000);

/// Physical memory below this is shown by the early tables.
pub const EARLY_LIMIT: PhysAddr = PhysAddr::new(4 << 30);
