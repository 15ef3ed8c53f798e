//! This kernel as a machine that the memory manager runs on.

// UNSAFETY: vouches for the linear map, the memmap window and the kernel's page tables.
#![expect(unsafe_code)]

use super::distances;
use super::early::EarlyMemory;
use super::layout::{CPUS, LINEAR_BASE, PAGE, PAGE_SHIFT, PHYS_LIMIT, SECTION_SHIFT, VMEMMAP_BASE};
#[cfg(feature = "lab")]
use super::steps::FAULTS;
use super::tlb::KernelTlb;
use crate::cpus::table;
use crate::lock::{self, ManagersLock};
use core::ptr::NonNull;
use core::sync::atomic::Ordering;
use hotmem::geometry::DESCRIPTOR_BYTES;
use hotmem::paging::Tables;
use hotmem::{
    BootError, BootMemory, CpuCaches, MAX_NODES, Machine, Mm, NodeId, NodeTable, Page, Pfn,
    PhysAddr, PhysMem, PhysRange, Sizes, VirtAddr, VirtRange,
};
use hotmem_arch::contract::Guests as _;
use hotmem_arch::current::addressing;
use hotmem_arch::current::cpu::{self, Features};
use hotmem_arch::current::probe::probe_read;
use hotmem_arch::current::{Arch, Format};
#[cfg(feature = "lab")]
use hotmem_lab::fault::Point;
use spin::Once;

/// All bytes are zero, so the static takes no room in the image; it is never moved.
static MM: Mm<KernelMachine> = Mm::new(KernelMachine(()));

/// The machine's state, once the kernel's page tables exist.
static OWN: Once<Own> = Once::new();

/// The kernel's page tables, as the manager has them.
#[cfg(feature = "lab")]
type Mapper = super::steps::Faulty<KernelTables>;
/// The kernel's page tables, as the manager has them.
#[cfg(not(feature = "lab"))]
type Mapper = KernelTables;

/// The kernel's page tables, and the memory that must not be writable.
struct Own {
    tables: Mapper,
    protected: [PhysRange; 2],
}

/// Physical memory, through the linear map.
#[derive(Clone, Copy, Debug)]
pub struct LinearMemory;

// SAFETY: the linear map maps physical address `a` at `LINEAR_BASE + a` for all RAM: the early tables below their
// limit, the kernel's own for all of it; page-table frames come from RAM.
unsafe impl PhysMem for LinearMemory {
    fn linear_base(&self) -> VirtAddr {
        LINEAR_BASE
    }

    #[inline]
    fn pointer(&self, at: PhysAddr) -> NonNull<u8> {
        addressing::pointer_in(LINEAR_BASE, at.get())
    }
}

/// The kernel's page tables.
pub type KernelTables = Tables<Format, LinearMemory, KernelTlb>;

/// Bytes (and alignment) of the root table: at least a page.
pub(super) const ROOT_BYTES: u64 =
    if KernelTables::ROOT_BYTES < PAGE { PAGE } else { KernelTables::ROOT_BYTES };

/// Takes over the empty tree at `root`. The mapper refuses leaf sizes and physical addresses that this CPU does not
/// have, since firmware may name any.
///
/// # Safety
///
/// `root` is [`ROOT_BYTES`] of zeroed memory that the early tables map and that no other code uses. Each CPU that
/// loads it keeps the contract of [`KernelTlb::new`].
pub(super) unsafe fn kernel_tables(root: PhysAddr, features: &Features) -> KernelTables {
    // SAFETY: by the contract of this function.
    let tlb = unsafe { KernelTlb::new() };
    // SAFETY: the root is zeroed and used by no other code, `LinearMemory` reaches every frame of RAM, and table
    // frames come from the early allocator or the memory manager, which allocate each once. All calls come from the
    // one main loop.
    let tables = unsafe { Tables::new(root, LinearMemory, tlb) };
    tables.limited(features.largest_leaf, features.phys_limit)
}

/// The machine: sizes, pointers, page tables.
#[derive(Debug)]
pub struct KernelMachine(());

impl KernelMachine {
    fn own(&self) -> &Own {
        // SAFETY: the only machine is in `MM`, which `manager` and `start` return only after `OWN` is set.
        unsafe { OWN.get_unchecked() }
    }

    /// The kernel's page tables.
    pub fn tables(&self) -> &KernelTables {
        #[cfg(feature = "lab")]
        return self.own().tables.inner();
        #[cfg(not(feature = "lab"))]
        &self.own().tables
    }
}

impl Sizes for KernelMachine {
    const PAGE_SHIFT: u32 = PAGE_SHIFT;
    const SECTION_SHIFT: u32 = SECTION_SHIFT;
}

// SAFETY: every guarantee is `LinearMemory`'s.
unsafe impl PhysMem for KernelMachine {
    fn linear_base(&self) -> VirtAddr {
        LINEAR_BASE
    }

    #[inline]
    fn pointer(&self, at: PhysAddr) -> NonNull<u8> {
        LinearMemory.pointer(at)
    }

    unsafe fn copy(&self, from: PhysAddr, to: PhysAddr, bytes: usize) {
        // SAFETY: by the contract of this function: the pointers are valid up to the end of their frames.
        unsafe { Arch::copy_guest_memory(self.pointer(from), self.pointer(to), bytes) };
    }
}

// SAFETY: `VMEMMAP_BASE` determines the memmap window, and is a multiple of 64; only the memory manager maps it.
unsafe impl Machine for KernelMachine {
    type Mapper = Mapper;
    type Nodes = NodeTable<MAX_NODES, Self::Lock>;
    type Caches = CpuCaches<CPUS, Self::Lock>;
    type Lock = ManagersLock;
    type Meta = ();

    fn relax(&self) {
        lock::relax();
    }

    fn vmemmap_base(&self) -> VirtAddr {
        VMEMMAP_BASE
    }

    fn phys_limit(&self) -> PhysAddr {
        PHYS_LIMIT
    }

    #[inline]
    fn descriptor(&self, pfn: Pfn) -> NonNull<Page> {
        let offset = pfn.get().wrapping_mul(DESCRIPTOR_BYTES);
        addressing::pointer_in(VMEMMAP_BASE, offset).cast()
    }

    unsafe fn mapper(&self) -> &Mapper {
        &self.own().tables
    }

    #[cfg(feature = "lab")]
    fn allows_allocation(&self) -> bool {
        FAULTS.allows(Point::Allocation)
    }

    #[cfg(feature = "lab")]
    fn allows_operation(&self) -> bool {
        FAULTS.allows(Point::Turn)
    }

    fn protected(&self) -> &[PhysRange] {
        &self.own().protected
    }

    fn stamp(&self) -> u64 {
        cpu::timestamp()
    }

    fn clean(&self, range: VirtRange) {
        cpu::clean_cache(range);
    }

    fn can_load(&self, at: VirtAddr) -> bool {
        probe_read(at.align_down(8)).is_ok()
    }

    #[inline]
    fn cpu(&self) -> usize {
        cpu::number()
    }

    #[inline]
    fn node(&self, cpu: usize) -> NodeId {
        table::node_of(cpu)
    }

    fn distance(&self, cpu: usize, to: NodeId) -> u8 {
        distances::between(table::node_of(cpu), to)
    }

    fn in_handler(&self) -> bool {
        table::own().handles.load(Ordering::Relaxed)
    }
}

/// The memory manager, once it has the kernel's page tables.
pub fn manager() -> Option<&'static Mm<KernelMachine>> {
    OWN.get().map(|_| &MM)
}

/// Gives the memory manager the kernel's page tables, the memory that must not be writable, and all memory that
/// `early` has not allocated.
///
/// # Errors
///
/// [`BootError`], after which the kernel cannot continue.
pub(super) fn start(
    tables: KernelTables,
    protected: [PhysRange; 2],
    early: &mut EarlyMemory,
    memory: &BootMemory<'_>,
) -> Result<&'static Mm<KernelMachine>, BootError> {
    #[cfg(feature = "lab")]
    let tables = Mapper::new(tables);
    OWN.call_once(|| Own { tables, protected });
    // SAFETY: the RAM is what firmware describes, without the parts that firmware and the kernel keep; the kernel's
    // own tables map all of it, and `early` has allocated the memory in use.
    unsafe { MM.boot(memory, early) }?;
    Ok(&MM)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::MM;

    // SAFETY: the linker defines both symbols, and this code reads nothing there.
    unsafe extern "C" {
        /// The start of the bytes that are zero and not in the file.
        static __bss_start: u8;
        /// The end of those bytes.
        static _end: u8;
    }

    #[test]
    fn the_manager_takes_no_room_in_the_image() {
        let zeros = (&raw const __bss_start)..(&raw const _end);
        let manager = (&raw const MM).cast::<u8>();
        assert!(zeros.contains(&manager), "{manager:?} is not in {zeros:?}");
    }
}
