//! Traps: the machine's lines, and exceptions that a test raises.

use super::Host;
use crate::common::trap::HandlerSlot;
use crate::contract::{self, Layout, Traps};
use core::fmt;
use hotmem_paging::addr::{PhysAddr, VirtAddr};

/// The kernel's handler.
pub(super) static HANDLER: HandlerSlot<TrapFrame> = HandlerSlot::empty();

/// The cause of a trap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trap {
    /// An interrupt line is active.
    Line(u32),
    /// The CPU's timer, which was started.
    Timer,
    /// Memory at this address is bad.
    BadMemory(PhysAddr),
    /// An access to this address faulted.
    Fault(VirtAddr),
    /// An operator sent it.
    Nmi,
}

/// The cause of a trap: a host's CPU has no registers to save.
#[derive(Clone, Copy, Debug)]
pub struct TrapFrame(pub(super) Trap);

impl fmt::Display for TrapFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Trap::Line(gsi) => write!(f, "interrupt {gsi}"),
            Trap::Timer => f.write_str("timer"),
            Trap::BadMemory(at) => write!(f, "bad memory at {at}"),
            Trap::Fault(at) => write!(f, "page fault at {at}"),
            Trap::Nmi => f.write_str("non-maskable interrupt"),
        }
    }
}

impl contract::TrapFrame for TrapFrame {
    fn is_exception(&self) -> bool {
        !matches!(self.0, Trap::Line(_) | Trap::Timer)
    }

    fn instruction(&self) -> u64 {
        0
    }

    fn frame_pointer(&self) -> u64 {
        0
    }

    fn fault_address(&self) -> Option<VirtAddr> {
        match self.0 {
            Trap::Fault(at) => Some(at),
            Trap::Line(_) | Trap::Timer | Trap::BadMemory(_) | Trap::Nmi => None,
        }
    }

    fn takes_nmi(&mut self) -> bool {
        self.0 == Trap::Nmi
    }

    fn takes_bad_memory(&mut self, report: &mut dyn FnMut(PhysAddr) -> bool) -> bool {
        match self.0 {
            Trap::BadMemory(at) => report(at),
            Trap::Line(_) | Trap::Timer | Trap::Fault(_) | Trap::Nmi => false,
        }
    }
}

/// Traps are function calls: the CPU needs no tables for them.
#[derive(Clone, Copy, Debug, Default)]
pub struct CpuTables(());

/// The tops of the stacks for traps.
type TrapStacks = [VirtAddr; Host::TRAP_STACKS.len()];

// UNSAFETY: implements a trait with safety contracts, none of which this code needs.
#[expect(unsafe_code)]
impl contract::CpuTables<TrapStacks> for CpuTables {
    unsafe fn load(&'static mut self, _stacks: Option<TrapStacks>) {}
}

impl Traps for Host {
    type TrapFrame = TrapFrame;
    type TrapStacks = TrapStacks;
    type CpuTables = CpuTables;

    fn set_handler(handler: fn(&mut TrapFrame)) {
        HANDLER.set(handler);
    }
}
