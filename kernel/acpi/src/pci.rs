//! What the byte code says of PCI: where registers of devices may be, and where their interrupt lines end.
//!
//! ```text
//! host bridge of bus 0 (PNP0A03, PNP0A08) --> _CRS  windows of memory            (ACPI 6.5, 6.2.2)
//!                                        \--> _PRT  device, pin --> GSI, or      (ACPI 6.5, 6.2.13)
//!                                                   --> link device --> its _CRS
//! ```

use alloc::vec::Vec;

use hotmem::{PhysAddr, PhysRange};
use hotmem_aml::resource::{self, RangeKind, Resource, ResourceError};
use hotmem_aml::{Aml, AmlError, Host, NodeId, Value};
use hotmem_hotplug::{Line, OutOfHeap, Polarity, Trigger};

use super::handlers::line;
use super::hardware::Hardware;
use super::lists::push;
use super::presence::{ENABLED, PRESENT, status};
use super::source::AcpiSource;

/// The identifiers of a bridge to a bus of PCI, and of PCI Express.
const BRIDGES: [&str; 2] = ["PNP0A03", "PNP0A08"];
/// The identifiers of a device whose resources are the mainboard's own, and of one that is a part of it.
const MAINBOARD: [&str; 2] = ["PNP0C02", "PNP0C01"];
/// The function in an address of `_PRT`: all of the device.
const ALL_FUNCTIONS: u64 = 0xffff;

hotmem::errors! {
    /// Why what the byte code says of PCI cannot be used.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[non_exhaustive]
    pub enum BridgeError {
        /// A method of the bridge, or of a link device, failed.
        Method(name: &'static str, error: AmlError) => "{name}: {error}",
        /// A method returned something of another kind.
        Kind(name: &'static str) => "{name} returned a value of another kind",
        /// A list of resources cannot be read.
        List(error: ResourceError) => "_CRS: {error}",
        /// The kernel heap has no room for the windows.
        NoRoom => "the kernel heap has no room for the windows",
        /// The link device that a line ends at is not enabled; its `_STA`.
        Disabled(status: u64) => "the link device of the line is not enabled: _STA is {status:#x}",
        /// The link device that a line ends at has no interrupt with this index.
        NoInterrupt(index: usize) => "the link device of the line has no interrupt {index}",
    }
}

/// Where a line of a device ends, as an entry of `_PRT` has it.
#[derive(Clone, Copy, Debug)]
enum Route {
    /// At this global system interrupt.
    Direct(u32),
    /// At the interrupt with this index of a link device.
    Link(NodeId, usize),
}

impl<H: Hardware> AcpiSource<H> {
    /// The addresses where registers of devices on bus 0 may be, as firmware has them; none if it describes no such bus. What
    /// is at another address on the bus than for the CPU is left out, and so are registers of the bridge itself.
    ///
    /// # Errors
    ///
    /// [`BridgeError`].
    pub fn pci_windows(&mut self) -> Result<Vec<PhysRange>, BridgeError> {
        let mut windows = Vec::new();
        let Some(crs) = self.of_bridge("_CRS")? else { return Ok(windows) };
        let (aml, mut host) = self.interpreter();
        for resource in resources(aml, &mut host, crs)? {
            if let Some(window) = window(&resource.map_err(BridgeError::List)?) {
                push(&mut windows, window).map_err(|OutOfHeap| BridgeError::NoRoom)?;
            }
        }
        Ok(windows)
    }

    /// The last bus behind the bridge to bus 0, as firmware has it: another host bridge may have those after it. `None` if
    /// firmware does not say.
    ///
    /// # Errors
    ///
    /// [`BridgeError`].
    pub fn pci_last_bus(&mut self) -> Result<Option<u8>, BridgeError> {
        let Some(crs) = self.of_bridge("_CRS")? else { return Ok(None) };
        let (aml, mut host) = self.interpreter();
        for resource in resources(aml, &mut host, crs)? {
            if let Resource::Range(range) = resource.map_err(BridgeError::List)?
                && (range.kind, range.min, range.translation) == (RangeKind::BusNumber, 0, 0)
            {
                return Ok(u8::try_from(range.max).ok());
            }
        }
        Ok(None)
    }

    /// The addresses that any host bridge forwards, as far as they can be read.
    ///
    /// # Errors
    ///
    /// [`OutOfHeap`].
    pub(super) fn all_windows(&mut self) -> Result<Vec<PhysRange>, OutOfHeap> {
        let mut all = Vec::new();
        let (aml, mut host) = self.interpreter();
        let mut last = None;
        while let Some(device) = aml.next_device(last) {
            last = Some(device);
            let is_bridge = BRIDGES.iter().any(|id| aml.has_id(&mut host, device, id) == Ok(true));
            let is_there = is_bridge
                && status(aml, &mut host, device).is_ok_and(|status| status & PRESENT != 0);
            let Some(crs) = aml.child(device, "_CRS").filter(|_| is_there) else { continue };
            let Ok(list) = resources(aml, &mut host, crs) else { continue };
            for range in list.filter_map(|resource| window(&resource.ok()?)) {
                push(&mut all, range)?;
            }
        }
        Ok(all)
    }

    /// Where the line of `pin` (0 is INTA) of a device on bus 0 ends; `None` if firmware does not say.
    ///
    /// # Errors
    ///
    /// [`BridgeError`]: firmware names a link device that does not say, or is not enabled.
    pub fn pci_line(&mut self, device: u8, pin: u8) -> Result<Option<Line>, BridgeError> {
        let Some(prt) = self.of_bridge("_PRT")? else { return Ok(None) };
        let (aml, mut host) = self.interpreter();
        let value = aml.evaluate(&mut host, prt, &[]);
        let value = value.map_err(|error| BridgeError::Method("_PRT", error))?;
        let (link, index) = match route(value, device, pin)? {
            None => return Ok(None),
            Some(Route::Direct(gsi)) => {
                // The lines of PCI are level-triggered and active low (PCI Local Bus 3.0, 2.2.6).
                let (trigger, polarity) = (Trigger::Level, Polarity::ActiveLow);
                return Ok(Some(Line { gsi, trigger, polarity }));
            }
            Some(Route::Link(link, index)) => (link, index),
        };
        linked(aml, &mut host, link, index).map(Some)
    }

    /// The addresses that the mainboard keeps for itself. Those of PCI's configuration space are among them (PCI Firmware
    /// Specification 3.3, 4.1.2).
    ///
    /// # Errors
    ///
    /// [`BridgeError`].
    pub fn mainboard(&mut self) -> Result<Vec<PhysRange>, BridgeError> {
        let mut all = Vec::new();
        let (aml, mut host) = self.interpreter();
        let mut last = None;
        while let Some(device) = aml.next_device(last) {
            last = Some(device);
            let is_it = MAINBOARD.iter().any(|id| aml.has_id(&mut host, device, id) == Ok(true));
            let Some(crs) = aml.child(device, "_CRS").filter(|_| is_it) else { continue };
            for resource in resources(aml, &mut host, crs)? {
                if let Some(range) = memory(&resource.map_err(BridgeError::List)?) {
                    push(&mut all, range).map_err(|OutOfHeap| BridgeError::NoRoom)?;
                }
            }
        }
        Ok(all)
    }

    /// A child of the bridge to bus 0 of segment 0.
    fn of_bridge(&mut self, name: &str) -> Result<Option<NodeId>, BridgeError> {
        let (aml, mut host) = self.interpreter();
        let bridge = bridge(aml, &mut host)?;
        Ok(bridge.and_then(|bridge| aml.child(bridge, name)))
    }
}

/// The bridge to bus 0 of segment 0, if it is there.
///
/// # Errors
///
/// Why it is not known of a bridge whether it is that one, if no other is.
fn bridge(aml: &mut Aml, host: &mut dyn Host) -> Result<Option<NodeId>, BridgeError> {
    let (mut last, mut unknown) = (None, None);
    while let Some(device) = aml.next_device(last) {
        last = Some(device);
        // What has no identifier that can be read is not known to be a bridge at all.
        let is_bridge = BRIDGES.iter().any(|id| aml.has_id(host, device, id) == Ok(true));
        match is_bridge.then(|| is_first(aml, host, device)) {
            Some(Ok(true)) => return Ok(Some(device)),
            Some(Err(error)) => unknown = unknown.or(Some(error)),
            Some(Ok(false)) | None => {}
        }
    }
    unknown.map_or(Ok(None), Err)
}

/// Whether a bridge is there, and its bus is bus 0 of segment 0.
fn is_first(aml: &mut Aml, host: &mut dyn Host, bridge: NodeId) -> Result<bool, BridgeError> {
    for name in ["_SEG", "_BBN"] {
        let number = aml.child_integer(host, bridge, name);
        if number.map_err(|error| BridgeError::Method(name, error))?.unwrap_or(0) != 0 {
            return Ok(false);
        }
    }
    let status = status(aml, host, bridge).map_err(|error| BridgeError::Method("_STA", error))?;
    Ok(status & PRESENT != 0)
}

/// The interrupt with this index of a link device. One that is not enabled, or connected to no interrupt, which is interrupt
/// 0, does not interrupt.
fn linked(
    aml: &mut Aml,
    host: &mut dyn Host,
    link: NodeId,
    index: usize,
) -> Result<Line, BridgeError> {
    let status = status(aml, host, link).map_err(|error| BridgeError::Method("_STA", error))?;
    if status & (PRESENT | ENABLED) != PRESENT | ENABLED {
        return Err(BridgeError::Disabled(status));
    }
    let none = BridgeError::NoInterrupt(index);
    let crs = aml.child(link, "_CRS").ok_or(none)?;
    let mut left = index;
    for resource in resources(aml, host, crs)? {
        match resource.map_err(BridgeError::List)? {
            Resource::Interrupt(interrupt) if left == 0 => {
                return Some(line(interrupt)).filter(|line| line.gsi != 0).ok_or(none);
            }
            Resource::Interrupt(_) => left -= 1,
            _ => {}
        }
    }
    Err(none)
}

/// The list that a `_CRS` returns.
fn resources<'a>(
    aml: &'a mut Aml,
    host: &mut dyn Host,
    crs: NodeId,
) -> Result<resource::Resources<'a>, BridgeError> {
    let value = aml.evaluate(host, crs, &[]);
    let value = value.map_err(|error| BridgeError::Method("_CRS", error))?;
    value.buffer().map(resource::resources).ok_or(BridgeError::Kind("_CRS"))
}

/// A window for registers of devices: what the bridge passes on, and does not use itself.
fn window(resource: &Resource) -> Option<PhysRange> {
    memory(resource).filter(|_| matches!(resource, Resource::Range(range) if range.is_produced))
}

/// Memory that is at the same address on both sides of a bridge.
fn memory(resource: &Resource) -> Option<PhysRange> {
    let Resource::Range(range) = resource else { return None };
    let last = range.min.checked_add(range.length.checked_sub(1)?)?;
    let plain = range.kind == RangeKind::Memory && range.translation == 0 && last == range.max;
    PhysRange::new(PhysAddr::new(range.min), range.length).filter(|_| plain)
}

/// The entry of a `_PRT` for a pin of a device: address, pin, source, index of the source.
///
/// # Errors
///
/// [`BridgeError::Kind`].
fn route(prt: Value<'_>, device: u8, pin: u8) -> Result<Option<Route>, BridgeError> {
    let Value::Package(entries) = prt else { return Err(BridgeError::Kind("_PRT")) };
    let address = u64::from(device) << 16 | ALL_FUNCTIONS;
    let route = (0..entries.len()).find_map(|index| {
        let Value::Package(entry) = entries.get(index)? else { return None };
        let number = |index| entry.get(index).and_then(|value| value.integer());
        if number(0)? != address || number(1)? != u64::from(pin) {
            return None;
        }
        let index = number(3)?;
        match entry.get(2)? {
            Value::Node(link) => Some(Route::Link(link, usize::try_from(index).ok()?)),
            Value::Integer(0) => Some(Route::Direct(u32::try_from(index).ok()?)),
            _ => None,
        }
    });
    Ok(route)
}
