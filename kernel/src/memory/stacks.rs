//! The kernel's stacks, mapped where an overflow hits a page that is not.

use super::early::EarlyMemory;
use super::layout::{PAGE, Stack};
use super::machine::KernelTables;
use hotmem::paging::{Attr, MapError, Mapper, Mapping, OutOfFrames};
use hotmem::{EarlyFrames, EarlyTables};
use hotmem_arch::current::TrapStacks;

/// Maps every stack onto RAM of its own.
///
/// # Errors
///
/// [`MapError`] if there is too little RAM.
pub(super) fn map(tables: &KernelTables, early: &mut EarlyMemory) -> Result<(), MapError> {
    for stack in Stack::all() {
        let bytes = stack.bytes();
        let phys = early.take(bytes, PAGE).ok_or(OutOfFrames { bytes })?;
        let virt = stack.range().start();
        let mapping = Mapping { virt, phys, len: bytes, attr: Attr::WRITE, max_leaf: PAGE };
        tables.map(&mapping, &EarlyTables::new(early))?;
    }
    Ok(())
}

/// The stacks that traps run on, in the CPU's order.
pub(super) fn for_traps() -> TrapStacks {
    Stack::traps().map(Stack::top)
}
