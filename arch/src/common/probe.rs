//! Memory accesses that may fault: a fault becomes an error, not a panic.

// UNSAFETY: deliberate accesses to arbitrary addresses.
#![expect(unsafe_code)]

use crate::contract::Probe;
use crate::current::Arch;
use hotmem_paging::addr::VirtAddr;

/// The access is not allowed, the address lacks a translation, or no device or memory responds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault;

/// The outcome of a probe, from the number it returns.
fn outcome(done: u64) -> Result<(), Fault> {
    if done == 1 { Ok(()) } else { Err(Fault) }
}

/// The eight bytes at `address`.
///
/// # Errors
///
/// [`Fault`] if they cannot be read.
pub fn probe_read(address: VirtAddr) -> Result<u64, Fault> {
    let mut value = 0;
    // SAFETY: a load changes nothing; if it faults, it returns 0. Device registers are mapped in a window of
    // their own, which is probed only where memory is mapped meanwhile.
    outcome(unsafe { Arch::load(address.get(), &raw mut value) }).map(|()| value)
}

/// Tries to write the eight bytes at `address`.
///
/// # Safety
///
/// If the address is writable, storing `value` there is harmless: the memory holds that value already, or only the
/// caller uses it.
///
/// # Errors
///
/// [`Fault`] if they cannot be written.
pub unsafe fn probe_write(address: VirtAddr, value: u64) -> Result<(), Fault> {
    // SAFETY: the caller vouches for the store; if it faults, it returns 0.
    outcome(unsafe { Arch::store(address.get(), value) })
}

/// The address of the function that [`probe_execute`] may reach through another mapping.
pub fn executable() -> VirtAddr {
    VirtAddr::new(Arch::executed as *const () as u64)
}

/// Tries to execute the code at `address`.
///
/// # Safety
///
/// `address` translates to the same memory as [`executable`], or faults.
///
/// # Errors
///
/// [`Fault`] if it cannot be executed.
pub unsafe fn probe_execute(address: VirtAddr) -> Result<(), Fault> {
    // SAFETY: the only code that can run is `executed`; a fetch that faults returns 0.
    outcome(unsafe { Arch::execute(address.get(), Arch::FETCHING) })
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "aarch64")]
    use crate::aarch64::Aarch64 as Native;
    #[cfg(target_arch = "powerpc64")]
    use crate::ppc64::Ppc64 as Native;
    #[cfg(target_arch = "x86_64")]
    use crate::x86_64::X86_64 as Native;

    /// A fault needs a kernel's trap handler, so the QEMU suite tests faults; allowed accesses work on any host.
    #[test]
    fn accesses_that_do_not_fault_are_made() {
        let (mut word, mut read) = (0x1234_5678_9abc_def0_u64, 0);
        let at = (&raw mut word).expose_provenance() as u64;
        // SAFETY: both words belong to this test.
        assert_eq!(unsafe { Native::load(at, &raw mut read) }, 1);
        assert_eq!(read, 0x1234_5678_9abc_def0);
        // SAFETY: the word belongs to this test.
        assert_eq!(unsafe { Native::store(at, 7) }, 1);
        // SAFETY: as above.
        assert_eq!(unsafe { (&raw const word).read_volatile() }, 7);
        let executed = Native::executed as *const () as u64;
        // SAFETY: this is the address of the function itself.
        assert_eq!(unsafe { Native::execute(executed, Native::FETCHING) }, 1);
    }
}
