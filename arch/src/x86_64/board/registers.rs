//! The model-specific registers of a guest, besides those that the CPU switches by itself.

use super::apic;
use super::refusal::Refusal;

/// What a number names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Register {
    /// The time stamp counter.
    Timestamp,
    /// Paging and system calls.
    Efer,
    /// The types of memory.
    Pat,
    /// How the APIC is accessed.
    ApicBase,
    /// A register of the APIC, by its number.
    Apic(u32),
    /// One that reads 0, and keeps nothing.
    Zero,
}

const TIMESTAMP: u32 = 0x10;
const PAT: u32 = 0x277;
pub(crate) const EFER: u32 = 0xc000_0080;

impl Register {
    /// The register `number`.
    ///
    /// # Errors
    ///
    /// [`Refusal::Protection`] for one that the guest's CPU lacks.
    pub(crate) const fn of(number: u32) -> Result<Self, Refusal> {
        Ok(match number {
            TIMESTAMP => Self::Timestamp,
            EFER => Self::Efer,
            PAT => Self::Pat,
            apic::BASE => Self::ApicBase,
            apic::DEADLINE | apic::FIRST..=apic::LAST => Self::Apic(number),
            // What kernels read on every CPU of AMD: the revision of the microcode, SYSCFG, HWCR, the two ranges of
            // memory below and above 4 GiB, interrupts pending, the counters of performance, and configuration.
            0x8b
            | 0xc001_0000..=0xc001_0007
            | 0xc001_0010
            | 0xc001_0015
            | 0xc001_001a
            | 0xc001_001d
            | 0xc001_0055
            | 0xc001_1020..=0xc001_102f => Self::Zero,
            _ => return Err(Refusal::Protection),
        })
    }
}

/// In EFER: system calls, long mode enabled and active, pages that are not executed; and SVM, which each entry demands
/// and a guest does not see.
const SYSTEM_CALLS: u64 = 1;
const LONG_MODE: u64 = 1 << 8;
const LONG_MODE_ACTIVE: u64 = 1 << 10;
const NO_EXECUTE: u64 = 1 << 11;
const SVM: u64 = 1 << 12;
/// In CR0: paging.
const PAGING: u64 = 1 << 31;

/// EFER as the guest sees it.
pub(crate) const fn shown_efer(efer: u64) -> u64 {
    efer & !SVM
}

/// EFER after the guest wrote `value`, if it was `old`.
///
/// # Errors
///
/// [`Refusal::Protection`] for a bit that its CPU lacks, and for leaving long mode with paging on.
pub(crate) const fn written_efer(old: u64, cr0: u64, value: u64) -> Result<u64, Refusal> {
    let known = SYSTEM_CALLS | LONG_MODE | NO_EXECUTE;
    let changes_mode = (old ^ value) & LONG_MODE != 0 && cr0 & PAGING != 0;
    if value & !(known | LONG_MODE_ACTIVE) != 0 || changes_mode {
        return Err(Refusal::Protection);
    }
    Ok(value & known | old & LONG_MODE_ACTIVE | SVM)
}

/// Checks the types of memory that a guest writes.
///
/// # Errors
///
/// [`Refusal::Protection`] for a type that is reserved.
pub(crate) fn checked_pat(value: u64) -> Result<u64, Refusal> {
    let exist = value.to_le_bytes().iter().all(|kind| matches!(kind, 0 | 1 | 4..=7));
    if exist { Ok(value) } else { Err(Refusal::Protection) }
}

/// The registers that a guest accesses without an exit, since VMLOAD and VMSAVE switch them: those of SYSENTER and
/// SYSCALL, and the bases of FS and GS.
const SWITCHED: [core::ops::RangeInclusive<u32>; 3] =
    [0x174..=0x176, 0xc000_0081..=0xc000_0084, 0xc000_0100..=0xc000_0102];

/// Clears the bits of the switched registers in a map of intercepts (APM vol. 2, 15.11), two for each register.
pub(crate) fn open_switched(map: &mut [u8]) {
    for number in SWITCHED.into_iter().flatten() {
        let vector = match number {
            0..0x2000 => number,
            _ => (number & 0x1fff) + 0x2000,
        };
        if let Some(byte) = map.get_mut(vector as usize / 4) {
            *byte &= !(0b11 << (vector % 4 * 2));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn efer_has_no_svm_and_no_unknown_bit() {
        let running = 0x1501;
        assert_eq!(shown_efer(running), 0x501);
        assert_eq!(written_efer(running, PAGING, 0xd01), Ok(0x1d01));
        assert_eq!(written_efer(0x1000, 0, 0x100), Ok(0x1100), "long mode is enabled first");
        // SVM itself, FFXSR, TCE; leaving long mode.
        for value in [0x1501, 0x4501, 0x8501, 0x1] {
            assert_eq!(
                written_efer(running, PAGING, value),
                Err(Refusal::Protection),
                "{value:#x}"
            );
        }
    }

    #[test]
    fn reserved_types_of_memory_are_refused() {
        assert_eq!(checked_pat(0x0407_0506_0007_0106), Ok(0x0407_0506_0007_0106));
        for kind in [2, 3, 8, 0xff] {
            assert_eq!(checked_pat(0x0007_0406_0007_0400 | kind), Err(Refusal::Protection));
        }
    }

    #[test]
    fn only_registers_that_the_cpu_switches_are_open() {
        let mut map = [0xff; 8192];
        open_switched(&mut map);
        let is_open = |number: u32| {
            let (base, offset) = match number {
                0..0x2000 => (0, number),
                0xc000_0000.. if number < 0xc000_2000 => (0x800, number - 0xc000_0000),
                _ => (0x1000, number - 0xc001_0000),
            };
            map[base + offset as usize / 4] >> (offset % 4 * 2) & 3 == 0
        };
        for number in [0x174, 0x176, 0xc000_0081, 0xc000_0084, 0xc000_0100, 0xc000_0102] {
            assert!(is_open(number), "{number:#x}");
        }
        for number in [0x10, 0x1b, 0x173, 0x177, 0x277, 0xc000_0080, 0xc000_0103, 0xc001_0117] {
            assert!(!is_open(number), "{number:#x}");
        }
        assert_eq!(map.iter().map(|byte| byte.count_zeros()).sum::<u32>(), 2 * 10);
    }

    #[test]
    fn a_register_that_the_cpu_lacks_raises_an_exception() {
        assert_eq!(Register::of(0xc000_0080), Ok(Register::Efer));
        assert_eq!(Register::of(0x832), Ok(Register::Apic(0x832)));
        assert_eq!(Register::of(0xc001_0015), Ok(Register::Zero));
        // TSC_AUX and SVM's own.
        for number in [0xc000_0103, 0xc001_0114, 0xc001_0117, 0x3a, u32::MAX] {
            assert_eq!(Register::of(number), Err(Refusal::Protection), "{number:#x}");
        }
    }
}
