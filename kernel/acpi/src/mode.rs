//! From legacy mode, in which firmware handles events itself, to ACPI mode (ACPI 6.5, 4.8.2.5 and
//! 16.3.1).

use hotmem_aml::{HostError, Space, Width};

use super::fadt::Fadt;
use super::hardware::{Byte, Hardware};

/// `SCI_EN` in the low byte of the fixed control register.
const SCI_EN: u8 = 1 << 0;

/// How long the firmware may take: 3 seconds, in steps of 100 microseconds.
const TRIES: u32 = 30_000;
const STEP_MICROSECONDS: u64 = 100;

hotmem::errors! {
    /// Why the machine is not in ACPI mode.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[non_exhaustive]
    pub enum ModeError {
        /// The FADT has no control register and does not say hardware-reduced.
        NoControl => "the FADT names no PM1 control register",
        /// ACPI is off and the FADT names no port to turn it on.
        NoWay => "ACPI is off, and the FADT names no way to turn it on",
        /// The firmware was asked and did nothing for three seconds.
        Timeout => "the firmware does not turn ACPI on",
        /// A register cannot be reached.
        Register(error: HostError) => "{error}",
    }
}

impl From<HostError> for ModeError {
    fn from(error: HostError) -> Self {
        Self::Register(error)
    }
}

/// Enters ACPI mode, unless the machine is in it already or knows no other.
///
/// # Errors
///
/// [`ModeError`]; no event will ever come then.
pub(super) fn enter(fadt: &Fadt, hardware: &mut impl Hardware) -> Result<(), ModeError> {
    // A machine whose firmware has no system management mode starts with SCI_EN set, and must not be
    // asked: its FADT may still name the port.
    if fadt.hardware_reduced || enabled(fadt, hardware)? {
        return Ok(());
    }
    let enable = fadt.enable.ok_or(ModeError::NoWay)?;
    hardware.write(Space::SystemIo, enable.port, Width::Byte, enable.value.into())?;
    for _ in 0..TRIES {
        if enabled(fadt, hardware)? {
            return Ok(());
        }
        hardware.stall(STEP_MICROSECONDS);
    }
    Err(ModeError::Timeout)
}

/// Whether one of the control registers says that events interrupt.
fn enabled(fadt: &Fadt, hardware: &mut impl Hardware) -> Result<bool, ModeError> {
    if fadt.pm1_control == [None; 2] {
        return Err(ModeError::NoControl);
    }
    for block in fadt.pm1_control.into_iter().flatten() {
        if Byte::of(block, 0).read(hardware)? & SCI_EN != 0 {
            return Ok(true);
        }
    }
    Ok(false)
}
