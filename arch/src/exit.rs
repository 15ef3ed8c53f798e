//! How a kernel ends.

use core::sync::atomic::{AtomicU8, Ordering};

/// How the kernel leaves the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// With a code the operator chose, 0 to 100.
    Code(u8),
    /// After a panic.
    Panic,
}

/// How firmware turns the machine off, where it does that for a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum PowerOff {
    /// Not at all.
    No,
    /// PSCI, called by HVC (Arm).
    PsciHvc,
    /// PSCI, called by SMC (Arm).
    PsciSmc,
}

static POWER_OFF: AtomicU8 = AtomicU8::new(PowerOff::No as u8);

/// Notes what firmware says, for an architecture whose way out it is.
pub fn set_power_off(way: PowerOff) {
    // Relaxed: the number is all there is to see.
    POWER_OFF.store(way as u8, Ordering::Relaxed);
}

/// What firmware said.
pub fn power_off() -> PowerOff {
    let noted = POWER_OFF.load(Ordering::Relaxed);
    let ways = [PowerOff::PsciHvc, PowerOff::PsciSmc];
    ways.into_iter().find(|&way| way as u8 == noted).unwrap_or(PowerOff::No)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_firmware_said_is_remembered() {
        assert_eq!(power_off(), PowerOff::No);
        for way in [PowerOff::PsciSmc, PowerOff::PsciHvc, PowerOff::No] {
            set_power_off(way);
            assert_eq!(power_off(), way);
        }
    }
}
