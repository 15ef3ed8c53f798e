//! Machine checks: the CPU reports bad memory (Intel SDM vol. 3B, chapter 17; AMD APM vol. 2, chapter 9).
//!
//! A machine check that leaves the CPU's state intact and lets the interrupted code continue only reports a bad
//! address. Any other ends the kernel.

// UNSAFETY: reads and writes the registers of the CPU's error banks.
#![expect(unsafe_code)]

use ::x86_64::registers::control::{Cr4, Cr4Flags};
use ::x86_64::registers::model_specific::Msr;
use core::arch::x86_64::__cpuid;
use hotmem_paging::addr::PhysAddr;

const CAPABILITIES: u32 = 0x179;
const GLOBAL_STATUS: u32 = 0x17A;
const GLOBAL_CONTROL: u32 = 0x17B;
/// The first of four registers of bank 0: control, status, address, details.
const BANK_0: u32 = 0x400;

/// In the capabilities: the CPU has a global control register.
const HAS_CONTROL: u64 = 1 << 8;
/// In the global status: the interrupted code can continue.
const RESTARTS: u64 = 1 << 0;

/// In the status of a bank.
const VALID: u64 = 1 << 63;
const UNCORRECTED: u64 = 1 << 61;
const HAS_DETAILS: u64 = 1 << 59;
const HAS_ADDRESS: u64 = 1 << 58;
const STATE_LOST: u64 = 1 << 57;
/// Software must recover before the interrupted code continues.
const ACTION_REQUIRED: u64 = 1 << 55;
/// In the details: the kind of the address, and the value for physical addresses.
const ADDRESS_KIND: u64 = 7 << 6;
const PHYSICAL: u64 = 2 << 6;

/// Whether the CPU has error banks (CPUID.1:EDX.MCE and .MCA).
fn is_there() -> bool {
    let needed = 1 << 7 | 1 << 14;
    __cpuid(1).edx & needed == needed
}

fn read(register: u32) -> u64 {
    // SAFETY: the callers have checked that the CPU has the register; reading it changes nothing.
    unsafe { Msr::new(register).read() }
}

fn write(register: u32, value: u64) {
    // SAFETY: as for `read`; the registers select the errors that are reported, and clear those that were.
    unsafe { Msr::new(register).write(value) }
}

fn banks() -> impl Iterator<Item = u32> {
    (0..(read(CAPABILITIES) & 0xFF) as u32).map(|bank| BANK_0 + 4 * bank)
}

/// Has the CPU report errors, if it can.
pub(super) fn set_up() {
    if !is_there() {
        return;
    }
    if read(CAPABILITIES) & HAS_CONTROL != 0 {
        write(GLOBAL_CONTROL, u64::MAX);
    }
    for bank in banks() {
        // On some CPUs the control of bank 0 belongs to firmware (SDM vol. 3B, 17.3.2.1).
        if bank != BANK_0 {
            write(bank, u64::MAX);
        }
        write(bank + 1, 0);
    }
    // SAFETY: the vector of machine checks has an entry, as every exception has.
    unsafe { Cr4::update(|cr4| cr4.insert(Cr4Flags::MACHINE_CHECK_EXCEPTION)) };
}

/// The content of an error bank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct News {
    /// The address of bad memory.
    at: Option<PhysAddr>,
    /// The interrupted code can continue.
    goes_on: bool,
}

/// Decodes the status, the address and the details of a bank; `None` if the bank is empty.
const fn read_bank(status: u64, address: u64, details: u64) -> Option<News> {
    if status & VALID == 0 {
        return None;
    }
    let physical = status & HAS_DETAILS == 0 || details & ADDRESS_KIND == PHYSICAL;
    let at = match status & HAS_ADDRESS != 0 && physical {
        true => Some(PhysAddr::new(address)),
        false => None,
    };
    // The kernel can continue after a corrected error without knowing the address.
    let known = status & UNCORRECTED == 0 || at.is_some();
    Some(News { at, goes_on: known && status & (STATE_LOST | ACTION_REQUIRED) == 0 })
}

/// Called in a machine check: passes each address of bad memory in the banks to `report`, and empties them. Returns
/// whether the interrupted code can continue; for an address, `report` returns that.
pub(super) fn take(report: &mut dyn FnMut(PhysAddr) -> bool) -> bool {
    if !is_there() {
        return false;
    }
    let mut goes_on = read(GLOBAL_STATUS) & RESTARTS != 0;
    for bank in banks() {
        let status = read(bank + 1);
        // A bank may lack the registers that its status does not announce.
        let part = |bit, register| if status & bit == 0 { 0 } else { read(register) };
        let (address, details) = (part(HAS_ADDRESS, bank + 2), part(HAS_DETAILS, bank + 3));
        let Some(news) = read_bank(status, address, details) else { continue };
        goes_on &= news.goes_on;
        goes_on &= news.at.is_none_or(&mut *report);
        write(bank + 1, 0);
    }
    write(GLOBAL_STATUS, 0);
    goes_on
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_content_of_a_bank_decides_whether_the_kernel_continues() {
        let at = Some(PhysAddr::new(0x1234_5000));
        let read = |status, details| read_bank(status, 0x1234_5000, details);
        // An uncorrected error of memory that was not used yet, as injected from QEMU's monitor.
        let status = 0xBD00_0000_0000_0134;
        assert_eq!(read(status, 0x8C), Some(News { at, goes_on: true }));
        assert_eq!(read(status & !VALID, 0x8C), None);
        assert_eq!(read(status | STATE_LOST, 0x8C), Some(News { at, goes_on: false }));
        assert_eq!(read(status | ACTION_REQUIRED, 0x8C), Some(News { at, goes_on: false }));
        // A linear address, or none: the bad memory is not known.
        assert_eq!(read(status, 0x4C), Some(News { at: None, goes_on: false }));
        assert_eq!(read(status & !HAS_ADDRESS, 0x8C), Some(News { at: None, goes_on: false }));
        // Corrected: no memory is bad yet.
        let corrected = VALID | 0x90;
        assert_eq!(read(corrected, 0), Some(News { at: None, goes_on: true }));
    }
}
