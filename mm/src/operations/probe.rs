//! Probe: checks that memory keeps written values before it is used.
//!
//! Firmware, an operator or a broken slot may name addresses without memory: loads return all ones, stores are lost.
//! Such memory must not be published. One word of the first page and one of the last are written, each with another
//! pattern, and written back from the caches, which would keep them for any address. They are read back only after
//! all are written, so that two addresses of the same cell are detected, too. The pages then get their old values
//! back: adding memory and bringing it online changes no contents outside its memmap.

// UNSAFETY: writes words of memory that is about to be used, without its types.
#![expect(unsafe_code)]

use crate::addr::{Pfn, PfnRange, PhysAddr, VirtAddr, VirtRange};
use crate::geometry::DESCRIPTOR_BYTES;
use crate::machine::Machine;
use crate::memmap::block::pieces;
use crate::memmap::whole::Whole;
use crate::paging::Mapper;

use core::ptr::NonNull;

/// The value of a probed word, combined with the number of its page.
const PATTERN: u64 = 0x5aa5_c33c_0ff0_9669;

/// The word of a descriptor that is written: the last one, which only records and the kernel's metadata use.
const WORD: usize = DESCRIPTOR_BYTES as usize / size_of::<u64>() - 1;

/// The patterns of the first and the last page of a run of pages.
fn patterns(pfns: PfnRange) -> [(Pfn, u64); 2] {
    let last = Pfn::new(pfns.end.get().wrapping_sub(1));
    [(pfns.start, PATTERN ^ pfns.start.get()), (last, !PATTERN ^ last.get())]
}

/// Probes memory of a memmap.
pub(super) struct Probe<'m, M: Machine>(Whole<'m, M>);

impl<'m, M: Machine> Probe<'m, M> {
    pub(super) const fn of(memmap: Whole<'m, M>) -> Self {
        Self(memmap)
    }

    /// Writes and reads a word in the first and in the last memmap page of each block of `pfns`, whose memmap is
    /// mapped and not in use yet. Returns the first address that fails.
    pub(super) fn memmap_of(&self, pfns: PfnRange) -> Result<(), PhysAddr> {
        let blocks = pieces(pfns, self.0.block_size().pages::<M>());
        for [(first, pattern), (last, other)] in blocks.clone().map(patterns) {
            self.write_descriptor(first, pattern);
            self.write_descriptor(last, other);
        }
        for [(first, pattern), (last, other)] in blocks.map(patterns) {
            if self.read_descriptor(first) != pattern {
                return Err(self.behind_descriptor(first));
            }
            if self.read_descriptor(last) != other {
                return Err(self.behind_descriptor(last));
            }
        }
        Ok(())
    }

    /// Writes and reads a word in the first page of `pfns`, in the last one, and in the descriptor of the first. The
    /// pages belong to a block that is offline, hold no memmap, and keep their contents. Returns the first address
    /// that fails.
    pub(super) fn pages(&self, pfns: PfnRange) -> Result<(), PhysAddr> {
        if pfns.pages() == 0 {
            return Ok(());
        }
        let [(head, pattern), (last, other)] = patterns(pfns);
        let kept = [head, last].map(|pfn| self.read_page(pfn));
        self.write_descriptor(head, pattern);
        self.write_page(head, pattern);
        self.write_page(last, other);
        // A single page is first and last, and holds the value written last.
        let expected = if head == last { other } else { pattern };
        let result = if self.read_descriptor(head) != pattern {
            Err(self.behind_descriptor(head))
        } else if self.read_page(head) != expected {
            Err(M::address(head))
        } else if self.read_page(last) != other {
            Err(M::address(last))
        } else {
            Ok(())
        };
        self.write_page(head, kept[0]);
        self.write_page(last, kept[1]);
        result
    }

    /// The physical address of the probed word of `pfn`'s descriptor.
    fn behind_descriptor(&self, pfn: Pfn) -> PhysAddr {
        let virt = self.0.windows().descriptor_virt(pfn);
        let leaf = self.0.mapper().translate(virt);
        leaf.map_or(M::address(pfn), |leaf| leaf.target(virt))
    }

    fn descriptor_word(&self, pfn: Pfn) -> NonNull<u64> {
        let words: NonNull<u64> = self.0.machine().descriptor(pfn).cast();
        // SAFETY: a descriptor is `WORD` + 1 words.
        unsafe { words.add(WORD) }
    }

    fn first_word(&self, pfn: Pfn) -> NonNull<u64> {
        self.0.machine().pointer(M::address(pfn)).cast()
    }

    // The pointer is requested again for each access, and each access is volatile: the value comes from the memory,
    // not from the compiler's knowledge of the write.

    fn write_descriptor(&self, pfn: Pfn, value: u64) {
        // SAFETY: the memmap of `pfn` is mapped, and the last word of a descriptor has no meaning while its
        // page is in no extent.
        unsafe { self.descriptor_word(pfn).write_volatile(value) };
        let descriptor = self.0.windows().descriptor_virt(pfn);
        self.clean_word(descriptor.add((WORD * size_of::<u64>()) as u64));
    }

    fn read_descriptor(&self, pfn: Pfn) -> u64 {
        // SAFETY: as in `write_descriptor`.
        unsafe { self.descriptor_word(pfn).read_volatile() }
    }

    fn write_page(&self, pfn: Pfn, value: u64) {
        // SAFETY: the page is in the linear map, page-aligned, and of a block that is offline, so no reference to it
        // exists.
        unsafe { self.first_word(pfn).write_volatile(value) };
        self.clean_word(self.0.machine().linear_base().add(M::address(pfn).get()));
    }

    fn read_page(&self, pfn: Pfn) -> u64 {
        // SAFETY: as in `write_page`.
        unsafe { self.first_word(pfn).read_volatile() }
    }

    fn clean_word(&self, at: VirtAddr) {
        if let Some(word) = VirtRange::new(at, size_of::<u64>() as u64) {
            self.0.machine().clean(word);
        }
    }
}
