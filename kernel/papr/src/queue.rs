//! Logs that were fetched and are not served yet.
//!
//! A log may be out of date: what it announces may be gone again, and another device may be in its place.
//! Only later logs show this, so all of them are fetched before one is served.

use super::log_entry::{Action, MemoryEvent};
use super::pieces::Piece;
use alloc::collections::VecDeque;

/// Logs at the most; more wait in the hypervisor.
pub(super) const LOGS: usize = 256;

/// The logs in their order, each with the clock when its interrupt came. The table never grows.
#[derive(Debug)]
pub(super) struct Queue(VecDeque<(MemoryEvent, Option<u64>)>);

impl Queue {
    pub(super) fn new() -> Self {
        Self(VecDeque::with_capacity(LOGS))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn has_room(&self) -> bool {
        self.0.len() < LOGS
    }

    /// Takes a log in. Call [`has_room`](Self::has_room) before.
    pub(super) fn push(&mut self, log: MemoryEvent, since: Option<u64>) {
        if self.has_room() {
            self.0.push_back((log, since));
        }
    }

    /// The oldest log.
    pub(super) fn pop(&mut self) -> Option<(MemoryEvent, Option<u64>)> {
        self.0.pop_front()
    }

    /// Takes the first add that is about nothing of `busy`, nor of an older log.
    pub(super) fn take_add(
        &mut self,
        busy: impl Iterator<Item = Piece> + Clone,
    ) -> Option<(MemoryEvent, Option<u64>)> {
        let logs = &self.0;
        let at = logs.iter().enumerate().position(|(at, (log, _))| {
            let mut older = logs.iter().take(at).map(|(older, _)| older.piece).chain(busy.clone());
            log.action == Action::Add && !older.any(|piece| piece.overlaps(log.piece))
        })?;
        self.0.remove(at)
    }

    /// Whether one of these logs requests the removal of all of `piece`.
    pub(super) fn revokes(&self, piece: Piece) -> bool {
        self.0.iter().any(|(log, _)| log.action == Action::Remove && piece.is_in(log.piece))
    }

    /// Whether one of these logs requests the removal of any part of `piece`.
    pub(super) fn wants(&self, piece: Piece) -> bool {
        let mut removes = self.0.iter().filter(|(log, _)| log.action == Action::Remove);
        removes.any(|(log, _)| log.piece.overlaps(piece))
    }

    /// Whether one of these logs announces something else where `piece` is, so that `piece` is not a whole device.
    pub(super) fn replaces(&self, piece: Piece) -> bool {
        self.0.iter().any(|(log, _)| {
            let other = log.piece;
            log.action == Action::Add && other != piece && other.overlaps(piece)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn a_device_is_replaced_by_an_add_of_something_else_in_its_place() {
        let piece = Piece { connector: 4, count: 4 };
        let cases = [
            (Action::Add, 4, 4, false),
            (Action::Add, 4, 8, true),
            (Action::Add, 6, 1, true),
            (Action::Add, 8, 4, false),
            (Action::Remove, 4, 8, false),
        ];
        for (action, connector, count, replaces) in cases {
            let mut queue = Queue::new();
            let log = MemoryEvent { action, piece: Piece { connector, count } };
            queue.push(log, None);
            assert_eq!(queue.replaces(piece), replaces, "{log:?}");
        }
    }

    #[test]
    fn an_add_overtakes_only_what_is_about_other_memory() {
        let log =
            |action, connector, count| MemoryEvent { action, piece: Piece { connector, count } };
        let busy = [4, 40].map(|connector| Piece { connector, count: 4 });
        let first = log(Action::Add, 2, 4);
        let [old, odd] = [Action::Remove, Action::Add].map(|action| log(action, 8, 4));
        let [asked, new] = [41, 16].map(|connector| log(Action::Add, connector, 1));
        let mut queue = Queue::new();
        [first, old, odd, asked, new].into_iter().for_each(|log| queue.push(log, Some(7)));
        assert_eq!(queue.take_add(busy.into_iter()), Some((new, Some(7))));
        assert_eq!(queue.take_add(busy.into_iter()), None);
        let rest: Vec<_> = core::iter::from_fn(|| queue.pop()).map(|(log, _)| log).collect();
        assert_eq!(rest, [first, old, odd, asked]);
    }
}
