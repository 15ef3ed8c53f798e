//! Registers in memory.

// UNSAFETY: makes the accesses that byte code asks for.
#![expect(unsafe_code)]

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering};

use hotmem::{PhysAddr, PhysRange};
use hotmem_aml::{HostError, Width};

/// Finds registers in memory: a pointer to where they are mapped, uncached; `None` if they are not, or are RAM of the
/// kernel.
pub type Registers = fn(PhysRange) -> Option<NonNull<u8>>;

/// The pointer to a register in memory, aligned to its width.
pub(crate) fn register(
    registers: Registers,
    at: u64,
    width: Width,
) -> Result<NonNull<u8>, HostError> {
    let bytes = u64::from(width.bytes());
    let range = PhysRange::new(PhysAddr::new(at), bytes).filter(|_| at.is_multiple_of(bytes));
    range.and_then(registers).ok_or(HostError::Unsupported)
}

/// Loads a register.
///
/// # Safety
///
/// `register` found it, and the access is one that firmware makes to its devices.
pub(crate) unsafe fn load(register: NonNull<u8>, width: Width) -> u64 {
    match width {
        // SAFETY: by the contract.
        Width::Byte => unsafe { register.read_volatile() }.into(),
        // SAFETY: by the contract, and it is aligned.
        Width::Word => unsafe { register.cast::<u16>().read_volatile() }.into(),
        // SAFETY: as above.
        Width::Dword => unsafe { register.cast::<u32>().read_volatile() }.into(),
        // SAFETY: as above.
        Width::Qword => unsafe { register.cast::<u64>().read_volatile() },
    }
}

/// Stores to a register.
///
/// # Safety
///
/// As for [`load`].
pub(crate) unsafe fn store(register: NonNull<u8>, width: Width, value: u64) {
    match width {
        // SAFETY: by the contract.
        Width::Byte => unsafe { register.write_volatile(value as u8) },
        // SAFETY: by the contract, and it is aligned.
        Width::Word => unsafe { register.cast::<u16>().write_volatile(value as u16) },
        // SAFETY: as above.
        Width::Dword => unsafe { register.cast::<u32>().write_volatile(value as u32) },
        // SAFETY: as above.
        Width::Qword => unsafe { register.cast::<u64>().write_volatile(value) },
    }
}

/// Stores `new` in the register at `at` if it holds `old`; returns the word that was there.
///
/// # Safety
///
/// `registers` returns pointers that are valid for loads and stores of that many bytes, and lead to no memory of the
/// kernel's.
pub(crate) unsafe fn compare_exchange(
    registers: Registers,
    at: PhysAddr,
    old: u32,
    new: u32,
) -> Result<u32, HostError> {
    let word = register(registers, at.get(), Width::Dword)?.cast::<AtomicU32>();
    // SAFETY: by the contract, and it is aligned.
    let word = unsafe { word.as_ref() };
    let seen = word.compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire);
    Ok(seen.unwrap_or_else(|other| other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_in_memory_are_aligned_and_where_the_kernel_finds_them() {
        static WORDS: [u64; 2] = [0x1122_3344_5566_7788, 0];
        let found: Registers = |range| {
            let offset = range.start().get().checked_sub(0x1000)? as usize;
            (offset + range.len() as usize <= 16).then(|| {
                // SAFETY: in bounds, by the comparison.
                NonNull::from(&WORDS).cast::<u8>().map_addr(|at| at.saturating_add(offset))
            })
        };
        let word = register(found, 0x1004, Width::Dword).unwrap();
        // SAFETY: `register` found it.
        assert_eq!(unsafe { load(word, Width::Dword) }, 0x1122_3344);
        assert_eq!(register(found, 0x1002, Width::Dword), Err(HostError::Unsupported));
        assert_eq!(register(found, 0x1010, Width::Byte), Err(HostError::Unsupported));
    }
}
