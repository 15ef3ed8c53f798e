//! The hypervisor's event logs as a source of hotplug events.

use super::board::Board;
use super::connector::{self, ConnectorError, Services, status};
use super::log_entry::{Action, LogError, MemoryEvent};
use crate::acpi::Latch;
use crate::hotplug::{DeviceId, Event, HotplugSource, Outcome, Ranges, Request};
use alloc::vec::Vec;
use core::fmt;
use hotmem::NodeId;

/// Classes of events that `check-exception` looks for: hotplug (LoPAR 10.3.2.1.1).
const HOTPLUG_CLASS: u32 = 0x1000_0000;
/// Its first argument: the vector of an external interrupt.
const EXTERNAL_VECTOR: u32 = 0x500;
/// Pieces of memory that are plugged, at the most: QEMU has 32 slots.
const DEVICES: usize = 128;

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

/// Memory that came, and goes, in one piece: a DIMM of QEMU's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    connector: u32,
    count: u32,
}

/// The memory of a machine with a POWER hypervisor, and its events.
#[derive(Debug)]
pub struct PaprSource<S> {
    services: S,
    board: Board,
    latch: &'static Latch,
    /// Pieces by device number; `None` where one is gone.
    pieces: Vec<Option<Piece>>,
    /// What was plugged before the start, and is still to be told: an index into the board's sets.
    next_assigned: usize,
    /// When the interrupt came after which there may be logs that were not fetched; `None`: there are
    /// none.
    pending: Option<Option<u64>>,
    /// Whether nothing interrupts, so that logs are to be looked for all the time.
    polls: bool,
}

impl<S: Services> PaprSource<S> {
    /// The events of `board`, of which line 0 of `latch` tells. After this, the heap is used for the
    /// few words of one associativity list at a time only.
    pub fn new(board: Board, services: S, latch: &'static Latch) -> Self {
        let pieces = Vec::with_capacity(DEVICES);
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
        Some(self.announce(piece, None, |_, _| Ok(node)))
    }

    /// An event about memory that is there, or why there is none.
    fn announce(
        &mut self,
        piece: Piece,
        since: Option<u64>,
        take: impl FnOnce(&mut Self, Piece) -> Result<NodeId, PaprError>,
    ) -> Event<PaprError> {
        let Piece { connector, count } = piece;
        let Some(device) = self.device(piece) else {
            let request = Request::Unreadable(PaprError::TooMany);
            return Event { device: DeviceId(u16::MAX), request, since };
        };
        let not_described = PaprError::NotDescribed { connector, count };
        let request = self
            .board
            .memory(connector, count)
            .ok_or(not_described)
            .and_then(|range| {
                let node = take(self, piece)?;
                let mut ranges = Ranges::default();
                // One range always fits.
                let _ = ranges.push(range);
                Ok(Request::Insert { ranges, node })
            })
            .unwrap_or_else(|error| {
                self.forget(device);
                Request::Unreadable(error)
            });
        Event { device, request, since }
    }

    /// Takes every block of a piece, or none.
    fn take(&mut self, piece: Piece) -> Result<NodeId, PaprError> {
        let tokens = self.board.tokens;
        let mut node = None;
        for index in 0..piece.count {
            match connector::take(&mut self.services, &tokens, piece.connector + index) {
                Ok(list) => node = node.or(self.board.node(&list)),
                Err(error) => {
                    for done in (0..index).rev() {
                        // The first error is the one to tell.
                        let at = piece.connector + done;
                        let _ = connector::give(&mut self.services, &tokens, at);
                    }
                    return Err(error.into());
                }
            }
        }
        Ok(node.unwrap_or_default())
    }

    /// The number of a piece: the one it has, or a free one.
    fn device(&mut self, piece: Piece) -> Option<DeviceId> {
        let known = self.pieces.iter().position(|&known| known == Some(piece));
        let free = || self.pieces.iter().position(Option::is_none);
        let index = known.or_else(free).unwrap_or(self.pieces.len());
        if index == self.pieces.len() {
            if index == DEVICES {
                return None;
            }
            self.pieces.push(None);
        }
        *self.pieces.get_mut(index)? = Some(piece);
        Some(DeviceId(index as u16))
    }

    fn forget(&mut self, device: DeviceId) {
        if let Some(piece) = self.pieces.get_mut(usize::from(device.0)) {
            *piece = None;
        }
    }

    fn piece(&self, device: DeviceId) -> Result<Piece, PaprError> {
        let piece = self.pieces.get(usize::from(device.0)).copied().flatten();
        piece.ok_or(PaprError::Unknown(device))
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
            Action::Add => Some(self.announce(piece, since, Self::take)),
            Action::Remove => {
                let known = self.pieces.iter().position(|&known| known == Some(piece));
                let Some(index) = known else {
                    // Nobody here has it in this form: it stays.
                    let first = piece.connector;
                    log::warn!("{} connectors from {first:#x} on were not added so", piece.count);
                    self.keep(piece);
                    return None;
                };
                Some(Event { device: DeviceId(index as u16), request: Request::Eject, since })
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
                    self.pending = None;
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
        for index in 0..piece.count {
            if let Err(error) =
                connector::give(&mut self.services, &tokens, piece.connector + index)
            {
                // The kernel adds the whole piece back: it needs the blocks that are gone already.
                for gone in (0..index).rev() {
                    connector::take(&mut self.services, &tokens, piece.connector + gone)?;
                }
                return Err(error.into());
            }
        }
        self.forget(device);
        Ok(())
    }

    fn label(&self, device: DeviceId) -> impl fmt::Display + '_ {
        let piece = self.piece(device).ok();
        fmt::from_fn(move |f| match piece {
            Some(Piece { connector, count }) => write!(f, "connectors {connector:#x}+{count}"),
            None => write!(f, "memory device {}", device.0),
        })
    }
}
