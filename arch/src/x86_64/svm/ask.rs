//! Asks the CPU about its virtualization.

use super::abilities::Told;
use core::arch::x86_64::__cpuid;

/// The leaf that names the last of the extended leaves.
const LAST: u32 = 0x8000_0000;
const EXTENDED: u32 = 0x8000_0001;
const SVM: u32 = 0x8000_000a;

/// What this CPU says about itself.
pub(crate) fn told() -> Told {
    let last = __cpuid(LAST).eax;
    let mut told = Told { features: __cpuid(1).ecx, ..Told::default() };
    if last >= EXTENDED {
        let leaf = __cpuid(EXTENDED);
        told.extended = [leaf.ecx, leaf.edx];
    }
    if last >= SVM {
        let leaf = __cpuid(SVM);
        told.svm = [leaf.ebx, leaf.edx];
    }
    told
}
