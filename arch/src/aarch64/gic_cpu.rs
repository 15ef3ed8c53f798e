//! The CPU interface of a version 3 GIC: system registers (Arm IHI 0069H 12.2).

// UNSAFETY: system registers.
#![expect(unsafe_code)]

use core::arch::asm;

/// The interface of this CPU.
#[derive(Debug)]
pub(super) struct SystemInterface(());

impl SystemInterface {
    /// Lets interrupts of every priority through. The CPU must have the registers.
    pub(super) fn enable() -> Self {
        // SAFETY: ICC_SRE_EL1.SRE, ICC_PMR_EL1 and ICC_IGRPEN1_EL1 only decide which interrupts are signalled to
        // this CPU, and it takes them when it enables interrupts.
        unsafe {
            asm!(
                "msr S3_0_C12_C12_5, {sre}",
                "isb",
                "msr S3_0_C4_C6_0, {all}",
                "msr S3_0_C12_C12_7, {sre}",
                "isb",
                sre = in(reg) 1u64,
                all = in(reg) 0xffu64,
                options(nomem, nostack, preserves_flags),
            );
        }
        Self(())
    }

    /// Calls the CPU that `word` names ([`call_word`](super::gic::call_word)), after all earlier stores are visible
    /// to it.
    pub(super) fn call(&self, word: u64) {
        // SAFETY: ICC_SGI1R_EL1 raises an interrupt that the other CPU takes when it enables interrupts.
        unsafe {
            asm!("dsb ishst", "msr S3_0_C12_C11_5, {}", "isb", in(reg) word,
                options(nostack, preserves_flags));
        }
    }

    /// Takes the most urgent interrupt; returns what [`finish`](Self::finish) expects.
    pub(super) fn acknowledge(&self) -> u32 {
        let id: u64;
        // SAFETY: reading ICC_IAR1_EL1 takes an interrupt; the caller serves it.
        unsafe {
            asm!("mrs {}, S3_0_C12_C12_0", "dsb sy", out(reg) id, options(nostack, preserves_flags));
        }
        id as u32
    }

    /// Ends an interrupt that was served.
    pub(super) fn finish(&self, acknowledged: u32) {
        // SAFETY: ICC_EOIR1_EL1 gets what was acknowledged.
        unsafe {
            asm!("dsb sy", "msr S3_0_C12_C12_1, {}", "isb", in(reg) u64::from(acknowledged),
                options(nostack, preserves_flags));
        }
    }
}
