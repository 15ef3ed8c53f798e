//! Finds the hotplug objects in tables that are not known in advance: the kernel must not depend on the
//! names of a particular hotplug controller, so its tests must not either.

use hotmem_aml::resource::{Interrupt, RangeKind, Resource, resources};
use hotmem_aml::{Aml, AmlError, Arg, GpeMethod, Host, NodeId};

/// How a machine signals a hotplug event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventSource {
    /// A general-purpose event with a method.
    Gpe(GpeMethod),
    /// A Generic Event Device: its `_EVT` and one of its interrupts.
    Ged {
        /// The method, which takes the interrupt's number.
        event: NodeId,
        /// The interrupt.
        interrupt: Interrupt,
    },
}

/// All memory devices (`PNP0C80`), present or not.
///
/// # Errors
/// That of an identifier that cannot be evaluated.
pub fn memory_devices(aml: &mut Aml, host: &mut dyn Host) -> Result<Vec<NodeId>, AmlError> {
    devices_with_id(aml, host, "PNP0C80")
}

/// All devices with an identifier.
fn devices_with_id(aml: &mut Aml, host: &mut dyn Host, id: &str) -> Result<Vec<NodeId>, AmlError> {
    let mut found = Vec::new();
    let mut last = None;
    while let Some(device) = aml.next_device(last) {
        last = Some(device);
        if aml.has_id(host, device, id)? {
            found.push(device);
        }
    }
    Ok(found)
}

/// All event sources: the methods of `\_GPE`, and the interrupts of Generic Event Devices.
///
/// # Errors
/// That of a `_CRS` or identifier that cannot be evaluated.
pub fn event_sources(aml: &mut Aml, host: &mut dyn Host) -> Result<Vec<EventSource>, AmlError> {
    let scope = aml.find("\\_GPE");
    let gpes = scope.into_iter().flat_map(|scope| aml.gpe_methods(scope));
    let mut found: Vec<EventSource> = gpes.map(EventSource::Gpe).collect();
    for device in devices_with_id(aml, host, "ACPI0013")? {
        let Some(event) = aml.child(device, "_EVT") else { continue };
        let Some(crs) = aml.child(device, "_CRS") else { continue };
        let value = aml.evaluate(host, crs, &[])?;
        let list = value.buffer().unwrap_or_default();
        found.extend(resources(list).filter_map(|resource| match resource {
            Ok(Resource::Interrupt(interrupt)) => Some(EventSource::Ged { event, interrupt }),
            _ => None,
        }));
    }
    Ok(found)
}

/// Runs the method of an event source.
///
/// # Errors
/// The method's.
pub fn raise(aml: &mut Aml, host: &mut dyn Host, source: EventSource) -> Result<(), AmlError> {
    match source {
        EventSource::Gpe(gpe) => aml.evaluate(host, gpe.node, &[]).map(drop),
        EventSource::Ged { event, interrupt } => {
            let gsi = [Arg::Integer(u64::from(interrupt.gsi))];
            aml.evaluate(host, event, &gsi).map(drop)
        }
    }
}

/// The first memory range in a device's `_CRS`: its first address and its length.
///
/// # Errors
/// That of a `_CRS` that cannot be evaluated.
pub fn memory_range(
    aml: &mut Aml,
    host: &mut dyn Host,
    device: NodeId,
) -> Result<Option<(u64, u64)>, AmlError> {
    let Some(crs) = aml.child(device, "_CRS") else { return Ok(None) };
    let value = aml.evaluate(host, crs, &[])?;
    let list = value.buffer().unwrap_or_default();
    Ok(resources(list).find_map(|resource| match resource {
        Ok(Resource::Range(range)) if range.kind == RangeKind::Memory => {
            // Firmware has this information twice; the test fails if the two differ.
            (range.max.wrapping_sub(range.min).wrapping_add(1) == range.length)
                .then_some((range.min, range.length))
        }
        _ => None,
    }))
}
