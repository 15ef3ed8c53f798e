//! Ports and PCI configuration space where there are none, or this kernel does not reach them: byte code
//! that asks for either fails, and the error says so.

use crate::io::{IoError, PciFunction};

/// Reads `bytes` bytes from the port at `address`.
///
/// # Errors
///
/// [`IoError::Unsupported`]
pub fn read_port(_address: u64, _bytes: u32) -> Result<u64, IoError> {
    Err(IoError::Unsupported)
}

/// Writes `bytes` bytes to the port at `address`.
///
/// # Errors
///
/// [`IoError::Unsupported`]
pub fn write_port(_address: u64, _bytes: u32, _value: u64) -> Result<(), IoError> {
    Err(IoError::Unsupported)
}

/// Reads `bytes` bytes of a function's configuration space.
///
/// # Errors
///
/// [`IoError::Unsupported`]
pub fn read_pci(_function: PciFunction, _offset: u64, _bytes: u32) -> Result<u64, IoError> {
    Err(IoError::Unsupported)
}

/// Writes `bytes` bytes of a function's configuration space.
///
/// # Errors
///
/// [`IoError::Unsupported`]
pub fn write_pci(
    _function: PciFunction,
    _offset: u64,
    _bytes: u32,
    _value: u64,
) -> Result<(), IoError> {
    Err(IoError::Unsupported)
}
