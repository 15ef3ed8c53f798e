//! The monitor's listeners: one for taken memory, and those that the operator adds, which watch, or object.

use super::refused::Refused;
use crate::fault::{Faults, Point};
use alloc::boxed::Box;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU32, Ordering};
use hotmem::lock::{RawLock, lock_api::Mutex};
use hotmem::{BlockId, Change, Event, ListInUse, Listen, Listener, Machine, Mm, TakeList};

/// Lists of taken blocks that can be kept.
const LISTS: usize = 16;
/// Watchers that can be added in total: each stays in memory for ever.
const WATCHERS: usize = 32;

/// The blocks that memtrace has taken by name. It vetoes bringing them online.
#[derive(Debug)]
pub(super) struct Trace<L: RawLock> {
    lists: Mutex<L, [Option<TakeList>; LISTS]>,
}

impl<L: RawLock> Trace<L> {
    /// Registers the listener.
    pub(super) fn start<M: Machine<Lock = L>>(mm: &Mm<M>) -> &'static Self {
        let trace: &'static Self = Box::leak(Box::new(Self { lists: Mutex::new([None; LISTS]) }));
        let listener = Box::leak(Box::new(Listener::new("memtrace", i32::MAX, trace)));
        if let Err(error) = mm.listen(listener) {
            log::error!("memtrace cannot keep taken blocks offline: {error}");
        }
        trace
    }

    /// Whether there is room for another list.
    pub(super) fn has_room(&self) -> bool {
        self.lists.lock().iter().any(Option::is_none)
    }

    /// Keeps a list of taken blocks.
    pub(super) fn keep(&self, list: TakeList) {
        if let Some(free) = self.lists.lock().iter_mut().find(|slot| slot.is_none()) {
            *free = Some(list);
        }
    }

    fn holds(&self, block: BlockId) -> bool {
        let lists = self.lists.lock();
        let mut pieces = lists.iter().flatten().flat_map(|list| list.pieces());
        pieces.any(|piece| (piece.first..=piece.last).contains(&block))
    }

    /// Drops all lists: the blocks were released.
    pub(super) fn clear(&self) {
        *self.lists.lock() = [None; LISTS];
    }
}

impl<L: RawLock> Listen for Trace<L> {
    fn notify(&self, event: Event, change: &Change) -> Result<(), &'static str> {
        if event == Event::GoingOnline && self.holds(change.block) {
            return Err("the block is taken");
        }
        Ok(())
    }
}

/// Objects where a fault has the step of a listener fail. It comes last, when all others have agreed.
#[derive(Debug)]
pub(super) struct Objector(&'static Faults);

impl Objector {
    /// Registers the listener. Each one that is registered costs every change of a block a call, so this waits for the
    /// first fault that is asked for.
    pub(super) fn start<M: Machine>(mm: &Mm<M>, faults: &'static Faults) -> Result<(), ListInUse> {
        let objector: &'static Self = Box::leak(Box::new(Self(faults)));
        let listener = Box::leak(Box::new(Listener::new("fault", i32::MIN, objector)));
        mm.listen(listener)
    }
}

impl Listen for Objector {
    fn notify(&self, event: Event, _: &Change) -> Result<(), &'static str> {
        let asks = matches!(event, Event::GoingOnline | Event::GoingOffline);
        if !asks || self.0.allows(Point::Listener) { Ok(()) } else { Err("a fault was asked for") }
    }
}

/// The events that a watcher objects to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Objection {
    /// Nothing.
    None,
    /// Blocks that come online.
    Online,
    /// Blocks that go offline.
    Offline,
}

impl Objection {
    const fn to(self, event: Event) -> bool {
        matches!(
            (self, event),
            (Self::Online, Event::GoingOnline) | (Self::Offline, Event::GoingOffline)
        )
    }
}

/// A listener that logs its notifications.
#[derive(Debug)]
struct Watcher {
    number: u32,
    priority: i32,
    objection: Objection,
    heard: AtomicU32,
}

impl Listen for Watcher {
    fn notify(&self, event: Event, change: &Change) -> Result<(), &'static str> {
        self.heard.fetch_add(1, Ordering::Relaxed);
        log::info!("watcher {} notified: {} {}", self.number, event.name(), change.block);
        if self.objection.to(event) { Err("the operator asked for it") } else { Ok(()) }
    }
}

/// A watcher, and its entry in the manager's list.
#[derive(Clone, Copy, Debug)]
struct Place(&'static Watcher, &'static Listener);

/// The operator's watchers.
#[derive(Debug, Default)]
pub(super) struct Watchers {
    up: [Option<Place>; WATCHERS],
    /// How many were ever added.
    made: u32,
}

impl Watchers {
    /// Adds a watcher; returns its number.
    pub(super) fn add<M: Machine>(
        &mut self,
        mm: &Mm<M>,
        priority: i32,
        objection: Objection,
    ) -> Result<u32, Refused<'static>> {
        let number = self.made;
        let slot = self.up.get_mut(number as usize).ok_or("no room for more watchers")?;
        let heard = AtomicU32::new(0);
        let watcher: &'static Watcher =
            Box::leak(Box::new(Watcher { number, priority, objection, heard }));
        let listener: &'static Listener =
            Box::leak(Box::new(Listener::new("watcher", priority, watcher)));
        mm.listen(listener)?;
        *slot = Some(Place(watcher, listener));
        self.made += 1;
        Ok(number)
    }

    /// Removes a watcher.
    pub(super) fn remove<M: Machine>(
        &mut self,
        mm: &Mm<M>,
        number: u32,
    ) -> Result<(), Refused<'static>> {
        let place = self.up.get_mut(number as usize).ok_or(Refused::NoWatcher(number))?;
        let Place(_, listener) = place.ok_or(Refused::NoWatcher(number))?;
        mm.unlisten(listener)?;
        *place = None;
        Ok(())
    }

    /// Lists the watchers.
    pub(super) fn write(&self, out: &mut dyn Write) -> fmt::Result {
        self.up.iter().flatten().try_for_each(|Place(watcher, _)| {
            let objects = match watcher.objection {
                Objection::None => "objects to nothing",
                Objection::Online => "objects to online",
                Objection::Offline => "objects to offline",
            };
            let heard = watcher.heard.load(Ordering::Relaxed);
            let Watcher { number, priority, .. } = watcher;
            writeln!(out, "watcher {number}: priority {priority}, {objects}, {heard} notifications")
        })
    }
}
