//! ACPI as a source of hotplug events.
//!
//! ```text
//! interrupt --> Latch --> next_event: event methods --> Notify: bits for each device
//!                                     _STA, _CRS, _PXM of one device --> Insert
//!               reply: _OST                              its eject bit --> Eject
//!               eject:  _EJ0
//! ```
//!
//! Which registers and methods are involved comes from the tables alone.

// UNSAFETY: vouches for the memory that the source announces.
#![expect(unsafe_code)]

use core::fmt::{self, Display};

use hotmem::NodeId;
use hotmem_aml::{self as aml, Arg};
use hotmem_hotplug::{DeviceId, Event, HotplugSource, Outcome, Persistent, Ranges, Request, shown};

use super::describe::is_empty;
use super::fault::DeviceError;
use super::hardware::Hardware;
use super::pending::Wanted;
use super::presence::PRESENT;
use super::report;
use super::source::AcpiSource;

impl<H: Hardware> AcpiSource<H> {
    /// The request to eject a device. A device that is not there and that the driver does not know has no
    /// memory to give up, so success is reported to the firmware at once.
    fn eject_request(&mut self, device: DeviceId) -> Option<Request<DeviceError>> {
        let node = self.node(device).ok()?;
        if self.status(node).is_ok_and(|status| status & PRESENT != 0) || !self.is_absent(node) {
            return Some(Request::Eject);
        }
        if self.is_lost(device) {
            return Some(Request::Gone);
        }
        log::debug!("acpi: {}: eject requested, but it is not there", self.aml.path(node));
        if let Err(error) = self.reply(device, Outcome::Ejected) {
            log::error!("acpi: {}: {error}", self.aml.path(node));
        }
        None
    }

    /// The event of what was pending for a device, if there is one.
    fn event(
        &mut self,
        (index, wanted, since): (u16, Wanted, Option<u64>),
    ) -> Option<Event<DeviceError>> {
        let device = DeviceId::new(index);
        if wanted == Wanted::Eject {
            let request = self.eject_request(device)?;
            return Some(Event { device, request, since });
        }
        let described = self.describe(device);
        let request = self.insert_request(device, described);
        // An empty slot needs no event, unless the firmware says that it was filled.
        let is_event = wanted != Wanted::Scan || !is_empty(&request);
        is_event.then_some(Event { device, request, since })
    }

    /// Has the firmware eject a device. Returns an error if the device is still there: `_EJ0` failed, and
    /// `memory`, if given, has the same description as before.
    pub(super) fn run_eject(
        &mut self,
        target: aml::NodeId,
        memory: Option<aml::NodeId>,
    ) -> Result<(), DeviceError> {
        let eject = self.aml.child(target, "_EJ0").ok_or(DeviceError::Missing("_EJ0"))?;
        // Notifications about the device so far are dropped with it, so they are collected first.
        if self.latch.is_raised() {
            self.service();
        }
        let before = memory.map(|node| (node, self.ranges(node)));
        let run = self.call("_EJ0", eject, &[Arg::Integer(1)]);
        // The slot is not the device. If the method ran without error, the device is ejected, and _STA of
        // the slot is then about the next device, which may be plugged already.
        match (run, before) {
            (Err(error), Some((node, before))) if self.is_as_before(node, &before) => Err(error),
            (Err(error), None) => Err(error),
            _ => Ok(()),
        }
    }
}

// SAFETY: the ranges are those that `_CRS` of a device gives whose `_STA` says that it is there; what overlaps RAM in
// use is refused by `add`.
unsafe impl<H: Hardware> HotplugSource for AcpiSource<H> {
    type Error = DeviceError;

    fn next_event(&mut self) -> Option<Event<DeviceError>> {
        if self.latch.is_raised() {
            self.service();
        }
        self.look_for_nvdimms();
        if let Some(device) = self.take_lost_pmem() {
            return Some(Event { device, request: Request::Gone, since: None });
        }
        loop {
            if let Some(event) = self.next_member() {
                return Some(event);
            }
            // Events of single devices come first: a container is given up as a whole, with all that is
            // known of its members.
            let busy = self.members_under_way();
            let Some(taken) = self.devices.take(&busy) else {
                if self.round.is_none() && self.begin_round() {
                    continue;
                }
                return None;
            };
            if let Some(event) = self.event(taken) {
                return Some(event);
            }
        }
    }

    /// The next insert of a single device. A container that is announced waits, since its `_OST` reports on all
    /// its members, and only one request about a container is under way at a time.
    fn next_insert(&mut self, ejecting: Option<DeviceId>) -> Option<Event<DeviceError>> {
        if self.latch.is_raised() {
            self.service();
        }
        let busy = self.members_under_way();
        let ejecting = ejecting.map(DeviceId::number);
        loop {
            let taken = self.devices.take_insert(ejecting, &busy)?;
            if let Some(event) = self.event(taken) {
                return Some(event);
            }
        }
    }

    fn has_work(&self) -> bool {
        let nvdimms = self.devices.nvdimms.changed || self.pmem.has_lost();
        self.latch.is_raised() || self.round.is_some() || self.devices.any_pending() || nvdimms
    }

    fn reply(&mut self, device: DeviceId, outcome: Outcome) -> Result<Option<u32>, DeviceError> {
        if let Some(number) = self.pmem_number(device) {
            match outcome {
                Outcome::Inserted | Outcome::InsertedOffline => self.pmem.set_used(number, true),
                Outcome::Ejected => self.pmem.set_used(number, false),
                _ => {}
            }
            // Firmware did not ask.
            return Ok(None);
        }
        let node = self.node(device)?;
        let entry = self.devices.get_mut(device.number()).ok_or(DeviceError::Unknown(device))?;
        if outcome == Outcome::Ejected {
            (entry.announced, entry.memory) = (false, Ranges::default());
        }
        let asked = entry.reply_to;
        if self.is_member(device) {
            return self.reply_member(outcome);
        }
        if outcome != Outcome::Ejecting
            && let Some(entry) = self.devices.get_mut(device.number())
        {
            entry.reply_to = None;
        }
        // A scan found the device: no notification waits for `_OST`.
        asked.map_or(Ok(None), |source| self.evaluate_ost(node, source, outcome))
    }

    fn described(&mut self, device: DeviceId) -> Option<(Ranges, NodeId)> {
        if self.pmem_number(device).is_some() {
            return None;
        }
        match self.describe(device) {
            Ok(described) => {
                self.announce(device);
                Some(described)
            }
            Err(error) => {
                log::warn!("{}: {error}", self.label(device));
                None
            }
        }
    }

    fn can_eject(&self, device: DeviceId) -> Result<(), DeviceError> {
        if self.pmem_number(device).is_some() {
            return Ok(());
        }
        if self.is_member(device) {
            // `can_eject` was called for the container before the first of its members.
            return Ok(());
        }
        let node = self.node(device)?;
        self.aml.child(node, "_EJ0").map(drop).ok_or(DeviceError::Missing("_EJ0"))
    }

    fn eject(&mut self, device: DeviceId) -> Result<(), DeviceError> {
        if self.pmem_number(device).is_some() {
            // It stays, unused.
            return Ok(());
        }
        if self.is_member(device) {
            return self.eject_member(device);
        }
        let node = self.node(device)?;
        self.run_eject(node, Some(node))?;
        self.devices.gone(device.number());
        Ok(())
    }

    fn is_there(&mut self, device: DeviceId) -> bool {
        if let Some(number) = self.pmem_number(device) {
            return self.pmem.get(number).is_some();
        }
        self.node(device).is_ok_and(|node| !self.is_absent(node))
    }

    fn wants_power_off(&self) -> bool {
        self.devices.is_pressed()
    }

    fn write_firmware(&self, json: bool, out: &mut dyn fmt::Write) -> fmt::Result {
        if json { report::json(self, out) } else { report::text(self, out) }
    }

    fn persistent_count(&self) -> usize {
        self.pmem.len()
    }

    fn persistent(&mut self, number: usize) -> Option<Persistent> {
        self.persistent_memory(number)
    }

    fn label(&self, device: DeviceId) -> impl fmt::Display + '_ {
        let pmem = self.pmem_number(device);
        let node = self.node(device).unwrap_or(aml::NodeId::ROOT);
        shown(move |f| match pmem {
            Some(number) => self.pmem_label(number).fmt(f),
            None => self.aml.path(node).fmt(f),
        })
    }
}
