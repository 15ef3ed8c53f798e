//! Linux KVM on this host.

use std::fs::{OpenOptions, read_to_string};

/// Linux's device for virtual machines.
const KVM: &str = "/dev/kvm";

/// Why KVM cannot be used, or is of no use for a kernel.
pub(crate) fn lacks() -> Option<String> {
    if let Err(error) = OpenOptions::new().read(true).write(true).open(KVM) {
        return Some(format!("{KVM}: {error}"));
    }
    // Without these features a KVM for containers runs programs natively, and emulates a kernel.
    let emulates = !virtualizes(&read_to_string("/proc/cpuinfo").unwrap_or_default());
    emulates.then(|| {
        "the processor has neither SVM nor VMX, so each instruction of a kernel is emulated, in microseconds".into()
    })
}

/// Whether the processors that Linux describes run virtual machines.
fn virtualizes(cpuinfo: &str) -> bool {
    let flags = cpuinfo.lines().filter_map(|line| line.strip_prefix("flags")?.split_once(':'));
    flags.flat_map(|(_, flags)| flags.split_whitespace()).any(|flag| matches!(flag, "svm" | "vmx"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processor_runs_virtual_machines_if_one_of_its_flags_says_so() {
        let shown =
            |flags: &str| format!("processor\t: 0\nmodel name\t: svm\nflags\t\t: {flags}\n");
        for flags in ["fpu svm", "vmx fpu"] {
            assert!(virtualizes(&shown(flags)), "{flags}");
        }
        for flags in ["fpu", "svm_lock", ""] {
            assert!(!virtualizes(&shown(flags)), "{flags}");
        }
        assert!(!virtualizes(""));
    }
}
