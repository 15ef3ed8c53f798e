//! A machine that may lack an event source: without one there are no events, and everything else works.

// UNSAFETY: vouches for the memory that the source announces.
#![expect(unsafe_code)]

use alloc::boxed::Box;
use core::fmt;

use crate::shown::shown;
use crate::{DeviceId, Event, Growth, GrowthRefused, HotplugSource, Outcome, Persistent, Ranges};
use hotmem::NodeId;

/// What can go wrong with a source that may be absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceError<E> {
    /// The source reports an error.
    Source(E),
    /// The machine has no source, so it has no such device.
    NoSource(DeviceId),
}

impl<E: fmt::Display> fmt::Display for SourceError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(error) => error.fmt(f),
            Self::NoSource(device) => write!(f, "{device} is not known"),
        }
    }
}

// SAFETY: every promise is the inner source's.
unsafe impl<S: HotplugSource> HotplugSource for Option<Box<S>> {
    type Error = SourceError<S::Error>;

    const SOURCES: u8 = S::SOURCES;

    fn most_ranges(&self, source: u8) -> usize {
        self.as_ref().map_or(0, |inner| inner.most_ranges(source))
    }

    fn is_absent(&self) -> bool {
        self.as_ref().is_none_or(|source| source.is_absent())
    }

    fn next_event(&mut self) -> Option<Event<Self::Error>> {
        let event = self.as_mut()?.next_event()?;
        Some(event.map_error(SourceError::Source))
    }

    fn next_insert(&mut self, ejecting: Option<DeviceId>) -> Option<Event<Self::Error>> {
        let event = self.as_mut()?.next_insert(ejecting)?;
        Some(event.map_error(SourceError::Source))
    }

    fn has_work(&self) -> bool {
        self.as_ref().is_some_and(|source| source.has_work())
    }

    fn reply(&mut self, device: DeviceId, outcome: Outcome) -> Result<Option<u32>, Self::Error> {
        let source = self.as_mut().ok_or(SourceError::NoSource(device))?;
        source.reply(device, outcome).map_err(SourceError::Source)
    }

    fn described(&mut self, device: DeviceId) -> Option<(Ranges, NodeId)> {
        self.as_mut()?.described(device)
    }

    fn can_eject(&self, device: DeviceId) -> Result<(), Self::Error> {
        let source = self.as_ref().ok_or(SourceError::NoSource(device))?;
        source.can_eject(device).map_err(SourceError::Source)
    }

    fn eject(&mut self, device: DeviceId) -> Result<(), Self::Error> {
        let source = self.as_mut().ok_or(SourceError::NoSource(device))?;
        source.eject(device).map_err(SourceError::Source)
    }

    fn is_there(&mut self, device: DeviceId) -> bool {
        self.as_mut().is_some_and(|source| source.is_there(device))
    }

    fn wants_power_off(&self) -> bool {
        self.as_ref().is_some_and(|source| source.wants_power_off())
    }

    fn write_firmware(&self, json: bool, out: &mut dyn fmt::Write) -> fmt::Result {
        match self {
            Some(source) => source.write_firmware(json, out),
            None if json => out.write_str("null"),
            None => writeln!(out, "there is no source of events"),
        }
    }

    fn persistent_count(&self) -> usize {
        self.as_ref().map_or(0, |source| source.persistent_count())
    }

    fn persistent(&mut self, number: usize) -> Option<Persistent> {
        self.as_mut()?.persistent(number)
    }

    fn growth(&self) -> Option<Growth> {
        self.as_ref()?.growth()
    }

    fn set_growth(&mut self, growth: Growth) -> Result<(), GrowthRefused> {
        self.as_mut().map_or(Err(GrowthRefused::NoDevice), |source| source.set_growth(growth))
    }

    fn is_withdrawn(&self, error: &Self::Error) -> bool {
        match (self, error) {
            (Some(source), SourceError::Source(error)) => source.is_withdrawn(error),
            _ => false,
        }
    }

    fn label(&self, device: DeviceId) -> impl fmt::Display + '_ {
        shown(move |f| match self {
            Some(source) => fmt::Display::fmt(&source.label(device), f),
            None => write!(f, "{device}"),
        })
    }
}
