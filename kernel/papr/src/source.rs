//! The hypervisor's event logs as a source of hotplug events.

use super::board::Board;
use super::connector::{self, ConnectorError, Services, status};
use super::log_entry::{Action, LogError, MemoryEvent};
use super::pieces::{DEVICES, Known, Piece, Pieces};
use core::fmt;
use hotmem::NodeId;
use hotmem_hotplug::Latch;
use hotmem_hotplug::{DeviceId, Event, HotplugSource, Outcome, Ranges, Request};

/// Classes of events that `check-exception` looks for: hotplug (LoPAR 10.3.2.1.1).
const HOTPLUG_CLASS: u32 = 0x1000_0000;
/// Its first argument: the vector of an external interrupt.
const EXTERNAL_VECTOR: u32 = 0x500;

/// What can go wrong with a piece of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PaprError {
    /// A connector did not do as it was told.
    Connector(ConnectorError),
    /// A log could not be read.
    Log(LogError),
    /// The device tree does not describe the memory behind these connectors.
    NotDescribed {
        /// The first.
        connector: u32,
        /// How many.
        count: u32,
    },
    /// Some of these connectors, but not just these, are those of memory that is plugged already.
    Overlaps {
        /// The first.
        connector: u32,
        /// How many.
        count: u32,
    },
    /// There are too many pieces to tell apart.
    TooMany,
    /// No such piece is known.
    Unknown(DeviceId),
}

impl fmt::Display for PaprError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connector(error) => error.fmt(f),
            Self::Log(error) => error.fmt(f),
            Self::NotDescribed { connector, count } => {
                write!(f, "{count} connectors from {connector:#x} on are not described")
            }
            Self::Overlaps { connector, count } => {
                write!(f, "{count} connectors from {connector:#x} on are in part plugged already")
            }
            Self::TooMany => write!(f, "more than {DEVICES} pieces of memory"),
            Self::Unknown(device) => write!(f, "memory device {} is not known", device.0),
        }
    }
}

impl From<ConnectorError> for PaprError {
    fn from(error: ConnectorError) -> Self {
        Self::Connector(error)
    }
}

/// The number of a device that is none: of memory that was announced and not taken.
const NONE: DeviceId = DeviceId(u16::MAX);

/// The memory of a machine with a POWER hypervisor, and its events.
#[derive(Debug)]
pub struct PaprSource<S> {
    services: S,
    board: Board,
    latch: &'static Latch,
    pieces: Pieces,
    /// What was plugged before the start, and is still to be told: an index into the board's sets.
    next_assigned: usize,
    /// When the interrupt came after which there may be logs that were not fetched; `None`: there are
    /// none.
    pending: Option<Option<u64>>,
    /// Whether nothing interrupts, so that logs are to be looked for all the time.
    polls: bool,
}

impl<S: Services> PaprSource<S> {
    /// The events of `board`, of which line 0 of `latch` tells. After this, no heap is used.
    pub fn new(board: Board, services: S, latch: &'static Latch) -> Self {
        let pieces = Pieces::new();
        Self { services, board, latch, pieces, next_assigned: 0, pending: None, polls: false }
    }

    /// Lets the interrupt source `source` interrupt this CPU (LoPAR 7.3.10.2, 7.3.10.5).
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

    /// The interrupt source of events.
    pub fn event_source(&self) -> Option<u32> {
        self.board.event_source
    }

    /// Lets events come; with `polls` they are looked for without interrupts. Answers how many pieces
    /// of memory were plugged before.
    pub fn arm(&mut self, polls: bool) -> usize {
        self.polls = polls;
        // What was plugged while the kernel started has interrupted nobody.
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

    /// An event about memory that is there, or why there is none.
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

    /// Takes a piece in. One that is plugged already is not taken again: it is in use.
    fn insert(
        &mut self,
        piece: Piece,
        take: impl FnOnce(&mut Self) -> Result<NodeId, PaprError>,
    ) -> Result<(DeviceId, Ranges, NodeId), PaprError> {
        let Piece { connector, count } = piece;
        let range = self.board.memory(connector, count);
        let mut ranges = Ranges::default();
        // One range always fits.
        let _ = ranges.push(range.ok_or(PaprError::NotDescribed { connector, count })?);
        match self.pieces.known(piece) {
            Known::Plugged(device, node) => Ok((device, ranges, node)),
            Known::InPart => Err(PaprError::Overlaps { connector, count }),
            Known::No if !self.pieces.has_room() => Err(PaprError::TooMany),
            Known::No => {
                let node = take(self)?;
                let device = self.pieces.insert(piece, node).ok_or(PaprError::TooMany)?;
                Ok((device, ranges, node))
            }
        }
    }

    /// Takes every block of a piece, or none.
    fn take(&mut self, piece: Piece) -> Result<NodeId, PaprError> {
        let tokens = self.board.tokens;
        let mut node = None;
        for (index, at) in piece.connectors().enumerate() {
            match connector::take(&mut self.services, &tokens, at) {
                Ok(list) => node = node.or(self.board.node(list.as_slice())),
                Err(error) => {
                    self.give_back(piece.connectors().take(index));
                    return Err(error.into());
                }
            }
        }
        Ok(node.unwrap_or_default())
    }

    /// Gives blocks to the hypervisor that nobody uses; tells which of them it does not take.
    fn give_back(&mut self, connectors: impl Iterator<Item = u32>) {
        for at in connectors {
            if let Err(error) = connector::give(&mut self.services, &self.board.tokens, at) {
                log::error!("a block that is not used stays: {error}");
            }
        }
    }

    /// A block of a piece, the one with number `index`, cannot be given up. Answers whether the kernel
    /// may use all of the piece again: if not, what is left of it is nobody's.
    fn take_back(&mut self, piece: Piece, index: usize) -> bool {
        let tokens = self.board.tokens;
        // The hypervisor lets no block come back of a device that it still wants to have.
        if let Some(at) = piece.connectors().nth(index) {
            let _ = connector::keep(&mut self.services, &tokens, at);
        }
        let mut gone = piece.connectors().take(index);
        let back = gone.all(|at| connector::take(&mut self.services, &tokens, at).is_ok());
        if !back {
            self.give_back(piece.connectors());
        }
        back
    }

    fn piece(&self, device: DeviceId) -> Result<Piece, PaprError> {
        self.pieces.get(device).ok_or(PaprError::Unknown(device))
    }

    /// Fetches one log; `None` if there is none.
    fn fetch(&mut self) -> Result<Option<MemoryEvent>, PaprError> {
        let address = self.services.buffer_address();
        let len = self.services.buffer().len() as u32;
        let args = [EXTERNAL_VECTOR, 0, HOTPLUG_CLASS, 0, address, len];
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

    /// The event that a log stands for.
    fn event(&mut self, log: MemoryEvent, since: Option<u64>) -> Option<Event<PaprError>> {
        let piece = Piece { connector: log.connector, count: log.count };
        match log.action {
            Action::Add => Some(self.announce(piece, since, |this| this.take(piece))),
            Action::Remove => {
                let Known::Plugged(device, _) = self.pieces.known(piece) else {
                    // Nobody here has it in this form: it stays.
                    let first = piece.connector;
                    log::warn!("{} connectors from {first:#x} on were not added so", piece.count);
                    self.keep(piece);
                    return None;
                };
                Some(Event { device, request: Request::Eject, since })
            }
        }
    }

    /// Tells the hypervisor that a piece stays.
    fn keep(&mut self, piece: Piece) {
        let tokens = self.board.tokens;
        if let Err(error) = connector::keep(&mut self.services, &tokens, piece.connector) {
            log::error!("cannot refuse: {error}");
        }
    }
}

impl<S: Services> HotplugSource for PaprSource<S> {
    type Error = PaprError;

    fn next_event(&mut self) -> Option<Event<PaprError>> {
        if let Some(event) = self.assigned() {
            return Some(event);
        }
        if let Some(since) = self.latch.take_first() {
            self.pending = Some(since);
        } else if self.polls {
            self.pending = Some(None);
        }
        let since = self.pending?;
        match self.fetch() {
            Ok(Some(log)) => self.event(log, since),
            Ok(None) => {
                self.pending = None;
                None
            }
            Err(error) => {
                log::error!("hotplug event: {error}");
                if !matches!(error, PaprError::Log(_)) {
                    // Nor is there a point in asking again, until an interrupt comes.
                    self.pending = None;
                    self.polls = false;
                }
                None
            }
        }
    }

    fn has_work(&self) -> bool {
        self.pending.is_some() || self.latch.is_raised()
    }

    fn answer(&mut self, device: DeviceId, outcome: Outcome) -> Result<Option<u32>, PaprError> {
        if let Outcome::EjectRefused(_) = outcome {
            let piece = self.piece(device)?;
            connector::keep(&mut self.services, &self.board.tokens, piece.connector)?;
        }
        // What became of an add the hypervisor does not ask.
        Ok(None)
    }

    fn eject(&mut self, device: DeviceId) -> Result<(), PaprError> {
        let piece = self.piece(device)?;
        let tokens = self.board.tokens;
        for (index, at) in piece.connectors().enumerate() {
            let given = connector::give(&mut self.services, &tokens, at);
            let Err(error) = given else { continue };
            // The kernel adds the whole piece back, which it may not if a block of it is gone.
            if self.take_back(piece, index) {
                return Err(error.into());
            }
            log::error!("{error}: memory that was given up before did not come back");
            break;
        }
        self.pieces.remove(device);
        Ok(())
    }

    fn label(&self, device: DeviceId) -> impl fmt::Display + '_ {
        let piece = self.piece(device).ok();
        fmt::from_fn(move |f| match piece {
            Some(Piece { connector, count }) => write!(f, "connectors {connector:#x}+{count}"),
            None if device == NONE => f.write_str("memory that was not taken"),
            None => write!(f, "memory device {}", device.0),
        })
    }
}
