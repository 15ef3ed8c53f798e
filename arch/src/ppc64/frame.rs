//! The registers that the entry code saves at a trap.

use super::own;
use crate::contract::{self, TrapFrame as _};
use core::fmt;
use core::sync::atomic::Ordering;
use hotmem_paging::addr::VirtAddr;

pub(super) const DATA_STORAGE: u64 = 0x300;
pub(super) const DATA_SEGMENT: u64 = 0x380;
pub(super) const INSTRUCTION_STORAGE: u64 = 0x400;
pub(super) const INSTRUCTION_SEGMENT: u64 = 0x480;
const EXTERNAL: u64 = 0x500;
pub(super) const DECREMENTER: u64 = 0x900;
pub(super) const DOORBELL: u64 = 0xa00;

/// The registers of the interrupted code, as the entry code saved them. The floating-point and vector registers
/// follow, since Rust code may use them at any time.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct TrapFrame {
    /// r0 to r31.
    pub r: [u64; 32],
    /// The condition register.
    pub cr: u64,
    /// The link register.
    pub lr: u64,
    /// The count register.
    pub ctr: u64,
    /// The fixed-point exception register.
    pub xer: u64,
    /// SRR0: the address where it continues.
    pub srr0: u64,
    /// SRR1: its MSR, and the cause.
    pub srr1: u64,
    /// The address that faulted, if one did.
    pub dar: u64,
    /// The cause of that fault.
    pub dsisr: u64,
    /// The vector, by its address.
    pub vector: u64,
    pad: u64,
}

const _: () = assert!(size_of::<TrapFrame>() == 336);

impl TrapFrame {
    /// The name of the interrupt (book III, figure 65).
    fn name(&self) -> &'static str {
        match self.vector {
            0x100 => "system reset",
            0x200 => "machine check",
            DATA_STORAGE => "data storage",
            DATA_SEGMENT => "data segment",
            INSTRUCTION_STORAGE => "instruction storage",
            INSTRUCTION_SEGMENT => "instruction segment",
            EXTERNAL => "external",
            0x600 => "alignment",
            0x700 => "program",
            0x800 => "floating-point unavailable",
            DECREMENTER => "decrementer",
            DOORBELL => "doorbell",
            0xc00 => "system call",
            0xd00 => "trace",
            0xf20 | 0xf40 => "vector unavailable",
            0xf60 => "facility unavailable",
            _ => "unknown interrupt",
        }
    }
}

impl contract::TrapFrame for TrapFrame {
    fn is_exception(&self) -> bool {
        !matches!(self.vector, EXTERNAL | DECREMENTER)
    }

    fn instruction(&self) -> u64 {
        self.srr0
    }

    fn frame_pointer(&self) -> u64 {
        self.r[1]
    }

    fn fault_address(&self) -> Option<VirtAddr> {
        match self.vector {
            DATA_STORAGE | DATA_SEGMENT => Some(VirtAddr::new(self.dar)),
            INSTRUCTION_STORAGE | INSTRUCTION_SEGMENT => Some(VirtAddr::new(self.srr0)),
            _ => None,
        }
    }
}

impl fmt::Display for TrapFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (vector, dsisr, at) = (self.vector, self.dsisr, self.srr0);
        write!(f, "{} (vector {vector:#x}, DSISR {dsisr:#x}) at {at:#x}", self.name())?;
        if let Some(address) = self.fault_address() {
            write!(f, " accessing {address}")?;
        }
        for (index, value) in self.r.iter().enumerate() {
            let gap = if index % 4 == 0 { "\n " } else { "" };
            write!(f, "{gap} r{index:<2} {value:016x}")?;
        }
        let (lr, ctr, cr, msr) = (self.lr, self.ctr, self.cr, self.srr1);
        write!(f, "\n  lr  {lr:016x} ctr {ctr:016x} cr {cr:08x} srr1 {msr:016x}")
    }
}

/// Sets the stacks of traps of this CPU, by their tops.
///
/// The entry code keeps in the CPU's area, by number of doubleword: r0, r1, r2, CR, SRR0, SRR1, the vector; then the
/// tops of stacks: for the next trap, and for a trap that interrupts another.
pub(super) fn set_stacks(first: VirtAddr, nested: VirtAddr) {
    let saved = &own::area().saved;
    for (word, top) in saved.iter().skip(7).zip([first, nested]) {
        word.store(top.get(), Ordering::Relaxed);
    }
}

/// Whether this CPU can take traps: its stacks are set right before the vectors are written.
pub(super) fn is_set_up() -> bool {
    own::area().saved.last().is_some_and(|top| top.load(Ordering::Relaxed) != 0)
}
