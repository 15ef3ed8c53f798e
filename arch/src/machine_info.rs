//! Facts that only firmware provides: neither the CPU nor its console does.

use core::sync::atomic::{AtomicU64, Ordering};

/// The instruction that calls PSCI (Arm).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Psci {
    /// By HVC.
    Hvc = 1,
    /// By SMC.
    Smc,
}

/// Facts that firmware gave about this machine; a field is `None` until firmware gave it. No value is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MachineInfo {
    /// Ticks of the timebase in a second (`timebase-frequency` of a CPU's node; or the frequency of the time stamp
    /// counter, measured with the ACPI timer).
    pub timebase_hertz: Option<u64>,
    /// The unit address of the virtual terminal that is the console (`reg` of its node).
    pub terminal: Option<u32>,
    /// The conduit by which PSCI turns the machine off.
    pub psci: Option<Psci>,
    /// The run-time service that turns the machine off (`power-off`).
    pub power_off: Option<u32>,
    /// The run-time service that reports that the kernel has failed (`ibm,os-term`).
    pub os_term: Option<u32>,
    /// The run-time service that starts a CPU (`start-cpu`).
    pub start_cpu: Option<u32>,
    /// The server number of the CPU that boots (`boot_cpuid_phys` of the tree), unless that is 0.
    pub boot_cpu: Option<u32>,
}

/// One word for each field. No lock: the end of the kernel cannot wait for one.
static NOTED: [AtomicU64; 7] = [const { AtomicU64::new(0) }; 7];

impl MachineInfo {
    /// Stores the fields that are given; the others keep their values.
    pub fn note(self) {
        let number = |part: Option<u32>| part.map_or(0, u64::from);
        let words = [
            self.timebase_hertz.unwrap_or(0),
            number(self.terminal),
            self.psci.map_or(0, |psci| psci as u64),
            number(self.power_off),
            number(self.os_term),
            number(self.start_cpu),
            number(self.boot_cpu),
        ];
        for (noted, word) in NOTED.iter().zip(words).filter(|(_, word)| *word != 0) {
            // Relaxed: readers need the number only.
            noted.store(word, Ordering::Relaxed);
        }
    }

    /// The stored facts.
    pub fn noted() -> Self {
        let words = NOTED.each_ref().map(|word| word.load(Ordering::Relaxed));
        let [timebase_hertz, terminal, psci, power_off, os_term, start_cpu, boot_cpu] =
            words.map(|word| Some(word).filter(|&word| word != 0));
        let number = |word: Option<u64>| word.map(|word| word as u32);
        Self {
            timebase_hertz,
            terminal: number(terminal),
            psci: [Psci::Hvc, Psci::Smc].into_iter().find(|&way| psci == Some(way as u64)),
            power_off: number(power_off),
            os_term: number(os_term),
            start_cpu: number(start_cpu),
            boot_cpu: number(boot_cpu),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_field_that_firmware_gives_is_stored() {
        assert_eq!(MachineInfo::noted(), MachineInfo::default());
        let mut all = MachineInfo {
            timebase_hertz: Some(u64::MAX),
            terminal: Some(0x7100_0000),
            psci: Some(Psci::Smc),
            power_off: Some(0x2003),
            os_term: Some(u32::MAX),
            start_cpu: Some(0x2011),
            boot_cpu: Some(8),
        };
        all.note();
        assert_eq!(MachineInfo::noted(), all);
        MachineInfo { psci: Some(Psci::Hvc), ..MachineInfo::default() }.note();
        all.psci = Some(Psci::Hvc);
        assert_eq!(MachineInfo::noted(), all, "a field that is not given again stays");
    }
}
