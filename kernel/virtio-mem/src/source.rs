//! The source of events: what the sizes of devices require, one piece at a time.

// UNSAFETY: vouches for the memory that the source announces.
#![expect(unsafe_code)]

use alloc::vec::Vec;
use core::fmt;

use hotmem::{Machine, Mm, PhysRange, Removability, Watch};
use hotmem_hotplug::{
    DeviceId, Event, Growth, GrowthRefused, HotplugSource, Latch, Outcome, Ranges, Reason, Request,
    shown,
};

use super::amounts::{Amounts, is_online, used_bytes};
use super::device::Device;
use super::error::VirtioMemError;
use super::fault::Fault;
use super::need::Need;
use super::part::split;
use super::pieces::{MOST_DEVICES, Piece, Pieces, Stage};
use super::plan::{Grid, place};
use super::report;
use super::shrink::{Choice, choose, parts_of};
use super::transport::{Board, Transport};

/// Places in a row where the driver takes no memory, before nothing is tried for a while.
const MOST_AVOIDED: usize = 4;

/// The memory of virtio-mem devices, as a source of events for the driver of `hotmem-hotplug`.
#[derive(Debug)]
pub struct VirtioMemSource<'m, M: Machine, T, C> {
    mm: &'m Mm<M>,
    devices: Vec<Device<'m, M, T>>,
    pieces: Pieces,
    time: C,
    latch: &'static Latch,
    /// Memory that is no device's.
    kept_out: Vec<PhysRange>,
    need: Need,
    /// Which device is looked at first.
    turn: usize,
    /// When the interrupt came that the events in progress are due to.
    since: Option<u64>,
    /// Why memory did not go that was asked for last.
    why: Option<Reason>,
}

impl<'m, M: Machine, T: Transport, C: Board> VirtioMemSource<'m, M, T, C> {
    /// No devices yet; line 0 of `latch` reports changes of each. After the last [`start`](Self::start), no heap is used.
    pub fn new(mm: &'m Mm<M>, time: C, latch: &'static Latch) -> Self {
        let (devices, pieces) = (Vec::with_capacity(MOST_DEVICES), Pieces::new());
        let (kept_out, need) = (Vec::new(), Need::default());
        Self { mm, devices, pieces, time, latch, kept_out, need, turn: 0, since: None, why: None }
    }

    /// Has devices not be used that have memory in one of these ranges, from now on: persistent memory, say.
    pub fn keep_out(&mut self, ranges: impl Iterator<Item = PhysRange>) {
        self.kept_out.extend(ranges);
    }

    /// Has `watch` watch free memory when memory is plugged by need ([`Growth::Need`]). What it calls wakes the task that
    /// runs the driver.
    pub fn watch_by(&mut self, watch: &'static Watch) {
        self.need.set_watch(watch);
    }

    /// Starts a device, and has it unplug all of its memory. Returns whether it interrupts: otherwise it is looked at whenever
    /// the kernel is awake.
    ///
    /// # Errors
    ///
    /// Why it cannot be used. It is reset then.
    pub fn start(&mut self, transport: T) -> Result<bool, VirtioMemError> {
        if self.devices.len() >= MOST_DEVICES {
            return Err(VirtioMemError::TooMany);
        }
        let device =
            Device::start(transport, self.mm, &self.time).map_err(VirtioMemError::Fault)?;
        let range = device.region.range;
        let is_in = |other: &PhysRange| other.overlaps(range);
        if let Some(other) = self.regions().chain(self.kept_out.iter().copied()).find(is_in) {
            device.stop(self.mm, &self.time);
            return Err(VirtioMemError::Fault(Fault::Overlaps(range, other)));
        }
        let (number, unit) = (self.devices.len(), device.unit >> 10);
        log::info!("virtio-mem {number}: {range}, in units of {unit} KiB");
        let grid = self.grid(&device);
        self.pieces.make_room(range.len() / grid.cell + 2);
        let interrupts = device.interrupts();
        self.devices.push(device);
        Ok(interrupts)
    }

    /// Where memory of the devices is, or may be later.
    pub fn regions(&self) -> impl Iterator<Item = PhysRange> + '_ {
        self.devices.iter().map(|device| device.region.range)
    }

    /// Devices that were started.
    pub fn device_count(&self) -> usize {
        self.devices.len()
    }

    /// How many events it takes to plug what is requested now, at most.
    pub fn expected_events(&self) -> usize {
        let block = self.mm.block_size().bytes();
        let cells = self.devices.iter().map(|device| device.missing() / block + 2);
        (cells.sum::<u64>() as usize).min(self.pieces.room())
    }

    /// Reads the sizes of the devices: of all if one has interrupted, else of those that do not interrupt.
    fn look(&mut self) {
        let interrupted = self.latch.take_first();
        if let Some(since) = interrupted {
            self.since = since;
            self.devices.iter().for_each(Device::acknowledge);
        }
        for (number, device) in self.devices.iter_mut().enumerate() {
            if interrupted.is_some() || !device.interrupts() {
                device.refresh();
            }
            // Or they were read while a piece was given back.
            if !device.take_news() {
                continue;
            }
            match (device.dead, device.ill) {
                (Some(fault), _) => log::error!("virtio-mem {number}: given up: {fault}"),
                (None, Some(fault)) => log::warn!("virtio-mem {number}: {fault}: ignored"),
                (None, None) => {
                    let (requested, plugged) = (device.sizes.requested >> 10, device.plugged >> 10);
                    log::info!(
                        "virtio-mem {number}: {requested} KiB requested, {plugged} KiB plugged"
                    );
                    if device.is_tried_at_once() {
                        self.pieces.avoid_no_more(number);
                        self.pieces.of_mut(number).for_each(|piece| piece.stuck = false);
                    }
                    self.why = None;
                }
            }
        }
        // Now those that were given up are silent. A line that has no other devices may stay active all the same.
        if interrupted.is_some() && self.devices.iter().any(|device| device.dead.is_none()) {
            self.time.unmask();
        }
    }

    fn grid(&self, device: &Device<'m, M, T>) -> Grid {
        Grid::new(device.unit, self.mm.block_size().bytes(), device.most())
    }

    /// Announces a piece that is plugged and not in use yet.
    fn announce(&mut self) -> Option<Event<VirtioMemError>> {
        let new = |piece: &&Piece| piece.stage == Stage::New;
        let &Piece { id, range, device, .. } = self.pieces.all().iter().find(new)?;
        let node = self.devices.get(device)?.node();
        self.pieces.get_mut(id)?.stage = Stage::Announced;
        let mut ranges = Ranges::default();
        // One range always fits.
        let _ = ranges.push(range);
        Some(self.event(id, Request::Insert { ranges, node }))
    }

    /// Requests a piece that the driver did not take: it has no memory of it, or the operator has added some.
    fn take_back(&mut self) -> Option<Event<VirtioMemError>> {
        let (devices, time) = (&self.devices, &self.time);
        let due = |piece: &&Piece| {
            let device = devices.get(piece.device);
            piece.stage == Stage::Unwanted
                && device.is_some_and(|device| device.dead.is_none() && !device.pauses(time))
        };
        let id = self.pieces.all().iter().find(due)?.id;
        Some(self.event(id, Request::Eject))
    }

    fn event(&mut self, id: u16, request: Request<VirtioMemError>) -> Event<VirtioMemError> {
        Event { device: DeviceId::new(id), request, since: self.since.take() }
    }

    fn amounts(&self) -> Amounts<'_, 'm, M, C> {
        let Self { mm, need, pieces, time, .. } = self;
        Amounts { mm, need, pieces, time }
    }

    /// Takes note of whether memory can be spared, in units of the device with the smallest: if a shrink begins, all that
    /// could not go is tried again.
    fn note_surplus(&mut self) {
        let units = self.devices.iter().filter(|device| device.dead.is_none());
        let Some(unit) = units.map(|device| device.unit).min() else { return };
        if self.need.note_surplus(self.need.surplus(self.mm, unit)) {
            self.pieces.free_all();
        }
    }

    /// Plugs a piece of a device that requests more memory; the next event announces it.
    fn grow(&mut self, number: usize) {
        let Some(device) = self.devices.get(number) else { return };
        let need = self.amounts().wanted(device);
        if need == 0 {
            return self.note_ceiling(number);
        }
        let avoided = |piece: &&Piece| piece.stage == Stage::Avoided;
        if self.pieces.of(number).filter(avoided).count() >= MOST_AVOIDED {
            self.pieces.avoid_no_more(number);
            self.rest(number);
            return;
        }
        let grid = self.grid(device);
        let taken = self.pieces.all().iter().map(|piece| piece.range);
        let place = place(&grid, device.usable(), taken, need).filter(|_| self.pieces.has_room());
        let Some(device) = self.devices.get_mut(number) else { return };
        let Some(range) = place else {
            let why = if self.pieces.has_room() { "no addresses" } else { "no room in the table" };
            self.note(number, format_args!("{} KiB are not plugged: {why}", need >> 10));
            self.rest(number);
            return;
        };
        match device.plug(range, &self.time) {
            Ok(()) => {
                let _ = self.pieces.insert(number, range);
            }
            Err(fault) => {
                // A device that acknowledged may have plugged it, whatever it says then.
                if !fault.is_passing()
                    && let Some(id) = self.pieces.insert(number, range)
                    && let Some(piece) = self.pieces.get_mut(id)
                {
                    piece.stage = Stage::Lost;
                }
                // It may request less by now, which ends the pause.
                device.pause(&self.time);
                device.refresh();
                self.note(number, format_args!("{range} is not plugged: {fault}"));
            }
        }
    }

    /// Notes that memory is short, and that no device that is used may plug more.
    fn note_ceiling(&mut self, number: usize) {
        let mut used = self.devices.iter().enumerate().filter(|(_, device)| device.dead.is_none());
        let is_first = used.clone().next().is_some_and(|(first, _)| first == number);
        let full = used.all(|(_, device)| device.missing() == 0);
        let short =
            self.need.is_short() && self.need.wanted(self.mm, self.amounts().pending()) != 0;
        if is_first && short && full {
            let full = "memory is short, and all that is requested is plugged";
            self.note(number, format_args!("{full}"));
        }
    }

    /// A request to give up a piece of a device that requests less memory, or of which some can be spared.
    fn shrink(&mut self, number: usize) -> Option<Event<VirtioMemError>> {
        self.note_surplus();
        loop {
            let excess = self.amounts().excess(self.devices.get(number)?);
            if excess == 0 {
                return None;
            }
            let mm = self.mm;
            let used = |piece: &Piece| used_bytes(mm, piece.range);
            let Some(Choice { id, keep }) = choose(self.pieces.of(number), excess, used) else {
                self.retry_later(number);
                return None;
            };
            let range = self.pieces.get(id)?.range;
            let goes = mm.explain_remove(range);
            let whole = keep == 0 && !matches!(goes, Removability::Blocked(_));
            if !whole && let Some(divided) = self.split(number, id, excess) {
                return Some(divided);
            }
            // What cannot go is not asked for.
            if let Removability::Blocked(obstacle) = goes {
                self.pieces.get_mut(id)?.stuck = true;
                self.note(number, format_args!("{range} cannot go: {obstacle}"));
                continue;
            }
            self.pieces.get_mut(id)?.stage = Stage::Leaving { keep };
            return Some(self.event(id, Request::Eject));
        }
    }

    /// Splits a piece at an end of a part that can go, if it has one. What was requested has not ended then.
    fn split(&mut self, number: usize, id: u16, most: u64) -> Option<Event<VirtioMemError>> {
        let (range, grid) = (self.pieces.get(id)?.range, self.grid(self.devices.get(number)?));
        let can = self.pieces.can_split(number, grid.cell);
        let done = can.then(|| split(self.mm, range, grid.unit, most))?;
        let note = |error| self.note(number, format_args!("{range} is not split: {error}"));
        let at = done.map_err(note).ok()??;
        let second = self.pieces.split(id, at)?;
        let (device, request) = (DeviceId::new(id), Request::Divided { at, second });
        Some(Event { device, request, since: None })
    }

    /// Has everything that is stuck tried again after a pause.
    fn retry_later(&mut self, number: usize) {
        self.pieces.of_mut(number).for_each(|piece| piece.stuck = false);
        match self.devices.get_mut(number) {
            // It may be asked for more at once.
            Some(device) if device.excess() == 0 => device.keeps.begin(&self.time),
            _ => self.rest(number),
        }
    }

    fn rest(&mut self, number: usize) {
        if let Some(device) = self.devices.get_mut(number) {
            device.pause(&self.time);
        }
    }

    /// Notes why something was not done, and logs it unless that was the last reason.
    fn note(&mut self, number: usize, why: fmt::Arguments<'_>) {
        let reason = Reason::new(format_args!("virtio-mem {number}: {why}"));
        if self.why.as_ref().is_none_or(|last| last.as_str() != reason.as_str()) {
            log::warn!("{reason}");
        }
        self.why = Some(reason);
    }

    /// Gives a piece, or the end of it, back to its device.
    fn give_back(&mut self, id: DeviceId) -> Result<(), VirtioMemError> {
        let unknown = VirtioMemError::Unknown(id);
        let piece = *self.pieces.get(id.number()).ok_or(unknown)?;
        let device = self.devices.get(piece.device).ok_or(unknown)?;
        let mut keep = 0;
        if let Some(fault) = device.dead {
            return Err(VirtioMemError::Fault(fault));
        }
        if let Stage::Leaving { keep: planned } = piece.stage {
            keep = self.still_kept(&piece, planned)?;
        }
        let (start, bytes) = (piece.range.start().add(keep), piece.range.len() - keep);
        let range = PhysRange::new(start, bytes).ok_or(unknown)?;
        let result = self.devices.get_mut(piece.device).ok_or(unknown)?.unplug(range, &self.time);
        let known = result.is_ok();
        if let Err(fault) = result {
            if fault.is_passing() {
                self.note(piece.device, format_args!("{range} stays plugged: {fault}"));
                return Err(VirtioMemError::Fault(fault));
            }
            log::error!("virtio-mem {}: given up: {fault}: {range} is lost", piece.device);
        }
        let Some(piece) = self.pieces.get_mut(id.number()) else { return Ok(()) };
        piece.stage = match piece.stage {
            // What is there is not certain: it counts as gone, and nothing is plugged there again.
            _ if !known => Stage::Lost,
            Stage::Unwanted => Stage::Avoided,
            _ => Stage::Leaving { keep },
        };
        if known && let Some(kept) = PhysRange::new(piece.range.start(), keep) {
            piece.range = if keep == 0 { piece.range } else { kept };
        }
        Ok(())
    }

    /// How many bytes at the start of a piece stay, of which `planned` were to stay when it was chosen: the size may have
    /// changed since, or memory become short.
    fn still_kept(&mut self, piece: &Piece, planned: u64) -> Result<u64, VirtioMemError> {
        let unknown = VirtioMemError::Unknown(DeviceId::new(piece.id));
        let device = self.devices.get_mut(piece.device).ok_or(unknown)?;
        device.refresh();
        if let Some(fault) = device.dead {
            return Err(VirtioMemError::Fault(fault));
        }
        let excess = device.excess();
        let keep = piece.range.len().saturating_sub(excess);
        // What is planned to stay comes back; the others of its block are online.
        match self.need.can_spare(self.mm, planned) {
            true => return Ok(keep.min(planned)),
            false if excess != 0 => return Ok(keep),
            false => device.note_failure(),
        }
        Err(if self.need.is_eager() { VirtioMemError::Withdrawn } else { VirtioMemError::Needed })
    }

    /// Has what stays plugged of a piece announced again, in parts.
    fn come_back(&mut self, id: u16) {
        let Some(&Piece { device, range, .. }) = self.pieces.get(id) else { return };
        let unit = self.devices.get(device).map_or(range.len(), |device| device.unit);
        self.pieces.come_back(id, parts_of(range.len(), unit));
    }

    /// Takes note of the end of a request.
    fn ended(&mut self, id: u16, outcome: Outcome) {
        let Some(piece) = self.pieces.get_mut(id) else { return };
        let number = piece.device;
        match outcome {
            Outcome::Inserted | Outcome::InsertedOffline => {
                piece.stage = Stage::Held;
                piece.offline = !is_online(self.mm, piece.range);
            }
            Outcome::InsertFailed => {
                piece.stage = Stage::Unwanted;
                self.note(number, format_args!("a piece was plugged and is not taken"));
            }
            Outcome::Ejecting => {}
            Outcome::Ejected => match piece.stage {
                Stage::Leaving { keep: 0 } => self.pieces.remove(id),
                Stage::Leaving { .. } => self.come_back(id),
                _ => {}
            },
            Outcome::EjectRefused(_) | Outcome::EjectFailed => {
                if let Stage::Leaving { .. } = piece.stage {
                    (piece.stage, piece.stuck) = (Stage::Held, true);
                } else {
                    self.rest(number);
                }
            }
        }
    }
}

// SAFETY: what is announced was plugged by the device in its own region, and is unplugged by `eject` only; the host says that
// it is memory.
unsafe impl<M: Machine, T: Transport, C: Board> HotplugSource for VirtioMemSource<'_, M, T, C> {
    type Error = VirtioMemError;

    fn most_ranges(&self, _source: u8) -> usize {
        self.pieces.room()
    }

    fn next_event(&mut self) -> Option<Event<VirtioMemError>> {
        self.look();
        for _ in 0..self.devices.len() {
            if let Some(event) = self.announce().or_else(|| self.take_back()) {
                return Some(event);
            }
            let number = self.turn % self.devices.len();
            self.turn = (number + 1) % self.devices.len();
            if let Some(event) = self.shrink(number) {
                return Some(event);
            }
            self.grow(number);
        }
        self.announce()
    }

    /// Memory is plugged during the eject of another source's device only: an eject of an own one ends soon.
    fn next_insert(&mut self, ejecting: Option<DeviceId>) -> Option<Event<VirtioMemError>> {
        if ejecting.is_some() {
            return None;
        }
        self.look();
        for number in 0..self.devices.len() {
            self.grow(number);
        }
        self.announce()
    }

    fn has_work(&self) -> bool {
        let (amounts, mut devices) = (self.amounts(), self.devices.iter());
        self.latch.is_raised()
            || self.pieces.all().iter().any(|piece| piece.stage == Stage::New)
            || devices.any(|device| device.stays_awake() || amounts.is_due(device))
    }

    fn reply(&mut self, device: DeviceId, outcome: Outcome) -> Result<Option<u32>, VirtioMemError> {
        self.ended(device.number(), outcome);
        Ok(None)
    }

    fn can_eject(&self, device: DeviceId) -> Result<(), VirtioMemError> {
        let unknown = VirtioMemError::Unknown(device);
        let piece = self.pieces.get(device.number()).ok_or(unknown)?;
        let dead = self.devices.get(piece.device).ok_or(unknown)?.dead;
        dead.map_or(Ok(()), |fault| Err(VirtioMemError::Fault(fault)))
    }

    fn eject(&mut self, device: DeviceId) -> Result<(), VirtioMemError> {
        self.give_back(device)
    }

    /// What the device does not unplug is used again as before: whatever the reason, it is there.
    fn is_withdrawn(&self, error: &VirtioMemError) -> bool {
        matches!(
            error,
            VirtioMemError::Withdrawn | VirtioMemError::Needed | VirtioMemError::Fault(_)
        )
    }

    fn growth(&self) -> Option<Growth> {
        Some(self.need.growth())
    }

    fn set_growth(&mut self, growth: Growth) -> Result<(), GrowthRefused> {
        self.why = None;
        self.need.set(growth, self.mm)
    }

    fn write_firmware(&self, json: bool, out: &mut dyn fmt::Write) -> fmt::Result {
        report::write(&self.devices, &self.pieces, &self.need, self.why.as_ref(), json, out)
    }

    fn label(&self, device: DeviceId) -> impl fmt::Display + '_ {
        shown(move |f| match self.pieces.get(device.number()) {
            Some(piece) => write!(f, "virtio-mem {}, piece {}", piece.device, piece.id),
            None => write!(f, "virtio-mem piece {}", device.number()),
        })
    }
}
