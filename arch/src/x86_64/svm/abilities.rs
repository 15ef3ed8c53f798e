//! Whether a CPU runs guests under SVM (AMD APM vol. 2 15.4, vol. 3 appendix E), and with which extensions.

use crate::contract::NoGuests;

/// In CPUID leaf 8000_0001h, ECX: SVM.
const SVM: u32 = 1 << 2;
/// In CPUID leaf 8000_0001h, EDX: leaves of 1 GiB, with which the payload maps its memory.
const GIGABYTE_PAGES: u32 = 1 << 26;
/// In CPUID leaf 1, ECX: VMX, the virtualization of other CPUs.
const VMX: u32 = 1 << 5;
/// In CPUID leaf 8000_000Ah, EDX: nested paging, the address of the next instruction after an exit, and flushes by ASID.
const NESTED_PAGING: u32 = 1 << 0;
const NEXT_RIP: u32 = 1 << 3;
const FLUSH_BY_ASID: u32 = 1 << 6;
/// In the register VM_CR: firmware has disabled SVM.
const DISABLED: u64 = 1 << 4;

/// What CPUID returns about virtualization.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CpuidLeaves {
    /// CPUID leaf 1, ECX.
    pub features: u32,
    /// CPUID leaf 8000_0001h, ECX and EDX; 0 if the CPU lacks the leaf.
    pub extended: [u32; 2],
    /// CPUID leaf 8000_000Ah, EBX and EDX; 0 if the CPU lacks the leaf.
    pub svm: [u32; 2],
}

impl CpuidLeaves {
    /// Whether the CPU has SVM, and so the register VM_CR.
    pub(crate) const fn has_svm(&self) -> bool {
        self.extended[0] & SVM != 0
    }
}

/// The extensions that runs of a guest depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Abilities {
    /// ASIDs, among them 0, the host's.
    pub asids: u32,
    /// An exit leaves the address of the next instruction.
    pub next_rip: bool,
    /// The cached translations of one ASID can be dropped.
    pub flush_by_asid: bool,
}

impl Abilities {
    /// The extensions of a CPU.
    pub(crate) const fn of(leaves: &CpuidLeaves) -> Self {
        let [asids, flags] = leaves.svm;
        Self { asids, next_rip: flags & NEXT_RIP != 0, flush_by_asid: flags & FLUSH_BY_ASID != 0 }
    }
}

/// Checks that a CPU with these `leaves` runs guests. `vm_cr` is its register VM_CR, 0 without SVM.
///
/// # Errors
///
/// [`NoGuests`] with what it lacks.
pub(crate) fn check(leaves: &CpuidLeaves, vm_cr: u64) -> Result<(), NoGuests> {
    let without_svm = match leaves.features & VMX != 0 {
        true => "SVM (this CPU has VMX only)",
        false => "SVM",
    };
    let needed = [
        (leaves.has_svm(), without_svm),
        (vm_cr & DISABLED == 0, "SVM, disabled by firmware (VM_CR)"),
        (leaves.svm[1] & NESTED_PAGING != 0, "nested paging"),
        (leaves.svm[0] > 1, "ASIDs"),
        (leaves.extended[1] & GIGABYTE_PAGES != 0, "pages of 1 GiB"),
    ];
    match needed.into_iter().find(|(there, _)| !there) {
        Some((_, what)) => Err(NoGuests(what)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What QEMU's `-cpu max` says.
    const MAX: CpuidLeaves = CpuidLeaves {
        features: 0xfffa_3203,
        extended: [0x0000_0175, 0x2fd3_fbff],
        svm: [16, 0x1001_0001],
    };

    #[test]
    fn a_cpu_that_runs_guests_is_accepted_with_its_extensions() {
        assert_eq!(check(&MAX, 0), Ok(()));
        let plain = Abilities { asids: 16, next_rip: false, flush_by_asid: false };
        assert_eq!(Abilities::of(&MAX), plain);
        let rich = CpuidLeaves { svm: [0x8000, 0x1119_bcff], ..MAX };
        let all = Abilities { asids: 0x8000, next_rip: true, flush_by_asid: true };
        assert_eq!(Abilities::of(&rich), all);
    }

    #[test]
    fn a_refusal_names_what_the_cpu_lacks() {
        let lacks = |leaves: CpuidLeaves, vm_cr| check(&leaves, vm_cr).unwrap_err().0;
        let intel = CpuidLeaves { features: VMX, extended: [0x121, 0x2c10_0800], svm: [0; 2] };
        assert_eq!(lacks(intel, 0), "SVM (this CPU has VMX only)");
        assert_eq!(lacks(CpuidLeaves { features: 0, ..intel }, 0), "SVM");
        assert_eq!(lacks(MAX, 0x18), "SVM, disabled by firmware (VM_CR)");
        assert_eq!(lacks(CpuidLeaves { svm: [16, 0x1001_0000], ..MAX }, 0), "nested paging");
        assert_eq!(lacks(CpuidLeaves { svm: [0, 1], ..MAX }, 0), "ASIDs");
        let extended = [MAX.extended[0], MAX.extended[1] & !GIGABYTE_PAGES];
        assert_eq!(lacks(CpuidLeaves { extended, ..MAX }, 0), "pages of 1 GiB");
    }
}
