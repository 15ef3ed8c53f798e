//! A manager that has booted on the machine.

// UNSAFETY: vouches for the machine's memory, which is this module's.
#![expect(unsafe_code)]

use crate::machine::Hosted;
use crate::windows::LINEAR;
use hotmem::lock::RawLock;
use hotmem::paging::{Attr, Mapper, Mapping};
use hotmem::{
    BlockSize, BootMemory, EarlyFrames, EarlyTables, Mm, NodeId, PhysAddr, PhysRange, SpinLock,
};
use std::error::Error;

/// Bytes of boot memory.
const BOOT_BYTES: u64 = 512 << 20;
/// Bytes of a memory block.
const BLOCK: u64 = 128 << 20;

/// A manager, and the range where memory can be added.
#[derive(Debug)]
pub struct Booted<L: RawLock = SpinLock> {
    /// The manager.
    pub mm: Mm<Hosted<L>>,
    /// The range where memory can be added.
    pub window: PhysRange,
}

/// Boots on 512 MiB of boot memory, with locks that only spin.
///
/// # Errors
///
/// The error of the system, or of the manager.
pub fn boot() -> Result<Booted, Box<dyn Error>> {
    boot_with()
}

/// Boots on 512 MiB of boot memory, with locks of the kind `L`.
///
/// # Errors
///
/// The error of the system, or of the manager.
pub fn boot_with<L: RawLock>() -> Result<Booted<L>, Box<dyn Error>> {
    let machine = Hosted::new()?;
    let ram = range(0, BOOT_BYTES)?;
    let mut early = Bump { next: 0 };
    let linear = Mapping {
        virt: LINEAR,
        phys: ram.start(),
        len: ram.len(),
        attr: Attr::WRITE,
        max_leaf: BLOCK,
    };
    machine.map().map(&linear, &EarlyTables::new(&mut early))?;
    let window = range(BOOT_BYTES, crate::windows::PHYS_BYTES - BOOT_BYTES)?;
    let mm = Mm::new(machine);
    let memory = BootMemory {
        ram: &[(ram, NodeId::ZERO)],
        block_size: BlockSize::new::<Hosted<L>>(BLOCK)?,
        window: &[window],
        kernelcore: None,
    };
    // SAFETY: the memory is this machine's, and only the manager uses it.
    unsafe { mm.boot(&memory, &mut early) }?;
    Ok(Booted { mm, window })
}

fn range(start: u64, bytes: u64) -> Result<PhysRange, &'static str> {
    PhysRange::new(PhysAddr::new(start), bytes).ok_or("a range that does not wrap")
}

/// The allocator that the machine boots with: memory above its mark is free.
struct Bump {
    next: u64,
}

// SAFETY: the mark passes each byte once, and all of it is boot memory.
unsafe impl EarlyFrames for Bump {
    fn take(&mut self, bytes: u64, align: u64) -> Option<PhysAddr> {
        let start = self.next.next_multiple_of(align.max(4096));
        let end = start.checked_add(bytes)?.next_multiple_of(4096);
        (end <= BOOT_BYTES).then(|| {
            self.next = end;
            PhysAddr::new(start)
        })
    }

    fn free_ranges(&self, each: &mut dyn FnMut(PhysRange)) {
        if let Ok(rest) = range(self.next, BOOT_BYTES - self.next) {
            each(rest);
        }
    }
}
