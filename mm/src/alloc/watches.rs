//! Memory pressure: watches that are notified when free memory passes their marks.
//!
//! ```text
//!   free     ____                         ____ high
//!                \                   ____/
//!   low  . . . . .\. . . . . . . . ./. . . . .
//!                  \_______________/
//!                  ^ crossed: low       ^ crossed: enough again
//! ```
//!
//! Zones publish their free pages when they are unlocked, so each change counts, whatever made it: a batch for the cache
//! of a CPU, a large extent, a block that goes offline or comes online. As long as no watch is registered they
//! publish nothing. Pages in caches of CPUs count as in use.

use crate::alloc::gauge::Gauge;
use crate::alloc::owners::ManagerId;
use crate::memmap::home::NodeId;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use core::{fmt, ptr};
use spin::Once;

/// Watches that can be registered with a manager. They stay for ever.
pub const MAX_WATCHES: usize = 8;

/// The marks of a [`Watch`], in bytes of free memory. Free memory becomes low below the low mark, and stays so until it is
/// above the high mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks {
    low: u64,
    high: u64,
}

impl Marks {
    /// Free memory is never low.
    pub const NEVER: Self = Self { low: 0, high: 0 };

    /// Marks at `low` and `high` bytes. They may be equal.
    ///
    /// # Errors
    ///
    /// [`MarksReversed`] if `low` is above `high`.
    pub const fn new(low: u64, high: u64) -> Result<Self, MarksReversed> {
        if low > high { Err(MarksReversed { low, high }) } else { Ok(Self { low, high }) }
    }

    /// Bytes below which free memory is low.
    pub const fn low(self) -> u64 {
        self.low
    }

    /// Bytes above which free memory is enough again.
    pub const fn high(self) -> u64 {
        self.high
    }
}

hotmem_paging::errors! {
    /// A low mark is above the high mark.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct MarksReversed {
        /// The low mark, in bytes.
        pub low: u64,
        /// The high mark, in bytes.
        pub high: u64,
    } => "the low mark of {low:#x} bytes is above the high mark of {high:#x} bytes";

    /// The reason why free memory is not watched.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[non_exhaustive]
    pub enum WatchError {
        /// [`MAX_WATCHES`] are registered already.
        TooMany => "{MAX_WATCHES} watches have registered already",
        /// The watch is registered with another manager.
        Elsewhere => "the watch is registered with another manager",
        /// The machine has no room for this node.
        NoNode(node: NodeId) => "the machine has no room for {node}",
    }
}

/// What a [`Watch`] calls.
pub trait Pressure: Sync {
    /// Free memory has become low, or is enough again: [`Watch::is_low`] returns which. It fell below the low mark, or
    /// rose above the high mark, or the marks changed. Called once for each time.
    ///
    /// Called by the CPU that allocates, frees or operates: without a zone's lock, but maybe with another one of the
    /// manager's, in the handler of an interrupt, or in an operation. So it only stores, raises a flag or wakes a task, and
    /// calls nothing of the manager but [`Mm::free_of`](crate::Mm::free_of). The task reads [`Watch::is_low`] and then
    /// acts. If free memory passes its marks again meanwhile, two CPUs may call this at once, and in any order; what
    /// `is_low` returns after the last call is right. A CPU looks at free memory once it has unlocked the zone: what other
    /// CPUs have undone by then is not noticed.
    fn crossed(&self, watch: &'static Watch);
}

/// A watch on free memory: of the whole machine, or of a node. A kernel keeps it in a static, and registers it by
/// [`Mm::watch`](crate::Mm::watch).
///
/// ```
/// use hotmem::{Machine, Marks, Mm, Pressure, Watch};
/// use std::sync::atomic::{AtomicBool, Ordering};
///
/// static DUE: AtomicBool = AtomicBool::new(false);
/// static WATCH: Watch = Watch::new(&Wake);
///
/// struct Wake;
///
/// impl Pressure for Wake {
///     fn crossed(&self, _: &'static Watch) {
///         DUE.store(true, Ordering::Release);
///     }
/// }
///
/// fn start<M: Machine>(mm: &Mm<M>) -> Result<(), Box<dyn std::error::Error>> {
///     mm.watch(&WATCH, Marks::new(64 << 20, 128 << 20)?)?;
///     Ok(())
/// }
///
/// /// In the main loop, where operations are allowed.
/// fn work<M: Machine>(mm: &Mm<M>) {
///     if DUE.swap(false, Ordering::Acquire) && WATCH.is_low() {
///         let missing = (128 << 20) - mm.free_of(&WATCH);
///         // Add memory.
/// #       let _ = missing;
///     }
/// }
/// ```
pub struct Watch {
    hook: &'static dyn Pressure,
    node: Option<NodeId>,
    gauge: Gauge,
    /// The manager that it is registered with; 0 for none.
    manager: AtomicU32,
}

impl Watch {
    /// A watch on the free memory of all nodes: an allocation that names no node takes memory of any.
    pub const fn new(hook: &'static dyn Pressure) -> Self {
        Self { hook, node: None, gauge: Gauge::new(), manager: AtomicU32::new(0) }
    }

    /// A watch on the free memory of one node, for what allocates there only.
    pub const fn of_node(node: NodeId, hook: &'static dyn Pressure) -> Self {
        Self { node: Some(node), ..Self::new(hook) }
    }

    /// Whether free memory is low: it has fallen below the low mark, and has not risen above the high mark since. Takes no
    /// lock.
    pub fn is_low(&self) -> bool {
        self.gauge.is_low()
    }

    /// The node whose memory it watches; `None` for all.
    pub const fn node(&self) -> Option<NodeId> {
        self.node
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("node", &self.node)
            .field("gauge", &self.gauge)
            .finish_non_exhaustive()
    }
}

/// The watches of a manager, and the free pages of all nodes.
pub(crate) struct Watches {
    all: [Once<&'static Watch>; MAX_WATCHES],
    free: AtomicU64,
}

impl Watches {
    pub(crate) const fn new() -> Self {
        Self { all: [const { Once::new() }; MAX_WATCHES], free: AtomicU64::new(0) }
    }

    /// Whether there are any: zones publish their free pages then.
    pub(crate) fn any(&self) -> bool {
        self.all[0].is_completed()
    }

    fn iter(&self) -> impl Iterator<Item = &'static Watch> + '_ {
        self.all.iter().map_while(|slot| slot.get().copied())
    }

    /// Registers a watch, unless it is registered already.
    pub(crate) fn register(
        &self,
        watch: &'static Watch,
        manager: ManagerId,
    ) -> Result<(), WatchError> {
        let taken =
            watch.manager.compare_exchange(0, manager.get(), Ordering::Relaxed, Ordering::Relaxed);
        if taken.is_err_and(|other| other != manager.get()) {
            return Err(WatchError::Elsewhere);
        }
        for slot in &self.all {
            if ptr::eq(*slot.call_once(|| watch), watch) {
                return Ok(());
            }
        }
        watch.manager.store(0, Ordering::Relaxed);
        Err(WatchError::TooMany)
    }

    /// Adds (wrapping) to the free pages of all nodes, and to those of one.
    pub(crate) fn publish(&self, of_node: &AtomicU64, pages: u64) {
        self.free.fetch_add(pages, Ordering::Relaxed);
        of_node.fetch_add(pages, Ordering::Relaxed);
    }

    /// Notifies the watches whose marks the free pages of `node` have passed, or those of all nodes.
    pub(crate) fn follow(&self, node: NodeId, of_node: &AtomicU64) {
        for watch in self.iter().filter(|watch| watch.node.is_none_or(|its| its == node)) {
            self.follow_one(watch, of_node);
        }
    }

    fn follow_one(&self, watch: &'static Watch, of_node: &AtomicU64) {
        let count = || self.pages_of(watch, of_node);
        watch.gauge.follow(count, || watch.hook.crossed(watch));
    }

    /// Sets the marks of a registered watch, in pages.
    pub(crate) fn set(&self, watch: &'static Watch, of_node: &AtomicU64, (low, high): (u64, u64)) {
        watch.gauge.set(low, high);
        self.follow_one(watch, of_node);
    }

    /// The free pages that a watch compares with its marks.
    pub(crate) fn pages_of(&self, watch: &Watch, of_node: &AtomicU64) -> u64 {
        let pages = if watch.node.is_some() { of_node } else { &self.free };
        pages.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Watches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests;
