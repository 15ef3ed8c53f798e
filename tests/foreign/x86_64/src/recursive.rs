//! The memory manager of this kernel, over tables that are reached by an entry of the root which leads to the root
//! itself: the template's `memory.rs` with other tables.

use crate::boot::{BootInfo, MOST};
use crate::println;
use hotmem::heap::Heap;
use hotmem::paging::MappedBytes;
use hotmem::paging::x86_64::{LocalTlb, LockedTables};
use hotmem::{BlockSize, BootError, BootMemory, EarlyRanges, Mm, NodeId, SimpleMachine, SpinLock};
use hotmem::{PhysAddr, PhysRange, VirtAddr};
use spin::Once;
use x86_64::registers::control::Cr3;
use x86_64::structures::paging::page_table::PageTableEntry;
use x86_64::structures::paging::{OffsetPageTable, Page, PageTable, PageTableIndex};
use x86_64::structures::paging::{PageTableFlags as Flags, RecursivePageTable};

/// The machine.
pub type Machine = SimpleMachine<LockedTables<RecursivePageTable<'static>, LocalTlb, SpinLock>>;

/// The root's entry that leads to the root.
const RECURSIVE: PageTableIndex = PageTableIndex::new(510);
/// Memory can be added below this address. The memmap's window follows the linear map's.
const LIMIT: u64 = 1 << 40;
/// The unit of online, offline and removal.
const BLOCK: u64 = 128 << 20;

static MM: Once<Mm<Machine>> = Once::new();

/// The heap: it grows and shrinks.
#[global_allocator]
static HEAP: Heap<Machine> = Heap::new();

/// The memory that firmware's tables lie in.
///
/// # Safety
///
/// `tables` map it, and nothing writes firmware's tables.
pub unsafe fn firmware(boot: &BootInfo, tables: &OffsetPageTable<'_>) -> MappedBytes {
    let offset = VirtAddr::new(tables.phys_offset().as_u64());
    let all = PhysRange::new(PhysAddr::new(0), boot.end()).unwrap_or_default();
    // SAFETY: by the contract.
    unsafe { MappedBytes::new(offset, all) }
}

/// The same tables, by a recursive entry.
///
/// # Safety
///
/// They are those in use, and nothing else changes them from now on.
unsafe fn recursive(mut tables: OffsetPageTable<'static>) -> RecursivePageTable<'static> {
    let entry: &mut PageTableEntry = &mut tables.level_4_table_mut()[RECURSIVE];
    assert!(entry.is_unused(), "an entry of the root is free");
    entry.set_frame(Cr3::read().0, Flags::PRESENT | Flags::WRITABLE | Flags::NO_EXECUTE);
    let root = Page::from_page_table_indices(RECURSIVE, RECURSIVE, RECURSIVE, RECURSIVE);
    let root = root.start_address().as_mut_ptr::<PageTable>();
    println!("page tables are reached by entry {}", u16::from(RECURSIVE));
    // SAFETY: the entry leads to the root, which `tables` have lent for good.
    RecursivePageTable::new(unsafe { &mut *root }).expect("the root in use, at a recursive address")
}

/// Gives all RAM above `first_free` to a memory manager. Memory may be added in `window`.
///
/// # Safety
///
/// `tables` are those in use, and nothing else changes them from now on. RAM above `first_free` is unused.
pub unsafe fn init(
    boot: &BootInfo,
    tables: OffsetPageTable<'static>,
    first_free: u64,
    window: &[PhysRange],
) -> Result<&'static Mm<Machine>, BootError> {
    let linear = VirtAddr::new(tables.phys_offset().as_u64());
    let mut ram = [(PhysRange::default(), NodeId::ZERO); MOST];
    for (&(at, len), (range, _)) in boot.ram.iter().zip(&mut ram) {
        *range = PhysRange::new(PhysAddr::new(at), len).unwrap_or_default();
    }
    let ram = &ram[..boot.ranges];
    // SAFETY: this CPU is the only one, and the tables are its own, by the contract.
    let machine = unsafe {
        let tables = LockedTables::new(recursive(tables), Cr3::read().0, LocalTlb::new());
        SimpleMachine::new(tables, linear, linear.add(LIMIT), PhysAddr::new(LIMIT))
    };
    let mm = MM.call_once(|| Mm::new(machine));
    let block_size = BlockSize::new::<Machine>(BLOCK).map_err(BootError::Geometry)?;
    let memory = BootMemory { ram, block_size, window, kernelcore: None };
    // SAFETY: the RAM is there, and unused above `first_free`, by the contract.
    unsafe { mm.boot(&memory, &mut EarlyRanges::new(ram, PhysAddr::new(first_free))) }?;
    // SAFETY: all of RAM is at `linear`.
    unsafe { HEAP.start(mm) }.expect("a name for the heap");
    Ok(mm)
}
