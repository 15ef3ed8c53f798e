//! The smallest machine: two sections, a node for their words, and descriptors that are mapped and unmapped.

// UNSAFETY: gives the manager pointers to the machine's own words and descriptors.
#![expect(unsafe_code)]

use crate::addr::{Pfn, PhysAddr, VirtAddr};
use crate::geometry::{Geometry, Sizes};
use crate::memmap::Memmap;
use crate::memmap::page::Page;
use crate::memmap::readers::Readers;
use crate::memmap::section::{Node, SectionMap};
use crate::paging::TableFrame;
use crate::sync::{AtomicU64, array};
use core::ptr::NonNull;
use loom::cell::UnsafeCell;

pub(crate) use hotmem_paging::PhysMem;

/// The functions of the manager's trait that the checked files use.
pub(crate) trait Machine: Geometry + PhysMem {
    fn descriptor(&self, pfn: Pfn) -> NonNull<Page>;
}

/// Descriptors that the machine has: for each section one that its record is in, and the one that that moves to.
pub(crate) const DESCRIPTORS: usize = 4;

#[derive(Debug)]
pub(crate) struct Tiny {
    node: Node,
    descriptors: [Page; DESCRIPTORS],
    /// The translation of each descriptor: read by every user of the descriptor, written by mapping and unmapping.
    /// Loom detects a use during a change, and a change that is not seen.
    mapped: [UnsafeCell<bool>; DESCRIPTORS],
}

// SAFETY: loom checks that the translations are shared correctly; that is the purpose of the models.
unsafe impl Sync for Tiny {}

impl Tiny {
    /// Accesses a descriptor, which must be mapped.
    pub(crate) fn touch(&self, pfn: Pfn) {
        self.mapped[pfn.get() as usize].with(|mapped| {
            // SAFETY: loom reports an error unless all changes happened before.
            let mapped = unsafe { *mapped };
            assert!(mapped, "{pfn} is used and its descriptor is not mapped");
        });
    }

    /// Maps a descriptor, or unmaps it.
    pub(crate) fn map(&self, pfn: Pfn, mapped: bool) {
        self.mapped[pfn.get() as usize].with_mut(|word| {
            // SAFETY: loom reports an error unless all uses and changes happened before.
            unsafe { *word = mapped };
        });
    }
}

impl Sizes for Tiny {
    const PAGE_SHIFT: u32 = 12;
    const SECTION_SHIFT: u32 = 20;
}

// SAFETY: the only physical memory is the node's, at 0.
unsafe impl PhysMem for Tiny {
    fn linear_base(&self) -> VirtAddr {
        VirtAddr::new(0)
    }

    fn pointer(&self, _: PhysAddr) -> NonNull<u8> {
        NonNull::from(&self.node).cast()
    }
}

impl Machine for Tiny {
    fn descriptor(&self, pfn: Pfn) -> NonNull<Page> {
        self.touch(pfn);
        NonNull::from(&self.descriptors[pfn.get() as usize])
    }
}

/// A memmap with the node of its sections, all of which are absent.
pub(crate) fn memmap() -> Memmap<Tiny> {
    let machine = Tiny {
        node: array![AtomicU64::new(0); 2],
        descriptors: array![Page::default(); DESCRIPTORS],
        mapped: core::array::from_fn(|_| UnsafeCell::new(false)),
    };
    let (sections, readers) = (SectionMap::new(), Readers::new());
    // SAFETY: the node is the machine's only frame.
    sections.put_back_node(0, unsafe { TableFrame::new(PhysAddr::new(0), 4096) });
    Memmap { machine, sections, readers }
}
