//! Interrupt lines and the controllers that they end in, as the firmware of any machine describes them.
//!
//! Every architecture's `current::irq::Controllers` takes over the controllers of its kind among those described,
//! and connects lines to *slots*: small numbers that the kernel uses as index for its handlers.

use core::fmt;
use hotmem_paging::addr::{PhysAddr, PhysRange};

/// When a line interrupts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// Once, when it changes.
    Edge,
    /// As long as it is active. The handler masks the line, and the main loop unmasks it when the cause is gone.
    Level,
}

/// Which electrical level is the active one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polarity {
    /// High.
    ActiveHigh,
    /// Low.
    ActiveLow,
}

/// An interrupt line: the input of an interrupt controller, and how to set it up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// The global system interrupt (ACPI 6.5, 5.2.13).
    pub gsi: u32,
    /// When it interrupts.
    pub trigger: Trigger,
    /// Which level is active.
    pub polarity: Polarity,
}

/// A write of a device that is an interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Where it goes.
    pub address: u64,
    /// What is written.
    pub data: u32,
}

/// A window of 32-bit registers.
pub trait Registers {
    /// Reads the register at byte `offset`.
    fn read(&self, offset: usize) -> u32;
    /// Writes the register at byte `offset`.
    fn write(&self, offset: usize, value: u32);
}

/// An interrupt controller, or a part of one, as firmware describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Controller {
    /// The local APIC of each CPU (x86).
    LocalApic {
        /// Where its registers are.
        at: PhysAddr,
    },
    /// An I/O APIC (x86).
    IoApic {
        /// Where its registers are.
        at: PhysAddr,
        /// The global system interrupt of its first input.
        first: u32,
    },
    /// The distributor of a GIC (Arm).
    GicDistributor {
        /// Where its registers are.
        at: PhysAddr,
        /// The version of the GIC architecture; 0 if firmware does not say.
        version: u8,
    },
    /// The CPU interface of a GIC, for version 2 (Arm).
    GicCpuInterface {
        /// Where its registers are.
        at: PhysAddr,
    },
    /// A row of redistributors of a GIC, for version 3 (Arm).
    GicRedistributors {
        /// Where their registers are.
        range: PhysRange,
    },
    /// The interrupt presentation of a hypervisor, which is reached by calls (POWER).
    Presentation,
}

/// The reason why the controllers could not be taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakeError<E> {
    /// Registers could not be mapped.
    Map(PhysRange, E),
    /// A controller that interrupts depend on was not described.
    Missing(&'static str),
}

impl<E: fmt::Display> fmt::Display for TakeError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Map(range, error) => write!(f, "registers at {}: {error}", range.start()),
            Self::Missing(what) => write!(f, "firmware describes no {what}"),
        }
    }
}

/// No controller has an input for the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoInput;

/// The reason why a CPU interrupts another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// There is work for it.
    Attend,
    /// It must stop, whatever it is doing, even with interrupts disabled if the machine can do that.
    Stop,
}

/// No CPU has this number, or it cannot be interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoCpu(pub u64);

impl NoCpu {
    /// The result for the CPU that firmware calls `hardware`, which was `reached` or not.
    pub(crate) const fn unless(reached: bool, hardware: u64) -> Result<(), Self> {
        if reached { Ok(()) } else { Err(Self(hardware)) }
    }
}

impl fmt::Display for NoCpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no CPU {:#x}, or it cannot be interrupted", self.0)
    }
}

/// The origin of an interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The line that was connected to this slot.
    Slot(usize),
    /// Another CPU.
    Cpu,
    /// The timer of the CPU that runs this.
    Timer,
    /// A line that was not connected.
    Unknown,
}

impl Source {
    /// The line of a slot, if there is one.
    pub const fn slot(slot: Option<usize>) -> Self {
        match slot {
            Some(slot) => Self::Slot(slot),
            None => Self::Unknown,
        }
    }
}

/// An interrupt that was claimed from the controllers and must be finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "an unfinished interrupt blocks others"]
pub struct Claim {
    /// Its origin.
    pub from: Source,
    /// Its number at the controller.
    pub id: u32,
}
