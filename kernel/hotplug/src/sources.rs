//! A list of sources, fixed when the kernel is compiled: two sources, of which each may be such a list itself.
//!
//! ```text
//! Sources<A, Sources<B, C>>:   A B C A B C ...    one event of each in turn; a silent one is passed over
//!          0          1  2                         a reply goes to the source whose device it is
//! ```
//!
//! A list is a source: the driver has one eject under way, and its table has room for each source of the list.
//! So a source that sends many events does not keep the others from being served.

// UNSAFETY: vouches for the memory that its sources announce.
#![expect(unsafe_code)]

use core::fmt;

use crate::shown::shown;
use crate::{DeviceId, Event, Growth, GrowthRefused, HotplugSource, Outcome, Persistent, Ranges};
use hotmem::NodeId;

/// Two sources that are served in turns.
#[derive(Debug)]
pub struct Sources<A, B> {
    first: A,
    second: B,
    /// Which of all its sources is asked first when the next event is wanted.
    turn: u8,
}

/// What is of one of two sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OneOf<A, B> {
    /// Of the first.
    First(A),
    /// Of the second.
    Second(B),
}

impl<A: fmt::Display, B: fmt::Display> fmt::Display for OneOf<A, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::First(one) => one.fmt(f),
            Self::Second(one) => one.fmt(f),
        }
    }
}

/// An event of a list or of a part of it.
type ListEvent<A, B> = Event<OneOf<<A as HotplugSource>::Error, <B as HotplugSource>::Error>>;

impl<A: HotplugSource, B: HotplugSource> Sources<A, B> {
    /// Both sources; the first one is asked first.
    pub const fn new(first: A, second: B) -> Self {
        Self { first, second, turn: 0 }
    }

    /// Both sources, to set them up.
    pub const fn parts_mut(&mut self) -> (&mut A, &mut B) {
        (&mut self.first, &mut self.second)
    }

    /// Which of the two a device is of, and what that one calls it.
    const fn of(device: DeviceId) -> OneOf<DeviceId, DeviceId> {
        match device.past(A::SOURCES) {
            None => OneOf::First(device),
            Some(device) => OneOf::Second(device),
        }
    }

    /// Asks both for an event, the one whose turn it is first. After an event it is the turn of the next source.
    fn by_turns(
        &mut self,
        mut first: impl FnMut(&mut A) -> Option<Event<A::Error>>,
        mut second: impl FnMut(&mut B) -> Option<Event<B::Error>>,
    ) -> Option<ListEvent<A, B>> {
        let is_first = self.turn < A::SOURCES;
        for asks_first in [is_first, !is_first] {
            let event = if asks_first {
                first(&mut self.first).map(|event| event.map_error(OneOf::First))
            } else {
                second(&mut self.second).map(|event| Event {
                    device: event.device.behind(A::SOURCES),
                    ..event.map_error(OneOf::Second)
                })
            };
            if event.is_some() {
                self.turn = (self.turn + 1) % Self::SOURCES;
                return event;
            }
        }
        None
    }
}

// SAFETY: every promise is that of the source whose device it is about.
unsafe impl<A: HotplugSource, B: HotplugSource> HotplugSource for Sources<A, B> {
    type Error = OneOf<A::Error, B::Error>;

    const SOURCES: u8 = A::SOURCES + B::SOURCES;

    fn most_ranges(&self, source: u8) -> usize {
        match source.checked_sub(A::SOURCES) {
            None => self.first.most_ranges(source),
            Some(source) => self.second.most_ranges(source),
        }
    }

    fn is_absent(&self) -> bool {
        self.first.is_absent() && self.second.is_absent()
    }

    fn next_event(&mut self) -> Option<Event<Self::Error>> {
        self.by_turns(A::next_event, B::next_event)
    }

    fn next_insert(&mut self, ejecting: Option<DeviceId>) -> Option<Event<Self::Error>> {
        let (first, second) = match ejecting.map(Self::of) {
            None => (None, None),
            Some(OneOf::First(device)) => (Some(device), None),
            Some(OneOf::Second(device)) => (None, Some(device)),
        };
        self.by_turns(|source| source.next_insert(first), |source| source.next_insert(second))
    }

    fn has_work(&self) -> bool {
        self.first.has_work() || self.second.has_work()
    }

    fn reply(&mut self, device: DeviceId, outcome: Outcome) -> Result<Option<u32>, Self::Error> {
        match Self::of(device) {
            OneOf::First(device) => self.first.reply(device, outcome).map_err(OneOf::First),
            OneOf::Second(device) => self.second.reply(device, outcome).map_err(OneOf::Second),
        }
    }

    fn described(&mut self, device: DeviceId) -> Option<(Ranges, NodeId)> {
        match Self::of(device) {
            OneOf::First(device) => self.first.described(device),
            OneOf::Second(device) => self.second.described(device),
        }
    }

    fn can_eject(&self, device: DeviceId) -> Result<(), Self::Error> {
        match Self::of(device) {
            OneOf::First(device) => self.first.can_eject(device).map_err(OneOf::First),
            OneOf::Second(device) => self.second.can_eject(device).map_err(OneOf::Second),
        }
    }

    fn eject(&mut self, device: DeviceId) -> Result<(), Self::Error> {
        match Self::of(device) {
            OneOf::First(device) => self.first.eject(device).map_err(OneOf::First),
            OneOf::Second(device) => self.second.eject(device).map_err(OneOf::Second),
        }
    }

    fn is_there(&mut self, device: DeviceId) -> bool {
        match Self::of(device) {
            OneOf::First(device) => self.first.is_there(device),
            OneOf::Second(device) => self.second.is_there(device),
        }
    }

    fn wants_power_off(&self) -> bool {
        self.first.wants_power_off() || self.second.wants_power_off()
    }

    /// Those of both, one behind the other; in JSON as a list. One that the machine does not have is left out.
    fn write_firmware(&self, json: bool, out: &mut dyn fmt::Write) -> fmt::Result {
        if self.second.is_absent() {
            return self.first.write_firmware(json, out);
        }
        if self.first.is_absent() {
            return self.second.write_firmware(json, out);
        }
        let [open, comma, close] = if json { ["[", ",", "]"] } else { [""; 3] };
        out.write_str(open)?;
        self.first.write_firmware(json, out)?;
        out.write_str(comma)?;
        self.second.write_firmware(json, out)?;
        out.write_str(close)
    }

    fn persistent_count(&self) -> usize {
        self.first.persistent_count() + self.second.persistent_count()
    }

    /// That of the first, and then of the second.
    fn persistent(&mut self, number: usize) -> Option<Persistent> {
        let Some(number) = number.checked_sub(self.first.persistent_count()) else {
            return self.first.persistent(number);
        };
        let found = self.second.persistent(number)?;
        Some(Persistent { device: found.device.behind(A::SOURCES), ..found })
    }

    /// That of the first source whose host offers memory.
    fn growth(&self) -> Option<Growth> {
        self.first.growth().or_else(|| self.second.growth())
    }

    fn set_growth(&mut self, growth: Growth) -> Result<(), GrowthRefused> {
        match (self.first.set_growth(growth), self.second.set_growth(growth)) {
            (Err(GrowthRefused::NoDevice), other) | (other, Err(GrowthRefused::NoDevice)) => other,
            (first, second) => first.and(second),
        }
    }

    fn is_withdrawn(&self, error: &Self::Error) -> bool {
        match error {
            OneOf::First(error) => self.first.is_withdrawn(error),
            OneOf::Second(error) => self.second.is_withdrawn(error),
        }
    }

    fn label(&self, device: DeviceId) -> impl fmt::Display + '_ {
        shown(move |f| match Self::of(device) {
            OneOf::First(device) => fmt::Display::fmt(&self.first.label(device), f),
            OneOf::Second(device) => fmt::Display::fmt(&self.second.label(device), f),
        })
    }
}
