//! What the byte code says of PCI: where registers of devices may be, and where their interrupt lines end.
//!
//! ```text
//! host bridge of bus 0 (PNP0A03, PNP0A08) --> _CRS  windows of memory            (ACPI 6.5, 6.2.2)
//!                                        \--> _PRT  device, pin --> GSI, or      (ACPI 6.5, 6.2.13)
//!                                                   --> link device --> its _CRS
//! ```

use alloc::vec::Vec;

use hotmem::{PhysAddr, PhysRange};
use hotmem_aml::resource::{self, RangeKind, Resource};
use hotmem_aml::{Aml, AmlError, Host, NodeId, Value};
use hotmem_hotplug::{Line, Polarity, Trigger};

use super::handlers::line;
use super::hardware::Hardware;
use super::presence::{PRESENT, status};
use super::source::AcpiSource;

/// The identifiers of a bridge to a bus of PCI, and of PCI Express.
const BRIDGES: [&str; 2] = ["PNP0A03", "PNP0A08"];
/// The function in an address of `_PRT`: all of the device.
const ALL_FUNCTIONS: u64 = 0xffff;

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
    /// is at another address on the bus than for the CPU is left out.
    pub fn pci_windows(&mut self) -> Vec<PhysRange> {
        let mut windows = Vec::new();
        let Some(crs) = self.of_bridge("_CRS") else { return windows };
        let (aml, mut host) = self.interpreter();
        let value = match aml.evaluate(&mut host, crs, &[]) {
            Ok(value) => value,
            Err(error) => {
                log::warn!("acpi: _CRS of the PCI bridge: {error}");
                return windows;
            }
        };
        let list = resource::resources(value.buffer().unwrap_or_default());
        for window in list.flatten().filter_map(|resource| window(&resource)) {
            if windows.try_reserve(1).is_ok() {
                windows.push(window);
            }
        }
        windows
    }

    /// Where the line of `pin` (0 is INTA) of a device on bus 0 ends; `None` if firmware does not say.
    pub fn pci_line(&mut self, device: u8, pin: u8) -> Option<Line> {
        let prt = self.of_bridge("_PRT")?;
        self.routed(prt, device, pin).unwrap_or_else(|error| {
            log::warn!("acpi: the interrupt lines of PCI: {error}");
            None
        })
    }

    fn routed(&mut self, prt: NodeId, device: u8, pin: u8) -> Result<Option<Line>, AmlError> {
        let (aml, mut host) = self.interpreter();
        let route = route(aml.evaluate(&mut host, prt, &[])?, device, pin);
        let (link, index) = match route {
            None => return Ok(None),
            Some(Route::Direct(gsi)) => {
                // The lines of PCI are level-triggered and active low (PCI Local Bus 3.0, 2.2.6).
                let (trigger, polarity) = (Trigger::Level, Polarity::ActiveLow);
                return Ok(Some(Line { gsi, trigger, polarity }));
            }
            Some(Route::Link(link, index)) => (link, index),
        };
        let Some(crs) = aml.child(link, "_CRS") else { return Ok(None) };
        let value = aml.evaluate(&mut host, crs, &[])?;
        let list = resource::resources(value.buffer().unwrap_or_default()).flatten();
        let mut interrupts = list.filter_map(|resource| match resource {
            Resource::Interrupt(interrupt) => Some(line(interrupt)),
            _ => None,
        });
        Ok(interrupts.nth(index))
    }

    /// A child of the bridge to bus 0 of segment 0.
    fn of_bridge(&mut self, name: &str) -> Option<NodeId> {
        let (aml, mut host) = self.interpreter();
        let bridge = bridge(aml, &mut host)?;
        aml.child(bridge, name)
    }
}

/// The bridge to bus 0 of segment 0, if it is there.
fn bridge(aml: &mut Aml, host: &mut dyn Host) -> Option<NodeId> {
    let mut last = None;
    while let Some(device) = aml.next_device(last) {
        last = Some(device);
        let is_bridge = BRIDGES.iter().any(|id| aml.has_id(host, device, id) == Ok(true));
        if is_bridge && is_first(aml, host, device) {
            return Some(device);
        }
    }
    None
}

/// Whether a bridge is there, and its bus is bus 0 of segment 0.
fn is_first(aml: &mut Aml, host: &mut dyn Host, bridge: NodeId) -> bool {
    let mut is_zero = |name| matches!(aml.child_integer(host, bridge, name), Ok(None | Some(0)));
    is_zero("_SEG")
        && is_zero("_BBN")
        && status(aml, host, bridge).is_ok_and(|status| status & PRESENT != 0)
}

/// A window for registers of devices.
fn window(resource: &Resource) -> Option<PhysRange> {
    let Resource::Range(range) = resource else { return None };
    let last = range.min.checked_add(range.length.checked_sub(1)?)?;
    let plain = range.kind == RangeKind::Memory && range.translation == 0 && last == range.max;
    PhysRange::new(PhysAddr::new(range.min), range.length).filter(|_| plain)
}

/// The entry of a `_PRT` for a pin of a device: address, pin, source, index of the source.
fn route(prt: Value<'_>, device: u8, pin: u8) -> Option<Route> {
    let Value::Package(entries) = prt else { return None };
    let address = u64::from(device) << 16 | ALL_FUNCTIONS;
    (0..entries.len()).find_map(|index| {
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
    })
}
