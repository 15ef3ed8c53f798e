//! Which PCI function a configuration space region belongs to.
//!
//! The region lies below a device with an `_ADR`; the devices above it are bridges, up to a
//! host bridge, which `_HID` or `_CID` identify (ACPI 6.5, 6.1.1 and 6.5.5).

use crate::error::ErrorKind;
use crate::host::{PciAddress, Space, Width};
use crate::ids::HardwareId;
use crate::name::{NameSeg, NodeId};
use crate::object::Obj;

use super::{Exec, Res};

/// Identifiers of host bridges: PCI and PCI Express.
const HOST_BRIDGES: [&str; 2] = ["PNP0A03", "PNP0A08"];

/// The secondary bus number in a bridge's configuration space (PCI-to-PCI Bridge 1.2, 3.2).
const SECONDARY_BUS: u64 = 0x19;

/// Most bridges one behind the other that are followed.
const BRIDGES: usize = 8;

impl Exec<'_> {
    /// The function of a region. Found once: bus numbers do not change while we run.
    pub(super) fn pci_address(&mut self, index: u32) -> Res<PciAddress> {
        let mut region = self.m.regions.get(index)?;
        if let Some(address) = region.pci {
            return Ok(address);
        }
        self.enter()?;
        let address = self.find_function(region.node)?;
        self.depth -= 1;
        region.pci = Some(address);
        self.m.regions.set(index, region)?;
        Ok(address)
    }

    /// Goes up to the host bridge, then down again through the bridges passed.
    fn find_function(&mut self, from: NodeId) -> Res<PciAddress> {
        let mut passed = [None; BRIDGES];
        let mut count = 0;
        let mut at = self.m.names.parent(from);
        let mut root = None;
        while let Some(node) = at {
            self.charge(1)?;
            if self.is_host_bridge(node)? {
                root = Some(node);
                break;
            }
            if let Some(address) = self.child_int(node, "_ADR")? {
                *passed.get_mut(count).ok_or(ErrorKind::TooDeep)? = Some(address);
                count += 1;
            }
            at = self.m.names.parent(node);
        }
        let root = root.ok_or(ErrorKind::BadValue("no PCI host bridge above"))?;
        let segment = self.child_int(root, "_SEG")?.unwrap_or(0) as u16;
        let mut bus = self.child_int(root, "_BBN")?.unwrap_or(0) as u8;
        // The region may belong to the host bridge itself, which is device 0.
        let mut found = PciAddress { segment, bus, device: 0, function: 0 };
        for (n, address) in passed.iter().take(count).rev().flatten().enumerate() {
            if n > 0 {
                let space = Space::PciConfig(found);
                let read = self.host.io().read(space, SECONDARY_BUS, Width::Byte);
                bus = read.map_err(ErrorKind::Host)? as u8;
            }
            let device = (address >> 16 & 0x1F) as u8;
            found = PciAddress { segment, bus, device, function: (address & 7) as u8 };
        }
        Ok(found)
    }

    /// Whether `_HID` or `_CID` say that a device is a host bridge.
    fn is_host_bridge(&mut self, node: NodeId) -> Res<bool> {
        for name in ["_HID", "_CID"] {
            let found = match self.child_value(node, name)? {
                Some(Obj::Int(id)) => u32::try_from(id).ok().map(HardwareId::from_eisa),
                Some(Obj::Str(span)) => {
                    let bytes = self.m.bytes.get(span)?;
                    core::str::from_utf8(bytes).ok().and_then(HardwareId::from_text)
                }
                _ => None,
            };
            if found.is_some_and(|id| HOST_BRIDGES.contains(&id.as_str())) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The value of a child, if there is one.
    fn child_value(&mut self, node: NodeId, name: &str) -> Res<Option<Obj>> {
        let child = NameSeg::from_text(name).and_then(|name| self.m.names.child(node, name));
        match child {
            Some(child) => self.load_node(self.m.names.follow(child)).map(Some),
            None => Ok(None),
        }
    }

    /// The integer that a child holds, if there is one.
    fn child_int(&mut self, node: NodeId, name: &str) -> Res<Option<u64>> {
        match self.child_value(node, name)? {
            Some(obj) => self.to_int(obj).map(Some),
            None => Ok(None),
        }
    }
}
