//! Ports and PCI configuration space, for firmware's byte code.

// UNSAFETY: accesses ports that byte code names.
#![expect(unsafe_code)]

use super::X86_64;
use super::port;
use super::serial::COM1;
use crate::contract::Io;
use crate::io::{IoError, PciFunction, Place};

/// Ports that belong to the kernel: its console, and the masks of the 8259s.
const OWN_PORTS: [(u16, u16); 3] = [(COM1, COM1 + 7), (0x20, 0x21), (0xa0, 0xa1)];
/// PCI configuration mechanism 1 (PCI Local Bus 3.0, 3.2.2.3.2).
const PCI_ADDRESS: u16 = 0xcf8;
const PCI_DATA: u16 = 0xcfc;
const PCI_ENABLE: u32 = 1 << 31;

/// The port at `address`, if firmware may access `bytes` bytes there.
fn checked(address: u64, bytes: u32) -> Result<u16, IoError> {
    let first = u16::try_from(address).map_err(|_| IoError::Unsupported)?;
    let more = u16::try_from(bytes.saturating_sub(1)).map_err(|_| IoError::Unsupported)?;
    let last = first.checked_add(more).ok_or(IoError::Unsupported)?;
    if OWN_PORTS.iter().any(|&(low, high)| first <= high && low <= last) {
        return Err(IoError::Forbidden);
    }
    Ok(first)
}

/// Reads a port that [`checked`] allowed.
fn input(port: u16, bytes: u32) -> Result<u64, IoError> {
    match bytes {
        // SAFETY: the port is not the kernel's own, and the access comes from firmware's own code.
        1 => Ok(unsafe { port::read_u8(port) }.into()),
        // SAFETY: as above.
        2 => Ok(unsafe { port::read_u16(port) }.into()),
        // SAFETY: as above.
        4 => Ok(unsafe { port::read_u32(port) }.into()),
        _ => Err(IoError::Unsupported),
    }
}

/// Writes a port that [`checked`] allowed.
fn output(port: u16, bytes: u32, value: u64) -> Result<(), IoError> {
    match bytes {
        // SAFETY: the port is not the kernel's own, and the access comes from firmware's own code.
        1 => unsafe { port::write_u8(port, value as u8) },
        // SAFETY: as above.
        2 => unsafe { port::write_u16(port, value as u16) },
        // SAFETY: as above.
        4 => unsafe { port::write_u32(port, value as u32) },
        _ => return Err(IoError::Unsupported),
    }
    Ok(())
}

/// Selects a register of PCI configuration space; returns the port that accesses it.
fn select(function: PciFunction, offset: u64, bytes: u32) -> Result<u16, IoError> {
    let offset = u32::try_from(offset).map_err(|_| IoError::Unsupported)?;
    if function.segment != 0 || offset > 0xff || bytes == 0 || !offset.is_multiple_of(bytes) {
        return Err(IoError::Unsupported);
    }
    let device = u32::from(function.device & 0x1f) << 11 | u32::from(function.function & 7) << 8;
    let address = PCI_ENABLE | u32::from(function.bus) << 16 | device | offset & !3;
    output(PCI_ADDRESS, 4, address.into())?;
    Ok(PCI_DATA + (offset & 3) as u16)
}

/// The port that accesses `place`.
fn port_of(place: Place, bytes: u32) -> Result<u16, IoError> {
    match place {
        Place::Port(address) => checked(address, bytes),
        Place::Pci(function, offset) => select(function, offset, bytes),
    }
}

impl Io for X86_64 {
    fn read(place: Place, bytes: u32) -> Result<u64, IoError> {
        input(port_of(place, bytes)?, bytes)
    }

    fn write(place: Place, bytes: u32, value: u64) -> Result<(), IoError> {
        output(port_of(place, bytes)?, bytes, value)
    }
}
