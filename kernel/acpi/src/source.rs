//! ACPI as a source of hotplug events.
//!
//! ```text
//! interrupt --> Latch --> next_event: event methods --> Notify: bits for each device
//!                                     _STA, _CRS, _PXM of one device --> Insert
//!               answer: _OST                             its eject bit --> Eject
//!               eject:  _EJ0
//! ```
//!
//! Which registers and methods are involved comes from the tables alone.

use alloc::vec::Vec;
use core::fmt;

use hotmem::{NodeId, PhysAddr, PhysRange};
use hotmem_aml::resource::{self, RangeKind, Resource};
use hotmem_aml::{self as aml, Aml, Arg, Limits, LoadReport};

use super::bridge::Bridge;
use super::device::{Devices, MEMORY_DEVICE, Wanted};
use super::fadt::Fadt;
use super::fault::{DeviceError, StartError};
use super::handlers::{Cause, Handlers};
use super::hardware::{Byte, Hardware};
use super::madt::Madt;
use super::mode;
use super::physical::Physical;
use super::root::Tables;
use super::srat::{Affinity, Srat};
use hotmem_hotplug::{
    DeviceId, Event, HotplugSource, Latch, Line, Outcome, Ranges, Refusal, Request, TooManyRanges,
    Trigger,
};

/// `_STA` bits (ACPI 6.5, 6.3.7): memory can be used if it is there, decodes and works.
const PRESENT: u64 = 1 << 0;
const ENABLED: u64 = 1 << 1;
const FUNCTIONING: u64 = 1 << 3;

/// The memory devices and events of a machine with ACPI.
#[derive(Debug)]
pub struct AcpiSource<H> {
    aml: Aml,
    hardware: H,
    fadt: Fadt,
    handlers: Handlers,
    devices: Devices,
    /// Which memory is near which domain, for devices that do not say.
    affinity: Vec<Affinity>,
    latch: &'static Latch,
}

impl<H: Hardware> AcpiSource<H> {
    /// Enters ACPI mode, loads the byte code, and finds memory devices and events. After this, no
    /// heap is used.
    ///
    /// # Errors
    ///
    /// [`StartError`]; there is no memory hotplug then.
    pub fn new<P: Physical>(
        tables: &Tables<'_, P>,
        mut hardware: H,
        latch: &'static Latch,
        limits: Limits,
    ) -> Result<Self, StartError> {
        let fadt = Fadt::find(tables)?;
        mode::enter(&fadt, &mut hardware).map_err(StartError::Mode)?;
        let mut devices = Devices::default();
        let mut host = Bridge { hardware: &mut hardware, devices: &mut devices };
        let mut aml = load(tables, &fadt, &mut host, limits)?;

        let report = aml.init(&mut host);
        if let Some((node, error)) = report.first_failure {
            let (path, failed) = (aml.path(node), report.failed);
            log::warn!("acpi: {failed} devices failed to initialise, the first is {path}: {error}");
        }
        let madt = Madt::find(tables)?;
        let handlers = Handlers::find(&mut aml, &mut host, &fadt, madt.as_ref());
        find_memory(&mut aml, &mut hardware, &mut devices)?;
        let affinity = affinities(tables)?;
        Ok(Self { aml, hardware, fadt, handlers, devices, affinity, latch })
    }

    /// The interrupt lines to set up. Their position is what [`Latch::raise`] wants.
    pub fn lines(&self) -> &[Line] {
        &self.handlers.lines
    }

    /// How many memory devices the tables describe, there or not.
    pub fn device_count(&self) -> usize {
        self.devices.len()
    }

    /// The evaluator, to look things up in.
    pub const fn aml(&self) -> &Aml {
        &self.aml
    }

    /// Lets events come, and wants every device looked at that is there already. Set the
    /// [`lines`](Self::lines) up before.
    ///
    /// No event method runs here. An event that is pending in a status register interrupts once it is
    /// enabled, and a method that runs without its event may do anything: one that stands for a button
    /// asks for memory that no one wants back.
    ///
    /// # Errors
    ///
    /// [`StartError::Register`]; no event will ever come then.
    pub fn arm(&mut self) -> Result<(), StartError> {
        self.quiet_fixed_events();
        self.handlers.enable(&mut self.hardware).map_err(StartError::Register)?;
        self.devices.scan();
        Ok(())
    }

    /// Handles every line that has interrupted.
    fn service(&mut self) {
        let raised = self.latch.take();
        for index in 0..self.handlers.lines.len() {
            let cause = self.handlers.causes.get(index).copied();
            let Some(cause) = cause.filter(|_| raised.has(index)) else { continue };

            self.devices.begin(self.latch.since(index));
            match cause {
                Cause::Sci => self.service_registers(),
                Cause::Method { method, argument } => self.run(method, argument),
            }
            if let Some(line) = self.handlers.lines.get(index)
                && line.trigger == Trigger::Level
            {
                self.hardware.unmask(line);
            }
        }
        self.devices.rescan();
        self.devices.begin(None);
    }

    /// Runs the method of every general-purpose event whose status is set.
    fn service_registers(&mut self) {
        let mut idle = true;
        for index in 0..self.handlers.gpes.len() {
            let Some(gpe) = self.handlers.gpes.get(index).copied() else { continue };
            let status = gpe.status.read(&mut self.hardware).unwrap_or(0);
            if status & gpe.bit == 0 {
                continue;
            }
            idle = false;
            // Writing a one clears the bit. An edge is cleared before its method, which would
            // otherwise miss what comes while it runs; a level stays until its method has removed
            // the cause (ACPI 6.5, 5.6.4.1).
            if gpe.edge {
                self.clear(gpe.status, gpe.bit);
            }
            self.run(gpe.method, None);
            if !gpe.edge {
                self.clear(gpe.status, gpe.bit);
            }
        }
        if idle {
            self.quiet_fixed_events();
        }
    }

    fn clear(&mut self, status: Byte, bits: u8) {
        if let Err(error) = status.write(&mut self.hardware, bits) {
            log::error!("acpi: event status register: {error}");
        }
    }

    /// Disables and clears buttons, timers and all else of the fixed events: none is handled here,
    /// and any would keep the interrupt active.
    fn quiet_fixed_events(&mut self) {
        for block in self.fadt.pm1_event.into_iter().flatten() {
            let half = block.len / 2;
            for offset in 0..half {
                let enable = Byte::of(block, half + offset);
                if enable.write(&mut self.hardware, 0).is_ok() {
                    self.clear(Byte::of(block, offset), 0xFF);
                }
            }
        }
    }

    /// Runs an event method until it has nothing new to say: a method may tell of one device, or of
    /// one thing about a device, at a time, and the interrupt that brought several came once.
    fn run(&mut self, method: aml::NodeId, argument: Option<u32>) {
        // Each device can be announced and wanted back, and each run but the last tells something new.
        let most = 2 * self.devices.len() + 2;
        for _ in 0..most {
            let before = self.devices.noted();
            if !self.run_once(method, argument) || self.devices.noted() == before {
                return;
            }
        }
        log::warn!("acpi: {} tells something new each time it runs", self.aml.path(method));
    }

    /// Runs an event method. A method that fails is reported, and the events it lost with it.
    fn run_once(&mut self, method: aml::NodeId, argument: Option<u32>) -> bool {
        let number = [Arg::Integer(argument.unwrap_or(0).into())];
        let args = number.get(..usize::from(argument.is_some())).unwrap_or_default();
        let mut host = Bridge { hardware: &mut self.hardware, devices: &mut self.devices };
        let failure = self.aml.evaluate(&mut host, method, args).err();
        if let Some(error) = failure {
            log::error!("acpi: {}: {error}", self.aml.path(method));
        }
        failure.is_none()
    }

    /// The namespace node of a device.
    fn node(&self, device: DeviceId) -> Result<aml::NodeId, DeviceError> {
        let found = self.devices.get(device.0).map(|device| device.node);
        found.ok_or(DeviceError::Unknown(device))
    }

    /// A device's `_STA`.
    fn status(&mut self, node: aml::NodeId) -> Result<u64, DeviceError> {
        let mut host = Bridge { hardware: &mut self.hardware, devices: &mut self.devices };
        let status = self.aml.status(&mut host, node);
        status.map_err(|error| DeviceError::Method("_STA", error))
    }

    /// What a device is, if it is there.
    fn describe(&mut self, device: DeviceId) -> Result<(Ranges, NodeId), DeviceError> {
        let node = self.node(device)?;
        let status = self.status(node)?;
        let usable = PRESENT | ENABLED | FUNCTIONING;
        if status & usable != usable {
            return Err(DeviceError::Absent(status));
        }
        let ranges = self.ranges(node)?;
        let first = ranges.as_slice().first().ok_or(DeviceError::NoMemory)?;
        Ok((ranges, self.proximity(node, first.start())?))
    }

    /// Whether a device whose `_EJ0` failed is still there, with the memory it had. Memory of a device
    /// that cannot say so may be gone, and is not taken back.
    fn is_as_before(&mut self, node: aml::NodeId, before: &Result<Ranges, DeviceError>) -> bool {
        let usable = PRESENT | ENABLED;
        let there = self.status(node).is_ok_and(|status| status & usable == usable);
        let now = self.ranges(node);
        there && before.as_ref().is_ok_and(|before| now.is_ok_and(|now| now == *before))
    }

    /// The memory in a device's `_CRS`.
    fn ranges(&mut self, node: aml::NodeId) -> Result<Ranges, DeviceError> {
        let crs = self.aml.child(node, "_CRS").ok_or(DeviceError::Missing("_CRS"))?;
        let mut host = Bridge { hardware: &mut self.hardware, devices: &mut self.devices };
        let value = self.aml.evaluate(&mut host, crs, &[]);
        let value = value.map_err(|error| DeviceError::Method("_CRS", error))?;
        memory_of(value.buffer().ok_or(DeviceError::NoBuffer)?)
    }

    /// The node of a device: its `_PXM`, else that of the memory around it, else the first.
    fn proximity(&mut self, node: aml::NodeId, at: PhysAddr) -> Result<NodeId, DeviceError> {
        let mut host = Bridge { hardware: &mut self.hardware, devices: &mut self.devices };
        let own = self.aml.child_integer(&mut host, node, "_PXM");
        let own = own.map_err(|error| DeviceError::Method("_PXM", error))?;
        let near = self.affinity.iter().find(|entry| entry.range.contains(at));
        let domain = own.or(near.map(|entry| entry.domain.into())).unwrap_or(0);
        let id = u32::try_from(domain).ok().and_then(NodeId::new);
        id.ok_or(DeviceError::Domain(domain))
    }
}

impl<H: Hardware> HotplugSource for AcpiSource<H> {
    type Error = DeviceError;

    fn next_event(&mut self) -> Option<Event<DeviceError>> {
        if self.latch.is_raised() {
            self.service();
        }
        loop {
            let (index, wanted) = self.devices.take()?;
            let device = DeviceId(index);
            let (since, described) = match wanted {
                Wanted::Eject(since) => {
                    return Some(Event { device, request: Request::Eject, since });
                }
                Wanted::Scan => (None, self.describe(device)),
                Wanted::Insert(since) => (since, self.describe(device)),
            };
            let request = match described {
                // An empty slot is no event, unless the firmware says that it was filled.
                Err(DeviceError::Absent(_)) if wanted == Wanted::Scan => continue,
                Err(error) => Request::Unreadable(error),
                Ok((ranges, node)) => Request::Insert { ranges, node },
            };
            return Some(Event { device, request, since });
        }
    }

    fn has_work(&self) -> bool {
        self.latch.is_raised() || self.devices.any_pending()
    }

    fn answer(&mut self, device: DeviceId, outcome: Outcome) -> Result<Option<u32>, DeviceError> {
        let node = self.node(device)?;
        let entry = self.devices.get_mut(device.0).ok_or(DeviceError::Unknown(device))?;
        let asked = entry.answering;
        if outcome != Outcome::Ejecting {
            entry.answering = None;
        }
        // Nobody asked about a device that a scan found, and a device may not want to know.
        let (Some(source), Some(ost)) = (asked, self.aml.child(node, "_OST")) else {
            return Ok(None);
        };
        let status = status_code(outcome);
        let args = [Arg::Integer(source.into()), Arg::Integer(status.into()), Arg::Buffer(&[])];
        let mut host = Bridge { hardware: &mut self.hardware, devices: &mut self.devices };
        let told = self.aml.evaluate(&mut host, ost, &args).map(drop);
        told.map(|()| Some(status)).map_err(|error| DeviceError::Method("_OST", error))
    }

    fn can_eject(&self, device: DeviceId) -> Result<(), DeviceError> {
        let node = self.node(device)?;
        self.aml.child(node, "_EJ0").map(drop).ok_or(DeviceError::Missing("_EJ0"))
    }

    fn eject(&mut self, device: DeviceId) -> Result<(), DeviceError> {
        let node = self.node(device)?;
        let eject = self.aml.child(node, "_EJ0").ok_or(DeviceError::Missing("_EJ0"))?;
        // What was told of the device until now dies with it, so it is taken note of first.
        if self.latch.is_raised() {
            self.service();
        }
        let before = self.ranges(node);
        let mut host = Bridge { hardware: &mut self.hardware, devices: &mut self.devices };
        let run = self.aml.evaluate(&mut host, eject, &[Arg::Integer(1)]).map(drop);
        // The slot is not the device. A method that ran without error has let the device go, and
        // whatever _STA says of the slot afterwards is about the next one, which may be in it already.
        if let Err(error) = run
            && self.is_as_before(node, &before)
        {
            return Err(DeviceError::Method("_EJ0", error));
        }
        self.devices.gone(device.0);
        Ok(())
    }

    fn label(&self, device: DeviceId) -> impl fmt::Display + '_ {
        let node = self.node(device).unwrap_or(aml::NodeId::ROOT);
        self.aml.path(node)
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

/// Loads the DSDT and the SSDTs.
fn load<P: Physical>(
    tables: &Tables<'_, P>,
    fadt: &Fadt,
    host: &mut dyn aml::Host,
    limits: Limits,
) -> Result<Aml, StartError> {
    let mut blocks: Vec<&[u8]> = Vec::new();
    tables.each_definition_block(fadt, |table| {
        blocks.try_reserve(1).map_err(|_| StartError::OutOfHeap)?;
        blocks.push(table.bytes());
        Ok::<_, StartError>(())
    })?;
    let aml = Aml::load(host, &blocks, limits)?;
    tell_skipped(aml.load_report());
    Ok(aml)
}

/// Says what the tables hold that could not be loaded.
fn tell_skipped(report: &LoadReport) {
    const TOLD: usize = 8;
    for skipped in report.skipped().iter().take(TOLD) {
        log::warn!("acpi: left out: {skipped}");
    }
    let more = (report.count() as usize).saturating_sub(TOLD);
    if more != 0 {
        log::warn!("acpi: left out: {more} more");
    }
}

/// Finds the memory devices, there or not.
fn find_memory<H: Hardware>(
    aml: &mut Aml,
    hardware: &mut H,
    devices: &mut Devices,
) -> Result<(), StartError> {
    let mut last = None;
    while let Some(node) = aml.next_device(last) {
        last = Some(node);
        let mut host = Bridge { hardware, devices };
        // A device that cannot say what it is does not keep the others from being used.
        match aml.has_id(&mut host, node, MEMORY_DEVICE) {
            Ok(true) if !devices.push(node) => return Err(StartError::OutOfHeap),
            Ok(_) => {}
            Err(error) => log::warn!("acpi: {}: {error}", aml.path(node)),
        }
    }
    Ok(())
}

/// The SRAT's ranges, for as long as the kernel runs. A machine without one has none.
fn affinities<P: Physical>(tables: &Tables<'_, P>) -> Result<Vec<Affinity>, StartError> {
    let mut list = Vec::new();
    if let Some(srat) = Srat::find(tables)? {
        for entry in srat.memory() {
            list.try_reserve(1).map_err(|_| StartError::OutOfHeap)?;
            list.push(entry);
        }
    }
    Ok(list)
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
        let start = min.checked_add(range.translation).map(PhysAddr::new);
        let memory = start.and_then(|start| PhysRange::new(start, length));
        match memory {
            Some(memory) if max.checked_sub(min) == Some(length - 1) => {
                ranges.push(memory).map_err(|TooManyRanges| DeviceError::TooManyRanges)?;
            }
            _ => return Err(DeviceError::Range { min, max, length }),
        }
    }
    Ok(ranges)
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
