//! What is pending for a memory device, or for a device around some.

/// The `Notify` value of a device whose eject is requested (ACPI 6.5, table 5.161).
pub(super) const EJECT_REQUEST: u32 = 3;

/// Something that is to be done with a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// To look whether it is there: the kernel wants to know, the firmware does not wait for `_OST`.
    Scan,
    /// To look at it and at what is below it: the firmware announced it, or requested a check. The notification value
    /// that asked for this.
    Check(u32),
    /// To give it up.
    Eject,
}

impl Wanted {
    /// The notification that `_OST` replies to.
    pub(super) const fn notification(self) -> Option<u32> {
        match self {
            Self::Scan => None,
            Self::Check(value) => Some(value),
            Self::Eject => Some(EJECT_REQUEST),
        }
    }
}

/// What is pending for a device. A request that is pending is noted once; of two checks the last value stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pending {
    scan: bool,
    check: Option<u32>,
    eject: bool,
    /// The clock when the interrupt came that brought the oldest of them.
    since: Option<u64>,
}

impl Pending {
    pub(super) const fn is_any(self) -> bool {
        self.has_insert() || self.eject
    }

    /// Whether the device is to be looked at.
    pub(super) const fn has_insert(self) -> bool {
        self.scan || self.check.is_some()
    }

    /// Notes a notification. Returns whether it was not pending yet.
    pub(super) fn note(&mut self, wanted: Wanted, now: Option<u64>) -> bool {
        self.since = self.since.or(now);
        match wanted {
            Wanted::Scan => !core::mem::replace(&mut self.scan, true),
            Wanted::Check(value) => self.check.replace(value).is_none(),
            Wanted::Eject => !core::mem::replace(&mut self.eject, true),
        }
    }

    /// Takes what is pending, and the clock of the oldest notification. An insert comes before an eject: firmware cannot
    /// eject what it has not plugged. An announcement does all that a scan does, and also waits for `_OST`.
    pub(super) fn take(&mut self) -> Option<(Wanted, Option<u64>)> {
        let scan = core::mem::take(&mut self.scan);
        let since = self.since;
        let wanted = match self.check.take() {
            Some(value) => Wanted::Check(value),
            None if scan => return Some((Wanted::Scan, None)),
            None if core::mem::take(&mut self.eject) => Wanted::Eject,
            None => return None,
        };
        self.forget_clock();
        Some((wanted, since))
    }

    /// The device is gone: a request to eject it goes with it. What was announced since stays pending.
    pub(super) fn gone(&mut self) {
        self.eject = false;
        self.forget_clock();
    }

    /// The clock is that of notifications only.
    fn forget_clock(&mut self) {
        if self.check.is_none() && !self.eject {
            self.since = None;
        }
    }
}
