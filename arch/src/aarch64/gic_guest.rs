//! The CPU interface of a version 3 GIC for a guest: list registers, and what the guest set (Arm IHI 0069H 12.4).

// UNSAFETY: system registers.
#![expect(unsafe_code)]

use super::board::gic::LISTS;
use core::arch::asm;

/// ICH_HCR_EL2: list registers are used; the interface of a guest without interrupts is trapped (TC, TALL0, TALL1).
const USED: u64 = 1 << 0;
const TRAPPED: u64 = 1 << 10 | 1 << 11 | 1 << 12;
/// ICC_PMR_EL1: everything is signalled; everything but the timer of guests is.
const ALL: u64 = 0xff;
const ALL_BUT_TIMER: u64 = super::gic::GUESTS_TIMER_PRIORITY as u64;

/// What a guest set in its interface.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Interface {
    /// ICH_VMCR_EL2.
    control: u64,
    /// ICH_AP0R0_EL2 and ICH_AP1R0_EL2: the priorities of active interrupts.
    active: [u64; 2],
}

/// Writes a system register that concerns guests, or which interrupts are signalled.
macro_rules! write {
    ($encoding:literal, $value:expr) => {
        // SAFETY: the register concerns guests, or which interrupts of this CPU are signalled.
        unsafe {
            asm!(concat!("msr ", $encoding, ", {}"), in(reg) $value, options(nomem, nostack, preserves_flags))
        }
    };
}

/// Reads a system register.
macro_rules! read {
    ($encoding:literal) => {{
        let value: u64;
        // SAFETY: reading it has no side effect.
        unsafe {
            asm!(concat!("mrs {}, ", $encoding), out(reg) value, options(nomem, nostack, preserves_flags))
        };
        value
    }};
}

/// The feature that this CPU's interface lacks for guests with interrupts; it has the registers.
pub(super) fn missing() -> Option<&'static str> {
    // ICH_VTR_EL2: ListRegs, PREbits.
    let kind = read!("S3_4_C12_C11_1");
    match (kind & 0x1f, kind >> 26 & 7) {
        (0..=2, _) => Some("this machine's interrupt controller has not four list registers"),
        (_, 5..) => {
            Some("this machine's interrupt controller has more than 32 levels of preemption")
        }
        _ => None,
    }
}

/// Whether the timer of guests interrupts this CPU.
pub(super) fn set_timer_masked(masked: bool) {
    write!("S3_0_C4_C6_0", if masked { ALL_BUT_TIMER } else { ALL });
}

/// Traps the interface: for guests without interrupts, and while the kernel runs.
pub(super) fn trap() {
    write!("S3_4_C12_C11_0", TRAPPED);
}

impl Interface {
    /// Loads it into the CPU, with the list registers.
    pub(super) fn load(&self, [zero, one, two, three]: [u64; LISTS]) {
        write!("S3_4_C12_C12_0", zero);
        write!("S3_4_C12_C12_1", one);
        write!("S3_4_C12_C12_2", two);
        write!("S3_4_C12_C12_3", three);
        write!("S3_4_C12_C8_0", self.active[0]);
        write!("S3_4_C12_C9_0", self.active[1]);
        write!("S3_4_C12_C11_7", self.control);
        write!("S3_4_C12_C11_0", USED);
    }

    /// Keeps what the guest changed; returns the list registers. Its interface raises nothing any more.
    pub(super) fn save(&mut self) -> [u64; LISTS] {
        self.control = read!("S3_4_C12_C11_7");
        self.active = [read!("S3_4_C12_C8_0"), read!("S3_4_C12_C9_0")];
        let lists = [
            read!("S3_4_C12_C12_0"),
            read!("S3_4_C12_C12_1"),
            read!("S3_4_C12_C12_2"),
            read!("S3_4_C12_C12_3"),
        ];
        trap();
        lists
    }
}
