//! The source of events of the monitor's tests.

// UNSAFETY: vouches for the memory that the source announces.
#![expect(unsafe_code)]

use core::convert::Infallible;
use core::fmt;
use hotmem::{NodeId, PhysRange};
use hotmem_hotplug::{DeviceId, Event, HotplugSource, Outcome, Ranges, Request};

/// Announces memory once; ejects nothing.
pub(super) struct Plug(pub(super) Vec<PhysRange>);

// SAFETY: the ranges are those of fake DIMMs.
unsafe impl HotplugSource for Plug {
    type Error = Infallible;

    fn next_event(&mut self) -> Option<Event<Infallible>> {
        let mut ranges = Ranges::default();
        ranges.push(self.0.pop()?).unwrap();
        let request = Request::Insert { ranges, node: NodeId::default() };
        Some(Event { device: DeviceId::new(self.0.len() as u16), request, since: None })
    }

    fn has_work(&self) -> bool {
        !self.0.is_empty()
    }

    fn reply(&mut self, _: DeviceId, _: Outcome) -> Result<Option<u32>, Infallible> {
        Ok(Some(0))
    }

    fn eject(&mut self, _: DeviceId) -> Result<(), Infallible> {
        Ok(())
    }

    fn label(&self, device: DeviceId) -> impl fmt::Display + '_ {
        device.number()
    }
}
