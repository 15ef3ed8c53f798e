//! Where the kernel image lies: as the linker script placed it, or on the host as if one had.
//!
//! The entry part is linked where it is loaded, everything else at [`KERNEL_BASE`] + where it is loaded.

#[cfg(not(bare))]
mod assumed;
#[cfg(bare)]
mod linked;

#[cfg(not(bare))]
use assumed as placed;
#[cfg(bare)]
use linked as placed;

use crate::current::KERNEL_BASE;
use hotmem_paging::addr::{PhysAddr, PhysRange, VirtRange};

/// A part of the image with one kind of access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segment {
    /// Instructions.
    Text,
    /// Constants.
    Rodata,
    /// Variables.
    Data,
}

impl Segment {
    /// Every segment, in address order.
    pub const ALL: [Self; 3] = [Self::Text, Self::Rodata, Self::Data];

    /// Where the segment runs: whole pages, linked at [`KERNEL_BASE`] and on.
    pub fn virt(self) -> VirtRange {
        match self {
            Self::Text => placed::text(),
            Self::Rodata => placed::rodata(),
            Self::Data => placed::data(),
        }
    }

    /// Where the segment was loaded.
    pub fn phys(self) -> PhysRange {
        let virt = self.virt();
        let start = PhysAddr::new(virt.start().offset_from(KERNEL_BASE));
        PhysRange::new(start, virt.len()).unwrap_or_default()
    }
}

/// Everything that was loaded, entry code and early tables included.
pub fn phys() -> PhysRange {
    let virt = placed::whole();
    let start = PhysAddr::new(virt.start().offset_from(KERNEL_BASE));
    PhysRange::new(start, virt.len()).unwrap_or_default()
}

/// The stack of the entry code, mapped only by the early tables.
pub fn early_stack() -> VirtRange {
    placed::early_stack()
}

/// The symbol table that was filled in after linking.
pub fn symbols() -> &'static [u8] {
    placed::symbols()
}
