//! DIMMs in slots and at addresses that the caller chooses, requested without waiting in between.

use anyhow::{Result, bail, ensure};
use serde_json::{Value, json};

use super::Machine;
use super::dimm::{Dimm, IN_PROGRESS, Request, backend_arguments};
use crate::arch::Replies;
use crate::size::Size;

/// A slot, and the address of the DIMM in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    slot: u64,
    start: u64,
}

/// A DIMM that is in no slot yet; its memory is there, so that it goes into one quickly.
#[derive(Debug)]
pub(crate) struct Spare {
    id: String,
    backend: String,
    size: u64,
}

/// What QEMU makes of a request to unplug a DIMM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// It asks the guest.
    Accepted,
    /// It has asked the guest before, and waits for the reply.
    Pending,
    /// The DIMM has gone meanwhile.
    Gone,
    /// The guest has not yet said that it can give memory back.
    TooEarly,
}

/// What became of a request to unplug a DIMM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UnplugEnd {
    /// The DIMM is gone.
    Gone,
    /// The guest reported that it keeps the DIMM.
    Kept,
}

/// How QEMU refuses `device_del`, and what that means: pseries, boards with ACPI, all boards.
const REFUSALS: [(&str, Asked); 4] = [
    ("already in progress", Asked::Pending),
    ("already in the process of unplug", Asked::Pending),
    ("not found", Asked::Gone),
    ("not supported for this guest", Asked::TooEarly),
];

impl Place {
    /// Its first byte.
    pub(crate) const fn start(self) -> u64 {
        self.start
    }
}

impl Asked {
    /// Reads QEMU's refusal of `device_del`.
    fn read(refusal: &str) -> Option<Self> {
        REFUSALS.iter().find(|(text, _)| refusal.contains(text)).map(|&(_, asked)| asked)
    }
}

impl UnplugEnd {
    /// Reads an event; `None` if it is not about the end of the unplug of `dimm`.
    fn read(event: &Value, dimm: &Dimm) -> Option<Self> {
        if dimm.is_deleted_by(event) {
            return Some(Self::Gone);
        }
        let refused = status(event, dimm, Request::Ejection)
            .is_some_and(|status| status != 0 && status != IN_PROGRESS);
        (refused || dimm.is_kept_by(event)).then_some(Self::Kept)
    }
}

/// The status in `event` for a request about a DIMM which is in its slot.
fn status(event: &Value, dimm: &Dimm, request: Request) -> Option<u64> {
    let info = &event["data"]["info"];
    let ours = event["event"] == "ACPI_DEVICE_OST"
        && info["device"] == dimm.id.as_str()
        && info["source"] == request as u64;
    info["status"].as_u64().filter(|_| ours)
}

impl Machine {
    /// So many places, each for DIMMs of up to `size`, beside the DIMMs that are there.
    ///
    /// # Errors
    /// When the window for DIMMs is too small.
    pub(crate) fn places(&mut self, count: u64, size: Size) -> Result<Vec<Place>> {
        let first = self.dimms()?.iter().map(|dimm| dimm.slot + 1).max().unwrap_or(0);
        let region = self.region()?;
        let place = |slot| Ok(Place { slot, start: region.place(size.bytes())? });
        (first..first + count).map(place).collect()
    }

    /// A DIMM to be plugged later.
    ///
    /// # Errors
    /// When QEMU makes no memory for it.
    pub(crate) fn spare(&mut self, size: Size) -> Result<Spare> {
        let number = self.dimms_made;
        self.dimms_made += 1;
        let (id, backend) = (format!("dimm{number}"), format!("mem{number}"));
        self.qmp("object-add", backend_arguments(&backend, size.bytes(), None))?;
        Ok(Spare { id, backend, size: size.bytes() })
    }

    /// Plugs a DIMM into a place that is empty.
    ///
    /// # Errors
    /// When QEMU refuses it.
    pub(crate) fn plug_into(&mut self, spare: Spare, place: Place) -> Result<Dimm> {
        let Spare { id, backend, size } = spare;
        let Place { slot, start } = place;
        let device = json!({
            "driver": "pc-dimm", "id": id, "memdev": backend, "slot": slot, "addr": start,
        });
        self.qmp("device_add", device)?;
        Ok(Dimm { id, backend, start, size, node: 0, slot })
    }

    /// Requests the unplug of a DIMM from the guest.
    ///
    /// # Errors
    /// When QEMU refuses to ask, for a reason that none of its machines should have.
    pub(crate) fn ask_back(&mut self, dimm: &Dimm) -> Result<Asked> {
        let Err(error) = self.unplug(dimm) else { return Ok(Asked::Accepted) };
        Asked::read(&format!("{error:#}")).ok_or(error)
    }

    /// Waits for the end of a DIMM's unplug. Frees the memory of one that is gone.
    ///
    /// # Errors
    /// When no event about it comes.
    pub(crate) fn wait_unplug_end(&mut self, dimm: &Dimm) -> Result<UnplugEnd> {
        let what = format!("the end of the unplug of {}", dimm.id);
        let end = self.event(&what, |event| UnplugEnd::read(event, dimm))?;
        if end == UnplugEnd::Gone {
            self.free(dimm)?;
        }
        Ok(end)
    }

    /// Forgets what was heard of earlier requests to unplug a DIMM.
    pub(crate) fn forget_ends(&mut self, dimm: &Dimm) {
        while self.qmp.take_event(|event| UnplugEnd::read(event, dimm).is_some()).is_some() {}
    }

    /// Waits until the guest reports that a DIMM was taken; returns at once where it does not report that.
    ///
    /// # Errors
    /// When no report comes, or that the DIMM was not taken.
    pub(crate) fn wait_taken(&mut self, dimm: &Dimm) -> Result<()> {
        if self.about.replies != Replies::Ost {
            return Ok(());
        }
        let what = format!("ACPI_DEVICE_OST of {}", dimm.id);
        let reported = self.event(&what, |event| status(event, dimm, Request::Insertion))?;
        ensure!(reported == 0, "the firmware got status {reported:#x} of {}", dimm.id);
        Ok(())
    }

    /// Checks that no DIMM is gone but those for which [`wait_unplug_end`](Self::wait_unplug_end) was called.
    ///
    /// # Errors
    /// When one is; the error names it.
    pub(crate) fn no_other_is_gone(&mut self) -> Result<()> {
        // Devices that have no name of their own are parts of others.
        let gone = |event: &Value| {
            event["event"] == "DEVICE_DELETED" && event["data"]["device"].is_string()
        };
        match self.qmp.take_event(gone) {
            None => Ok(()),
            Some(event) => bail!("{} is gone without a request", event["data"]["device"]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dimm() -> Dimm {
        let (id, backend) = ("dimm3".into(), "mem3".into());
        Dimm { id, backend, start: 1 << 32, size: 1 << 27, node: 0, slot: 2 }
    }

    fn ost(device: &str, source: u64, status: u64) -> Value {
        let info = json!({"device": device, "source": source, "status": status, "slot": "2"});
        json!({"event": "ACPI_DEVICE_OST", "data": {"info": info}})
    }

    #[test]
    fn each_refusal_of_an_unplug_is_recognised() {
        for (text, asked) in [
            ("Memory unplug already in progress for device dimm3", Some(Asked::Pending)),
            ("Device dimm3 is already in the process of unplug", Some(Asked::Pending)),
            ("Device 'dimm3' not found", Some(Asked::Gone)),
            ("Memory hot unplug not supported for this guest", Some(Asked::TooEarly)),
            ("Bus 'pci' does not support hotplugging", None),
        ] {
            assert_eq!(Asked::read(text), asked, "{text}");
        }
    }

    #[test]
    fn an_event_is_about_the_dimm_that_it_names() {
        let event = |name: &str, id: &str| json!({"event": name, "data": {"device": id}});
        for (event, end) in [
            (event("DEVICE_DELETED", "dimm3"), Some(UnplugEnd::Gone)),
            (event("DEVICE_DELETED", "dimm4"), None),
            (event("MEM_UNPLUG_ERROR", "dimm3"), Some(UnplugEnd::Kept)),
            (event("DEVICE_UNPLUG_GUEST_ERROR", "dimm3"), Some(UnplugEnd::Kept)),
            (ost("dimm3", 3, 0x81), Some(UnplugEnd::Kept)),
            (ost("dimm3", 3, 0x84), None),
            (ost("dimm3", 3, 0), None),
            (ost("dimm3", 1, 1), None),
            (ost("dimm4", 3, 0x81), None),
        ] {
            assert_eq!(UnplugEnd::read(&event, &dimm()), end, "{event}");
        }
    }
}
