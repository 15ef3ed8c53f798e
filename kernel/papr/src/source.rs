//! The source of hotplug events that reads the hypervisor's event logs.

// UNSAFETY: vouches for the memory that the source announces.
#![expect(unsafe_code)]

use super::board::Board;
use super::connector::{Connector, ConnectorError, Services, status};
use super::fault::PaprError;
use super::held::Held;
use super::log_entry::{Action, LogError, MemoryEvent};
use super::pieces::{Known, MOST_BLOCKS, Piece, Pieces};
use super::queue::{LOGS, Queue};
use super::wanted::Wanted;
use core::fmt;
use hotmem::{NodeId, PhysRange};
use hotmem_hotplug::Latch;
use hotmem_hotplug::{DeviceId, Event, HotplugSource, Outcome, Ranges, Request, shown};

/// Classes of events that `check-exception` looks for: power, and hotplug (LoPAR 10.3.2.1.1).
const CLASSES: u32 = 0x4000_0000 | 0x1000_0000;
/// Its first argument: the vector of an external interrupt.
const EXTERNAL_VECTOR: u32 = 0x500;
/// How often a failed fetch is retried: there may be a log, and no other interrupt comes for it.
const TRIES: u32 = 16;

/// The actions of a power event (LoPAR 10.3.2.2.5) that end with the machine off.
const SYSTEM_SHUTDOWN: u8 = 3;
const SYSTEM_HALT: u8 = 4;
const MAIN_ENCLOSURE: u8 = 5;
const POWER_OFF: u8 = 7;

/// The device number for memory that was announced and not taken: no device has it.
const NONE: DeviceId = DeviceId::new(u16::MAX);

/// The memory of a machine with a POWER hypervisor, and its events.
#[derive(Debug)]
pub struct PaprSource<S> {
    pub(super) services: S,
    pub(super) board: Board,
    latch: &'static Latch,
    pub(super) pieces: Pieces,
    pub(super) held: Held,
    pub(super) queue: Queue,
    /// What the hypervisor asked for last.
    pub(super) wanted: Option<Wanted>,
    /// The next of the pieces that were plugged before the start and are not announced yet: an index into the
    /// board's sets.
    next_assigned: usize,
    /// When the interrupt came after which there may be logs that were not fetched; `None` if all were fetched.
    pending: Option<Option<u64>>,
    /// Whether there are no interrupts, so that logs have to be polled.
    polls: bool,
    /// How often logs could not be fetched since that last worked.
    failed: u32,
    /// The hypervisor requested that the machine is turned off.
    wants_power_off: bool,
}

impl<S: Services> PaprSource<S> {
    /// The events of `board`, which line 0 of `latch` reports. After this, no heap is used.
    pub fn new(board: Board, services: S, latch: &'static Latch) -> Self {
        Self {
            services,
            board,
            latch,
            pieces: Pieces::new(),
            held: Held::new(),
            queue: Queue::new(),
            wanted: None,
            next_assigned: 0,
            pending: None,
            polls: false,
            failed: 0,
            wants_power_off: false,
        }
    }

    /// Routes the interrupt source `source` to this CPU, and enables it (LoPAR 7.3.10.2, 7.3.10.5).
    ///
    /// # Errors
    ///
    /// [`ConnectorError`] names the service that failed.
    pub fn enable(&mut self, source: u32) -> Result<(), ConnectorError> {
        /// Server 0, and a priority that is neither the highest nor "never".
        const SERVER: u32 = 0;
        const PRIORITY: u32 = 5;
        let tokens = self.board.tokens;
        let route = [source, SERVER, PRIORITY];
        for (service, token, args) in [
            ("ibm,set-xive", tokens.set_xive, &route[..]),
            ("ibm,int-on", tokens.int_on, &route[..1]),
        ] {
            let status = status(&mut self.services, service, token, args)?;
            if status != 0 {
                let (status, connector) = (status.cast_signed(), source);
                return Err(ConnectorError::Failed { service, status, connector });
            }
        }
        Ok(())
    }

    /// The interrupt source of hotplug events.
    pub fn event_source(&self) -> Option<u32> {
        self.board.event_source
    }

    /// The interrupt source of power events.
    pub fn power_source(&self) -> Option<u32> {
        self.board.power_source
    }

    /// Enables events; with `polls` logs are fetched without interrupts. Returns how many pieces of memory were
    /// plugged before.
    pub fn arm(&mut self, polls: bool) -> usize {
        self.polls = polls;
        // For memory that was plugged while the kernel started there was no interrupt.
        self.pending = Some(None);
        self.board.assigned().count()
    }

    /// The next piece that was plugged before the start.
    fn assigned(&mut self) -> Option<Event<PaprError>> {
        let set = *self.board.assigned().nth(self.next_assigned)?;
        self.next_assigned += 1;
        let piece = Piece { connector: set.connector, count: set.count };
        let node = self.board.node_of(&set);
        // These connectors were configured before the kernel was started.
        Some(self.announce(piece, None, |_| Ok(node)))
    }

    /// An event about memory that is there, or about why it cannot be used.
    fn announce(
        &mut self,
        piece: Piece,
        since: Option<u64>,
        take: impl FnOnce(&mut Self) -> Result<NodeId, PaprError>,
    ) -> Event<PaprError> {
        let (device, request) = match self.insert(piece, take) {
            Ok((device, ranges, node)) => (device, Request::Insert { ranges, node }),
            Err(error) => (NONE, Request::Unreadable(error)),
        };
        Event { device, request, since }
    }

    /// The memory of a piece.
    ///
    /// # Errors
    ///
    /// The tree does not describe all of its blocks, or they are too many.
    pub(super) fn memory(&self, piece: Piece) -> Result<PhysRange, PaprError> {
        if piece.count > MOST_BLOCKS {
            return Err(PaprError::TooLarge(piece));
        }
        self.board.memory(piece.connector, piece.count).ok_or(PaprError::NotDescribed(piece))
    }

    /// Takes a piece in. One that is plugged already is not taken again: it is in use.
    fn insert(
        &mut self,
        piece: Piece,
        take: impl FnOnce(&mut Self) -> Result<NodeId, PaprError>,
    ) -> Result<(DeviceId, Ranges, NodeId), PaprError> {
        let mut ranges = Ranges::default();
        // One range always fits.
        let _ = ranges.push(self.memory(piece)?);
        match self.pieces.known(piece) {
            Known::Plugged(device, node) => Ok((device, ranges, node)),
            Known::InPart => Err(PaprError::Overlaps(piece)),
            Known::No if !self.pieces.has_room() => Err(PaprError::TooMany),
            Known::No => {
                let node = take(self)?;
                let device = self.pieces.insert(piece, node).ok_or(PaprError::TooMany)?;
                Ok((device, ranges, node))
            }
        }
    }

    /// Takes every block of a piece, or none: what was taken is given back, or held if the hypervisor
    /// does not take it.
    ///
    /// First all of them are made usable. A hypervisor that has requested the device refuses that, and nothing is
    /// configured yet; once all are usable, no block is removed without being given back.
    fn take(&mut self, piece: Piece) -> Result<NodeId, PaprError> {
        for (index, at) in piece.connectors().enumerate() {
            // What is held is usable, and configured, which it cannot be again.
            if self.held.node(at).is_none()
                && let Err(error) = self.connector(at).allow()
            {
                self.undo(piece.connectors().take(index));
                return Err(error.into());
            }
        }
        // The usable blocks now stay until they are configured or given back, so check here whether the
        // log is out of date: another device may be here, of which this piece is a part.
        self.pending = self.pending.or(Some(None));
        self.read_logs();
        // `read_logs` clears this if it finds no log, but later logs are still to be fetched.
        self.pending = self.pending.or(Some(None));
        if self.queue.revokes(piece) {
            self.undo(piece.connectors());
            return Err(PaprError::Revoked(piece));
        }
        let mut node = None;
        for (index, at) in piece.connectors().enumerate() {
            let taken = match self.held.node(at) {
                Some(node) => Ok(Some(node)),
                None => self.connector(at).take().map(|list| self.board.node(list.as_slice())),
            };
            match taken {
                Ok(found) => node = node.or(found),
                Err(error) => {
                    self.give_back(piece.connectors().take(index), node.unwrap_or_default());
                    self.undo(piece.connectors().skip(index));
                    return Err(error.into());
                }
            }
        }
        piece.connectors().for_each(|at| self.held.remove(at));
        Ok(node.unwrap_or_default())
    }

    /// Gives blocks back that were made usable and not configured, except those that are held.
    fn undo(&mut self, connectors: impl Iterator<Item = u32>) {
        for at in connectors {
            if self.held.node(at).is_none()
                && let Err(error) = self.leave(at)
            {
                log::info!("a block that is not used stays: {error}");
            }
        }
    }

    /// Gives unused configured blocks to the hypervisor. A block that it does not take is held until it is
    /// announced or requested again.
    fn give_back(&mut self, connectors: impl Iterator<Item = u32>, node: NodeId) {
        for at in connectors {
            let Err(error) = self.leave(at) else { continue };
            log::info!("a block that is not used is held: {error}");
            self.hold(at, node);
        }
    }

    /// Notes a block that is configured and not used.
    fn hold(&mut self, at: u32, node: NodeId) {
        if !self.held.insert(at, node) {
            log::error!("connector {at:#x} is lost: too many blocks are held");
        }
    }

    /// Isolates a block that is not used. One whose configuration failed is configured first, and held: QEMU isolates
    /// none between the two (`drc_isolate_logical`).
    fn isolate(&mut self, at: u32) -> Result<(), ConnectorError> {
        let mut connector = self.connector(at);
        let isolated = connector.isolate();
        if !isolated.is_err_and(|error| error.is_absent()) {
            return isolated;
        }
        let list = connector.configure()?;
        self.hold(at, self.board.node(list.as_slice()).unwrap_or_default());
        self.connector(at).isolate()
    }

    /// Leaves a block that is not used to the hypervisor, whatever its state: one that is gone already stays so,
    /// and nothing is undone. After an error it is as it was, or configured and held.
    pub(super) fn leave(&mut self, at: u32) -> Result<(), ConnectorError> {
        self.isolate(at)?;
        // Whether it becomes unusable or not: to be used again, it has to be configured again.
        self.held.remove(at);
        if let Err(error) = self.connector(at).forbid() {
            log::info!("a block that is not used stays usable: {error}");
        }
        Ok(())
    }

    pub(super) fn connector(&mut self, at: u32) -> Connector<'_, S> {
        Connector::new(&mut self.services, &self.board.tokens, at)
    }

    fn piece(&self, device: DeviceId) -> Result<Piece, PaprError> {
        self.pieces.get(device).ok_or(PaprError::Unknown(device))
    }

    /// Fetches one log; `None` if the hypervisor has no log.
    fn fetch(&mut self) -> Result<Option<MemoryEvent>, PaprError> {
        let address = self.services.buffer_address();
        let len = self.services.buffer().len() as u32;
        let args = [EXTERNAL_VECTOR, 0, CLASSES, 0, address, len];
        let service = "check-exception";
        match status(&mut self.services, service, self.board.tokens.check_exception, &args)? {
            0 => MemoryEvent::read(self.services.buffer()).map(Some).map_err(PaprError::Log),
            1 => Ok(None),
            other => {
                let failed =
                    ConnectorError::Failed { service, status: other.cast_signed(), connector: 0 };
                Err(failed.into())
            }
        }
    }

    /// Fetches all logs. When the hypervisor has no more and the queue is empty, the next look waits for an
    /// interrupt.
    pub(super) fn read_logs(&mut self) {
        if let Some(since) = self.latch.take_first() {
            self.pending = Some(since);
        } else if self.polls {
            self.pending = Some(None);
        }
        let Some(since) = self.pending else { return };
        // A hypervisor may make logs as fast as they are fetched: even those that are refused are counted.
        for _ in 0..LOGS {
            if !self.queue.has_room() {
                return;
            }
            match self.fetch() {
                Ok(Some(log)) => {
                    self.failed = 0;
                    self.queue.push(log, since);
                }
                Ok(None) => {
                    self.failed = 0;
                    self.pending = self.pending.filter(|_| !self.queue.is_empty());
                    return;
                }
                Err(PaprError::Log(error)) => self.refuse(error),
                Err(error) => {
                    // Logged once: a kernel that polls would log it at every look.
                    if self.failed == 0 {
                        log::error!("hotplug event: {error}; asked again");
                    }
                    self.failed = self.failed.saturating_add(1);
                    if self.failed >= TRIES {
                        // From now on at the next interrupt, or look.
                        self.pending = None;
                    }
                    return;
                }
            }
        }
    }

    /// The event that a log stands for.
    fn event(&mut self, log: MemoryEvent, since: Option<u64>) -> Option<Event<PaprError>> {
        let piece = log.piece;
        match log.action {
            Action::Add => self.arrival(piece, since),
            Action::Remove => self.removal(piece, since),
        }
    }

    /// The event for memory that was announced; `None` if the hypervisor has removed it meanwhile, which is not
    /// an error.
    fn arrival(&mut self, piece: Piece, since: Option<u64>) -> Option<Event<PaprError>> {
        let event = self.announce(piece, since, |this| this.take(piece));
        match &event.request {
            Request::Unreadable(error) if error.is_absent() => {
                log::warn!("{piece} went before the kernel took it: {error}");
                None
            }
            _ => Some(event),
        }
    }

    /// Serves a log that could not be read. No other may come of it.
    fn refuse(&mut self, error: LogError) {
        match error {
            LogError::NotMemory(_) => log::debug!("hotplug event: {error}"),
            LogError::Power(SYSTEM_SHUTDOWN | SYSTEM_HALT | MAIN_ENCLOSURE | POWER_OFF) => {
                log::info!("papr: {error}: the hypervisor wants the machine off");
                self.wants_power_off = true;
            }
            LogError::Power(_) => log::warn!("papr: {error} is ignored"),
            LogError::NoConnector { action, .. } => {
                log::warn!("hotplug event: {error}");
                if action == Action::Remove {
                    self.keep_the_rest();
                }
            }
            _ => log::error!("hotplug event: {error}"),
        }
    }
}

// SAFETY: the ranges are those of connectors that the hypervisor says are plugged, and checked against RAM in use.
unsafe impl<S: Services> HotplugSource for PaprSource<S> {
    type Error = PaprError;

    fn next_event(&mut self) -> Option<Event<PaprError>> {
        if let Some(event) = self.assigned().or_else(|| self.next_removal()) {
            return Some(event);
        }
        self.read_logs();
        let (log, since) = self.queue.pop()?;
        self.event(log, since)
    }

    fn next_insert(&mut self, ejecting: Option<DeviceId>) -> Option<Event<PaprError>> {
        let going = match ejecting {
            Some(device) => Some(self.pieces.get(device)?),
            None => None,
        };
        self.read_logs();
        let wanted = self.wanted.as_ref().map(|wanted| wanted.whole);
        let (log, since) = self.queue.take_add(going.into_iter().chain(wanted))?;
        self.event(log, since)
    }

    fn has_work(&self) -> bool {
        let removes = self.wanted.as_ref().is_some_and(Wanted::goes_on);
        removes || self.pending.is_some() || !self.queue.is_empty() || self.latch.is_raised()
    }

    fn reply(&mut self, device: DeviceId, outcome: Outcome) -> Result<Option<u32>, PaprError> {
        if let Outcome::EjectRefused(_) = outcome {
            self.cancel(self.piece(device)?)?;
        }
        // The hypervisor expects no reply to an add.
        Ok(None)
    }

    fn eject(&mut self, device: DeviceId) -> Result<(), PaprError> {
        let piece = self.piece(device)?;
        let given = match self.give_first(piece) {
            Ok(given) => given,
            Err(error) => {
                // The kernel adds the piece back, so the hypervisor must cancel its request.
                let _ = self.cancel(piece);
                return Err(error);
            }
        };
        // The piece cannot be kept any more: what the hypervisor does not take of the rest is held.
        let node = self.pieces.node(device);
        self.give_back(piece.connectors().skip(given), node);
        self.pieces.remove(device);
        if let Some(wanted) = &mut self.wanted {
            wanted.lose(piece);
        }
        let is_left = |wanted: &Wanted| self.pieces.iter().any(|(_, at)| at.is_in(wanted.whole));
        self.wanted = self.wanted.filter(is_left);
        Ok(())
    }

    fn wants_power_off(&self) -> bool {
        self.wants_power_off
    }

    fn is_withdrawn(&self, error: &PaprError) -> bool {
        matches!(error, PaprError::Connector(ConnectorError::NotWanted(_)))
    }

    fn label(&self, device: DeviceId) -> impl fmt::Display + '_ {
        let piece = self.piece(device).ok();
        shown(move |f| match piece {
            Some(piece) => write!(f, "{piece}"),
            None if device == NONE => f.write_str("memory that was not taken"),
            None => write!(f, "{device}"),
        })
    }
}
