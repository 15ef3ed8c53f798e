//! What an event source and the driver say to each other.

// UNSAFETY: declares the trait by which a source vouches for the memory that it announces.
#![expect(unsafe_code)]

use core::fmt;

use hotmem::NodeId;
use hotmem::addr::{PhysAddr, PhysRange};

use super::growth::{Growth, GrowthRefused};
use super::report::Reason;

/// Names a device for as long as the kernel runs: a number that its source gave it, and which source of a list
/// ([`Sources`](crate::Sources)) that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceId {
    source: u8,
    number: u16,
}

impl DeviceId {
    /// The device that a source itself calls `number`.
    #[must_use]
    pub const fn new(number: u16) -> Self {
        Self { source: 0, number }
    }

    /// What its source calls it.
    #[must_use]
    pub const fn number(self) -> u16 {
        self.number
    }

    /// Which source of the driver's list it is of.
    #[must_use]
    pub const fn source(self) -> u8 {
        self.source
    }

    /// The device of the same source that it calls `number`.
    pub(super) const fn beside(self, number: u16) -> Self {
        Self { number, ..self }
    }

    /// The same device, as a list calls it that has `sources` before that of the device.
    pub(super) const fn behind(self, sources: u8) -> Self {
        Self { source: self.source.saturating_add(sources), ..self }
    }

    /// The same device, as the part of a list calls it that is behind `sources`; `None` if it is of one of these.
    pub(super) const fn past(self, sources: u8) -> Option<Self> {
        match self.source.checked_sub(sources) {
            Some(source) => Some(Self { source, ..self }),
            None => None,
        }
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "memory device {}", self.number)?;
        if self.source == 0 { Ok(()) } else { write!(f, " of source {}", self.source) }
    }
}

/// Something the firmware wants done.
#[derive(Clone, Debug)]
pub struct Event<E> {
    /// Which device it is about.
    pub device: DeviceId,
    /// What is wanted.
    pub request: Request<E>,
    /// The clock when the interrupt came; `None` if no interrupt brought this, as in a scan.
    pub since: Option<u64>,
}

/// What the firmware wants.
#[derive(Clone, Debug)]
pub enum Request<E> {
    /// There is a memory device. It may be known already.
    Insert {
        /// Its memory: at least one range.
        ranges: Ranges,
        /// The node the memory is on.
        node: NodeId,
    },
    /// A memory device was announced, but the firmware's description of it is invalid.
    Unreadable(E),
    /// The firmware requests that the kernel gives up the device's memory.
    Eject,
    /// The device, whose memory was announced before, was removed without an eject.
    Gone,
    /// The device is two from now on: its source has split its memory ([`Mm::split_at`](hotmem::Mm::split_at)).
    Divided {
        /// Where the memory of the second begins.
        at: PhysAddr,
        /// What the source calls the second.
        second: u16,
    },
}

/// Ranges of one source that the driver has room for by default: 256 slots, and some with several ranges.
pub const MAX_PLUGGED: usize = 512;

/// Ranges of memory that one device can have.
pub const MAX_RANGES: usize = 8;

/// The memory of one device: up to [`MAX_RANGES`] ranges, none empty.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Ranges {
    items: [PhysRange; MAX_RANGES],
    len: usize,
}

/// A device has more than [`MAX_RANGES`] ranges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyRanges;

impl Ranges {
    /// Adds a range. An empty one is dropped; one that starts where the last one ends prolongs it,
    /// since firmware may describe one piece of memory in several descriptors.
    ///
    /// # Errors
    ///
    /// [`TooManyRanges`] if there is no room.
    pub fn push(&mut self, range: PhysRange) -> Result<(), TooManyRanges> {
        if range.is_empty() {
            return Ok(());
        }
        let last = self.len.checked_sub(1).and_then(|last| self.items.get_mut(last));
        if let Some(last) = last
            && last.end() == range.start()
            && let Some(longer) =
                PhysRange::new(last.start(), last.len().saturating_add(range.len()))
        {
            *last = longer;
            return Ok(());
        }
        *self.items.get_mut(self.len).ok_or(TooManyRanges)? = range;
        self.len += 1;
        Ok(())
    }

    /// The ranges, in the firmware's order.
    pub fn as_slice(&self) -> &[PhysRange] {
        self.items.get(..self.len).unwrap_or_default()
    }
}

impl fmt::Display for Ranges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, range) in self.as_slice().iter().enumerate() {
            write!(f, "{}{range}", if n == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

impl<E> Event<E> {
    /// The same event, with its error as `f` makes it.
    pub fn map_error<F>(self, f: impl FnOnce(E) -> F) -> Event<F> {
        let Self { device, request, since } = self;
        let request = match request {
            Request::Insert { ranges, node } => Request::Insert { ranges, node },
            Request::Unreadable(error) => Request::Unreadable(f(error)),
            Request::Eject => Request::Eject,
            Request::Gone => Request::Gone,
            Request::Divided { at, second } => Request::Divided { at, second },
        };
        Event { device, request, since }
    }
}

impl fmt::Debug for Ranges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.as_slice()).finish()
    }
}

/// Why memory is not given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is in use, and its user does not free it.
    InUse,
    /// It may work later: something else is under way.
    Busy,
    /// Something that depends on it objects.
    Dependency,
    /// The kernel does not know what memory that is.
    Unknown,
}

/// How a request ended, for the firmware.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The memory is added, or was already.
    Inserted,
    /// The memory is not added.
    InsertFailed,
    /// The memory is added, but stays offline.
    InsertedOffline,
    /// The memory is being given up: not the end yet.
    Ejecting,
    /// The device is gone.
    Ejected,
    /// The memory is kept; nothing has changed.
    EjectRefused(Refusal),
    /// The memory was given up, but the firmware could not take the device away; or the device is gone,
    /// and memory of it could not be given up.
    EjectFailed,
}

/// A region of persistent memory.
#[derive(Clone, Copy, Debug)]
pub struct Persistent {
    /// The device that it is for the driver.
    pub device: DeviceId,
    /// Where it is.
    pub range: PhysRange,
    /// The node that it is on.
    pub node: NodeId,
    /// What it holds.
    pub holds: Holds,
}

/// What persistent memory holds, as far as its labels say, and how that is known.
#[derive(Clone, Copy, Debug)]
pub enum Holds {
    /// Nothing that somebody named.
    Nothing(Reason),
    /// Somebody's data.
    Data(Reason),
    /// That cannot be read.
    Unknown(Reason),
}

impl Holds {
    /// A word for it, and how it is known.
    pub(super) const fn shown(&self) -> (&'static str, &Reason) {
        match self {
            Self::Nothing(why) => ("nothing", why),
            Self::Data(why) => ("data", why),
            Self::Unknown(why) => ("unknown", why),
        }
    }
}

/// Delivers the firmware's events, and takes the replies to them: ACPI, or a hypervisor call interface.
///
/// # Safety
///
/// The ranges of an insert are memory of a device that firmware describes as plugged: RAM, if it is there at all,
/// that nothing but the driver uses until [`eject`](Self::eject). So is persistent memory, as long as it is in use as RAM.
pub unsafe trait HotplugSource {
    /// What can go wrong with a device.
    type Error: fmt::Display;

    /// How many sources this is: one, but for a list of them.
    const SOURCES: u8 = 1;

    /// The most ranges that devices of source number `source` of the list have at a time, 0 being the first one: the driver
    /// makes room for so many when it is set up. Announced beyond that, they are refused.
    fn most_ranges(&self, source: u8) -> usize {
        let _ = source;
        MAX_PLUGGED
    }

    /// Whether the machine has no such source.
    fn is_absent(&self) -> bool {
        false
    }

    /// The next event, if there is one. Does a bounded amount of work.
    fn next_event(&mut self) -> Option<Event<Self::Error>>;

    /// The next event that does not have to wait for the end of the eject that is under way: that of `ejecting`,
    /// or of a device of another source. It is an insert, or says of a device that is known what became of it;
    /// never an eject, and never of `ejecting`. Does a bounded amount of work.
    ///
    /// What is not given out here comes by [`next_event`](Self::next_event) later. A source that gives nothing
    /// out makes all its devices wait.
    fn next_insert(&mut self, ejecting: Option<DeviceId>) -> Option<Event<Self::Error>> {
        let _ = ejecting;
        None
    }

    /// Whether [`next_event`](Self::next_event) has something to do. Safe to ask with interrupts
    /// off, right before the CPU is halted.
    fn has_work(&self) -> bool;

    /// Reports to the firmware how its request ended. Returns the status code that was reported, or `None` if
    /// nothing was: the firmware takes no status codes, or it made no request.
    ///
    /// # Errors
    ///
    /// Whatever the firmware's interface reports.
    fn reply(&mut self, device: DeviceId, outcome: Outcome) -> Result<Option<u32>, Self::Error>;

    /// The memory of a device of which the driver knows none, and its node: its description could not be read when it was
    /// announced. The driver asks before it gives the device up; `None` if the description still cannot be read.
    fn described(&mut self, device: DeviceId) -> Option<(Ranges, NodeId)> {
        let _ = device;
        None
    }

    /// Whether the firmware has a way to take the device away. It is asked before anything moves.
    ///
    /// # Errors
    ///
    /// What is missing.
    fn can_eject(&self, device: DeviceId) -> Result<(), Self::Error> {
        let _ = device;
        Ok(())
    }

    /// Has the firmware take the device away. This drops a pending request to eject it.
    ///
    /// # Errors
    ///
    /// The device is still there with exactly the memory it had, and why. Where that is not certain,
    /// the device counts as gone: memory that may not be there is never added back.
    fn eject(&mut self, device: DeviceId) -> Result<(), Self::Error>;

    /// Whether a device is still there, as far as the firmware can say. Memory of one that is not does not
    /// come back online.
    fn is_there(&mut self, device: DeviceId) -> bool {
        let _ = device;
        true
    }

    /// Whether the firmware wants the machine turned off: its power button was pressed, say.
    fn wants_power_off(&self) -> bool {
        false
    }

    /// Writes what the source understood of firmware's description of the machine and what it left out: in whole
    /// lines for people, or as one value of JSON without a line end.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    fn write_firmware(&self, json: bool, out: &mut dyn fmt::Write) -> fmt::Result {
        out.write_str(if json { "{\"left_out\":0}" } else { "nothing was left out\n" })
    }

    /// How many regions of persistent memory the source has, or had, in use or not: one more than the highest number. A region
    /// keeps its number as long as it is there.
    fn persistent_count(&self) -> usize {
        0
    }

    /// The region of persistent memory with this number, counted from 0; `None` if it is gone. It is memory of a device of its
    /// own, that the source never announces: it is used on the operator's request ([`Hotplug::pmem_add`](crate::Hotplug::pmem_add)).
    fn persistent(&mut self, number: usize) -> Option<Persistent> {
        let _ = number;
        None
    }

    /// When it takes memory that its host offers; `None` if no host offers any.
    fn growth(&self) -> Option<Growth> {
        None
    }

    /// Has it take such memory in another way.
    ///
    /// # Errors
    ///
    /// [`GrowthRefused`]; nothing has changed.
    fn set_growth(&mut self, growth: Growth) -> Result<(), GrowthRefused> {
        let _ = growth;
        Err(GrowthRefused::NoDevice)
    }

    /// Whether an eject failed only because the firmware does not want the device back any more.
    fn is_withdrawn(&self, error: &Self::Error) -> bool {
        let _ = error;
        false
    }

    /// The firmware's name of a device, for messages.
    fn label(&self, device: DeviceId) -> impl fmt::Display + '_;
}

#[cfg(test)]
mod tests {
    use super::*;
    use hotmem::addr::PhysAddr;

    fn range(start: u64, len: u64) -> PhysRange {
        PhysRange::new(PhysAddr::new(start), len).unwrap()
    }

    #[test]
    fn adjacent_ranges_become_one_and_empty_ones_none() {
        let mut ranges = Ranges::default();
        for piece in [range(0x1000, 0x1000), range(0, 0), range(0x2000, 0x1000), range(0, 0x1000)] {
            ranges.push(piece).unwrap();
        }
        assert_eq!(ranges.as_slice(), [range(0x1000, 0x2000), range(0, 0x1000)]);
    }

    #[test]
    fn one_range_too_many_is_refused() {
        let mut ranges = Ranges::default();
        for n in 0..MAX_RANGES as u64 {
            ranges.push(range(n * 0x2000, 0x1000)).unwrap();
        }
        assert_eq!(ranges.push(range(1 << 40, 0x1000)), Err(TooManyRanges));
        assert_eq!(ranges.as_slice().len(), MAX_RANGES);
    }
}
