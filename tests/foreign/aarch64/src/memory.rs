//! The memory manager of this kernel.

use crate::paging::{MEMORY, MOST, OFFSET, Ram};
use aarch64_paging::descriptor::El1Attributes as Flags;
use core::arch::asm;
use hotmem::heap::Heap;
use hotmem::paging::{Attr, Entry, LeafTest, Level, NotFlushed, PteFormat, Tlb};
use hotmem::{BlockSize, BootError, BootMemory, EarlyRanges, Mm, NodeId, SimpleMachine};
use hotmem::{PhysAddr, PhysMem, PhysRange, VirtAddr, VirtRange};
use spin::Once;

/// The words of the tables. A table and a page have the same bit beside VALID, a larger leaf has not.
pub struct Format;

const TABLE: u64 = Flags::VALID.union(Flags::TABLE_OR_PAGE).bits() as u64;
const ADDRESS: u64 = 0x0000_ffff_ffff_f000;
/// The bits that are clear in a leaf with each access; those of devices are in the place of a memory type.
const READ_ONLY: u64 = Flags::READ_ONLY.bits() as u64;
const NEVER: u64 = Flags::PXN.union(Flags::UXN).bits() as u64;
const TYPE: u64 = Flags::ATTRIBUTE_INDEX_MASK.bits() as u64;
const ABSENT: [(Attr, u64); 3] =
    [(Attr::WRITE, READ_ONLY), (Attr::EXECUTE, NEVER), (Attr::DEVICE, TYPE)];

const fn level(shift: u32, leaf: bool) -> Level {
    Level { shift, bits: 9, leaf }
}

/// The low two bits of a leaf.
const fn leaf(level: usize) -> u64 {
    if level == 3 { TABLE } else { Flags::VALID.bits() as u64 }
}

// SAFETY: the words are those of the Arm ARM, D8.3, and number 0 of UEFI's memory types is for devices.
unsafe impl PteFormat for Format {
    const LEVELS: &'static [Level] =
        &[level(39, false), level(30, true), level(21, true), level(12, true)];
    const PHYS_LIMIT: u64 = 1 << 48;

    fn encode(entry: Entry, level: usize) -> u64 {
        match entry {
            Entry::Absent => 0,
            Entry::Table(at) => at.get() | TABLE,
            Entry::Leaf(at, attr) => {
                let word = at.get() | MEMORY.bits() as u64 | leaf(level) | READ_ONLY;
                let absent = ABSENT.iter().filter(|(allowed, _)| attr.contains(*allowed));
                absent.fold(word, |word, (_, bits)| word & !bits)
            }
        }
    }

    fn decode(word: u64, level: usize) -> Entry {
        let at = PhysAddr::new(word & ADDRESS);
        match word & TABLE {
            TABLE if level < 3 => Entry::Table(at),
            bits if bits == leaf(level) && level > 0 => {
                let mut attr = Attr::empty();
                ABSENT.iter().for_each(|&(one, bits)| attr.set(one, word & bits == 0));
                Entry::Leaf(at, attr)
            }
            _ => Entry::Absent,
        }
    }

    fn leaf_test(level: usize) -> LeafTest {
        LeafTest { mask: TABLE, value: leaf(level) }
    }

    fn canonical(low: u64) -> u64 {
        OFFSET | low
    }
}

/// RAM where `paging` has mapped it.
pub struct Linear;

// SAFETY: by `init`'s contract.
unsafe impl PhysMem for Linear {
    fn linear_base(&self) -> VirtAddr {
        VirtAddr::new(OFFSET)
    }
}

/// The translations of all CPUs.
pub struct Broadcast;

// SAFETY: the instruction drops all translations on all CPUs, and the barrier waits for it.
unsafe impl Tlb for Broadcast {
    fn publish(&self) {
        // SAFETY: barriers.
        unsafe { asm!("dsb ishst", "isb", options(nostack)) };
    }

    fn flush(&self, _ranges: &[VirtRange]) -> Result<(), NotFlushed> {
        // SAFETY: the CPUs just lose their cached translations.
        unsafe { asm!("dsb ishst", "tlbi vmalle1is", "dsb ish", "isb", options(nostack)) };
        Ok(())
    }
}

/// The page tables.
type Tables = hotmem::paging::Tables<Format, Linear, Broadcast>;
/// The machine.
pub type Machine = SimpleMachine<Tables>;

/// Memory can be added below this address. The memmap's window follows the linear map's.
pub const LIMIT: u64 = 1 << 40;
/// The unit of online, offline and removal.
const BLOCK: u64 = 128 << 20;

static MM: Once<Mm<Machine>> = Once::new();

/// The heap: it grows and shrinks.
#[global_allocator]
static HEAP: Heap<Machine> = Heap::new();

/// Gives `ram` to a memory manager. Memory may be added in `window`.
///
/// # Safety
///
/// The tables at `root` are those of the upper half, map all of `ram`, and nothing else changes them. `ram` is unused.
pub unsafe fn init(
    ram: &Ram,
    root: u64,
    window: &[PhysRange],
) -> Result<&'static Mm<Machine>, BootError> {
    let mut ranges = [(PhysRange::default(), NodeId::ZERO); MOST];
    for (&(at, len), (range, _)) in ram.ranges().iter().zip(&mut ranges) {
        *range = PhysRange::new(PhysAddr::new(at), len).unwrap_or_default();
    }
    let ram = &ranges[..ram.ranges().len()];
    let linear = VirtAddr::new(OFFSET);
    // SAFETY: by the contract.
    let machine = unsafe {
        let tables = Tables::new(PhysAddr::new(root), Linear, Broadcast);
        SimpleMachine::new(tables, linear, linear.add(LIMIT), PhysAddr::new(LIMIT))
    };
    let mm = MM.call_once(|| Mm::new(machine));
    let block_size = BlockSize::new::<Machine>(BLOCK).map_err(BootError::Geometry)?;
    let memory = BootMemory { ram, block_size, window, kernelcore: None };
    // SAFETY: the RAM is there, and unused, by the contract.
    unsafe { mm.boot(&memory, &mut EarlyRanges::new(ram, PhysAddr::new(0))) }?;
    // SAFETY: all of RAM is at `OFFSET`.
    unsafe { HEAP.start(mm) }.expect("a name for the heap");
    Ok(mm)
}
