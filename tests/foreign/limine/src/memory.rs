//! The memory manager of this kernel.

use crate::boot::{BootInfo, MOST};
use crate::{cpus, paging};
use core::sync::atomic::{AtomicU64, Ordering, compiler_fence};
use hotmem::heap::Heap;
use hotmem::paging::shootdown::{Local, Shootdown};
use hotmem::paging::x86_64::LockedTables;
use hotmem::paging::{MappedBytes, NotFlushed, Tlb, few_pages};
use hotmem::{BlockSize, BootError, BootMemory, EarlyRanges, Mm, NodeId, SimpleMachine, SpinLock};
use hotmem::{PhysAddr, PhysRange, VirtAddr, VirtRange};
use spin::Once;
use x86_64::instructions::tlb;
use x86_64::registers::control::Cr3;
use x86_64::structures::paging::OffsetPageTable;

/// The page tables, with their lock.
pub type Tables = LockedTables<OffsetPageTable<'static>, AllTlbs, SpinLock>;
/// The machine.
pub type Machine = SimpleMachine<Tables>;

/// Memory can be added below this address. The memmap's window follows the linear map's.
const LIMIT: u64 = 1 << 40;
/// The unit of online, offline and removal.
const BLOCK: u64 = 128 << 20;
/// Polls until a CPU that does not acknowledge a flush is named.
const PATIENCE: u64 = 1 << 26;

static MM: Once<Mm<Machine>> = Once::new();

/// The heap: it grows and shrinks.
#[global_allocator]
static HEAP: Heap<Machine> = Heap::new();

/// Requests to drop translations, and how many each CPU has served for another.
static FLUSHES: Shootdown<{ cpus::MOST }> = Shootdown::new();
pub static SERVED: [AtomicU64; cpus::MOST] = [const { AtomicU64::new(0) }; cpus::MOST];

/// The CPU that runs this.
struct This;

impl Local for This {
    fn flush(&self, ranges: Option<&[VirtRange]>) {
        match ranges.and_then(|ranges| few_pages(ranges, 4096)) {
            None => tlb::flush_all(),
            Some(pages) => {
                pages.for_each(|page| tlb::flush(x86_64::VirtAddr::new_truncate(page.get())))
            }
        }
    }

    fn interrupt(&self, cpu: usize) {
        cpus::interrupt(cpu);
    }

    fn relax(&self) {
        core::hint::spin_loop();
    }
}

/// The translations of all CPUs.
pub struct AllTlbs;

// SAFETY: a request returns when all CPUs that use the tables have dropped their translations; none is global.
unsafe impl Tlb for AllTlbs {
    fn publish(&self) {
        compiler_fence(Ordering::SeqCst);
    }

    fn flush(&self, ranges: &[VirtRange]) -> Result<(), NotFlushed> {
        FLUSHES.request(cpus::current(), ranges, &This, PATIENCE)
    }
}

/// Has this CPU take part in flushes.
pub fn join() {
    FLUSHES.join(cpus::current(), &This);
}

/// Serves the flush that another CPU requests, if it does.
pub fn serve() {
    let cpu = cpus::current();
    SERVED[cpu].fetch_add(u64::from(FLUSHES.serve(cpu, &This)), Ordering::Relaxed);
}

/// The memory that firmware's tables lie in.
///
/// # Safety
///
/// `paging::init` was called, and nothing writes firmware's tables.
pub unsafe fn firmware() -> MappedBytes {
    let low = PhysRange::new(PhysAddr::new(0), paging::LOW).unwrap_or_default();
    // SAFETY: by the contract.
    unsafe { MappedBytes::new(VirtAddr::new(0), low) }
}

/// Gives the loader's usable memory to a memory manager. Memory may be added in `window`.
///
/// # Safety
///
/// `tables` are those in use, and nothing else changes them from now on. Usable memory is unused.
pub unsafe fn init(
    boot: &BootInfo,
    tables: OffsetPageTable<'static>,
    window: &[PhysRange],
) -> Result<&'static Mm<Machine>, BootError> {
    let linear = VirtAddr::new(boot.offset.as_u64());
    let mut ram = [(PhysRange::default(), NodeId::ZERO); MOST];
    for (&(at, len), (range, _)) in boot.ram().iter().zip(&mut ram) {
        *range = PhysRange::new(PhysAddr::new(at), len).unwrap_or_default();
    }
    let ram = &ram[..boot.ram().len()];
    // SAFETY: each CPU joins before it uses what is mapped, and the tables are this kernel's, by the contract.
    let machine = unsafe {
        let tables = LockedTables::new(tables, Cr3::read().0, AllTlbs);
        SimpleMachine::new(tables, linear, linear.add(LIMIT), PhysAddr::new(LIMIT))
    };
    let mm = MM.call_once(|| Mm::new(machine));
    let block_size = BlockSize::new::<Machine>(BLOCK).map_err(BootError::Geometry)?;
    let memory = BootMemory { ram, block_size, window, kernelcore: None };
    // SAFETY: the memory is there, and unused, by the contract.
    unsafe { mm.boot(&memory, &mut EarlyRanges::new(ram, PhysAddr::new(0))) }?;
    // SAFETY: all of it is at `linear`.
    unsafe { HEAP.start(mm) }.expect("a name for the heap");
    Ok(mm)
}
