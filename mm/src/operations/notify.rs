//! Notifiers: listeners that are notified, or may object, when a block goes online or offline.
//!
//! ```text
//!   GoingOnline  --- all agree ---> Online          GoingOffline  --- all agree ---> Offline
//!        \-- one vetoes --> CancelOnline                 \-- one vetoes, or it fails --> CancelOffline
//! ```
//!
//! Listeners are notified in the order of their priority, the highest first. A cancel goes to exactly those that
//! were notified and agreed, in the opposite order. The list does not change while an operation is under way,
//! including a stepped offline, so the same listeners are notified of its begin and its end.

use crate::addr::{Pfn, PfnRange, PhysRange};
use crate::alloc::node::NodeId;
use crate::alloc::poison::Quarantined;
use crate::alloc::zone::ZoneKind;
use crate::memmap::block::BlockId;
use crate::memmap::placement::Placement;
use core::fmt;
use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering};
use spin::Mutex;

/// An event of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It is about to come online. May be vetoed.
    GoingOnline,
    /// It is online.
    Online,
    /// It stays offline: coming online was cancelled.
    CancelOnline,
    /// It is about to go offline: no page of it is allocated any more. May be vetoed.
    GoingOffline,
    /// It is offline.
    Offline,
    /// It stays online: going offline was cancelled.
    CancelOffline,
}

impl Event {
    /// The event's name, for messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::GoingOnline => "going-online",
            Self::Online => "online",
            Self::CancelOnline => "cancel-online",
            Self::GoingOffline => "going-offline",
            Self::Offline => "offline",
            Self::CancelOffline => "cancel-offline",
        }
    }
}

/// The block that changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its number.
    pub block: BlockId,
    /// The frames that the allocator manages: all but its memmap.
    pub pfns: PfnRange,
    /// Its node.
    pub node: NodeId,
    /// The zone that it joins, or leaves.
    pub kind: ZoneKind,
}

/// A change of memory that has happened. It cannot be vetoed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum News {
    /// A node has its first memory; notified before that is [added](Self::Added).
    NodeCame(NodeId),
    /// Memory was added. It is offline, but for what came to a block that is online.
    Added {
        /// The range.
        range: PhysRange,
        /// Its node. Blocks that had other memory before stay on the node of that: theirs, if all of the range came to them.
        node: NodeId,
        /// The placement of its memmap.
        placement: Placement,
    },
    /// Each block of the range, which was added in one piece, has a memmap of its own.
    Converted(PhysRange),
    /// Memory was removed: no CPU translates to it any more.
    Removed(PhysRange),
    /// A node has no memory left; notified after that was [removed](Self::Removed).
    NodeWent(NodeId),
    /// A bad page was taken out of use.
    Poisoned(Pfn, Quarantined),
}

hotmem_paging::errors! {
    /// A listener objects.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Veto {
        /// The listener's name.
        pub by: &'static str,
        /// The reason, for messages.
        pub why: &'static str,
    } => "{by} objects: {why}";

    /// The list of listeners does not change while a memory operation is under way, so that exactly those listeners that
    /// were notified of its begin are notified of its end. `listen` and `unlisten` return this instead of waiting, so a
    /// listener that calls them does not deadlock.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct ListInUse => "listeners cannot be added or removed while a memory operation is under way";
}

/// The functions of a listener.
///
/// Called by an operation under way, which holds no lock that other CPUs spin on: it may allocate, free, look up and
/// look (`explain_*`, `dump`, `snapshot`). An operation that it begins returns `Busy`, and `listen` and `unlisten`
/// return [`ListInUse`]; none of them deadlocks. It may sleep if the caller of the operation may, and delays every
/// other operation by that. The result counts for [`Event::GoingOnline`] and [`Event::GoingOffline`] only; an error
/// is the reason for the veto.
pub trait Listen: Sync {
    /// Receives `event`.
    ///
    /// # Errors
    ///
    /// The reason of the veto.
    fn notify(&self, event: Event, change: &Change) -> Result<(), &'static str>;

    /// Receives news, with the same rights; does nothing by default.
    ///
    /// Called for a bad page after that operation is over: it may then begin another one.
    fn heard(&self, news: &News) {
        let _ = news;
    }
}

/// An entry in the list, which the listener provides: the manager has no memory for it.
pub struct Listener {
    name: &'static str,
    priority: i32,
    hook: &'static dyn Listen,
    next: Mutex<Option<&'static Listener>>,
}

impl Listener {
    /// A listener that is in no list yet. Those of higher `priority` are notified first.
    pub const fn new(name: &'static str, priority: i32, hook: &'static dyn Listen) -> Self {
        Self { name, priority, hook, next: Mutex::new(None) }
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("name", &self.name)
            .field("priority", &self.priority)
            .finish_non_exhaustive()
    }
}

/// The list, by priority.
#[derive(Debug)]
pub(crate) struct Listeners {
    first: Mutex<Option<&'static Listener>>,
    count: AtomicUsize,
    /// Threads that notify listeners after their operation is over.
    tellers: AtomicUsize,
}

/// Keeps the list unchanged as long as this lives, though no operation is under way.
#[must_use = "the list may change when this is dropped"]
pub(crate) struct Kept<'l>(&'l Listeners);

impl Kept<'_> {
    pub(crate) fn notify(&self, news: &News) {
        self.0.announce(news);
    }
}

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        // Release: partner of the Acquire in `is_kept`.
        self.0.tellers.fetch_sub(1, Ordering::Release);
    }
}

impl Listeners {
    pub(crate) const fn new() -> Self {
        Self { first: Mutex::new(None), count: AtomicUsize::new(0), tellers: AtomicUsize::new(0) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 0
    }

    /// Keeps the list unchanged. Called by the operation under way, which holds off `listen` until then.
    pub(crate) fn keep(&self) -> Kept<'_> {
        self.tellers.fetch_add(1, Ordering::Relaxed);
        Kept(self)
    }

    pub(super) fn is_kept(&self) -> bool {
        self.tellers.load(Ordering::Acquire) != 0
    }

    fn iter(&self) -> impl Iterator<Item = &'static Listener> {
        let mut next = *self.first.lock();
        core::iter::from_fn(move || {
            let listener = next?;
            next = *listener.next.lock();
            Some(listener)
        })
    }

    pub(super) fn contains(&self, listener: &'static Listener) -> bool {
        self.iter().any(|other| ptr::eq(other, listener))
    }

    /// Inserts after those of the same priority.
    pub(super) fn insert(&self, listener: &'static Listener) {
        let before = self.iter().take_while(|other| other.priority >= listener.priority).last();
        let link = before.map_or(&self.first, |before| &before.next);
        let mut link = link.lock();
        *listener.next.lock() = link.replace(listener);
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn remove(&self, listener: &'static Listener) {
        let before = self.iter().take_while(|other| !ptr::eq(*other, listener)).last();
        let link = before.map_or(&self.first, |before| &before.next);
        *link.lock() = listener.next.lock().take();
        self.count.fetch_sub(1, Ordering::Relaxed);
    }

    /// Notifies all of `event`, which can be vetoed; on a veto, notifies those before it of `cancel`.
    pub(super) fn notify_or_veto(
        &self,
        event: Event,
        cancel: Event,
        change: &Change,
    ) -> Result<(), Veto> {
        for (count, listener) in self.iter().enumerate() {
            if let Err(why) = listener.hook.notify(event, change) {
                self.notify_reverse(cancel, change, count);
                return Err(Veto { by: listener.name, why });
            }
        }
        Ok(())
    }

    /// Notifies all of `event`, in order.
    pub(super) fn notify(&self, event: Event, change: &Change) {
        for listener in self.iter() {
            // It has happened: the listener's result is ignored.
            let _ = listener.hook.notify(event, change);
        }
    }

    /// Notifies all of the news, in order.
    pub(super) fn announce(&self, news: &News) {
        self.iter().for_each(|listener| listener.hook.heard(news));
    }

    /// Notifies all of `event`, in the opposite order.
    pub(super) fn notify_all_reverse(&self, event: Event, change: &Change) {
        self.notify_reverse(event, change, self.iter().count());
    }

    fn notify_reverse(&self, event: Event, change: &Change, count: usize) {
        // The list is short, and linked in one direction: it is walked again for each.
        for index in (0..count).rev() {
            if let Some(listener) = self.iter().nth(index) {
                let _ = listener.hook.notify(event, change);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::boxed::Box;
    use std::vec::Vec;

    /// Records its notifications; objects to going online if `objects`.
    struct Ear {
        number: u32,
        objects: bool,
        heard: &'static Mutex<Vec<(u32, Event)>>,
    }

    impl Listen for Ear {
        fn notify(&self, event: Event, _: &Change) -> Result<(), &'static str> {
            if self.objects && event == Event::GoingOnline {
                return Err("no");
            }
            self.heard.lock().push((self.number, event));
            Ok(())
        }
    }

    const CHANGE: Change = Change {
        block: BlockId::new(7),
        pfns: PfnRange { start: Pfn::new(0), end: Pfn::new(1) },
        node: NodeId::ZERO,
        kind: ZoneKind::Normal,
    };

    type Heard = &'static Mutex<Vec<(u32, Event)>>;

    fn list(priorities: &[(i32, bool)]) -> (Listeners, Heard, Vec<&'static Listener>) {
        let heard: Heard = Box::leak(Box::new(Mutex::new(Vec::new())));
        let listeners = Listeners::new();
        let all = (0..).zip(priorities).map(|(number, &(priority, objects))| {
            let ear: &'static Ear = Box::leak(Box::new(Ear { number, objects, heard }));
            let listener: &'static Listener =
                Box::leak(Box::new(Listener::new("ear", priority, ear)));
            listeners.insert(listener);
            listener
        });
        let all = all.collect();
        (listeners, heard, all)
    }

    #[test]
    fn listeners_are_notified_by_priority_and_then_by_age() {
        let (listeners, heard, _) = list(&[(0, false), (5, false), (0, false), (9, false)]);
        listeners.notify(Event::Online, &CHANGE);
        let order: Vec<_> = heard.lock().iter().map(|&(number, _)| number).collect();
        assert_eq!(order, [3, 1, 0, 2]);
    }

    #[test]
    fn a_veto_cancels_exactly_those_that_were_notified_in_reverse_order() {
        let (listeners, heard, _) = list(&[(9, false), (8, false), (7, true), (6, false)]);
        let veto = listeners.notify_or_veto(Event::GoingOnline, Event::CancelOnline, &CHANGE);
        assert_eq!(veto, Err(Veto { by: "ear", why: "no" }));
        let (going, cancel) = (Event::GoingOnline, Event::CancelOnline);
        assert_eq!(*heard.lock(), [(0, going), (1, going), (1, cancel), (0, cancel)]);
    }

    #[test]
    fn a_listener_that_left_is_not_notified_and_can_be_added_again() {
        let (listeners, heard, all) = list(&[(3, false), (2, false), (1, false)]);
        listeners.remove(all[0]);
        listeners.remove(all[1]);
        assert!(!listeners.contains(all[1]));
        listeners.insert(all[0]);
        listeners.notify(Event::Offline, &CHANGE);
        let order: Vec<_> = heard.lock().iter().map(|&(number, _)| number).collect();
        assert_eq!(order, [0, 2]);
    }
}
