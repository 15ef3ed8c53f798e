//! Reads what CPUID returns about virtualization.

use super::abilities::CpuidLeaves;
use core::arch::x86_64::__cpuid;

/// The leaf that names the last of the extended leaves.
const LAST: u32 = 0x8000_0000;
const EXTENDED: u32 = 0x8000_0001;
const SVM: u32 = 0x8000_000a;

/// What CPUID returns on this CPU.
pub(crate) fn leaves() -> CpuidLeaves {
    let last = __cpuid(LAST).eax;
    let mut leaves = CpuidLeaves { features: __cpuid(1).ecx, ..CpuidLeaves::default() };
    if last >= EXTENDED {
        let leaf = __cpuid(EXTENDED);
        leaves.extended = [leaf.ecx, leaf.edx];
    }
    if last >= SVM {
        let leaf = __cpuid(SVM);
        leaves.svm = [leaf.ebx, leaf.edx];
    }
    leaves
}
