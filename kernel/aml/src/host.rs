//! What the evaluator asks of the machine it runs on.

use core::fmt;

use crate::name::NodeId;

/// An address space of operation regions (ACPI 6.5, 19.6.100).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Space {
    /// Physical memory; addresses are physical, and not necessarily RAM.
    SystemMemory,
    /// I/O ports.
    SystemIo,
    /// The configuration space of one PCI function; addresses are offsets into it.
    PciConfig(PciAddress),
    /// Any other space, by its number in ACPI 6.5, table 5.172.
    Other(u8),
}

/// Names one PCI function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PciAddress {
    /// The PCI segment group, from `_SEG`.
    pub segment: u16,
    /// The bus, from `_BBN` or the bridge above.
    pub bus: u8,
    /// The device on that bus, from `_ADR`; 0..=31.
    pub device: u8,
    /// The function of that device, from `_ADR`; 0..=7.
    pub function: u8,
}

/// How many bytes one register access moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Width {
    /// One byte.
    Byte,
    /// Two bytes.
    Word,
    /// Four bytes.
    Dword,
    /// Eight bytes.
    Qword,
}

impl Width {
    /// The width in bytes.
    #[must_use]
    pub const fn bytes(self) -> u32 {
        match self {
            Self::Byte => 1,
            Self::Word => 2,
            Self::Dword => 4,
            Self::Qword => 8,
        }
    }

    /// The width in bits.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.bytes() * 8
    }

    /// All bits of a value of this width.
    #[must_use]
    pub const fn mask(self) -> u64 {
        u64::MAX >> (64 - self.bits())
    }
}

/// Why the machine refused a register access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum HostError {
    /// The machine has no such address space, or not in this width.
    Unsupported,
    /// The address is not one that firmware may touch, such as the kernel's own memory.
    Forbidden,
}

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unsupported => "the machine has no such register access",
            Self::Forbidden => "firmware may not touch that address",
        })
    }
}

/// What `_OSI` claims: every Windows that firmware can ask for, by Microsoft's list ("How to identify the
/// Windows version in ACPI by using _OSI"), and the feature group of containers. Some firmware asks for a
/// Windows that never was, to find interpreters that claim all of them.
const INTERFACES: [&str; 22] = [
    "Windows 2000",
    "Windows 2001",
    "Windows 2001 SP1",
    "Windows 2001.1",
    "Windows 2001 SP2",
    "Windows 2001.1 SP1",
    "Windows 2006",
    "Windows 2006.1",
    "Windows 2006 SP1",
    "Windows 2009",
    "Windows 2012",
    "Windows 2013",
    "Windows 2015",
    "Windows 2016",
    "Windows 2017",
    "Windows 2017.2",
    "Windows 2018",
    "Windows 2018.2",
    "Windows 2019",
    "Windows 2020",
    "Windows 2021",
    "Module Device",
];

/// Registers and time of the machine. The kernel implements it; tests implement register models.
/// No method has a default, so that a machine that lacks one does not compile.
pub trait Io {
    /// Reads a register. The result is in the low bits; higher ones are ignored.
    ///
    /// # Errors
    /// [`HostError`] if the machine has no such register, or firmware may not read it.
    fn read(&mut self, space: Space, address: u64, width: Width) -> Result<u64, HostError>;

    /// Writes the low bits of `value` to a register.
    ///
    /// # Errors
    /// [`HostError`] if the machine has no such register, or firmware may not write it.
    fn write(
        &mut self,
        space: Space,
        address: u64,
        width: Width,
        value: u64,
    ) -> Result<(), HostError>;

    /// Waits by spinning, at most 100 microseconds at a time as ACPI asks.
    fn stall(&mut self, microseconds: u64);

    /// Waits; other work may be done meanwhile. The evaluator bounds the sum.
    fn sleep(&mut self, milliseconds: u64);

    /// A clock that only grows, in units of 100 nanoseconds.
    fn timer(&mut self) -> u64;
}

/// The machine as AML sees it.
///
/// No method may call back into the evaluator: it is borrowed while one of them runs.
pub trait Host {
    /// Its registers and its time.
    fn io(&mut self) -> &mut dyn Io;

    /// Takes note of `Notify (node, value)`. Only queue it: the method that notifies may still
    /// hold a mutex, and the evaluator cannot be entered again from here.
    fn notify(&mut self, node: NodeId, value: u64);

    /// Takes the lock that firmware shares with the system (ACPI 6.5, 5.2.10.1); false if firmware has it.
    /// Then this is called again after a while. A machine without such a lock gives it at once.
    fn take_global_lock(&mut self) -> bool {
        true
    }

    /// Gives the lock back.
    fn release_global_lock(&mut self) {}

    /// Whether the system claims an interface of `_OSI` (ACPI 6.5, 5.7.2). The default claims
    /// what every PC operating system claims, since firmware takes everything else for
    /// something older than itself.
    fn osi(&mut self, interface: &str) -> bool {
        INTERFACES.contains(&interface)
    }
}

#[cfg(test)]
mod tests {
    use super::INTERFACES;

    #[test]
    fn only_versions_of_windows_that_exist_are_claimed() {
        for claimed in ["Windows 2001", "Windows 2009", "Windows 2020", "Module Device"] {
            assert!(INTERFACES.contains(&claimed), "{claimed}");
        }
        for foreign in ["Windows 2006 SP2", "Windows 1234", "Windows ", "Linux", ""] {
            assert!(!INTERFACES.contains(&foreign), "{foreign}");
        }
    }
}
