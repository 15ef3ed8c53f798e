//! The firmware of the fake machine: slots, requests about the DIMMs in them, and persistent memory.

// UNSAFETY: vouches for fake RAM, which has no other use.
#![expect(unsafe_code)]

use std::cell::RefCell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::rc::Rc;

use hotmem::testing::{Bench, Tiny};
use hotmem::{NodeId, PhysRange};
use hotmem_hotplug::{
    DeviceId, Event, Holds, HotplugSource, Outcome, Persistent, Ranges, Reason, Request,
};
use hotmem_storm::REGIONS;

/// The device that claims the operator's memory, and is refused.
pub(crate) const OPERATORS: DeviceId = DeviceId::new(100);

/// The first device that is a region of persistent memory.
const FIRST_REGION: u16 = 200;

/// A region of persistent memory.
#[derive(Clone, Copy, Debug)]
struct Region {
    range: PhysRange,
    /// A kernel before this one has written to it.
    written: bool,
    /// This kernel has.
    used: bool,
}

/// The slots' contents, and requests that the kernel has not taken yet.
#[derive(Debug, Default)]
pub(crate) struct State {
    requests: VecDeque<(DeviceId, Request<Infallible>)>,
    dimms: Vec<(DeviceId, PhysRange)>,
    regions: Vec<Region>,
    /// A reply that is not true.
    pub(crate) lie: Option<String>,
}

/// A source of the requests. Clones share their state.
#[derive(Clone, Debug)]
pub(crate) struct Firmware {
    bench: &'static Bench<Tiny>,
    state: Rc<RefCell<State>>,
}

impl Firmware {
    /// With persistent memory at these places, of which `written` holds data.
    pub(crate) fn new(
        bench: &'static Bench<Tiny>,
        places: [PhysRange; REGIONS],
        written: [bool; REGIONS],
    ) -> Self {
        places.iter().for_each(|&range| bench.plug(range));
        let regions = places.into_iter().zip(written);
        let regions = regions.map(|(range, written)| Region { range, written, used: false });
        let state = State { regions: regions.collect(), ..State::default() };
        Self { bench, state: Rc::new(RefCell::new(state)) }
    }

    /// What persistent memory a kernel has written to.
    pub(crate) fn written(&self) -> [bool; REGIONS] {
        let state = self.state.borrow();
        std::array::from_fn(|number| state.regions[number].written || state.regions[number].used)
    }

    /// Announces a DIMM that is there.
    pub(crate) fn insert(&self, device: DeviceId, range: PhysRange) {
        let mut ranges = Ranges::default();
        // One range fits.
        let _ = ranges.push(range);
        let mut state = self.state.borrow_mut();
        state.dimms.push((device, range));
        state.requests.push_back((device, Request::Insert { ranges, node: NodeId::ZERO }));
    }

    /// The DIMMs of slots.
    pub(crate) fn dimms(&self) -> Vec<(DeviceId, PhysRange)> {
        let state = self.state.borrow();
        state.dimms.iter().copied().filter(|&(device, _)| device != OPERATORS).collect()
    }

    /// Asks for a DIMM.
    pub(crate) fn ask_back(&self, device: DeviceId) {
        self.state.borrow_mut().requests.push_back((device, Request::Eject));
    }

    /// Whether a DIMM is in its slot.
    pub(crate) fn has(&self, device: DeviceId) -> bool {
        self.state.borrow().dimms.iter().any(|&(other, _)| other == device)
    }

    /// The first reply that was not true.
    pub(crate) fn take_lie(&self) -> Option<String> {
        self.state.borrow_mut().lie.take()
    }

    fn take(&self, at: usize) -> Option<Event<Infallible>> {
        let (device, request) = self.state.borrow_mut().requests.remove(at)?;
        Some(Event { device, request, since: None })
    }

    /// Whether memory of a DIMM is known to the manager: all of it, or nothing.
    fn is_added(&self, device: DeviceId) -> Option<bool> {
        let state = self.state.borrow();
        let (_, range) = state.dimms.iter().find(|&&(other, _)| other == device)?;
        Some(self.knows(*range))
    }

    fn knows(&self, range: PhysRange) -> bool {
        let mut blocks = self.bench.mm.blocks_in(range).map(|id| self.bench.mm.block(id));
        blocks.all(|block| block.is_some())
    }

    /// Takes note of a reply about persistent memory; returns whether it is true.
    fn reply_of_region(&self, number: usize, outcome: Outcome) -> bool {
        let Some(range) = self.state.borrow().regions.get(number).map(|region| region.range) else {
            return false;
        };
        let knows = self.knows(range);
        let region = &mut self.state.borrow_mut().regions[number];
        match outcome {
            Outcome::Inserted | Outcome::InsertedOffline => {
                region.used = true;
                knows
            }
            Outcome::InsertFailed | Outcome::Ejected => !knows,
            Outcome::EjectRefused(_) | Outcome::Ejecting => knows,
            Outcome::EjectFailed => false,
        }
    }
}

/// The number of the region that a device is.
fn region(device: DeviceId) -> Option<usize> {
    device.number().checked_sub(FIRST_REGION).map(usize::from)
}

// SAFETY: the ranges are those of fake DIMMs and of fake persistent memory.
unsafe impl HotplugSource for Firmware {
    type Error = Infallible;

    fn next_event(&mut self) -> Option<Event<Infallible>> {
        self.take(0)
    }

    fn next_insert(&mut self, ejecting: Option<DeviceId>) -> Option<Event<Infallible>> {
        let passes = |(device, request): &(DeviceId, Request<Infallible>)| {
            Some(*device) != ejecting && !matches!(request, Request::Eject)
        };
        let at = self.state.borrow().requests.iter().position(passes)?;
        self.take(at)
    }

    fn has_work(&self) -> bool {
        !self.state.borrow().requests.is_empty()
    }

    /// Notes a reply that is not true: memory is added or not, a DIMM is there or not.
    fn reply(&mut self, device: DeviceId, outcome: Outcome) -> Result<Option<u32>, Infallible> {
        let added = self.is_added(device);
        let true_now = match outcome {
            _ if let Some(number) = region(device) => self.reply_of_region(number, outcome),
            _ if device == OPERATORS => outcome == Outcome::InsertFailed,
            Outcome::Inserted | Outcome::InsertedOffline => added == Some(true),
            Outcome::InsertFailed => added == Some(false),
            Outcome::Ejected => added.is_none(),
            Outcome::EjectRefused(_) => added == Some(true),
            // An eject that was asked for twice is begun again when the DIMM is gone.
            Outcome::Ejecting => true,
            // Firmware can always take a DIMM.
            Outcome::EjectFailed => false,
        };
        if !true_now {
            let lie = format!("firmware got {outcome:?} of {device}, added: {added:?}");
            self.state.borrow_mut().lie.get_or_insert(lie);
        }
        Ok(Some(0))
    }

    fn eject(&mut self, device: DeviceId) -> Result<(), Infallible> {
        let mut state = self.state.borrow_mut();
        state.requests.retain(|(other, _)| *other != device);
        let gone: Vec<_> = state.dimms.extract_if(.., |(other, _)| *other == device).collect();
        gone.into_iter().for_each(|(_, range)| self.bench.unplug(range));
        Ok(())
    }

    fn is_there(&mut self, device: DeviceId) -> bool {
        region(device).is_some() || self.has(device)
    }

    fn persistent_count(&self) -> usize {
        REGIONS
    }

    fn persistent(&mut self, number: usize) -> Option<Persistent> {
        let Region { range, written, used } = *self.state.borrow().regions.get(number)?;
        let holds = match written && !used {
            true => Holds::Data(Reason::new("a kernel before this one wrote to it")),
            false => Holds::Nothing(Reason::new("no kernel before this one wrote to it")),
        };
        let device = DeviceId::new(FIRST_REGION + number as u16);
        Some(Persistent { device, range, node: NodeId::ZERO, holds })
    }

    fn label(&self, device: DeviceId) -> impl fmt::Display + '_ {
        device.number()
    }
}
