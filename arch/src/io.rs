//! Address spaces other than memory, for firmware's byte code.

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

/// The reason why an access failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoError {
    /// This machine has no such place, or no access of that width.
    Unsupported,
    /// The place belongs to the kernel.
    Forbidden,
}
