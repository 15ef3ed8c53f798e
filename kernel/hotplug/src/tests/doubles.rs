//! A source that delivers the events of a script, and a clock.

// UNSAFETY: vouches for the memory that the source announces.
#![expect(unsafe_code)]

use core::cell::{Cell, RefCell};
use core::fmt;
use std::collections::VecDeque;
use std::rc::Rc;
use std::vec::Vec;

use hotmem::testing::FaultPlan;
use hotmem::{NodeId, PhysRange};

use crate::{Clock, DeviceId, Event, Holds, HotplugSource, Outcome, Persistent, Ranges, Request};

/// What is wrong with a scripted device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wrong(pub(super) &'static str);

/// A call that never reached the firmware.
pub(super) const LOST: Wrong = Wrong("lost on the way");

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// A source that plays a script.
#[derive(Clone, Debug, Default)]
pub(super) struct Script(pub(super) Rc<RefCell<Played>>);

/// The script, and what the driver did about it.
#[derive(Debug, Default)]
pub(super) struct Played {
    pub(super) events: VecDeque<Event<Wrong>>,
    pub(super) reported: Vec<(u16, Outcome)>,
    pub(super) ejected: Vec<u16>,
    /// The firmware fails to eject.
    pub(super) stuck: bool,
    /// It has withdrawn its request: the eject fails.
    pub(super) withdrawn: bool,
    /// The firmware has no way to take a device away.
    pub(super) fixed: bool,
    /// The memory of devices whose announcement had none.
    pub(super) memory: Option<PhysRange>,
    /// Devices that are not there.
    pub(super) absent: Vec<u16>,
    /// Persistent memory, with the number of its device.
    pub(super) persistent: Vec<(u16, PhysRange, Holds)>,
    /// Every reply to the firmware fails.
    pub(super) deaf: bool,
    /// The call of firmware that fails, once.
    pub(super) calls: FaultPlan,
}

impl Played {
    fn call(&self) -> Result<(), Wrong> {
        if self.calls.allows() { Ok(()) } else { Err(LOST) }
    }
}

impl Script {
    pub(super) fn insert(&self, device: u16, pieces: &[PhysRange]) {
        let mut ranges = Ranges::default();
        pieces.iter().for_each(|&piece| ranges.push(piece).unwrap());
        self.event(device, Request::Insert { ranges, node: NodeId::default() });
    }

    pub(super) fn eject(&self, device: u16) {
        self.event(device, Request::Eject);
    }

    pub(super) fn event(&self, device: u16, request: Request<Wrong>) {
        if let Request::Insert { .. } = request {
            // What is announced is there.
            self.0.borrow_mut().absent.retain(|&absent| absent != device);
        }
        let device = DeviceId::new(device);
        self.0.borrow_mut().events.push_back(Event { device, request, since: Some(0) });
    }

    pub(super) fn reported(&self) -> Vec<Outcome> {
        core::mem::take(&mut self.0.borrow_mut().reported)
            .into_iter()
            .map(|(_, outcome)| outcome)
            .collect()
    }
}

// SAFETY: the ranges are those of fake DIMMs.
unsafe impl HotplugSource for Script {
    type Error = Wrong;

    fn next_event(&mut self) -> Option<Event<Wrong>> {
        self.0.borrow_mut().events.pop_front()
    }

    fn next_insert(&mut self, ejecting: Option<DeviceId>) -> Option<Event<Wrong>> {
        let events = &mut self.0.borrow_mut().events;
        let may_pass = |event: &Event<Wrong>| {
            Some(event.device) != ejecting && !matches!(event.request, Request::Eject)
        };
        let at = events.iter().position(may_pass)?;
        events.remove(at)
    }

    fn has_work(&self) -> bool {
        !self.0.borrow().events.is_empty()
    }

    fn reply(&mut self, device: DeviceId, outcome: Outcome) -> Result<Option<u32>, Wrong> {
        let mut played = self.0.borrow_mut();
        played.call()?;
        played.reported.push((device.number(), outcome));
        if played.deaf { Err(Wrong("deaf")) } else { Ok(Some(played.reported.len() as u32)) }
    }

    fn described(&mut self, _: DeviceId) -> Option<(Ranges, NodeId)> {
        let mut ranges = Ranges::default();
        ranges.push(self.0.borrow().memory?).unwrap();
        Some((ranges, NodeId::default()))
    }

    fn can_eject(&self, _: DeviceId) -> Result<(), Wrong> {
        self.0.borrow().call()?;
        if self.0.borrow().fixed { Err(Wrong("fixed")) } else { Ok(()) }
    }

    fn eject(&mut self, device: DeviceId) -> Result<(), Wrong> {
        let mut played = self.0.borrow_mut();
        played.call()?;
        if played.withdrawn {
            return Err(Wrong("withdrawn"));
        }
        if played.stuck {
            return Err(Wrong("stuck"));
        }
        played.ejected.push(device.number());
        Ok(())
    }

    fn is_there(&mut self, device: DeviceId) -> bool {
        !self.0.borrow().absent.contains(&device.number())
    }

    fn persistent_count(&self) -> usize {
        self.0.borrow().persistent.len()
    }

    fn persistent(&mut self, number: usize) -> Option<Persistent> {
        let (device, range, holds) = *self.0.borrow().persistent.get(number)?;
        let (device, node) = (DeviceId::new(device), NodeId::default());
        Some(Persistent { device, range, node, holds })
    }

    fn is_withdrawn(&self, error: &Wrong) -> bool {
        *error == Wrong("withdrawn")
    }

    fn label(&self, device: DeviceId) -> impl fmt::Display + '_ {
        device.number()
    }
}

/// A clock that ticks ten times whenever it is looked at, if it can count at all.
#[derive(Clone, Debug)]
pub(super) struct Ticks(pub(super) Option<Rc<Cell<u64>>>);

impl Clock for Ticks {
    fn instructions(&self) -> Option<u64> {
        let counter = self.0.as_ref()?;
        counter.set(counter.get() + 10);
        Some(counter.get())
    }
}
