//! What firmware says of a device: whether it is there, its memory, its node.

use hotmem::{NodeId, PhysAddr, PhysRange};
use hotmem_aml::resource::{self, RangeKind, Resource};
use hotmem_aml::{self as aml, Arg};
use hotmem_hotplug::{DeviceId, Ranges, Request, TooManyRanges};

use super::fault::DeviceError;
use super::hardware::Hardware;
use super::presence::{ENABLED, PRESENT, USABLE, status};
use super::source::AcpiSource;
use super::srat::node_of;

impl<H: Hardware> AcpiSource<H> {
    /// The namespace node of a device.
    pub(super) fn node(&self, device: DeviceId) -> Result<aml::NodeId, DeviceError> {
        let found = self.devices.get(device.number()).map(|device| device.node);
        found.ok_or(DeviceError::Unknown(device))
    }

    /// Calls a method and drops its value.
    pub(super) fn call(
        &mut self,
        name: &'static str,
        method: aml::NodeId,
        args: &[Arg<'_>],
    ) -> Result<(), DeviceError> {
        let (aml, mut host) = self.interpreter();
        let run = aml.evaluate(&mut host, method, args).map(drop);
        run.map_err(|error| DeviceError::Method(name, error))
    }

    /// A device's `_STA`, or 0 if a device above it is neither present nor functioning: then nothing below that
    /// is present either (ACPI 6.5, 6.3.7).
    pub(super) fn status(&mut self, node: aml::NodeId) -> Result<u64, DeviceError> {
        let (aml, mut host) = self.interpreter();
        status(aml, &mut host, node).map_err(|error| DeviceError::Method("_STA", error))
    }

    /// Whether a device is certainly not there, or does not decode its addresses: nothing is at its memory.
    pub(super) fn is_absent(&mut self, node: aml::NodeId) -> bool {
        let decodes = PRESENT | ENABLED;
        self.status(node).is_ok_and(|status| status & decodes != decodes)
    }

    /// Whether the driver has memory of a device that was removed without an eject.
    pub(super) fn is_lost(&mut self, device: DeviceId) -> bool {
        let Some(known) = self.devices.get(device.number()).copied() else { return false };
        known.announced && self.is_absent(known.node)
    }

    /// What a device is, if it is there.
    pub(super) fn describe(&mut self, device: DeviceId) -> Result<(Ranges, NodeId), DeviceError> {
        let node = self.node(device)?;
        let status = self.status(node)?;
        if status & USABLE != USABLE {
            self.note_memory(device, Ranges::default());
            return Err(DeviceError::Absent(status));
        }
        let ranges = self.ranges(node)?;
        self.note_memory(device, ranges);
        self.check_persistent(device, &ranges)?;
        let first = ranges.as_slice().first().ok_or(DeviceError::NoMemory)?;
        Ok((ranges, self.proximity(node, first.start())?))
    }

    /// Refuses a device with persistent memory, unless it was known before that: what says that memory is of both is wrong, and
    /// persistent memory may hold somebody's data.
    fn check_persistent(&self, device: DeviceId, ranges: &Ranges) -> Result<(), DeviceError> {
        let known = self.devices.get(device.number()).is_some_and(|device| device.announced);
        let is_in =
            |region: &PhysRange| ranges.as_slice().iter().any(|piece| piece.overlaps(*region));
        let region = self.pmem.ranges().find(is_in).filter(|_| !known);
        region.map_or(Ok(()), |region| Err(DeviceError::Persistent(region)))
    }

    /// Takes note of the memory that a device has now.
    fn note_memory(&mut self, device: DeviceId, memory: Ranges) {
        if let Some(device) = self.devices.get_mut(device.number()) {
            device.memory = memory;
        }
    }

    /// Notes that the driver gets the memory of a device.
    pub(super) fn announce(&mut self, device: DeviceId) {
        if let Some(device) = self.devices.get_mut(device.number()) {
            device.announced = true;
        }
    }

    /// The request that a description makes.
    pub(super) fn insert_request(
        &mut self,
        device: DeviceId,
        described: Result<(Ranges, NodeId), DeviceError>,
    ) -> Request<DeviceError> {
        match described {
            Err(DeviceError::Absent(_)) if self.is_lost(device) => Request::Gone,
            Err(error) => Request::Unreadable(error),
            Ok((ranges, node)) => {
                self.announce(device);
                Request::Insert { ranges, node }
            }
        }
    }

    /// Whether a device whose `_EJ0` failed is still there, with the memory it had. If its methods fail, its
    /// memory may be gone, and is not added back.
    pub(super) fn is_as_before(
        &mut self,
        node: aml::NodeId,
        before: &Result<Ranges, DeviceError>,
    ) -> bool {
        let usable = PRESENT | ENABLED;
        let there = self.status(node).is_ok_and(|status| status & usable == usable);
        let now = self.ranges(node);
        there && before.as_ref().is_ok_and(|before| now.is_ok_and(|now| now == *before))
    }

    /// The memory in a device's `_CRS`.
    pub(super) fn ranges(&mut self, node: aml::NodeId) -> Result<Ranges, DeviceError> {
        let crs = self.aml.child(node, "_CRS").ok_or(DeviceError::Missing("_CRS"))?;
        let (aml, mut host) = self.interpreter();
        let value = aml.evaluate(&mut host, crs, &[]);
        let value = value.map_err(|error| DeviceError::Method("_CRS", error))?;
        memory_of(value.buffer().ok_or(DeviceError::NoBuffer)?)
    }

    /// The node of a device: its `_PXM`, else that of the nearest device around it that has one (ACPI 6.5,
    /// 6.2.15), else that of the memory around it, else the first.
    fn proximity(&mut self, node: aml::NodeId, at: PhysAddr) -> Result<NodeId, DeviceError> {
        let mut above = Some(node);
        while let Some(here) = above {
            let (aml, mut host) = self.interpreter();
            let said = aml.child_integer(&mut host, here, "_PXM");
            if let Some(domain) = said.map_err(|error| DeviceError::Method("_PXM", error))? {
                return Ok(node_of(domain));
            }
            above = self.aml.parent(here);
        }
        let near = self.affinity.iter().find(|entry| entry.range.contains(at));
        Ok(near.map_or(NodeId::ZERO, |entry| node_of(entry.domain.into())))
    }
}

/// Whether a request is about a slot that is empty, and was empty before.
pub(super) const fn is_empty(request: &Request<DeviceError>) -> bool {
    matches!(request, Request::Unreadable(DeviceError::Absent(_)))
}

/// The memory that a resource list names.
fn memory_of(list: &[u8]) -> Result<Ranges, DeviceError> {
    let mut ranges = Ranges::default();
    for resource in resource::resources(list) {
        let Resource::Range(range) = resource.map_err(DeviceError::Resource)? else { continue };
        let (min, max, length) = (range.min, range.max, range.length);
        if range.kind != RangeKind::Memory || length == 0 {
            continue;
        }
        if !range.ram {
            log::warn!("acpi: memory at {min:#x} is read-only or reserved, and not used as RAM");
            continue;
        }
        // Only a bridge translates addresses, so the translation of a memory device is ignored.
        let memory = PhysRange::new(PhysAddr::new(min), length);
        match memory {
            Some(memory) if max.checked_sub(min) == Some(length - 1) => {
                ranges.push(memory).map_err(|TooManyRanges| DeviceError::TooManyRanges)?;
            }
            _ => return Err(DeviceError::Range { min, max, length }),
        }
    }
    Ok(ranges)
}
