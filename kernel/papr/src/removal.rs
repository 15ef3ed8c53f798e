//! Requests of the hypervisor to give up memory.
//!
//! ```text
//!   remove log --> not in use: given up at once
//!              \-> in use, whole: Eject, device after device; what is between them is given up at once
//!              \-> in use in part: stays
//!   refused --> nothing of it is gone: cancelled as a whole
//!           \-> some of it is gone: stays open, the hypervisor can ask for the rest again
//! ```

use super::connector::{Connector, ConnectorError, Services};
use super::fault::PaprError;
use super::pieces::Piece;
use super::source::PaprSource;
use super::wanted::Wanted;
use hotmem_hotplug::{Event, Request};

impl<S: Services> PaprSource<S> {
    /// The event for a request of the hypervisor to remove `wanted`. Blocks that the kernel does not use are given
    /// up at once.
    pub(super) fn removal(
        &mut self,
        wanted: Piece,
        since: Option<u64>,
    ) -> Option<Event<PaprError>> {
        // A count may be any number: only memory that the tree describes can have come.
        if let Err(error) = self.memory(wanted) {
            log::warn!("removal requested: {error}; the request is dropped");
            return None;
        }
        let used = || self.pieces.iter().filter(|(_, piece)| piece.overlaps(wanted));
        let Some((first, piece)) = used().next() else {
            log::info!("{wanted}: not in use, given up");
            self.give_up(wanted.connectors());
            return None;
        };
        if !used().all(|(_, piece)| piece.is_in(wanted)) {
            log::warn!("{wanted}: not added so, stays");
            // The hypervisor may cancel what is in use to the last block, and that alone.
            if wanted.is_in(piece) {
                self.keep(wanted);
            }
            return None;
        }
        let blocks_in_use: u32 = used().map(|(_, piece)| piece.count).sum();
        let broken = blocks_in_use < wanted.count;
        for at in wanted.connectors().filter(|_| broken) {
            if !self.pieces.iter().any(|(_, piece)| piece.contains(at)) {
                self.give_up(core::iter::once(at));
            }
        }
        self.wanted = Some(Wanted { whole: wanted, next: Some(first), since, broken });
        self.next_removal()
    }

    /// The next device that the hypervisor's request covers.
    pub(super) fn next_removal(&mut self) -> Option<Event<PaprError>> {
        let wanted = self.wanted.as_mut()?;
        let (whole, from) = (wanted.whole, wanted.next.take()?);
        let mut rest =
            self.pieces.iter().filter(|&(id, at)| id.number() >= from.number() && at.is_in(whole));
        let (device, _) = rest.next()?;
        wanted.next = rest.next().map(|(next, _)| next);
        Some(Event { device, request: Request::Eject, since: wanted.since })
    }

    /// Has the hypervisor cancel its request for `piece`, and for all else that it asked for with it. It
    /// cannot keep a device of which a block is gone, nor one that a log behind this request replaces.
    pub(super) fn cancel(&mut self, piece: Piece) -> Result<(), PaprError> {
        self.read_logs();
        let wanted = self.wanted.filter(|wanted| piece.is_in(wanted.whole));
        if self.queue.replaces(piece) || wanted.is_some_and(|wanted| wanted.broken) {
            log::error!("cannot refuse: {piece} is a part of what the hypervisor asked for");
            return Ok(());
        }
        let whole = wanted.map_or(piece, |wanted| wanted.whole);
        self.wanted = self.wanted.filter(|wanted| !piece.is_in(wanted.whole));
        let mut result = Ok(());
        for (_, piece) in self.pieces.iter().filter(|(_, piece)| piece.is_in(whole)) {
            // A reply that fails does not keep the others from getting theirs.
            let kept =
                Connector::new(&mut self.services, &self.board.tokens, piece.connector).keep();
            result = result.and(kept);
        }
        Ok(result?)
    }

    /// Gives the first block of `piece` to the hypervisor, as the last moment at which the piece can stay.
    /// Returns how many blocks, from the first one on, it has given. After an error all of it is as it was.
    ///
    /// A block that was not requested has the same status as a hardware error. A request is for whole devices, so
    /// the second block is tried: if that can be isolated, the first one has an error of its own.
    pub(super) fn give_first(&mut self, piece: Piece) -> Result<usize, PaprError> {
        let mut blocks = piece.connectors();
        let Some(first) = blocks.next() else { return Ok(0) };
        let given = self.connector(first).give();
        let (Err(error @ ConnectorError::NotWanted(_)), Some(second)) = (given, blocks.next())
        else {
            given?;
            return Ok(1);
        };
        if self.connector(second).isolate().is_err() {
            return Err(error.into());
        }
        // The request may have come between the two.
        let Err(_) = self.connector(first).give() else { return Ok(1) };
        match self.connector(second).take() {
            Ok(_) => Err(ConnectorError::not_isolated(first).into()),
            Err(error) => {
                // The block is not as before, so the piece cannot be kept.
                log::error!("a block cannot be used again: {error}");
                Ok(0)
            }
        }
    }

    /// Reports to the hypervisor that a piece stays.
    fn keep(&mut self, piece: Piece) {
        log_kept(self.connector(piece.connector).keep());
    }

    /// Refuses a request that does not name its device: un-isolates all devices except those that another request
    /// is about. The hypervisor knows which device it requested, and ignores this for the others.
    pub(super) fn keep_the_rest(&mut self) {
        for (_, piece) in self.pieces.iter() {
            let is_asked = self.wanted.is_some_and(|wanted| piece.overlaps(wanted.whole));
            if is_asked || self.queue.wants(piece) || self.queue.replaces(piece) {
                continue;
            }
            let (services, tokens) = (&mut self.services, &self.board.tokens);
            log_kept(Connector::new(services, tokens, piece.connector).keep());
        }
    }

    /// Gives up blocks that the hypervisor requests and the kernel does not use, whatever state they are in. A
    /// block that is gone already is not an error. Nothing is un-isolated: that would cancel the request.
    fn give_up(&mut self, connectors: impl Iterator<Item = u32>) {
        for at in connectors {
            if let Err(error) = self.leave(at) {
                log::debug!("a block that is not used is not taken: {error}");
            }
        }
    }
}

/// Logs that the hypervisor was not told that something stays.
fn log_kept(kept: Result<(), ConnectorError>) {
    if let Err(error) = kept {
        log::error!("cannot refuse: {error}");
    }
}
