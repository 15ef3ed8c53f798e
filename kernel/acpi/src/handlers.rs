//! Which method handles which event, found by what the tables hold.
//!
//! ```text
//! FADT has GPE blocks:  SCI --> status & enable --> \_GPE._Exx (clear, then run)
//!                                                   \_GPE._Lxx (run, then clear)
//! a device ACPI0013:    each interrupt of its _CRS --> its _Exx, _Lxx or _EVT(interrupt)
//! ```
//!
//! The first is ACPI 6.5, 5.6.4; the second, the generic event device, is 5.6.9. A machine may have
//! either, both or none.

use alloc::vec::Vec;

use hotmem_aml::resource::{self, Resource};
use hotmem_aml::{Aml, AmlError, Host, NodeId};

use super::fadt::{Block, Fadt};
use super::hardware::{Byte, Hardware};
use super::madt::Madt;
use hotmem_hotplug::MAX_LINES;
use hotmem_hotplug::{Line, Polarity, Trigger};

/// The identifier of a generic event device.
const EVENT_DEVICE: &str = "ACPI0013";

/// A general-purpose event that has a method.
#[derive(Clone, Copy, Debug)]
pub(super) struct GpeHandler {
    pub(super) method: NodeId,
    pub(super) edge: bool,
    /// The bit in both registers.
    pub(super) bit: u8,
    pub(super) status: Byte,
    pub(super) enable: Byte,
}

/// What a line stands for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cause {
    /// The system control interrupt: look at the registers.
    Sci,
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
    pub(super) causes: Vec<Cause>,
}

impl Handlers {
    /// Finds every event that has a method. An event device that cannot say what it is or has, and
    /// heap that is missing, leave events out.
    pub(super) fn find(
        aml: &mut Aml,
        host: &mut dyn Host,
        fadt: &Fadt,
        madt: Option<&Madt<'_>>,
    ) -> Self {
        let mut found = Self::default();
        found.find_gpes(aml, fadt);
        if let Some(sci) = fadt.sci.filter(|_| !found.gpes.is_empty()) {
            let (trigger, polarity) = (Trigger::Level, Polarity::ActiveLow);
            let plain = Line { gsi: sci.into(), trigger, polarity };
            found.push(madt.map_or(plain, |madt| madt.sci_line(sci)), Cause::Sci);
        }
        let mut last = None;
        while let Some(device) = aml.next_device(last) {
            last = Some(device);
            let result = match aml.has_id(host, device, EVENT_DEVICE) {
                Ok(true) => found.find_interrupts(aml, host, device),
                Ok(false) => Ok(()),
                Err(error) => Err(error),
            };
            if let Err(error) = result {
                log::warn!("acpi: {}: {error}", aml.path(device));
            }
        }
        found
    }

    fn find_gpes(&mut self, aml: &Aml, fadt: &Fadt) {
        for block in fadt.gpe.into_iter().flatten() {
            let registers = block.len / 2..block.len;
            if self.enables.try_reserve(registers.len()).is_ok() {
                self.enables.extend(registers.map(|register| Byte::of(block, register)));
            }
        }
        let Some(scope) = aml.find("\\_GPE") else { return };
        for found in aml.gpe_methods(scope) {
            let Some((block, event)) = register_of(fadt, found.number) else {
                log::warn!("acpi: {} has no event register", aml.path(found.node));
                continue;
            };
            if self.gpes.try_reserve(1).is_ok() {
                self.gpes.push(GpeHandler {
                    method: found.node,
                    edge: found.edge,
                    bit: 1 << (event % 8),
                    status: Byte::of(block, event / 8),
                    enable: Byte::of(block, block.len / 2 + event / 8),
                });
            }
        }
    }

    fn find_interrupts(
        &mut self,
        aml: &mut Aml,
        host: &mut dyn Host,
        device: NodeId,
    ) -> Result<(), AmlError> {
        let mut lines = [None; MAX_LINES];
        if let Some(crs) = aml.child(device, "_CRS") {
            let value = aml.evaluate(host, crs, &[])?;
            let interrupts =
                resource::resources(value.buffer().unwrap_or_default()).filter_map(|resource| {
                    match resource {
                        Ok(Resource::Interrupt(interrupt)) => Some(interrupt),
                        _ => None,
                    }
                });
            for (slot, interrupt) in lines.iter_mut().zip(interrupts) {
                *slot = Some(line(interrupt));
            }
        }
        for line in lines.into_iter().flatten() {
            match method(aml, device, line) {
                Some(cause) => self.push(line, cause),
                None => log::warn!("acpi: {} has no method for {line}", aml.path(device)),
            }
        }
        Ok(())
    }

    /// Watches a line, if there is room.
    fn push(&mut self, line: Line, cause: Cause) {
        let room = self.lines.try_reserve(1).is_ok() && self.causes.try_reserve(1).is_ok();
        if self.lines.len() < MAX_LINES && room {
            self.lines.push(line);
            self.causes.push(cause);
        } else {
            log::warn!("acpi: no room to watch {line}");
        }
    }

    /// Enables exactly the events that have a method: one that firmware left enabled would keep its
    /// level interrupt asserted for ever. Their status is left alone: what was pending interrupts now.
    pub(super) fn enable(&self, hardware: &mut impl Hardware) -> Result<(), hotmem_aml::HostError> {
        for enable in &self.enables {
            let handled = self.gpes.iter().filter(|gpe| gpe.enable == *enable);
            enable.write(hardware, handled.fold(0, |bits, gpe| bits | gpe.bit))?;
        }
        Ok(())
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
fn line(interrupt: resource::Interrupt) -> Line {
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
    use hotmem_aml::Space;

    #[test]
    fn events_of_the_second_block_are_counted_from_its_base() {
        let block = |address, len| Some(Block { space: Space::SystemIo, address, len });
        let fadt = Fadt {
            dsdt: PhysAddr::new(0),
            power_off: PowerOff::No,
            hardware_reduced: false,
            sci: Some(9),
            enable: None,
            pm1_event: [None; 2],
            pm1_control: [None; 2],
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
