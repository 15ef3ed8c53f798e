//! Ports and PCI configuration space.

// UNSAFETY: makes the accesses that byte code asks for.
#![expect(unsafe_code)]

use ::x86_64::instructions::port::Port;
use hotmem_aml::{HostError, PciAddress, Width};

/// Ports of the kernel: its console on COM1, and the two 8259s.
const OWN_PORTS: [(u16, u16); 3] = [(0x20, 0x21), (0xa0, 0xa1), (0x3f8, 0x3ff)];
/// PCI configuration mechanism 1 (PCI Local Bus 3.0, 3.2.2.3.2).
const PCI_ADDRESS: u16 = 0xcf8;
const PCI_DATA: u16 = 0xcfc;
const PCI_ENABLE: u32 = 1 << 31;

/// The port at `address`, if firmware may access it.
pub(super) fn port(address: u64, width: Width) -> Result<u16, HostError> {
    let first = u16::try_from(address).map_err(|_| HostError::Unsupported)?;
    let last = first.checked_add(width.bytes() as u16 - 1).ok_or(HostError::Unsupported)?;
    if OWN_PORTS.iter().any(|&(low, high)| first <= high && low <= last) {
        return Err(HostError::Forbidden);
    }
    Ok(first)
}

/// Selects a register of a PCI function; returns the port that accesses it.
///
/// # Safety
///
/// This CPU may access ports, and no other code selects a register meanwhile.
pub(super) unsafe fn select(
    function: PciAddress,
    offset: u64,
    width: Width,
) -> Result<u16, HostError> {
    let offset = u32::try_from(offset).map_err(|_| HostError::Unsupported)?;
    if function.segment != 0 || offset > 0xff || !offset.is_multiple_of(width.bytes()) {
        return Err(HostError::Unsupported);
    }
    let device = u32::from(function.device & 31) << 11 | u32::from(function.function & 7) << 8;
    let address = PCI_ENABLE | u32::from(function.bus) << 16 | device | offset & !3;
    // SAFETY: the selection changes nothing but what the data port accesses.
    unsafe { Port::new(PCI_ADDRESS).write(address) };
    Ok(PCI_DATA + (offset & 3) as u16)
}

/// Reads a port.
///
/// # Safety
///
/// This CPU may access ports, and the read has no effect that the kernel does not expect.
pub(super) unsafe fn input(port: u16, width: Width) -> Result<u64, HostError> {
    match width {
        // SAFETY: by the contract.
        Width::Byte => Ok(unsafe { Port::<u8>::new(port).read() }.into()),
        // SAFETY: by the contract.
        Width::Word => Ok(unsafe { Port::<u16>::new(port).read() }.into()),
        // SAFETY: by the contract.
        Width::Dword => Ok(unsafe { Port::<u32>::new(port).read() }.into()),
        Width::Qword => Err(HostError::Unsupported),
    }
}

/// Writes a port.
///
/// # Safety
///
/// As for [`input`].
pub(super) unsafe fn output(port: u16, width: Width, value: u64) -> Result<(), HostError> {
    match width {
        // SAFETY: by the contract.
        Width::Byte => unsafe { Port::new(port).write(value as u8) },
        // SAFETY: by the contract.
        Width::Word => unsafe { Port::new(port).write(value as u16) },
        // SAFETY: by the contract.
        Width::Dword => unsafe { Port::new(port).write(value as u32) },
        Width::Qword => return Err(HostError::Unsupported),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_the_kernel_are_forbidden_and_others_are_allowed() {
        assert_eq!(port(0xa00, Width::Dword), Ok(0xa00));
        assert_eq!(port(0x20, Width::Byte), Err(HostError::Forbidden));
        assert_eq!(port(0x3f6, Width::Dword), Err(HostError::Forbidden));
        assert_eq!(port(0xffff, Width::Word), Err(HostError::Unsupported));
        assert_eq!(port(0x1_0000, Width::Byte), Err(HostError::Unsupported));
    }
}
