//! The data that each CPU has of its own, and the data that a CPU is started with.

use core::sync::atomic::{AtomicBool, AtomicU64};
use hotmem_paging::addr::{PhysAddr, VirtAddr};

/// The data that a CPU has of its own. A register of the CPU points to it from
/// [`Cpu::enter`](crate::contract::Cpu::enter) on.
///
/// The assembly of the architectures reads the fields by their offsets.
#[derive(Debug)]
#[repr(C, align(128))]
pub struct CpuArea {
    /// The CPU's number.
    pub(crate) number: usize,
    /// An event happened, and no wait may sleep through it.
    pub(crate) woken: AtomicBool,
    /// The CPU's number in the interrupt presentation, which cannot be read there (ppc64).
    pub(crate) server: AtomicU64,
    /// Ticks of the clock between two interrupts of the timer, on timers that are set again for each interrupt; 0
    /// while the timer is off (aarch64, ppc64).
    pub(crate) timer: AtomicU64,
    /// Registers that the entry code of traps saves, on a CPU that has no other place for them (ppc64).
    pub(crate) saved: [AtomicU64; SAVED_WORDS],
}

/// Words that the entry code of traps saves.
const SAVED_WORDS: usize = 9;

impl CpuArea {
    /// The area of the CPU with this number: 0 for the one that boots, any other number for one CPU each.
    pub const fn new(number: usize) -> Self {
        Self {
            number,
            woken: AtomicBool::new(false),
            server: AtomicU64::new(0),
            timer: AtomicU64::new(0),
            saved: [const { AtomicU64::new(0) }; SAVED_WORDS],
        }
    }

    /// The CPU's number.
    pub const fn number(&self) -> usize {
        self.number
    }
}

/// The data that a CPU is started with: the CPU switches to the tables and the stack, enters the area, calls
/// [`Cpu::set_up`](crate::contract::Cpu::set_up) and continues in `main`, with interrupts off.
#[derive(Debug)]
#[repr(C)]
pub struct Launch {
    /// The root of the kernel's page tables, which other CPUs use already.
    pub root: PhysAddr,
    /// The end of its stack.
    pub top: VirtAddr,
    /// Its area, which no other CPU uses.
    pub area: &'static CpuArea,
    /// The function in which the CPU continues.
    pub main: extern "C" fn() -> !,
    /// Words that the architecture adds for a CPU that begins without translation.
    pub(crate) early: [AtomicU64; EARLY_WORDS],
}

/// Words that an architecture can add to a launch.
const EARLY_WORDS: usize = 8;

impl Launch {
    /// The data to start a CPU with.
    pub const fn new(
        root: PhysAddr,
        top: VirtAddr,
        area: &'static CpuArea,
        main: extern "C" fn() -> !,
    ) -> Self {
        Self { root, top, area, main, early: [const { AtomicU64::new(0) }; EARLY_WORDS] }
    }
}
