//! Which method handles which event, found by what the tables hold.
//!
//! ```text
//! FADT has GPE blocks:  SCI --> status & enable --> \_GPE._Exx (clear, then run)
//!                                                   \_GPE._Lxx (run, then clear)
//! a device ACPI0006:    its interrupt, or the SCI --> its own status & enable --> its _Exx, _Lxx
//! a device ACPI0013:    each interrupt of its _CRS --> its _Exx, _Lxx or _EVT(interrupt)
//! ```
//!
//! The first is ACPI 6.5, 5.6.4; the second, the block device, 9.10; the third, the generic event device,
//! 5.6.9. A machine may have any number of each. A device that is not there has no events, and an event
//! that some device names in its `_PRW` wakes the machine and means nothing while the machine runs.

use alloc::vec::Vec;

use hotmem_aml::resource::{self, RangeKind, Resource};
use hotmem_aml::{Aml, AmlError, Host, NodeId, Space, Value};

use super::fadt::Fadt;
use super::hardware::{Block, Byte, Hardware};
use super::lists::push;
use super::madt::Madt;
use super::presence::{PRESENT, status};
use hotmem_hotplug::MAX_LINES;
use hotmem_hotplug::{Line, Polarity, Trigger};

/// The identifier of a generic event device.
const EVENT_DEVICE: &str = "ACPI0013";
/// The identifier of a device that is a block of general-purpose events.
const BLOCK_DEVICE: &str = "ACPI0006";
/// Bytes of the largest block: methods have two digits for an event, and each has two bits.
const LARGEST_BLOCK: u64 = 256 / 8 * 2;

/// A general-purpose event that has a method.
#[derive(Clone, Copy, Debug)]
pub(super) struct GpeHandler {
    pub(super) method: NodeId,
    pub(super) edge: bool,
    /// Where the method is: `\_GPE`, or a block device; and its number there.
    scope: NodeId,
    number: u8,
    /// The bit in both registers.
    pub(super) bit: u8,
    pub(super) status: Byte,
    pub(super) enable: Byte,
}

/// What can cause an interrupt of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The system control interrupt, or that of a block device: look at the registers.
    Registers,
    /// An interrupt of an event device: run its method, with the interrupt's number if it wants it.
    Method { method: NodeId, argument: Option<u32> },
}

/// The events of a machine.
#[derive(Debug, Default)]
pub(super) struct Handlers {
    pub(super) gpes: Vec<GpeHandler>,
    /// Every enable register of the event blocks, those of events without a method too.
    enables: Vec<Byte>,
    pub(super) lines: Vec<Line>,
    /// The causes to handle, each with its line: several devices may share a line.
    pub(super) causes: Vec<(u8, Cause)>,
}

impl Handlers {
    /// Finds every event that has a method. Events are left out if the identifier or the resources of their
    /// device cannot be read, or if the heap is full.
    pub(super) fn find(
        aml: &mut Aml,
        host: &mut dyn Host,
        fadt: &Fadt,
        madt: Option<&Madt<'_>>,
    ) -> Self {
        let mut found = Self::default();
        found.find_gpes(aml, fadt);
        let mut lines = Vec::new();
        each(aml, host, BLOCK_DEVICE, |aml, host, device| {
            found.find_block(aml, host, device, &mut lines)
        });
        found.leave_wakers_off(aml, host);
        if let Some(sci) = fadt.sci.filter(|_| fadt.power_button || !found.gpes.is_empty()) {
            let (trigger, polarity) = (Trigger::Level, Polarity::ActiveLow);
            let plain = Line { gsi: sci.into(), trigger, polarity };
            found.push(madt.map_or(plain, |madt| madt.sci_line(sci)), Cause::Registers);
        }
        lines.into_iter().for_each(|line| found.push(line, Cause::Registers));
        each(aml, host, EVENT_DEVICE, |aml, host, device| found.find_interrupts(aml, host, device));
        found
    }

    fn find_gpes(&mut self, aml: &Aml, fadt: &Fadt) {
        fadt.gpe.into_iter().flatten().for_each(|block| self.watch(block));
        let Some(scope) = aml.find("\\_GPE") else { return };
        self.find_methods(aml, scope, |number| register_of(fadt, number));
    }

    /// Takes note of the enable registers of a block.
    fn watch(&mut self, block: Block) {
        let registers = block.len / 2..block.len;
        if self.enables.try_reserve(registers.len()).is_ok() {
            self.enables.extend(registers.map(|register| Byte::of(block, register)));
        }
    }

    /// Takes the event methods in a scope whose events have registers.
    fn find_methods(
        &mut self,
        aml: &Aml,
        scope: NodeId,
        register: impl Fn(u8) -> Option<(Block, u8)>,
    ) {
        for found in aml.gpe_methods(scope) {
            let Some((block, event)) = register(found.number) else {
                log::warn!("acpi: {} has no event register", aml.path(found.node));
                continue;
            };
            let handler = GpeHandler {
                method: found.node,
                edge: found.edge,
                scope,
                number: found.number,
                bit: 1 << (event % 8),
                status: Byte::of(block, event / 8),
                enable: Byte::of(block, block.len / 2 + event / 8),
            };
            let _ = push(&mut self.gpes, handler);
        }
    }

    /// Takes the events of a block device; its interrupt, if it has one of its own, goes to `lines`.
    fn find_block(
        &mut self,
        aml: &mut Aml,
        host: &mut dyn Host,
        device: NodeId,
        lines: &mut Vec<Line>,
    ) -> Result<(), AmlError> {
        let Some(crs) = aml.child(device, "_CRS") else { return Ok(()) };
        let value = aml.evaluate(host, crs, &[])?;
        let list = || resource::resources(value.buffer().unwrap_or_default()).flatten();
        let found = list().find_map(|resource| match resource {
            Resource::Range(range) => registers(&range),
            _ => None,
        });
        let own = list().find_map(|resource| match resource {
            Resource::Interrupt(interrupt) => Some(line(interrupt)),
            _ => None,
        });
        let Some(block) = found else {
            log::warn!("acpi: {} names no registers of events", aml.path(device));
            return Ok(());
        };
        self.watch(block);
        self.find_methods(aml, device, |event| {
            (event / 8 < block.len / 2).then_some((block, event))
        });
        if let Some(line) = own {
            let _ = push(lines, line);
        }
        Ok(())
    }

    /// Leaves the events out that wake the machine: firmware may raise them without end while it runs.
    fn leave_wakers_off(&mut self, aml: &mut Aml, host: &mut dyn Host) {
        let mut last = None;
        while let Some(device) = aml.next_device(last) {
            last = Some(device);
            let Some(wake) = aml.child(device, "_PRW") else { continue };
            let waker = match aml.evaluate(host, wake, &[]) {
                Ok(value) => waker(value),
                Err(error) => {
                    log::debug!("acpi: {}: _PRW: {error}", aml.path(device));
                    None
                }
            };
            let Some((scope, number)) = waker else { continue };
            let scope = scope.or_else(|| aml.find("\\_GPE"));
            self.gpes.retain(|gpe| {
                let wakes = scope == Some(gpe.scope) && number == u64::from(gpe.number);
                if wakes {
                    let (event, device) = (aml.path(gpe.method), aml.path(device));
                    log::info!("acpi: {event} is left off: it wakes the machine for {device}");
                }
                !wakes
            });
        }
    }

    fn find_interrupts(
        &mut self,
        aml: &mut Aml,
        host: &mut dyn Host,
        device: NodeId,
    ) -> Result<(), AmlError> {
        let mut lines = [None; MAX_LINES];
        let mut more = 0;
        if let Some(crs) = aml.child(device, "_CRS") {
            let value = aml.evaluate(host, crs, &[])?;
            let mut slots = lines.iter_mut();
            for resource in resource::resources(value.buffer().unwrap_or_default()).flatten() {
                let Resource::Interrupt(interrupt) = resource else { continue };
                match slots.next() {
                    Some(slot) => *slot = Some(line(interrupt)),
                    None => more += 1,
                }
            }
        }
        if more != 0 {
            log::warn!("acpi: {}: no room for {more} more interrupts", aml.path(device));
        }
        for line in lines.into_iter().flatten() {
            match method(aml, device, line) {
                Some(cause) => self.push(line, cause),
                None => log::warn!("acpi: {} has no method for {line}", aml.path(device)),
            }
        }
        Ok(())
    }

    /// Watches a line, if there is room, for one more cause. A controller has one input for a line, so what
    /// shares it is connected once. Blocks of events that share one are one cause: all registers are looked at.
    fn push(&mut self, line: Line, cause: Cause) {
        let known = self.lines.iter().position(|known| known.gsi == line.gsi);
        let index = known.unwrap_or(self.lines.len());
        if let Some(known) = known.and_then(|index| self.lines.get(index))
            && (known.trigger, known.polarity) != (line.trigger, line.polarity)
        {
            log::warn!("acpi: {line} is shared, and connected as {known}");
        }
        if self.causes.contains(&(index as u8, cause)) {
            return;
        }
        let room = self.lines.try_reserve(1).is_ok() && self.causes.try_reserve(1).is_ok();
        if index >= MAX_LINES || !room {
            log::warn!("acpi: no room to watch {line}");
            return;
        }
        if known.is_none() {
            self.lines.push(line);
        }
        self.causes.push((index as u8, cause));
    }

    /// Enables exactly the events that have a method: one that firmware left enabled would keep its
    /// level interrupt asserted for ever. Their status is left alone: what was pending interrupts now.
    ///
    /// # Errors
    ///
    /// That of the first register that cannot be reached, after all others were written.
    pub(super) fn enable(&self, hardware: &mut impl Hardware) -> Result<(), hotmem_aml::HostError> {
        let mut result = Ok(());
        for enable in &self.enables {
            let handled = self.gpes.iter().filter(|gpe| gpe.enable == *enable);
            let bits = handled.fold(0, |bits, gpe| bits | gpe.bit);
            result = result.and(enable.write(hardware, bits));
        }
        result
    }
}

/// The method for an interrupt of an event device: the one named after it, if its number has two
/// digits, else `_EVT` (ACPI 6.5, 5.6.9.2).
fn method(aml: &Aml, device: NodeId, line: Line) -> Option<Cause> {
    let wants_edge = line.trigger == Trigger::Edge;
    let mut named = aml.gpe_methods(device);
    let named = named.find(|m| u32::from(m.number) == line.gsi && m.edge == wants_edge);
    match named {
        Some(found) => Some(Cause::Method { method: found.node, argument: None }),
        None => {
            let method = aml.child(device, "_EVT")?;
            Some(Cause::Method { method, argument: Some(line.gsi) })
        }
    }
}

/// Calls `found` for every present device with an identifier. Logs a device that cannot be read.
fn each(
    aml: &mut Aml,
    host: &mut dyn Host,
    id: &str,
    mut found: impl FnMut(&mut Aml, &mut dyn Host, NodeId) -> Result<(), AmlError>,
) {
    let mut last = None;
    while let Some(device) = aml.next_device(last) {
        last = Some(device);
        let result = match aml.has_id(host, device, id) {
            Ok(true) => match status(aml, host, device) {
                Ok(status) if status & PRESENT != 0 => found(aml, host, device),
                other => other.map(drop),
            },
            other => other.map(drop),
        };
        if let Err(error) = result {
            log::warn!("acpi: {}: {error}", aml.path(device));
        }
    }
}

/// The registers of a block device, if a range can be that: as many for status as for enable.
fn registers(range: &resource::Range) -> Option<Block> {
    let (space, limit) = match range.kind {
        RangeKind::Memory => (Space::SystemMemory, u64::MAX),
        RangeKind::Io => (Space::SystemIo, 0xFFFF),
        _ => return None,
    };
    let last = range.min.checked_add(range.length.checked_sub(1)?)?;
    let fits = range.length <= LARGEST_BLOCK && range.length.is_multiple_of(2) && last <= limit;
    fits.then_some(Block { space, address: range.min, len: range.length as u8 })
}

/// The event that a `_PRW` names (ACPI 6.5, 7.3.13): its number in `\_GPE`, or a block device and its
/// number there.
fn waker(wake: Value<'_>) -> Option<(Option<NodeId>, u64)> {
    let Value::Package(wake) = wake else { return None };
    match wake.get(0)? {
        Value::Integer(number) => Some((None, number)),
        Value::Package(event) => match (event.get(0)?, event.get(1)?) {
            (Value::Node(block), Value::Integer(number)) => Some((Some(block), number)),
            _ => None,
        },
        _ => None,
    }
}

/// The block that event `number` is in, and its number there.
fn register_of(fadt: &Fadt, number: u8) -> Option<(Block, u8)> {
    let [first, second] = fadt.gpe;
    let inside = |block: Block, base: u8| {
        let event = number.checked_sub(base)?;
        (event / 8 < block.len / 2).then_some((block, event))
    };
    let found = first.and_then(|block| inside(block, 0));
    found.or_else(|| second.and_then(|block| inside(block, fadt.gpe1_base)))
}

/// An interrupt resource as a line.
pub(super) fn line(interrupt: resource::Interrupt) -> Line {
    Line {
        gsi: interrupt.gsi,
        trigger: if interrupt.edge { Trigger::Edge } else { Trigger::Level },
        polarity: if interrupt.active_low { Polarity::ActiveLow } else { Polarity::ActiveHigh },
    }
}

#[cfg(test)]
mod tests {
    use super::super::fadt::PowerOff;
    use super::*;
    use hotmem::PhysAddr;

    #[test]
    fn events_of_the_second_block_are_counted_from_its_base() {
        let block = |address, len| Some(Block { space: Space::SystemIo, address, len });
        let fadt = Fadt {
            dsdt: PhysAddr::new(0),
            facs: None,
            power_off: PowerOff::No,
            hardware_reduced: false,
            sci: Some(9),
            enable: None,
            power_button: false,
            pm1_event: [None; 2],
            pm1_control: [None; 2],
            pm_timer: None,
            gpe: [block(0x620, 4), block(0x700, 8)],
            gpe1_base: 0x24,
        };
        let found =
            |number| register_of(&fadt, number).map(|(block, event)| (block.address, event));
        assert_eq!(found(0), Some((0x620, 0)));
        assert_eq!(found(0x0F), Some((0x620, 0x0F)));
        assert_eq!((found(0x10), found(0x23)), (None, None));
        assert_eq!(found(0x24), Some((0x700, 0)));
        assert_eq!(found(0x43), Some((0x700, 0x1F)));
        assert_eq!(found(0x44), None);
    }
}
