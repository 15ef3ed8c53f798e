//! Reports to firmware how a request ended: `_OST`.

use hotmem_aml::{Arg, NodeId};
use hotmem_hotplug::{Outcome, Refusal};

use super::fault::DeviceError;
use super::hardware::Hardware;
use super::source::AcpiSource;

impl<H: Hardware> AcpiSource<H> {
    /// Evaluates a device's `_OST`, if it has one.
    pub(super) fn evaluate_ost(
        &mut self,
        node: NodeId,
        source: u32,
        outcome: Outcome,
    ) -> Result<Option<u32>, DeviceError> {
        let Some(ost) = self.aml.child(node, "_OST") else { return Ok(None) };
        let status = status_code(outcome);
        let args = [Arg::Integer(source.into()), Arg::Integer(status.into()), Arg::Buffer(&[])];
        self.call("_OST", ost, &args).map(|()| Some(status))
    }
}

/// The status code of an outcome (ACPI 6.5, 6.3.5: general processing, and ejection processing).
const fn status_code(outcome: Outcome) -> u32 {
    match outcome {
        Outcome::Inserted | Outcome::Ejected => 0,
        Outcome::InsertFailed | Outcome::EjectFailed => 1,
        Outcome::EjectRefused(Refusal::Unknown) => 0x80,
        Outcome::EjectRefused(Refusal::InUse) => 0x81,
        Outcome::EjectRefused(Refusal::Busy) => 0x82,
        Outcome::EjectRefused(Refusal::Dependency) => 0x83,
        Outcome::Ejecting => 0x84,
        Outcome::InsertedOffline => 0x81,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_has_the_code_that_acpi_gives_it() {
        // ACPI 6.5, 6.3.5: tables of general, ejection (0x80 up, 0x84 pending) and insertion status.
        for (outcome, code) in [
            (Outcome::Inserted, 0),
            (Outcome::InsertFailed, 1),
            (Outcome::InsertedOffline, 0x81),
            (Outcome::Ejecting, 0x84),
            (Outcome::Ejected, 0),
            (Outcome::EjectFailed, 1),
            (Outcome::EjectRefused(Refusal::Unknown), 0x80),
            (Outcome::EjectRefused(Refusal::InUse), 0x81),
            (Outcome::EjectRefused(Refusal::Busy), 0x82),
            (Outcome::EjectRefused(Refusal::Dependency), 0x83),
        ] {
            assert_eq!(status_code(outcome), code, "{outcome:?}");
        }
    }
}
