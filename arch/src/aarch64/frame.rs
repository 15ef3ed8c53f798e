//! The registers that the entry code saves at a trap.

use super::syndrome;
use crate::contract::{self, TrapFrame as _};
use core::fmt;
use hotmem_paging::addr::VirtAddr;

/// The registers of the interrupted code, as the entry code saved them.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct TrapFrame {
    /// x0 to x30.
    pub x: [u64; 31],
    /// SP_EL0.
    pub sp: u64,
    /// ELR_ELx: the address where it continues.
    pub elr: u64,
    /// SPSR_ELx: its PSTATE.
    pub spsr: u64,
    /// ESR_ELx: the cause.
    pub syndrome: u64,
    /// FAR_ELx: the address that faulted, if the trap is such a fault.
    pub address: u64,
    /// The vector's number, 0 to 15.
    pub vector: u64,
    /// SP_ELx: the stack of the trap that was interrupted, if one was.
    trap_sp: u64,
}

const _: () = assert!(size_of::<TrapFrame>() == 304);

/// The four vectors of each origin (Arm ARM table D1-5).
pub(super) const SYNCHRONOUS: u64 = 0;
const IRQ: u64 = 1;
const FIQ: u64 = 2;

impl TrapFrame {
    /// The name of the exception.
    fn name(&self) -> &'static str {
        match self.vector % 4 {
            SYNCHRONOUS => syndrome::name(self.syndrome),
            IRQ => "IRQ",
            FIQ => "FIQ",
            _ => "SError",
        }
    }
}

impl contract::TrapFrame for TrapFrame {
    fn is_exception(&self) -> bool {
        self.vector % 4 != IRQ
    }

    fn instruction(&self) -> u64 {
        self.elr
    }

    fn frame_pointer(&self) -> u64 {
        self.x[29]
    }

    fn fault_address(&self) -> Option<VirtAddr> {
        let fault = self.vector % 4 == SYNCHRONOUS && syndrome::has_address(self.syndrome);
        fault.then(|| VirtAddr::new(self.address))
    }
}

impl fmt::Display for TrapFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (vector, esr, elr) = (self.vector, self.syndrome, self.elr);
        write!(f, "{} (vector {vector}, ESR {esr:#x}) at {elr:#x}", self.name())?;
        if let Some(address) = self.fault_address() {
            write!(f, " accessing {address}")?;
        }
        for (index, value) in self.x.iter().enumerate() {
            let gap = if index % 4 == 0 { "\n " } else { "" };
            write!(f, "{gap} x{index:<2} {value:016x}")?;
        }
        write!(f, " sp  {:016x}\n  spsr {:08x}", self.sp, self.spsr)
    }
}
