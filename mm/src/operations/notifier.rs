//! The listeners of a manager: notified by its operations, and added to and removed from its list.

use crate::alloc::Waits;
use crate::machine::Machine;
use crate::operations::Operations;
use crate::operations::notify::{Change, Event, ListInUse, Listener, Listeners, News, Veto};

impl<M: Machine> Operations<M> {
    /// Notifies all listeners of `event`, which can be vetoed; on a veto, those before it are notified of `cancel`.
    pub(crate) fn notify_or_veto(
        &self,
        event: Event,
        cancel: Event,
        change: &Change,
    ) -> Result<(), Veto> {
        self.call_listeners(|listeners| listeners.notify_or_veto(event, cancel, change))
            .unwrap_or(Ok(()))
    }

    /// Notifies all listeners of `event`, in order.
    pub(crate) fn notify(&self, event: Event, change: &Change) {
        self.call_listeners(|listeners| listeners.notify(event, change));
    }

    /// Notifies all listeners of `event`, in the opposite order.
    pub(crate) fn notify_reverse(&self, event: Event, change: &Change) {
        self.call_listeners(|listeners| listeners.notify_all_reverse(event, change));
    }

    /// Notifies all listeners of the news, in order.
    pub(crate) fn announce(&self, news: impl IntoIterator<Item = News>) {
        self.call_listeners(|listeners| {
            news.into_iter().for_each(|news| listeners.announce(&news));
        });
    }

    /// Allows looks while listeners are called; `None` if there are no listeners, which is usual.
    #[inline]
    fn call_listeners<R>(&self, call: impl FnOnce(&Listeners) -> R) -> Option<R> {
        (!self.listeners.is_empty())
            .then(|| Waits::of(&self.allocator).call(|| call(&self.listeners)))
    }

    /// See [`Mm::listen`](crate::Mm::listen).
    pub(crate) fn listen(&self, listener: &'static Listener) -> Result<(), ListInUse> {
        let _turn =
            self.allocator.take_turn().filter(|_| !self.listeners.is_kept()).ok_or(ListInUse)?;
        if !self.listeners.contains(listener) {
            self.listeners.insert(listener);
        }
        Ok(())
    }

    /// See [`Mm::unlisten`](crate::Mm::unlisten).
    pub(crate) fn unlisten(&self, listener: &'static Listener) -> Result<(), ListInUse> {
        let _turn =
            self.allocator.take_turn().filter(|_| !self.listeners.is_kept()).ok_or(ListInUse)?;
        if self.listeners.contains(listener) {
            self.listeners.remove(listener);
        }
        Ok(())
    }
}
