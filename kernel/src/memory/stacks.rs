//! The kernel's stacks, mapped so that an overflow hits a page that is not mapped: those of the first CPU in boot
//! memory, those of each other CPU in pages of the memory manager, for ever.

// UNSAFETY: maps memory a second time.
#![expect(unsafe_code)]

use super::early::EarlyMemory;
use super::layout::{PAGE, Stack};
use super::machine::{KernelMachine, KernelTables};
use core::fmt;
use hotmem::paging::{Attr, MapError, Mapper, Mapping, OutOfFrames};
use hotmem::{EarlyFrames, EarlyTables, Geometry, Mm, Order, OutOfMemory, OwnMapError};
use hotmem_arch::current::TrapStacks;

/// Maps every stack of the first CPU onto RAM of its own.
///
/// # Errors
///
/// [`MapError`] if there is too little RAM.
pub(super) fn map(tables: &KernelTables, early: &mut EarlyMemory) -> Result<(), MapError> {
    for stack in Stack::of(0) {
        let bytes = stack.bytes();
        let phys = early.take(bytes, PAGE).ok_or(OutOfFrames { bytes })?;
        let virt = stack.range().start();
        let mapping = Mapping { virt, phys, len: bytes, attr: Attr::WRITE, max_leaf: PAGE };
        tables.map(&mapping, &EarlyTables::new(early))?;
    }
    Ok(())
}

/// The stacks that traps of a CPU run on, in the CPU's order.
pub(crate) fn for_traps(cpu: usize) -> TrapStacks {
    Stack::traps(cpu).map(Stack::top)
}

/// The reason why another CPU has no stacks.
#[derive(Clone, Copy, Debug)]
pub(crate) enum StackError {
    /// There is no memory.
    Memory(OutOfMemory),
    /// They could not be mapped.
    Map(OwnMapError),
}

impl fmt::Display for StackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory(error) => write!(f, "no memory for its stacks: {error}"),
            Self::Map(error) => write!(f, "its stacks are not mapped: {error}"),
        }
    }
}

/// Maps every stack of another CPU, except those that are mapped already.
///
/// # Errors
///
/// [`StackError`]; stacks that were mapped stay mapped, and are used the next time.
pub(crate) fn add(mm: &'static Mm<KernelMachine>, cpu: usize) -> Result<(), StackError> {
    for stack in Stack::of(cpu) {
        let virt = stack.range().start();
        if mm.walk(virt).leaf.is_some() {
            continue;
        }
        let (len, pages) = (stack.bytes(), stack.bytes() / PAGE);
        let order = Order::new(pages.ilog2() as u8).unwrap_or(Order::ZERO);
        let pages = mm.alloc(order).map_err(StackError::Memory)?;
        let phys = KernelMachine::address(pages.pfn());
        let mapping = Mapping { virt, phys, len, attr: Attr::WRITE, max_leaf: PAGE };
        // SAFETY: the pages were just allocated, and are never freed once they are mapped; no other code uses them.
        // The addresses belong to this stack alone, outside of both windows.
        unsafe { mm.map_own(&mapping) }.map_err(StackError::Map)?;
        let _ = pages.into_raw();
    }
    Ok(())
}
