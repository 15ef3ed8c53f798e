//! The layout of the kernel's address space.
//!
//! ```text
//!   LINEAR_BASE     linear map: physical address 0 and up
//!   VMEMMAP_BASE    virtual memmap: the descriptor of pfn n at +64 n
//!   DEVICE_BASE     device registers, uncached, at +physical address modulo the window
//!   FIRMWARE_BASE   firmware's tables, read-only, likewise
//!   STACK_BASE      stacks, each above a page that is never mapped
//!   image           where the boot crate linked it
//! ```
//!
//! The bases are the architecture's. Nothing is mapped in the lower half, so that a null pointer, or a physical
//! address used as a pointer, faults.

use core::fmt;
use hotmem::addr::{PhysAddr, VirtAddr, VirtRange};
use hotmem::geometry::DESCRIPTOR_BYTES;
use hotmem_arch::current::layout as machine;

pub use machine::{
    BLOCK_SHIFT, DEVICE_BASE, FIRMWARE_BASE, LINEAR_BASE, PAGE_SHIFT, PHYS_LIMIT, SECTION_SHIFT,
    STACK_BASE, VMEMMAP_BASE,
};

/// Bytes of a base page.
pub const PAGE: u64 = 1 << PAGE_SHIFT;
/// Bytes of the device window and of the firmware window.
pub const WINDOW_BYTES: u64 = FIRMWARE_BASE.get() - DEVICE_BASE.get();

const _: () = {
    assert!(LINEAR_BASE.get() + PHYS_LIMIT.get() <= VMEMMAP_BASE.get());
    let descriptors = PHYS_LIMIT.get() / PAGE * DESCRIPTOR_BYTES;
    assert!(VMEMMAP_BASE.get() + descriptors <= DEVICE_BASE.get());
    assert!(FIRMWARE_BASE.get() + WINDOW_BYTES <= STACK_BASE.get());
    // An address in one of them is its base or an offset.
    assert!(1 << LINEAR_BASE.get().trailing_zeros() >= PHYS_LIMIT.get());
    assert!(1 << VMEMMAP_BASE.get().trailing_zeros() >= descriptors);
};

/// The address of `address` in the window at `base`; `None` past the window's end.
pub fn in_window(base: VirtAddr, address: PhysAddr) -> Option<VirtAddr> {
    (address.get() < WINDOW_BYTES).then(|| base.add(address.get()))
}

/// Address space reserved for each stack; the part that a stack does not use guards its end.
const STACK_STRIDE: u64 = 1 << 20;

/// The largest number of CPUs.
pub const CPUS: usize = 16;

/// Stacks of a CPU: its own, and those of traps.
const STACKS: usize = 1 + machine::TRAP_STACKS.len();

/// One of the kernel's stacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stack(usize);

impl fmt::Display for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.cpu() != 0 {
            write!(f, "CPU {} ", self.cpu())?;
        }
        let trap = self.kind().checked_sub(1).and_then(|index| machine::TRAP_STACKS.get(index));
        f.write_str(trap.copied().unwrap_or("kernel"))
    }
}

impl Stack {
    /// The stack for everything except traps, on a CPU.
    pub const fn kernel(cpu: usize) -> Self {
        Self(cpu * STACKS)
    }

    /// The stacks of traps of a CPU, in the architecture's order.
    pub fn traps(cpu: usize) -> [Self; STACKS - 1] {
        core::array::from_fn(|index| Self(cpu * STACKS + index + 1))
    }

    /// Every stack of a CPU, in address order.
    pub fn of(cpu: usize) -> impl Iterator<Item = Self> {
        (cpu * STACKS..(cpu + 1) * STACKS).map(Self)
    }

    /// The number of the CPU that uses it.
    pub const fn cpu(self) -> usize {
        self.0 / STACKS
    }

    /// 0 for the CPU's own stack, then those of traps.
    const fn kind(self) -> usize {
        self.0 % STACKS
    }

    /// Bytes of the stack, a power of two.
    pub const fn bytes(self) -> u64 {
        let bytes = match (self.cpu(), self.kind()) {
            (0, 0) => 512 << 10,
            // Another CPU runs no operation.
            (_, 0) => 64 << 10,
            _ => 32 << 10,
        };
        if bytes < PAGE { PAGE } else { bytes }
    }

    /// One past the stack's highest byte.
    pub const fn top(self) -> VirtAddr {
        STACK_BASE.add((self.0 as u64 + 1) * STACK_STRIDE)
    }

    /// The stack's bytes. The page below is never mapped.
    pub fn range(self) -> VirtRange {
        let start = VirtAddr::new(self.top().get() - self.bytes());
        VirtRange::new(start, self.bytes()).unwrap_or_default()
    }

    /// The stack whose stride contains `address`.
    fn near(address: VirtAddr) -> Option<Self> {
        let index = (address.offset_from(STACK_BASE) / STACK_STRIDE) as usize;
        (index < CPUS * STACKS).then_some(Self(index))
    }

    /// The stack that overflowed, if an access to `address` faulted.
    pub fn overflowed(address: VirtAddr) -> Option<Self> {
        Self::near(address).filter(|stack| address < stack.range().start())
    }

    /// The stack that holds all of `bytes`.
    pub fn holding(bytes: VirtRange) -> Option<Self> {
        Self::near(bytes.start()).filter(|stack| stack.range().covers(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> impl Iterator<Item = Stack> {
        (0..CPUS).flat_map(Stack::of)
    }

    #[test]
    fn every_stack_has_a_guard_below_and_above() {
        for stack in all() {
            let range = stack.range();
            assert!(range.start().is_aligned(PAGE) && range.end().is_aligned(PAGE));
            for guard in [range.start().get() - PAGE, range.end().get()] {
                let guard = VirtRange::new(VirtAddr::new(guard), PAGE).unwrap();
                assert!(all().all(|other| !other.range().overlaps(guard)));
            }
        }
    }

    #[test]
    fn an_access_below_a_stack_is_its_overflow() {
        for stack in all() {
            let start = stack.range().start().get();
            assert_eq!(Stack::overflowed(VirtAddr::new(start - 8)), Some(stack));
            assert_eq!(Stack::overflowed(VirtAddr::new(start)), None);
            assert_eq!(Stack::overflowed(VirtAddr::new(stack.top().get() - 8)), None);
        }
        assert_eq!(Stack::overflowed(VirtAddr::new(0)), None);
        assert_eq!(Stack::overflowed(VirtAddr::new(u64::MAX)), None);
    }

    #[test]
    fn a_word_belongs_to_the_stack_that_contains_all_of_it() {
        let word = |at| VirtRange::new(VirtAddr::new(at), 8).unwrap();
        let top = Stack::traps(0)[0].top().get();
        assert_eq!(Stack::holding(word(top - 8)), Some(Stack::traps(0)[0]));
        assert_eq!(Stack::holding(word(top - 4)), None);
        assert_eq!(Stack::holding(word(0)), None);
    }

    #[test]
    fn a_stack_has_a_name_with_the_number_of_another_cpu() {
        assert_eq!(Stack::kernel(0).to_string(), "kernel");
        assert_eq!(Stack::kernel(3).to_string(), "CPU 3 kernel");
        assert_eq!(Stack::traps(1)[0].to_string(), format!("CPU 1 {}", machine::TRAP_STACKS[0]));
    }

    #[test]
    fn a_window_contains_addresses_below_its_end() {
        let last = PhysAddr::new(WINDOW_BYTES - 1);
        assert_eq!(in_window(DEVICE_BASE, last), Some(DEVICE_BASE.add(WINDOW_BYTES - 1)));
        assert_eq!(in_window(DEVICE_BASE, PhysAddr::new(WINDOW_BYTES)), None);
    }
}
