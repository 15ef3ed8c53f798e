//! What a CPU has of its own, and what one is started with.

use core::sync::atomic::{AtomicBool, AtomicU64};
use hotmem_paging::addr::{PhysAddr, VirtAddr};

/// What a CPU has of its own. A register of the CPU points to it from [`Cpu::enter`](crate::contract::Cpu::enter) on.
///
/// The assembly of the architectures reads the fields by their offsets.
#[derive(Debug)]
#[repr(C, align(128))]
pub struct CpuArea {
    /// The CPU's number.
    pub(crate) number: usize,
    /// Something happened that no wait may sleep through.
    pub(crate) woken: AtomicBool,
    /// What the interrupt presentation calls the CPU, where it does not say that itself (ppc64).
    pub(crate) server: AtomicU64,
    /// Ticks of the clock from one interrupt of the timer to the next, where each has to be asked for; 0 while it is off
    /// (aarch64, ppc64).
    pub(crate) timer: AtomicU64,
    /// What the entry code of traps keeps, where a CPU has no other place for it (ppc64).
    pub(crate) saved: [AtomicU64; SAVED_WORDS],
}

/// Words that the entry code of traps keeps.
const SAVED_WORDS: usize = 10;

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

/// What a CPU is started with: it goes over to the tables and the stack, makes the area its own, calls
/// [`Cpu::set_up`](crate::contract::Cpu::set_up) and continues in `main`, with interrupts off.
#[derive(Debug)]
#[repr(C)]
pub struct Launch {
    /// The root of the kernel's page tables, which are in use.
    pub root: PhysAddr,
    /// Where its stack ends.
    pub top: VirtAddr,
    /// Its area, which no other CPU has.
    pub area: &'static CpuArea,
    /// Where it continues.
    pub main: extern "C" fn() -> !,
    /// What the architecture adds for a CPU that begins without translation.
    pub(crate) early: [AtomicU64; EARLY_WORDS],
}

/// Words that an architecture can add to a launch.
const EARLY_WORDS: usize = 8;

impl Launch {
    /// What a CPU is started with.
    pub const fn new(
        root: PhysAddr,
        top: VirtAddr,
        area: &'static CpuArea,
        main: extern "C" fn() -> !,
    ) -> Self {
        Self { root, top, area, main, early: [const { AtomicU64::new(0) }; EARLY_WORDS] }
    }
}
