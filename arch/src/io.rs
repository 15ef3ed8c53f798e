//! Address spaces beside memory, which firmware's byte code may want to reach.

/// A function of a PCI device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PciFunction {
    /// Its segment group.
    pub segment: u16,
    /// Its bus.
    pub bus: u8,
    /// Its device, 0 to 31.
    pub device: u8,
    /// Its number in the device, 0 to 7.
    pub function: u8,
}

/// A place to access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The port at an address.
    Port(u64),
    /// A function's configuration space, from an offset on.
    Pci(PciFunction, u64),
}

/// Why an access was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoError {
    /// This machine has no such place, or none of that width.
    Unsupported,
    /// The place is the kernel's own.
    Forbidden,
}
