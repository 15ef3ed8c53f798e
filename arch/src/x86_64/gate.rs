//! Interrupt gates: the bits of an IDT entry (Intel SDM vol. 3A 7.14.1; AMD APM vol. 2 4.8.4).
//!
//! ```text
//!   bits 127..96 reserved | 95..64 offset 63..32
//!   bits 63..48 offset 31..16 | 47 P | 46..45 DPL | 43..40 type | 34..32 IST | 31..16 selector | 15..0 offset
//! ```

const PRESENT: u64 = 1 << 47;
const INTERRUPT_GATE: u64 = 0xe << 40;

/// One entry of an interrupt descriptor table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(16))]
pub struct Gate([u64; 2]);

impl Gate {
    /// An entry that faults.
    pub const ABSENT: Self = Self([0; 2]);

    /// A gate to `handler` in the code segment `selector`, entered with interrupts off.
    ///
    /// `stack` is the interrupt stack to switch to, 1 to 7, or 0 to stay on the current one.
    pub const fn interrupt(handler: u64, selector: u16, stack: u8) -> Self {
        let low = (handler & 0xffff)
            | (selector as u64) << 16
            | ((stack & 7) as u64) << 32
            | INTERRUPT_GATE
            | PRESENT
            | (handler >> 16 & 0xffff) << 48;
        Self([low, handler >> 32])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_has_the_bits_of_the_manual() {
        let gate = Gate::interrupt(0xffff_ffff_8012_3456, 0x08, 2);
        assert_eq!(gate.0, [0x8012_8e02_0008_3456, 0xffff_ffff]);
        assert_eq!(Gate::interrupt(0, 0, 0).0[0], 0x0000_8e00_0000_0000);
    }
}
