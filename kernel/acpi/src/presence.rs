//! Whether a device is there.

use hotmem_aml::{Aml, AmlError, Host, NodeId, NodeKind};

/// `_STA` bits (ACPI 6.5, 6.3.7): memory can be used if it is there, decodes and works.
pub(super) const PRESENT: u64 = 1 << 0;
pub(super) const ENABLED: u64 = 1 << 1;
pub(super) const FUNCTIONING: u64 = 1 << 3;
pub(super) const USABLE: u64 = PRESENT | ENABLED | FUNCTIONING;

/// A device's `_STA`, or 0 if one that it is below is not there.
pub(super) fn status(aml: &mut Aml, host: &mut dyn Host, node: NodeId) -> Result<u64, AmlError> {
    let mut above = aml.parent(node);
    while let Some(here) = above {
        let is_device = aml.kind(here) == NodeKind::Device;
        if is_device && aml.status(host, here)? & (PRESENT | FUNCTIONING) == 0 {
            return Ok(0);
        }
        above = aml.parent(here);
    }
    aml.status(host, node)
}
