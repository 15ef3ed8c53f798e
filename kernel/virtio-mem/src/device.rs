//! One device: its start, its sizes, and its requests.

use hotmem::{Machine, Mm, NodeId, PhysAddr, PhysRange};

use super::config::{Config, Region, Sizes};
use super::fault::Fault;
use super::pause::Pause;
use super::queue::{self, Queue};
use super::request::{Kind, Refusal, Request};
use super::transport::{Board, Transport};
use super::wire::{Response, State};

/// Bits of the device status (virtio 1.2, 2.1).
const ACKNOWLEDGE: u8 = 1;
const DRIVER: u8 = 2;
const DRIVER_OK: u8 = 4;
const FEATURES_OK: u8 = 8;
const NEEDS_RESET: u8 = 64;
const FAILED: u8 = 128;

/// The device says on which node its memory is.
const HAS_NODE: u64 = 1 << 0;
/// Memory that is not plugged must not be read, either. The driver never does.
const INACCESSIBLE: u64 = 1 << 1;
/// The interface is that of version 1.0 or newer.
const VERSION_1: u64 = 1 << 32;

/// How long a reset may take.
const RESET_SECONDS: u64 = 10;
const RESET_LOOKS: u64 = 1 << 32;

/// How often the kernel stays awake to try again what the device was too busy for.
const BUSY_TRIES: u32 = 10;

/// How many failures in a row other sizes have tried again at once.
const MOST_FAILURES: u32 = 10;

/// A device that was started.
#[derive(Debug)]
pub(crate) struct Device<'m, M: Machine, T> {
    transport: T,
    queue: Queue<'m, M>,
    pub(crate) region: Region,
    pub(crate) sizes: Sizes,
    /// What was read has not been taken note of.
    news: bool,
    pub(crate) unit: u64,
    /// What is plugged, by the driver's own account.
    pub(crate) plugged: u64,
    /// The fault after which nothing is requested any more.
    pub(crate) dead: Option<Fault>,
    /// What is wrong now, but may pass.
    pub(crate) ill: Option<Fault>,
    /// Since when nothing is tried, after something failed.
    pause: Pause,
    /// After nothing of it could be spared.
    pub(crate) keeps: Pause,
    /// How often the device was busy since it last did something.
    busy: u32,
    /// How often something failed since the device last did something.
    failures: u32,
}

impl<'m, M: Machine, T: Transport> Device<'m, M, T> {
    /// Resets a device, and unplugs all of its memory.
    ///
    /// # Errors
    ///
    /// The [`Fault`] why it cannot be used.
    pub(crate) fn start(transport: T, mm: &'m Mm<M>, time: &impl Board) -> Result<Self, Fault> {
        reset(&transport, mm, time)?;
        let mut queue = Queue::new(mm)?;
        let mut transport = transport;
        match begin(&mut transport, mm, &mut queue, time) {
            Ok((region, sizes)) => Ok(Self {
                transport,
                queue,
                region,
                sizes,
                news: false,
                unit: region.block.max(mm.subsection()),
                plugged: 0,
                dead: None,
                ill: None,
                pause: Pause::default(),
                keeps: Pause::default(),
                busy: 0,
                failures: 0,
            }),
            Err(fault) => {
                transport.set_status(FAILED);
                end(&transport, mm, queue, time);
                Err(fault)
            }
        }
    }

    /// Resets the device, which is not used.
    pub(crate) fn stop(self, mm: &'m Mm<M>, time: &impl Board) {
        end(&self.transport, mm, self.queue, time);
    }

    /// The addresses where pieces may be plugged: whole units.
    pub(crate) fn usable(&self) -> PhysRange {
        units(self.region.range, self.sizes.usable, self.unit).unwrap_or_default()
    }

    /// The node of its memory.
    pub(crate) fn node(&self) -> NodeId {
        let node = self.region.node.map(u32::from);
        node.and_then(NodeId::new).unwrap_or_default()
    }

    /// The most bytes that one request can be about, in whole units: 0 for a unit of more blocks than that.
    pub(crate) fn most(&self) -> u64 {
        let most = self.region.block.saturating_mul(u16::MAX.into());
        most / self.unit * self.unit
    }

    /// Whether an interrupt reports changes.
    pub(crate) fn interrupts(&self) -> bool {
        self.transport.interrupts()
    }

    /// Has it release its interrupt line.
    pub(crate) fn acknowledge(&self) {
        self.transport.acknowledge();
    }

    /// Bytes that are to be plugged, or unplugged if there are too many: whole units.
    pub(crate) fn missing(&self) -> u64 {
        self.sizes.requested.saturating_sub(self.plugged) / self.unit * self.unit
    }

    /// Bytes that are to be unplugged: whole units.
    pub(crate) fn excess(&self) -> u64 {
        self.plugged.saturating_sub(self.sizes.requested).div_ceil(self.unit) * self.unit
    }

    /// Reads the sizes; a fault is noted. What failed is tried again at once after other sizes only, and
    /// [as long](Self::is_tried_at_once) as that may help: the device itself counts its generations, and would have it tried
    /// for ever.
    pub(crate) fn refresh(&mut self) {
        if self.dead.is_some() {
            return;
        }
        let was = (self.sizes, self.ill);
        match self.look() {
            Ok(sizes) => (self.sizes, self.ill) = (sizes, None),
            Err(fault) if fault.is_passing() => self.ill = Some(fault),
            Err(fault) => _ = self.die(fault),
        }
        let changed = (self.sizes.requested, self.sizes.usable) != (was.0.requested, was.0.usable);
        if changed {
            self.busy = 0;
        }
        if changed && self.is_tried_at_once() {
            self.pause.end();
        }
        self.news |= changed || self.ill != was.1 || self.dead.is_some();
    }

    /// Counts a failure.
    pub(crate) const fn note_failure(&mut self) {
        self.failures = self.failures.saturating_add(1);
    }

    /// Whether other sizes have tried again at once what failed. A device that refuses everything, and requests another
    /// size each time, would keep the kernel awake: after some failures in a row only a pause does.
    pub(crate) const fn is_tried_at_once(&self) -> bool {
        self.failures < MOST_FAILURES
    }

    /// Whether there were other sizes since the last call, or a fault came or went.
    pub(crate) const fn take_news(&mut self) -> bool {
        core::mem::replace(&mut self.news, false)
    }

    fn look(&self) -> Result<Sizes, Fault> {
        if self.transport.status() & NEEDS_RESET != 0 {
            return Err(Fault::NeedsReset);
        }
        let config = Config::read(&self.transport)?;
        let region = config.region(self.region.node.is_some())?;
        self.region.check(&region)?;
        config.sizes(&self.region)
    }

    /// Plugs a range of whole blocks.
    ///
    /// # Errors
    ///
    /// [`Fault`]; if it [passes](Fault::is_passing), nothing is plugged.
    pub(crate) fn plug(&mut self, range: PhysRange, time: &impl Board) -> Result<(), Fault> {
        self.change(Kind::Plug, range, time)?;
        self.plugged += range.len();
        match self.exchange(Kind::State, range, time)? {
            Response::State(State::Plugged) => self.compare(),
            Response::State(_) => Err(self.die(Fault::NotPlugged(range))),
            // A device need not respond to it: what it did was acknowledged.
            Response::Done | Response::Refused(_) => self.compare(),
        }
    }

    /// Unplugs a range of whole blocks.
    ///
    /// # Errors
    ///
    /// [`Fault`]; if it [passes](Fault::is_passing), all of it is still plugged.
    pub(crate) fn unplug(&mut self, range: PhysRange, time: &impl Board) -> Result<(), Fault> {
        self.change(Kind::Unplug, range, time)?;
        self.plugged = self.plugged.saturating_sub(range.len());
        self.compare()
    }

    /// Has the device do something, which is either done or refused.
    fn change(&mut self, kind: Kind, range: PhysRange, time: &impl Board) -> Result<(), Fault> {
        match self.exchange(kind, range, time)? {
            Response::Refused(refusal) => {
                self.busy = if refusal == Refusal::Busy { self.busy.saturating_add(1) } else { 0 };
                self.note_failure();
                Err(Fault::Refused(request(kind, range, self.region.block), refusal))
            }
            Response::Done | Response::State(_) => {
                (self.busy, self.failures) = (0, 0);
                Ok(())
            }
        }
    }

    fn exchange(
        &mut self,
        kind: Kind,
        range: PhysRange,
        time: &impl Board,
    ) -> Result<Response, Fault> {
        if let Some(fault) = self.dead {
            return Err(fault);
        }
        let request = request(kind, range, self.region.block);
        let response = self.queue.exchange(&self.transport, time, request);
        response.map_err(|fault| self.die(fault))
    }

    /// Compares what the device says is plugged with what should be.
    fn compare(&mut self) -> Result<(), Fault> {
        let says = match Config::read(&self.transport).and_then(|config| config.sizes(&self.region))
        {
            Ok(sizes) => sizes.plugged,
            // The configuration is looked at again when the next change is reported.
            Err(_) => return Ok(()),
        };
        let holds = self.plugged;
        if says == holds { Ok(()) } else { Err(self.die(Fault::Plugged { says, holds })) }
    }

    /// Gives the device up. It may share its interrupt line, which it must not keep active.
    fn die(&mut self, fault: Fault) -> Fault {
        self.dead = Some(fault);
        self.transport.silence();
        fault
    }

    /// Tries nothing for a while.
    pub(crate) fn pause(&mut self, time: &impl Board) {
        self.pause.begin(time);
    }

    /// Whether nothing is tried now.
    pub(crate) fn pauses(&self, time: &impl Board) -> bool {
        self.pause.is_on(time)
    }

    /// Whether the kernel stays awake to try something again.
    pub(crate) fn stays_awake(&self) -> bool {
        self.dead.is_none() && self.pause.has_begun() && (1..=BUSY_TRIES).contains(&self.busy)
    }
}

/// The request about a range of whole blocks.
fn request(kind: Kind, range: PhysRange, block: u64) -> Request {
    Request { kind, start: range.start(), blocks: (range.len() / block) as u16 }
}

/// The whole units in the first `bytes` of a region.
fn units(region: PhysRange, bytes: u64, unit: u64) -> Option<PhysRange> {
    let start = region.start().get().checked_next_multiple_of(unit)?;
    let end = (region.start().get().checked_add(bytes)?) / unit * unit;
    let bytes = end.checked_sub(start).filter(|&bytes| bytes != 0)?;
    PhysRange::new(PhysAddr::new(start), bytes)
}

/// Resets a device.
fn reset<M: Machine>(
    transport: &impl Transport,
    mm: &Mm<M>,
    time: &impl Board,
) -> Result<(), Fault> {
    transport.set_status(0);
    let start = time.ticks();
    let most = time.per_second().saturating_mul(RESET_SECONDS);
    for _ in 0..RESET_LOOKS {
        if transport.status() == 0 {
            return Ok(());
        }
        if time.ticks().wrapping_sub(start) > most {
            break;
        }
        mm.machine().relax();
    }
    Err(Fault::Reset(transport.status()))
}

/// Resets a device. After that it does not write to the page of its queue any more, which is then free.
fn end<M: Machine>(transport: &impl Transport, mm: &Mm<M>, queue: Queue<'_, M>, time: &impl Board) {
    if reset(transport, mm, time).is_err() {
        queue.abandon();
    }
}

/// Initialises a device that was reset (virtio 1.2, 3.1), and unplugs all of its memory.
fn begin<M: Machine>(
    transport: &mut impl Transport,
    mm: &Mm<M>,
    queue: &mut Queue<'_, M>,
    time: &impl Board,
) -> Result<(Region, Sizes), Fault> {
    transport.set_status(ACKNOWLEDGE);
    transport.set_status(ACKNOWLEDGE | DRIVER);
    let offered = transport.offered();
    if offered & VERSION_1 == 0 {
        return Err(Fault::NotModern);
    }
    let features = offered & (VERSION_1 | HAS_NODE | INACCESSIBLE);
    transport.accept(features);
    transport.set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK);
    if transport.status() & FEATURES_OK == 0 {
        return Err(Fault::Features(features));
    }
    let region = Config::read(transport)?.region(features & HAS_NODE != 0)?;
    let unit = region.block.max(mm.subsection());
    let most = region.block.saturating_mul(u16::MAX.into());
    if units(region.range, region.range.len(), unit).is_none() || unit > most {
        return Err(Fault::NoUnit { region: region.range, unit });
    }
    let room = transport.queue_room(queue::INDEX);
    if room < queue::SIZE {
        return Err(Fault::Queue(room));
    }
    if !transport.set_queue(queue::INDEX, queue::SIZE, queue.rings()) {
        return Err(Fault::NoNotify);
    }
    transport.set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
    // What a kernel before this one plugged is of no use: nothing is known about it.
    let all = Request { kind: Kind::UnplugAll, start: PhysAddr::default(), blocks: 0 };
    match queue.exchange(transport, time, all)? {
        Response::Refused(refusal) => return Err(Fault::Refused(all, refusal)),
        Response::Done | Response::State(_) => {}
    }
    let config = Config::read(transport)?;
    let sizes = config.sizes(&region)?;
    if sizes.plugged != 0 {
        return Err(Fault::Plugged { says: sizes.plugged, holds: 0 });
    }
    Ok((region, sizes))
}
