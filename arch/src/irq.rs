//! Interrupt lines and the controllers they end in, as firmware of any machine describes them.
//!
//! Every architecture's `current::irq::Controllers` takes over those of the described controllers
//! that it knows, and connects lines to *slots*: small numbers by which the kernel keeps what each
//! line is for.

use core::fmt;
use hotmem_paging::addr::{PhysAddr, PhysRange};

/// When a line asks for attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// Once, when it changes.
    Edge,
    /// As long as it is active. A handler masks such a line, and the main loop unmasks it when the
    /// cause is gone.
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
    /// When it asks for attention.
    pub trigger: Trigger,
    /// Which level is active.
    pub polarity: Polarity,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let trigger = match self.trigger {
            Trigger::Edge => "edge",
            Trigger::Level => "level",
        };
        let polarity = match self.polarity {
            Polarity::ActiveHigh => "high",
            Polarity::ActiveLow => "low",
        };
        write!(f, "interrupt {} ({trigger}, active {polarity})", self.gsi)
    }
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

/// Why the controllers could not be taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakeError<E> {
    /// Registers could not be mapped.
    Map(PhysRange, E),
    /// A controller without which there are no interrupts was not described.
    Missing(&'static str),
}

impl<E: fmt::Display> fmt::Display for TakeError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Map(range, error) => write!(f, "registers at {}: {error}", range.start()),
            Self::Missing(what) => write!(f, "no {what} is described"),
        }
    }
}

/// No controller has an input for this line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoInput(pub Line);

impl fmt::Display for NoInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no interrupt controller has an input for {}", self.0)
    }
}

/// Why a CPU interrupts another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// There is something for it to do.
    Attend,
    /// It is to stop, whatever it is doing, where the machine can do that to one that lets no interrupts in.
    Stop,
}

/// No CPU has this number, or no interrupt reaches it.
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
        write!(f, "there is no CPU {:#x}, or nothing reaches it", self.0)
    }
}

/// Who asked for an interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The line that was connected to this slot.
    Slot(usize),
    /// Another CPU.
    Cpu,
    /// The timer of the CPU that runs.
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

/// An interrupt that was taken from the controllers and is to be given back finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "an interrupt that is not finished keeps others away"]
pub struct Claim {
    /// Who asked for it.
    pub from: Source,
    /// What the controller calls it.
    pub id: u32,
}
